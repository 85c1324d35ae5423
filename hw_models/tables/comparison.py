"""Two tables side by side, and two tables as one."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...errors import EspalierError
from ..predictors.measurement import Measurement
from .entry import Entry
from .table import LookupTable

__all__ = ["Comparison", "Difference", "compare_tables", "merge_tables", "provenance_differences"]

#: Differences within so many standard deviations are what repeating a measurement gives, too.
_DEVIATIONS = 2.0

_PROVENANCE = ("device", "runtime", "cpu", "unit", "energy_unit", "keeps_integers", "source")

#: What two tables must agree in, or their union means nothing.
_SAME = ("device", "runtime", "cpu", "keeps_integers")


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that both tables have.

    Attributes:
        key: Of an operator or a block.
        first: Mean in the first table.
        second: Mean in the second table.
        deviations: Their difference in standard deviations of both together; infinite where both claim to be exact.
    """

    key: str
    first: float
    second: float
    deviations: float

    @property
    def ratio(self) -> float:
        """Second over first; infinite where the first is 0."""
        return self.second / self.first if self.first else math.inf


@dataclass(frozen=True)
class Comparison:
    """What two tables agree and disagree on.

    Attributes:
        shared: How many keys both have.
        differences: Those that differ by more than their uncertainty, the largest ratio first.
        ratios: Kind of operator -> geometric mean of second over first, and over how many keys.
        only_first: Keys of the first alone.
        only_second: Keys of the second alone.
        provenance: What differs between where they come from: name -> both values.
    """

    shared: int
    differences: tuple[Difference, ...]
    ratios: Mapping[str, tuple[float, int]]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    provenance: Mapping[str, tuple[str, str]]


def compare_tables(first: LookupTable, second: LookupTable) -> Comparison:
    """Compare what two tables say of the same operators.

    Raises:
        EspalierError: They count in different units.
    """
    _check_units(first, second, "compared")
    ours, theirs = _measured(first), _measured(second)
    shared = [key for key in ours if key in theirs]
    found = [_difference(key, ours[key], theirs[key]) for key in shared]
    apart = [difference for difference in found if difference.deviations > _DEVIATIONS]
    logs: dict[str, list[float]] = defaultdict(list)
    for difference in found:
        if difference.first > 0 and difference.second > 0:
            kind = "network" if difference.key in first.networks else _kind(ours[difference.key])
            logs[kind].append(math.log(difference.ratio))
    return Comparison(
        len(shared),
        tuple(sorted(apart, key=lambda d: -abs(math.log(d.ratio)) if 0 < d.ratio < math.inf else -math.inf)),
        {kind: (math.exp(sum(values) / len(values)), len(values)) for kind, values in sorted(logs.items())},
        tuple(key for key in ours if key not in theirs),
        tuple(key for key in theirs if key not in ours),
        provenance_differences(first, second),
    )


