"""Which format a table is in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ....errors import FormatError
from ..table import LookupTable
from . import bitfusion, once_for_all, proxylessnas
from .foreign import Imported, read_head

__all__ = ["FORMATS", "Format", "Imported", "guess_format", "import_table", "read_table"]

_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Format:
    """A format that tables come in.

    Attributes:
        can_read: Whether the first bytes of an unpacked file look like it.
        read: Reads a file.
    """

    can_read: Callable[[bytes], bool]
    read: Callable[[Path], Imported]


def _is_ours(head: bytes) -> bool:
    return head.startswith(b"PAR1") or head.lstrip().startswith(b"{")


def _read_ours(path: Path) -> Imported:
    return Imported(LookupTable.load(path))


#: Name on the command line -> format; the first that fits a file's content reads it.
FORMATS: dict[str, Format] = {
    "proxylessnas": Format(proxylessnas.can_read, proxylessnas.read),
    "once_for_all": Format(once_for_all.can_read, once_for_all.read),
    "bitfusion": Format(bitfusion.can_read, bitfusion.read),
    "espalier": Format(_is_ours, _read_ours),
}


def import_table(path: Path, format_name: str | None = None) -> Imported:
    """Read a table in any known format.

    Args:
        path: The file.
        format_name: A key of `FORMATS`; None guesses it from the content.

    Raises:
        FormatError: The format is unknown or cannot be guessed, or the file is damaged.
    """
    known = ", ".join(FORMATS)
    name = format_name or guess_format(path)
    if name is None:
        raise FormatError(f"cannot guess the format of {path}: give format=, one of {known}")
    if name not in FORMATS:
        raise FormatError(f"unknown format {name!r}; known: {known}")
    return FORMATS[name].read(path)


def read_table(path: Path) -> LookupTable:
    """A table in any known format, by its content; what is none of them is read as one of ours.

    Raises:
        FormatError: The file is missing or damaged.
    """
    return import_table(path, guess_format(path) or "espalier").table


def guess_format(path: Path) -> str | None:
    """The format that a file's first bytes look like; None where they look like none.

    Raises:
        FormatError: The file cannot be read.
    """
    head = read_head(path, _HEAD_BYTES)
    return next((name for name, format_ in FORMATS.items() if format_.can_read(head)), None)
