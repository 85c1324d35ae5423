"""What a device takes per unit of work, by kind of operator.

The roofline (Williams et al. 2009) says that an operator takes the longer of its arithmetic and its memory traffic.
Here it takes their sum, and what starting it takes: t = a + b MACs + c bytes read + d bytes written + e weight bytes,
with coefficients of their own for each kind of operator. Sums are linear in the coefficients, so that measurements of
whole blocks or networks suffice to find them (`espalier.hw_models.predictors.efficiency_fit`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graph.opspec import OpSpec
from .work import QUANTITIES, operator_work, work_kind, work_table

__all__ = ["Coefficients", "Efficiency"]

#: Milliseconds per unit of `QUANTITIES`.
Coefficients = Mapping[str, float]


@dataclass(frozen=True)
class Efficiency:
    """Milliseconds per unit of work.

    Attributes:
        overhead_ms: What a call takes beside its operators.
        kinds: Kind of work -> milliseconds per unit of each of `QUANTITIES`; what is absent is 0.
        other: The same for all other kinds.
    """

    overhead_ms: float
    kinds: Mapping[str, Coefficients]
    other: Coefficients

    def latency_ms(self, ops: Sequence[OpSpec]) -> float:
        """Milliseconds of executing `ops` one after the other."""
        return self.overhead_ms + sum(self.work_ms(kind, work) for kind, work in work_table(ops).items())

    def operator_ms(self, op: OpSpec) -> float:
        """Milliseconds of one operator among others."""
        return self.work_ms(work_kind(op), operator_work(op))

    def work_ms(self, kind: str, work: Sequence[float] | NDArray[np.float64]) -> float:
        """Milliseconds of some work of one kind.

        Args:
            kind: As `work_kind` names it.
            work: Amounts of `QUANTITIES`, shape (5,).
        """
        coefficients = self.coefficients(kind)
        return sum(coefficients.get(name, 0.0) * float(value) for name, value in zip(QUANTITIES, work, strict=True))

    def coefficients(self, kind: str) -> Coefficients:
        """Those of a kind; of a convolution that was not measured those of its family with the nearest kernel."""
        if kind in self.kinds:
            return self.kinds[kind]
        family, _, kernel = kind.rpartition("_")
        side = kernel.partition("x")[0]
        relatives = [one for one in self.kinds if one.rpartition("_")[0] == family and side.isdecimal()]
        if not family or not relatives:
            return self.other
        return self.kinds[min(relatives, key=lambda one: abs(int(one.rpartition("x")[2]) - int(side)))]
