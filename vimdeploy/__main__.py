"""``python -m vimdeploy``: the command line."""

from vimdeploy.cli import main

if __name__ == "__main__":
    main(prog_name="python -m vimdeploy")
