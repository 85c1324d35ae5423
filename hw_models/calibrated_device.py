"""A device whose time per unit of work was fitted to blocks or networks that others measured on it."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..errors import EspalierError
from ..graph.opspec import CONVERSIONS, FLOAT_BITS, FREE_KINDS, KINDS, OpSpec
from .cost import Cost, Estimate
from .energy import EnergyModel, EnergySource
from .predictors.efficiency import Coefficients, Efficiency
from .predictors.work import QUANTITIES, operator_work, work_kind
from .runtimes.runtime import Runtime

__all__ = ["CalibratedDevice"]

_CONVOLUTIONS = re.compile(r"(conv2d|conv_transpose2d|depthwise|grouped)_[1-9]\d{0,3}x[1-9]\d{0,3}")

#: Operators that the figures for an agent's observation are read off: arithmetic, memory, next to nothing.
_ARITHMETIC = OpSpec("conv2d", (64, 32, 32), (64, 32, 32), (3, 3), padding=(1, 1), bias=True)
_MEMORY = OpSpec("elementwise", (256, 64, 64), (256, 64, 64))
_NOTHING = OpSpec("conv2d", (1, 1, 1), (1, 1, 1), bias=True)


@dataclass(frozen=True, slots=True)
class _Known:
    latency_ms: float
    is_measured: bool


@dataclass(frozen=True)
class CalibratedDevice:
    """A device known by what it takes per unit of work, for each kind of operator (`Efficiency`).

    A quantity is "count" (milliseconds for each operator), "mmacs" (for 10^6 multiply-accumulates), "read_mb",
    "written_mb" (for 10^6 bytes of activations) or "weight_mb" (for 10^6 bytes of weights).

    Only floats were measured: 8-bit operators move as many bytes as float ones here, and conversions between the two
    take nothing.

    Attributes:
        name: Name of the device.
        overhead_ms: Milliseconds that an inference takes beside its operators.
        kinds: Kind of operator, such as "conv2d_3x3", "depthwise_5x5", "add" -> quantity -> milliseconds per unit.
        other: The same for kinds that were not measured.
        relative_std: Standard deviation of the model as a share of its value.
        int8_speedup: How many times faster 8-bit arithmetic is; 1 claims nothing.
        energy: What predicts energy.
        keeps_integers: Whether integers stay integers between quantised layers.
        runtime: None: nothing can be measured here.
    """

    name: str
    overhead_ms: float
    kinds: Mapping[str, Coefficients]
    other: Coefficients
    relative_std: float
    int8_speedup: float = 1.0
    energy: EnergySource = field(default_factory=EnergyModel)
    keeps_integers: bool = True
    runtime: Runtime | None = field(default=None, init=False)
    _known: dict[str, _Known] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.int8_speedup < math.inf:
            raise EspalierError(f"device.int8_speedup must be above 0, got {self.int8_speedup}")
        figures = {"overhead_ms": self.overhead_ms, "relative_std": self.relative_std}
        for kind, coefficients in {**self.kinds, "other": self.other}.items():
            if kind != "other" and kind not in KINDS and not _CONVOLUTIONS.fullmatch(kind):
                raise EspalierError(
                    f"device.kinds names the unknown kind {kind!r}; known: {', '.join(KINDS)}, "
                    "and convolutions such as conv2d_3x3, depthwise_5x5, grouped_1x1"
                )
            if unknown := sorted(set(coefficients) - set(QUANTITIES)):
                raise EspalierError(
                    f"device.kinds.{kind} has the unknown quantity {unknown[0]!r}; known: {', '.join(QUANTITIES)}"
                )
            figures |= {f"kinds.{kind}.{name}": value for name, value in coefficients.items()}
        for name, value in figures.items():
            if not 0 <= value < math.inf:
                raise EspalierError(f"device.{name} must be a number of at least 0, got {value}")

    @cached_property
    def efficiency(self) -> Efficiency:
        """The coefficients."""
        return Efficiency(self.overhead_ms, self.kinds, self.other)

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        """Nothing is to be learnt."""

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        """The overhead and the sum over the operators; both figures are modelled."""
        latency, unmeasured = self.overhead_ms, 0
        for op in ops:
            known = self._known.get(op.key) or self._learn(op)
            latency += known.latency_ms
            unmeasured += not known.is_measured
        on = f"{self.name}, efficiencies fitted to measurements"
        on += f"; {unmeasured} of {len(ops)} operators of kinds or formats that were not measured" if unmeasured else ""
        latency_ms = Estimate(latency, self.relative_std * latency, "modelled", on)
        return Cost(latency_ms, self.energy.estimate([op.dense for op in ops], latency_ms))

    def operator_latency_ms(self, op: OpSpec) -> float:
        """Milliseconds of one operator."""
        return (self._known.get(op.key) or self._learn(op)).latency_ms

    def features(self) -> tuple[float, ...]:
        """Decimal logarithms of throughput, bandwidth, overhead and integer speed-up, read off three operators."""
        return self._features

    @cached_property
    def _features(self) -> tuple[float, ...]:
        least = 1e-9
        arithmetic = 2e-6 * _ARITHMETIC.macs / max(least, self.operator_latency_ms(_ARITHMETIC))
        traffic = 1e-6 * (_MEMORY.input_bytes + _MEMORY.output_bytes)
        memory = traffic / max(least, self.operator_latency_ms(_MEMORY))
        start = max(1e-3, 1e3 * self.operator_latency_ms(_NOTHING))
        return tuple(math.log10(value) for value in (arithmetic, memory, start, self.int8_speedup))

    def _learn(self, op: OpSpec) -> _Known:
        """What an operator takes, and whether its kind and format were measured; remembered under its key."""
        self._known[op.key] = known = self._of(op)
        return known

    def _of(self, op: OpSpec) -> _Known:
        if op.kind in (*FREE_KINDS, *CONVERSIONS):
            return _Known(0.0, True)
        executed, kind = op.dense.replace(bits=FLOAT_BITS), work_kind(op)
        count, mmacs, *traffic = operator_work(executed)
        speed = 1.0 if op.bits == FLOAT_BITS else self.int8_speedup
        latency_ms = self.efficiency.work_ms(kind, (count, mmacs / speed, *traffic))
        return _Known(latency_ms, op.bits == FLOAT_BITS and kind in self.kinds)
