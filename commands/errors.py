"""Dispatching commands, and turning errors that a user can mend into one line and exit status 2."""

import contextlib
import importlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

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
        with _terminated_cleanly():
            importlib.import_module(f".{name}_command", __package__).run(arguments)
    except USER_ERRORS as error:
        _fail(one_line(error))
    except KeyboardInterrupt as stop:
        what, status = ("terminated", 143) if isinstance(stop, _Terminated) else ("interrupted", 130)
        sys.stderr.write(f"espalier: {what}{''.join(getattr(stop, '__notes__', ()))}\n")
        sys.exit(status)


class _Terminated(KeyboardInterrupt):
    """The system asked the process to end."""


@contextlib.contextmanager
def _terminated_cleanly() -> Iterator[None]:
    """Let the signal SIGTERM end what runs inside as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # no other may handle signals
        yield
        return
    process = os.getpid()

    def end(number: int, _: object) -> None:
        if os.getpid() == process:
            raise _Terminated
        signal.signal(number, signal.SIG_DFL)  # a worker that was forked ends silently
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
