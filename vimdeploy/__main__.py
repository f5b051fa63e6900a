"""The command line: ``vimdeploy``, or ``python -m vimdeploy``."""

import contextlib
import os
import sys


def main() -> None:
    """Run the command line, and end the process.

    It ends without freeing what libraries hold: the system does that at once, and at that time a signal, or a thread
    that computes no more, could only crash it. Ctrl-C is heard while the command line is imported, too.
    """
    code: object = 0
    try:
        from vimdeploy.cli import main as command

        command()
    except KeyboardInterrupt:
        code = 130
    except SystemExit as ended:
        code = ended.code
    with contextlib.suppress(OSError):  # whoever reads the output may have gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
