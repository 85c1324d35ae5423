"""Latencies of whole networks on several devices, in the layout of HW-NAS-Bench's and HELP's measurements.

A CSV file, gzipped or not, with the column `arch` and one column of milliseconds at batch size 1 for each device (Li et
al. 2021, arXiv 2103.10584; Lee et al. 2021, arXiv 2106.08630).
"""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import FormatError
from ..predictors.measurement import Measurement
from .architecture import Architecture, Space

__all__ = ["DEGENERATE_MS", "MeasuredSpace", "latency_columns", "read_latency_csv", "read_rows"]

#: A network that takes less was not executed: an engine removed it as dead code.
DEGENERATE_MS = 0.1

#: Medians of a column that networks of these spaces can have, in milliseconds; seconds and microseconds lie outside.
PLAUSIBLE_MEDIAN_MS = (0.1, 1000.0)
_OTHER_UNITS = ("_s", "_sec", "_us", "_ns")
_LARGEST_FILE_BYTES = 1 << 28

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredSpace:
    """Networks of one space and their latencies.

    Attributes:
        architectures: The networks.
        latency_ms: Device -> latency of each network, shape (networks,).
    """

    architectures: tuple[Architecture, ...]
    latency_ms: Mapping[str, Floats]

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices in the file's order."""
        return tuple(self.latency_ms)

    def executed(self, *devices: str) -> NDArray[np.int64]:
        """Indices of the networks that none of the devices (of all, if none is named) removed as dead code."""
        columns = [self.latency_ms[device] for device in devices or self.devices]
        return np.flatnonzero(np.min(columns, axis=0) >= DEGENERATE_MS)

    def measurements(self, device: str) -> list[Measurement]:
        """What one device took, degenerate networks left out."""
        latency = self.latency_ms[device]
        chosen = [(self.architectures[index], float(latency[index])) for index in self.executed(device)]
        return [Measurement(network.ops, value, label=network.label) for network, value in chosen]


def latency_columns(path: Path) -> list[str]:
    """The devices that a file of latencies has a column for.

    Raises:
        FormatError: The file is missing, truncated, or has other columns.
    """
    return _columns(path, read_rows(path)[0])


def read_latency_csv(path: Path, space: Space, device: str | None = None) -> MeasuredSpace:
    """Read a file of latencies.

    Args:
        path: The file.
        space: How its column `arch` is written.
        device: The only column to read, one of the file's; all of them when None.

    Raises:
        FormatError: The file is missing, truncated, has other columns, another unit, or what is no latency in it.
    """
    header, rows = read_rows(path)
    columns = {name: place for place, name in enumerate(_columns(path, header), 1) if device in (None, name)}
    if wrong := [name for name in columns if name.endswith(_OTHER_UNITS)]:
        raise FormatError(f"{path}: the column {wrong[0]} is not in milliseconds; convert it and rename it")
    networks, values = [], []
    for line, row in rows:
        try:
            networks.append(space.parse(row[0]))
        except FormatError as error:
            raise FormatError(f"{path}, line {line}: {error}") from error
        values.append([_milliseconds(row[place], f"{path}, line {line}") for place in columns.values()])
    latencies = dict(zip(columns, np.array(values, dtype=float).T, strict=True))
    for name, column in latencies.items():
        _check_unit(column, f"{path}, column {name}")
    return MeasuredSpace(tuple(networks), latencies)


def _columns(path: Path, header: list[str]) -> list[str]:
    if len(header) < 2 or header[0] != "arch" or len(set(header)) != len(header):
        raise FormatError(f"{path} must have the columns arch and one for each device, got {', '.join(header)[:120]!r}")
    return header[1:]


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV file, gzipped or not, and its rows with their line numbers.

    Raises:
        FormatError: The file is missing, truncated, empty, no text, too large, or a row has not as many fields as the
            header.
    """
    try:
        lines = list(csv.reader(_text(path).splitlines()))
    except OSError as error:
        raise FormatError(f"cannot read latencies from {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} is truncated or damaged: {error}") from error
    if len(lines) < 2:
        raise FormatError(f"{path} holds no measurements: expected a header and at least one row")
    header, rows = lines[0], list(enumerate(lines[1:], 2))
    for line, row in rows:
        if len(row) != len(header):
            raise FormatError(f"{path}, line {line}: expected {len(header)} fields, got {len(row)}")
    return header, rows


def _text(path: Path) -> str:
    data = b"".join(_chunks(path))
    return data.decode("utf-8")


def _chunks(path: Path) -> Iterator[bytes]:
    """The file's contents; a gzip bomb is refused before it fills the memory."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    total = 0
    with gzip.open(path) if zipped else path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            total += len(chunk)
            if total > _LARGEST_FILE_BYTES:
                raise FormatError(f"{path} is larger than {_LARGEST_FILE_BYTES >> 20} MiB when unpacked")
            yield chunk


def _milliseconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise FormatError(f"{where}: a latency must be a number above 0, got {text[:40]!r}")
    return value


def _check_unit(column: Floats, where: str) -> None:
    low, high = PLAUSIBLE_MEDIAN_MS
    median = float(np.median(column))
    if not low <= median <= high:
        raise FormatError(
            f"{where}: latencies must be milliseconds, but their median is {median:g}, outside {low:g} to {high:g}; "
            "is it another unit?"
        )
