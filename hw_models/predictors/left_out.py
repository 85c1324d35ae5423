"""How far off fitted efficiencies are at what they were not fitted to."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from .efficiency import Efficiency
from .efficiency_fit import leave_out
from .measurement import Measurement
from .work import operator_class

__all__ = ["LeftOut", "left_out_errors"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A measurement, and what efficiencies that were fitted to others say of it.

    Attributes:
        measurement: What was left out.
        error: Predicted over measured latency, minus 1.
        dearest: Class of operator that takes the largest part of the prediction.
    """

    measurement: Measurement
    error: float
    dearest: str


def left_out_errors(
    measurements: Sequence[Measurement], group: Callable[[Measurement], Hashable] = lambda m: m.label
) -> list[LeftOut]:
    """The errors at blocks or operators while they are left out of the fit.

    Args:
        measurements: What was measured; of it what has operators and a latency above 0 counts.
        group: What is left out together; by default each measurement is a group of its own.

    Returns:
        One for each measurement where every class of its operators was measured in other groups, too.
    """
    used = [one for one in measurements if one.ops and one.latency_ms > 0]
    groups = [group(one) for one in used]
    where: dict[str, set[Hashable]] = defaultdict(set)
    for one, name in zip(used, groups, strict=True):
        for op in one.ops:
            where[operator_class(op)].add(name)
    return [
        _left_out(used[index], efficiency)
        for indices, efficiency in leave_out(used, groups)
        for index in indices
        if all(where[operator_class(op)] != {groups[index]} for op in used[index].ops)
    ]


def _left_out(measurement: Measurement, efficiency: Efficiency) -> LeftOut:
    shares: dict[str, float] = defaultdict(float)
    for op in measurement.ops:
        shares[operator_class(op)] += efficiency.operator_ms(op)
    error = sum(shares.values()) / measurement.latency_ms - 1
    return LeftOut(measurement, error, max(shares, key=lambda name: shares[name]))