def provenance_differences(first: LookupTable, second: LookupTable) -> dict[str, tuple[str, str]]:
    """What differs between where two tables come from: name -> both values; "-" stands for none."""
    versions = sorted({*first.versions, *second.versions})
    pairs = {name: (str(getattr(first, name)) or "-", str(getattr(second, name)) or "-") for name in _PROVENANCE}
    pairs |= {name: (first.versions.get(name, "-"), second.versions.get(name, "-")) for name in versions}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def merge_tables(first: LookupTable, second: LookupTable, even_if_different: bool = False) -> LookupTable:
    """The union of two tables.

    What both have is pooled: means are weighted with their samples, and how far they lie apart counts as uncertainty.

    Args:
        first: Gives what can only stand once, such as the date.
        second: The other.
        even_if_different: Merge tables of different devices, engines or processors, too; both names are kept.

    Raises:
        EspalierError: They count in different units, or come from different places and nobody said that this is meant.
    """
    _check_units(first, second, "merged")
    apart = {n: p for n, p in provenance_differences(first, second).items() if n in _SAME}
    if apart and not even_if_different:
        name, (ours, theirs) = next(iter(apart.items()))
        advice = "force=true merges them all the same"
        raise EspalierError(f"the tables differ in {name}: {ours!r} and {theirs!r}; {advice}")
    entries = first.entries.keys() & second.entries.keys()
    blocks = first.blocks.keys() & second.blocks.keys()
    pooled = {key: _pooled_entry(first.entries[key], second.entries[key]) for key in entries}
    networks = first.networks.keys() & second.networks.keys()
    pooled_blocks = {label: _pooled_block(first.blocks[label], second.blocks[label]) for label in blocks}
    pooled_networks = {label: _pooled_block(first.networks[label], second.networks[label]) for label in networks}
    return replace(
        first,
        device=_joined(first.device, second.device),
        runtime=_joined(first.runtime, second.runtime),
        cpu=_joined(first.cpu, second.cpu),
        source=_joined(first.source, second.source),
        versions={
            name: _joined(first.versions.get(name, ""), second.versions.get(name, ""))
            for name in {**first.versions, **second.versions}
        },
        energy_unit=first.energy_unit or second.energy_unit,
        entries={**first.entries, **second.entries, **pooled},
        blocks={**first.blocks, **second.blocks, **pooled_blocks},
        networks={**first.networks, **second.networks, **pooled_networks},
    )


def _check_units(first: LookupTable, second: LookupTable, done: str) -> None:
    pairs: list[tuple[str, str]] = [(first.unit, second.unit)]
    if first.energy_unit and second.energy_unit:
        pairs.append((first.energy_unit, second.energy_unit))
    for ours, theirs in pairs:
        if ours != theirs:
            raise EspalierError(f"tables in {ours} and {theirs} cannot be {done}: no figure of one is one of the other")


def _measured(table: LookupTable) -> dict[str, Entry | Measurement]:
    return {**table.entries, **table.blocks, **table.networks}


def _figures(measured: Entry | Measurement) -> tuple[float, float, int]:
    if isinstance(measured, Entry):
        return measured.mean, measured.std, measured.samples
    return measured.latency_ms, measured.std_ms, measured.samples


def _kind(measured: Entry | Measurement) -> str:
    return measured.spec.kind if isinstance(measured, Entry) else "block"


def _difference(key: str, ours: Entry | Measurement, theirs: Entry | Measurement) -> Difference:
    (first, first_std, _), (second, second_std, _) = _figures(ours), _figures(theirs)
    std = math.hypot(first_std, second_std)
    gap = abs(second - first)
    return Difference(key, first, second, gap / std if std else math.inf if gap else 0.0)


def _pool(ours: Any, theirs: Any) -> tuple[float, float, int]:
    (first, first_std, n), (second, second_std, m) = _figures(ours), _figures(theirs)
    share = n / (n + m)
    between = share * (1 - share) * (first - second) ** 2
    std = math.sqrt((share * first_std) ** 2 + ((1 - share) * second_std) ** 2 + between)
    return share * first + (1 - share) * second, std, n + m


def _pooled_entry(ours: Entry, theirs: Entry) -> Entry:
    energies = [entry.energy for entry in (ours, theirs) if entry.energy is not None]
    mean, std, samples = _pool(ours, theirs)
    energy = sum(energies) / len(energies) if energies else None
    return replace(ours, mean=mean, std=std, samples=samples, energy=energy, half_width=None)


def _pooled_block(ours: Measurement, theirs: Measurement) -> Measurement:
    if ours.ops != theirs.ops:
        raise EspalierError(f"the tables mean different operators by {ours.label[:80]!r}")
    mean, std, samples = _pool(ours, theirs)
    return replace(ours, latency_ms=mean, std_ms=std, samples=samples)


def _joined(first: str, second: str) -> str:
    """Both texts, once where they are the same or one is missing."""
    return " and ".join(dict.fromkeys(text for text in (first, second) if text))
