"""The command line: ``vimdeploy``, or ``python -m vimdeploy``."""


def main() -> None:
    """Run the command line; Ctrl-C is heard while it is imported, too."""
    try:
        from vimdeploy.cli import main as command

        command()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
