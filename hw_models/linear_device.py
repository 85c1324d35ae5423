"""A device that is known by a few fitted prices of work."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import EspalierError
from ..graph.opspec import FLOAT_BITS, FREE_KINDS, OpSpec
from .cost import Cost, Estimate
from .energy import EnergyModel, EnergySource
from .runtimes.runtime import Runtime
from .table_device import CONVERSIONS
from .tables.linear_model import LinearModel

__all__ = ["LinearDevice"]


#: Products of matrices that are priced like convolutions and linear layers.
_LIKENED = ("gru", "lstm", "matmul", "conv_transpose2d")


@dataclass(frozen=True, slots=True)
class _Priced:
    latency_ms: float
    is_measured: bool


class LinearDevice:
    """Latency as a sum of prices of work that were fitted to somebody's measurements; energy from an equation.

    Only floats were measured: 8-bit operators count as float ones, and conversions between the two as nothing.

    Args:
        name: Name of the device.
        prices: Class of operator -> term of work -> milliseconds; see `espalier.hw_models.tables.linear_model`.
        relative_std: Root mean square of the relative errors at measurements that were left out of the fit.
        unmeasured_like: Class whose prices stand for operators without multiplications that were not measured.
        energy: What predicts energy; AdaDeep's equation when None.

    Raises:
        EspalierError: A price is negative, or a class or term unknown.
    """

    runtime: Runtime | None = None
    keeps_integers = False

    def __init__(
        self,
        name: str,
        prices: Mapping[str, Mapping[str, float]],
        relative_std: float,
        unmeasured_like: str,
        energy: EnergySource | None = None,
    ) -> None:
        self._model = LinearModel(prices)
        if unmeasured_like not in prices:
            raise EspalierError(f"device.unmeasured_like={unmeasured_like!r} has no prices; known: {', '.join(prices)}")
        if not 0 <= relative_std < math.inf:
            raise EspalierError(f"device.relative_std must be at least 0, got {relative_std}")
        self.name = name
        self._unmeasured_like = unmeasured_like
        self._relative_std = relative_std
        self._energy = energy or EnergyModel()
        self._known: dict[str, _Priced] = {}

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        """Check that every operator has a price.

        Raises:
            EspalierError: One has none.
        """
        for op in ops:
            self._price(op)

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        """The sum over the operators; both figures are modelled."""
        latency, unmeasured = 0.0, 0
        for op in ops:
            priced = self._known.get(op.key) or self._price(op)
            latency += priced.latency_ms
            unmeasured += not priced.is_measured
        on = f"{self.name}, prices fitted to measurements"
        on += f"; {unmeasured} of {len(ops)} operators of kinds or formats that were not measured" if unmeasured else ""
        latency_ms = Estimate(latency, self._relative_std * latency, "modelled", on)
        return Cost(latency_ms, self._energy.estimate(ops, latency_ms))

    def features(self) -> tuple[float, ...]:
        """Decimal logarithms of throughput, bandwidth and overhead of dense operators; no integer speed-up is known."""
        return self._features

    @cached_property
    def _features(self) -> tuple[float, ...]:
        prices = self._model.prices.get("dense", {})
        per_mac, per_mb = prices.get("mega_macs", 0.0), prices.get("written_mb", 0.0)
        # A price of 1 ms for 10^6 multiply-accumulates is 2 GFLOP/s, one of 1 ms for 10^6 bytes 1 GB/s.
        rates = (2 / per_mac if per_mac else 1.0, 1 / per_mb if per_mb else 1.0, 1e3 * prices.get("operators", 0.0))
        return (*(math.log10(max(rate, 1e-3)) for rate in rates), 0.0)

    def _price(self, op: OpSpec) -> _Priced:
        """What an operator costs, remembered under its key."""
        if op.key not in self._known:
            self._known[op.key] = _Priced(*self._latency(op))
        return self._known[op.key]

    def _latency(self, op: OpSpec) -> tuple[float, bool]:
        """Milliseconds, and whether operators of its class and format were measured."""
        if op.kind in (*FREE_KINDS, *CONVERSIONS):
            return 0.0, True
        executed = op.replace(bits=FLOAT_BITS)
        if self._model.knows(executed):
            return self._model.operator(executed), op == executed and op.kind not in _LIKENED
        if executed.macs:
            raise EspalierError(f"the device {self.name} has no price for the operator {op.key}")
        return self._model.operator_as(executed, self._unmeasured_like), False
