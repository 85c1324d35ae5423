"""Dispatching commands, and turning errors that a user can mend into one line and exit status 2."""

import contextlib
import importlib
import itertools
import sys
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..errors import EspalierError
from .suggestions import did_you_mean
from .usage import COMMANDS

__all__ = ["one_line", "run_and_exit"]

#: What users cause: their input, their configuration, their disk.
USER_ERRORS = (EspalierError, HydraException, OmegaConfBaseException, OSError)


def run_and_exit(words: Sequence[str]) -> None:
    """Run the command `words[0]` with the other words as its arguments."""
    name, *arguments = words
    if name.startswith("-"):
        _fail(f"flags come after the command, as in espalier search {name} ...")
    if name not in COMMANDS:
        _fail(f"unknown command {name!r}{did_you_mean(name, COMMANDS)}")
    try:
        importlib.import_module(f".{name}_command", __package__).run(arguments)
    except USER_ERRORS as error:
        _fail(one_line(error))
    except KeyboardInterrupt:
        sys.stderr.write("espalier: interrupted\n")
        sys.exit(130)


def one_line(error: BaseException) -> str:
    """What went wrong, without line breaks."""
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, HydraException):
        # Hydra lists its search path below its message, and keeps the reason in the cause.
        lines = list(itertools.takewhile(lambda line: not line.startswith("Config search path"), lines))
        if isinstance(error.__cause__, OmegaConfBaseException):
            lines.append(f"({str(error.__cause__).splitlines()[0]})")
    return " ".join(lines)


def _fail(message: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"espalier: {message}\n")
    sys.exit(2)
