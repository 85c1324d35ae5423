"""What a table holds, by kind of operator."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from ..predictors.measurement import Measurement
from .entry import Entry
from .table import LookupTable

__all__ = ["KindRow", "Line", "kind_rows", "lines"]

#: A mean whose standard deviation is a larger share of it is called noisy.
NOISY = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """One operator or block.

    Attributes:
        key: In the table.
        kind: Of the operator, with its number format where it has one; "block" for several operators.
        mean: In the table's unit.
        std: The same.
        samples: Samples.
    """

    key: str
    kind: str
    mean: float
    std: float
    samples: int

    @property
    def noise(self) -> float:
        """Standard deviation as a share of the mean; 0 where the mean is."""
        return self.std / self.mean if self.mean else 0.0


@dataclass(frozen=True, slots=True)
class KindRow:
    """All operators of a kind.

    Attributes:
        kind: The kind.
        count: How many there are.
        fastest: Least mean.
        slowest: Largest mean.
        median_noise: Median of the noise of what was sampled more than once; None where nothing was.
        noisy: How many are noisier than `NOISY`.
        single: How many were sampled once, so that their noise is not known.
    """

    kind: str
    count: int
    fastest: float
    slowest: float
    median_noise: float | None
    noisy: int
    single: int


def lines(table: LookupTable) -> list[Line]:
    """Everything in a table, the slowest first."""
    found = [_entry_line(key, entry) for key, entry in table.entries.items()]
    found += [_block_line(label, block) for label, block in table.blocks.items()]
    return sorted(found, key=lambda line: (-line.mean, line.key))


def kind_rows(table: LookupTable) -> list[KindRow]:
    """The table by kind, the most frequent first."""
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in lines(table):
        groups[line.kind].append(line)
    rows = [_row(kind, group) for kind, group in groups.items()]
    return sorted(rows, key=lambda row: (-row.count, row.kind))


def _row(kind: str, group: list[Line]) -> KindRow:
    noises = [line.noise for line in group if line.samples > 1]
    return KindRow(
        kind,
        len(group),
        min(line.mean for line in group),
        max(line.mean for line in group),
        median(noises) if noises else None,
        sum(noise > NOISY for noise in noises),
        sum(line.samples == 1 for line in group),
    )


def _entry_line(key: str, entry: Entry) -> Line:
    bits = entry.number_format or ("8 bits" if entry.spec.bits == 8 else "")
    return Line(key, ", ".join(filter(None, (entry.spec.kind, bits))), entry.mean, entry.std, entry.samples)


def _block_line(label: str, block: Measurement) -> Line:
    return Line(label, "block", block.latency_ms, block.std_ms, block.samples)
