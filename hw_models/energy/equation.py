"""AdaDeep's energy model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...graph.opspec import FLOAT_BITS, OpSpec
from ..cost import Estimate

__all__ = ["EnergyModel"]


@dataclass(frozen=True)
class EnergyModel:
    """E = e1 C + e2 S_p + e3 S_f (Liu et al. 2021, arXiv 2006.04432).

    C counts multiply-accumulates, S_p the 32-bit words of weights, read from cache, S_f the 32-bit words of
    activations, moved through DRAM: every operator reads its inputs and writes its output. The paper's constants are
    recalled, not checked against it; they are parameters for that reason.

    Attributes:
        mac_pj: e1, picojoules of one 32-bit multiply-accumulate.
        weight_ratio: e2 / e1.
        activation_ratio: e3 / e1.
        mac_ratio_by_bits: Energy of a multiply-accumulate of fewer bits as a share of e1. For 8 bits: a multiplication
            of 0.2 pJ and a 32-bit addition of 0.1 pJ against 3.7 + 0.9 pJ in float (Horowitz, ISSCC 2014).
    """

    mac_pj: float = 52.8
    weight_ratio: float = 6.0
    activation_ratio: float = 200.0
    mac_ratio_by_bits: Mapping[int, float] = field(default_factory=lambda: {8: 0.065})
    _known: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def estimate(self, ops: Sequence[OpSpec], latency_ms: Estimate) -> Estimate:  # noqa: ARG002
        """Millijoules of executing `ops` once, however long it takes."""
        return Estimate(self.energy_mj(ops), 0.0, "modelled", "AdaDeep energy equation")

    def energy_mj(self, ops: Sequence[OpSpec]) -> float:
        """Millijoules of executing `ops` once."""
        return sum(self._known.get(op.key) or self._look_up(op) for op in ops)

    def operator_energy_mj(self, op: OpSpec) -> float:
        """Millijoules of one operator."""
        arithmetic = op.macs * (1.0 if op.bits == FLOAT_BITS else self.mac_ratio_by_bits[op.bits])
        weights = op.weight_bytes / 4
        activations = (op.input_bytes + op.output_bytes) / 4
        units = arithmetic + self.weight_ratio * weights + self.activation_ratio * activations
        return self.mac_pj * units * 1e-9

    def _look_up(self, op: OpSpec) -> float:
        """Millijoules of one operator, remembered under its key."""
        return self._known.setdefault(op.key, self.operator_energy_mj(op))
