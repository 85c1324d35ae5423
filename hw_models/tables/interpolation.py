"""Operators that a table lacks, estimated from those that it knows."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from ...errors import EspalierError
from ...graph.opspec import OpSpec
from ..predictors.efficiency import Efficiency
from ..predictors.efficiency_fit import fit_efficiency
from ..predictors.left_out import LeftOut, left_out_errors
from ..predictors.measurement import Measurement
from ..predictors.work import operator_class
from .curve import LEAST_POINTS, Curve
from .sizes import SizeRange

__all__ = ["Estimated", "How", "Interpolation"]

#: "twin": the same arithmetic with another bias or activation is known; "interpolated": between operators of its kind;
#: "extrapolated": beyond them, or from operators of other kernels and strides.
How = Literal["twin", "interpolated", "extrapolated"]

#: Operators of one kind: class, kernel, stride, bits and sparsity.
_Kind = tuple[object, ...]

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Estimated:
    """What an operator that nobody measured is taken to cost.

    Attributes:
        value: In the unit of the table.
        std: Its standard deviation.
        how: How far it lies from what was measured.
    """

    value: float
    std: float
    how: How


class Interpolation:
    """Estimates from what was measured, by the nearest that there is.

    In this order:

    1. the same arithmetic with another bias or activation: its own figure;
    2. a monotone curve through operators of the same class, kernel, stride, bits and sparsity (`Curve`);
    3. one through those of the same class, bits and sparsity;
    4. time per unit of work and kind of operator, fitted to everything in the table, blocks included (`Efficiency`).

    Estimates of one curve never fall when channels or pixels grow. Figures that were measured, and their twins, stay
    as they are, and real devices do fall here and there.

    Args:
        measurements: Operators alone or together.
    """

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._measurements = [m for m in measurements if m.latency_ms > 0]
        self._singles = [m for m in self._measurements if len(m.ops) == 1]
        self._found: dict[OpSpec, Estimated] = {}
        self._curves: dict[_Kind, Curve | None] = {}

    def __call__(self, spec: OpSpec) -> Estimated:
        """The estimate of an operator; the same for every call.

        Raises:
            EspalierError: Nothing like it was measured.
        """
        if spec not in self._found:
            self._found[spec] = self._twin(spec) or self._on_curve(spec) or self._from_efficiency(spec)
        return self._found[spec]

    def curve(self, spec: OpSpec) -> Curve | None:
        """The curve through operators of the same kind as `spec`; None where too few are known."""
        return self._curve(_kind(spec))

    @cached_property
    def kinds(self) -> list[OpSpec]:
        """One operator of each kind that has a curve."""
        firsts = {_kind(m.ops[0]): m.ops[0] for m in reversed(self._singles)}
        return [spec for spec in firsts.values() if self.curve(spec) is not None]

    def _twin(self, spec: OpSpec) -> Estimated | None:
        twins = self._twins.get(_bare(spec), [])
        if not twins or not spec.macs:
            return None
        values = np.array([m.latency_ms for m in twins])
        measured = max(m.std_ms for m in twins)
        return Estimated(float(values.mean()), float(np.hypot(measured, values.std())), "twin")

    def _on_curve(self, spec: OpSpec) -> Estimated | None:
        for kind, is_same in ((_kind(spec), True), (_wide_kind(spec), False)):
            curve = self._curve(kind)
            if curve is not None:
                point = curve(spec)
                is_inside = is_same and point.octaves_outside == 0
                # Another kernel or stride counts as one more doubling.
                std = point.std if is_same else point.std + curve.relative_std * point.value
                return Estimated(point.value, std, "interpolated" if is_inside else "extrapolated")
        return None

    def _from_efficiency(self, spec: OpSpec) -> Estimated:
        name = operator_class(spec)
        known = [op for m in self._measurements for op in m.ops if operator_class(op) == name and op.bits == spec.bits]
        if not known:
            raise EspalierError(f"nothing like the operator {spec.key} was measured")
        value, outside = self._efficiency.operator_ms(spec), SizeRange(known).octaves_outside(spec)
        outside += spec.kernel not in {op.kernel for op in known}
        std = value * self._efficiency_error(name) * (1 + outside)
        return Estimated(value, std, "extrapolated" if outside else "interpolated")

    def _efficiency_error(self, name: str) -> float:
        """Root mean square relative error where operators of a class took most of the time, if it is known at all."""
        errors = [h.error for h in self._left_out if h.dearest == name] or [h.error for h in self._left_out]
        return float(np.sqrt(np.mean(np.square(errors)))) if errors else 1.0

    @cached_property
    def _twins(self) -> dict[OpSpec, list[Measurement]]:
        return _grouped(self._singles, _bare)

    @cached_property
    def _by_kind(self) -> dict[_Kind, list[Measurement]]:
        return {**_grouped(self._singles, _wide_kind), **_grouped(self._singles, _kind)}

    @cached_property
    def _efficiency(self) -> Efficiency:
        return fit_efficiency(self._measurements, has_overhead=False)[0]

    @cached_property
    def _left_out(self) -> list[LeftOut]:
        return left_out_errors(self._measurements)

    def _curve(self, kind: _Kind) -> Curve | None:
        if kind not in self._curves:
            known = self._by_kind.get(kind, [])
            is_enough = len({_bare(m.ops[0]) for m in known}) >= LEAST_POINTS
            self._curves[kind] = Curve([m.ops[0] for m in known], [m.latency_ms for m in known]) if is_enough else None
        return self._curves[kind]


def _grouped(measurements: Sequence[Measurement], of: Callable[[OpSpec], _Key]) -> dict[_Key, list[Measurement]]:
    groups: dict[_Key, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        groups[of(measurement.ops[0])].append(measurement)
    return dict(groups)


def _bare(spec: OpSpec) -> OpSpec:
    """The arithmetic alone, without what engines compute in the same pass."""
    return spec.replace(bias=False, activation="") if spec.macs else spec


def _kind(spec: OpSpec) -> _Kind:
    return (*_wide_kind(spec), spec.kind, spec.kernel, spec.stride, spec.n_inputs)


def _wide_kind(spec: OpSpec) -> _Kind:
    # Engines spend as many instructions on a grouped convolution as on one that is dense within each group.
    groups = spec.groups if operator_class(spec) == "dense" and spec.kind == "conv2d" else 1
    return (operator_class(spec), groups, spec.bits, spec.sparsity, "" if spec.macs else spec.activation)
