"""What a table answers for a whole network."""

import math
from collections.abc import Sequence

from ...errors import EspalierError
from ...graph.opspec import FLOAT_BITS, FREE_KINDS, OpSpec
from ..cost import Estimate, Relative
from .correction import Correction
from .table import LookupTable

__all__ = ["relative_unit", "sum_title", "summed_latency", "table_features"]


def relative_unit(unit: str) -> Relative:
    """What an `Estimate` states as its unit, from a table's."""
    return "relative" if unit == "relative" else ""


def summed_latency(
    table: LookupTable, ops: Sequence[OpSpec], on: str, correction: Correction | None = None
) -> Estimate:
    """Milliseconds of operators one after the other.

    Args:
        table: Holds them all.
        ops: Descriptors; those that take no time are skipped.
        on: What to state as the source.
        correction: What the sum leaves out; None for the plain sum.

    Raises:
        EspalierError: The table lacks an operator.
    """
    total, variance = table.call_overhead_ms, 0.0
    entries = table.entries
    for previous, op in zip((None, *ops), ops, strict=False):
        if correction:
            total += correction.between_ms(previous, op)
        if op.kind in FREE_KINDS:
            total += correction.operator_ms(op, 0.0) if correction else 0.0
            continue
        entry = entries.get(op.key)
        if entry is None:
            raise EspalierError(f"the latency table of {table.device} lacks the operator {op.key}")
        total += correction.operator_ms(op, entry.mean) if correction else entry.mean
        variance += entry.std * entry.std
    if correction:
        variance += (correction.relative_std * total) ** 2
    return Estimate(total, math.sqrt(variance), "modelled", f"{on}, {sum_title(correction)}", relative_unit(table.unit))


def sum_title(correction: Correction | None) -> str:
    """How a latency was arrived at."""
    return f"sum of operators, corrected by {correction.networks} networks" if correction else "sum of operators"


def table_features(table: LookupTable) -> tuple[float, ...]:
    """Four numbers that tell this device from others; see `HardwareModel.features`."""
    entries = [entry for entry in table.entries.values() if entry.mean > 0 and not entry.number_format]
    computing = [e for e in entries if e.spec.macs]
    floats = [e for e in computing if e.spec.bits == FLOAT_BITS] or computing
    throughput = [2e-6 * e.spec.macs / e.mean for e in floats]
    bandwidth = [1e-6 * (e.spec.input_bytes + e.spec.output_bytes) / e.mean for e in entries if not e.spec.macs]
    speed_ups = [
        table.entries[twin].mean / entry.mean
        for entry in entries
        if entry.spec.bits == 8 and (twin := entry.spec.replace(bits=FLOAT_BITS).key) in table.entries
    ]
    figures = (
        max(throughput, default=1.0),
        max(bandwidth, default=1.0),
        max(table.call_overhead_ms * 1e3, 1e-3),
        sorted(speed_ups)[len(speed_ups) // 2] if speed_ups else 1.0,
    )
    return tuple(math.log10(max(value, 1e-6)) for value in figures)
