"""The console command `espalier`."""

import os
import sys
from collections.abc import Sequence

from .commands.errors import run_and_exit
from .commands.usage import USAGE
from .version import __version__

__all__ = ["main"]

#: How often GNU's OpenMP, which PyTorch's Linux builds use, asks whether it may go on before it gives the processor up.
_SPINS = "2000"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: status 0 when it worked, 2 when the user can mend what failed.

    Args:
        arguments: Without the program's name; those of the process when None.
    """
    _let_threads_wait()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return
    if words[0] == "--version":
        sys.stdout.write(f"espalier {__version__}\n")
        return
    run_and_exit(words)


def _let_threads_wait() -> None:
    """Before PyTorch is loaded, unless the user said something about it.

    By default threads wait for each other busily, and take several times as long where others work on the same
    processors. Those that give the processor up at once take three times as long on an idle machine.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _SPINS
