"""A device that is known by its lookup table."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import EspalierError
from ..graph.opspec import FREE_KINDS, OpSpec
from .cost import Cost, Estimate
from .energy import EnergyModel, EnergySource
from .runtimes.runtime import Runtime
from .tables.table import LookupTable

__all__ = ["TableDevice", "summed_latency", "table_features"]


class TableDevice:
    """Latency from a file, as `espalier profile` writes it; energy from an equation.

    Args:
        table: Path of the file.
        energy: What predicts energy; AdaDeep's equation when None.

    Raises:
        FormatError: The file is missing or damaged.
    """

    runtime: Runtime | None = None

    def __init__(self, table: str, energy: EnergySource | None = None) -> None:
        self._path = Path(table).expanduser()
        self._table = LookupTable.load(self._path)
        self._energy = energy or EnergyModel()
        self.name = self._table.device
        self.keeps_integers = self._table.keeps_integers

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        """Check that the table knows all of `ops`.

        Raises:
            EspalierError: It does not.
        """
        unknown = {op.key for op in ops if op.kind not in FREE_KINDS} - set(self._table.entries)
        if unknown:
            raise EspalierError(
                f"the table {self._path} lacks {len(unknown)} operators of this search space, such as {min(unknown)}; "
                "profile the same task and space on the device"
            )

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        """The sum of the entries and of the call's overhead."""
        latency = summed_latency(self._table, ops, f"{self.name} table")
        return Cost(latency, self._energy.estimate(ops, latency))

    def features(self) -> tuple[float, ...]:
        """Decimal logarithms of throughput, bandwidth, overhead and integer speed-up, as far as the table tells."""
        return table_features(self._table)


def summed_latency(table: LookupTable, ops: Sequence[OpSpec], on: str) -> Estimate:
    """Milliseconds of operators one after the other.

    Args:
        table: Holds them all.
        ops: Descriptors; those that take no time are skipped.
        on: What to state as the source.

    Raises:
        EspalierError: The table lacks an operator.
    """
    total, variance = table.call_overhead_ms, 0.0
    for op in ops:
        if op.kind in FREE_KINDS:
            continue
        entry = table.entries.get(op.key)
        if entry is None:
            raise EspalierError(f"the latency table of {table.device} lacks the operator {op.key}")
        total += entry.mean
        variance += entry.std**2
    return Estimate(total, math.sqrt(variance), "modelled", f"{on}, sum of operators")


def table_features(table: LookupTable) -> tuple[float, ...]:
    """Four numbers that tell this device from others; see `HardwareModel.features`."""
    entries = [entry for entry in table.entries.values() if entry.mean > 0]
    throughput = [2e-6 * e.spec.macs / e.mean for e in entries if e.spec.macs and e.spec.bits == 32]
    bandwidth = [1e-6 * (e.spec.input_bytes + e.spec.output_bytes) / e.mean for e in entries if not e.spec.macs]
    speed_ups = [
        table.entries[twin].mean / entry.mean
        for entry in entries
        if entry.spec.bits == 8 and (twin := entry.spec.replace(bits=32).key) in table.entries
    ]
    figures = (
        max(throughput, default=1.0),
        max(bandwidth, default=1.0),
        max(table.call_overhead_ms * 1e3, 1e-3),
        sorted(speed_ups)[len(speed_ups) // 2] if speed_ups else 1.0,
    )
    return tuple(math.log10(max(value, 1e-6)) for value in figures)
