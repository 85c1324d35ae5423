"""The console command `espalier`."""

import os
import sys
from collections.abc import Sequence

from .commands.errors import run_and_exit
from .commands.usage import USAGE

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: status 0 when it worked, 2 when the user can mend what failed.

    Args:
        arguments: Without the program's name; those of the process when None.
    """
    # Before PyTorch is loaded: threads that wait busily for each other take five times as long where others work, too.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return
    run_and_exit(words)
