"""The roofline model: an operator waits for arithmetic or for memory, whichever takes longer."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import EspalierError
from ..graph.opspec import FLOAT_BITS, FREE_KINDS, OpSpec
from .cost import Cost, Estimate
from .energy import EnergyModel, EnergySource
from .runtimes.runtime import Runtime

__all__ = ["Roofline"]


@dataclass(frozen=True)
class Roofline:
    """A device known by its specification alone (Williams et al. 2009).

    Attributes:
        name: Name of the device.
        gflops: Arithmetic, 10^9 operations per second; a multiply-accumulate is two.
        bandwidth_gbps: Memory, 10^9 bytes per second.
        overhead_us: Microseconds that starting an operator takes.
        int8_speedup: How many times faster 8-bit arithmetic is.
        relative_std: Standard deviation of the model as a share of its value.
        energy: What predicts energy.
        keeps_integers: Whether integers stay integers between quantised layers.
        runtime: None: nothing can be measured.
    """

    name: str
    gflops: float
    bandwidth_gbps: float
    overhead_us: float = 0.0
    int8_speedup: float = 1.0
    relative_std: float = 0.3
    energy: EnergySource = field(default_factory=EnergyModel)
    keeps_integers: bool = True
    runtime: Runtime | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name in ("gflops", "bandwidth_gbps", "int8_speedup"):
            if getattr(self, name) <= 0:
                raise EspalierError(f"device.{name} must be above 0, got {getattr(self, name)}")

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        """Nothing is to be learnt."""

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        """The sum over the operators; both figures are modelled."""
        ops = [op.dense for op in ops]
        latency = sum(map(self.operator_latency_ms, ops))
        estimate = Estimate(latency, self.relative_std * latency, "modelled", f"{self.name} roofline")
        return Cost(estimate, self.energy.estimate(ops, estimate))

    def operator_latency_ms(self, op: OpSpec) -> float:
        """Milliseconds of one operator, zeros included."""
        op = op.dense
        if op.kind in FREE_KINDS:
            return 0.0
        speed = self.gflops * (1.0 if op.bits == FLOAT_BITS else self.int8_speedup)
        arithmetic = 2 * op.macs / speed
        memory = (op.input_bytes + op.weight_bytes + op.output_bytes) / self.bandwidth_gbps
        return max(arithmetic, memory) * 1e-6 + self.overhead_us * 1e-3

    def features(self) -> tuple[float, ...]:
        """Decimal logarithms of throughput, bandwidth, overhead and integer speed-up."""
        values = (self.gflops, self.bandwidth_gbps, max(self.overhead_us, 1e-3), self.int8_speedup)
        return tuple(math.log10(value) for value in values)
