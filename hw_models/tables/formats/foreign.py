"""What the readers of other people's tables have in common."""

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from ....errors import FormatError
from ..entry import read_number
from ..table import LookupTable

__all__ = ["Imported", "mean_and_error", "read_bytes", "read_head", "read_records"]

#: The largest table that is known has 1 MB when it is unpacked.
LARGEST_BYTES = 64 * 2**20

_GZIP_MAGIC = b"\x1f\x8b"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Imported:
    """A table as it was read.

    Attributes:
        table: The table.
        left_out: Entries of the file that no operator descriptor can state, each with the reason.
    """

    table: LookupTable
    left_out: tuple[str, ...] = ()


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked where it is gzipped.

    Raises:
        FormatError: The file is missing, damaged or too large, packed or unpacked.
    """
    data = read_head(path, LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise FormatError(f"{path} is not a latency table: it has more than {LARGEST_BYTES // 2**20} MiB")
    return data


def read_head(path: Path, length: int) -> bytes:
    """The first bytes of a file's content, unpacked where it is gzipped.

    Raises:
        FormatError: The file is missing, empty or damaged.
    """
    try:
        with path.open("rb") as raw:
            is_packed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path) if is_packed else path.open("rb") as opened:
            data: bytes = opened.read(length)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FormatError(f"cannot read a latency table from {path}: {reason}") from error
    if not data:
        raise FormatError(f"{path} is not a latency table: the file is empty")
    return data


def read_records(data: bytes, source: str, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Read YAML of two levels: a key that ends in a colon, below it lines `name: number`, further to the right.

    Nothing else of YAML is understood, so that no file can do anything but be read.

    Args:
        data: UTF-8.
        source: The file, for error messages.
        names: What every record must give, and nothing else.

    Returns:
        Key -> name -> number.

    Raises:
        FormatError: Says which line is something else, or which record is incomplete or given twice.
    """
    records: dict[str, dict[str, float]] = {}
    record: dict[str, float] = {}
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{source} is not a latency table: it is not a text") from error
    for number, line in enumerate(lines, 1):
        key, _, value = line.strip().rpartition(":" if line.endswith(":") else ": ")
        where = f"{source}, line {number}"
        if line.startswith(" "):
            _take_value(record, key, value.strip(), names, where)
        elif line.strip() and not line.startswith("#"):
            if value or not key or key in records:
                raise FormatError(f"{where}: expected a key that was not given before and a colon, got {line[:80]!r}")
            record = records[key] = {}
    if incomplete := [key for key, values in records.items() if set(values) != set(names)]:
        raise FormatError(f"{source}, entry {incomplete[0][:80]}: expected {', '.join(names)}")
    return records


def _take_value(record: dict[str, float], name: str, text: str, names: tuple[str, ...], where: str) -> None:
    if name not in names or name in record or not _NUMBER.fullmatch(text):
        raise FormatError(f"{where}: expected one of {', '.join(names)}, each once, with a number; got {name[:40]!r}")
    record[name] = read_number(float(text), name, where)


def mean_and_error(values: dict[str, float], variance: float, where: str) -> tuple[float, float, int]:
    """Mean, its standard error and the number of samples.

    Args:
        values: Has `mean` and `count`.
        variance: Of one sample; the mean of n deviates by the square root of a n-th of it.
        where: File and entry, for error messages.

    Raises:
        FormatError: The count is no whole number of at least 1.
    """
    count = int(values["count"])
    if count < 1 or count != values["count"]:
        raise FormatError(f"{where}: count must be a whole number of at least 1, got {values['count']:g}")
    return values["mean"], (variance / count) ** 0.5, count
