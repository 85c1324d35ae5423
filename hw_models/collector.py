"""A device that costs nothing and remembers what it was asked for."""

from collections.abc import Iterable, Sequence

from ..graph.opspec import OpSpec
from .cost import Cost, Estimate
from .runtimes.runtime import Runtime

__all__ = ["OperatorCollector"]


class OperatorCollector:
    """Lists the operators of a search space for a device that is not at hand.

    Args:
        keeps_integers: Whether the device's engine hands integers from one 8-bit operator to the next.
        skips_blocks: Whether it skips what block pruning took away.

    Attributes:
        ops: What was asked for, each descriptor once, in order.
    """

    name = "collector"
    runtime: Runtime | None = None

    def __init__(self, keeps_integers: bool = True, skips_blocks: bool = False) -> None:
        self.keeps_integers = keeps_integers
        self.skips_blocks = skips_blocks
        self.ops: list[OpSpec] = []

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        """Remember `ops`."""
        self.ops = list(dict.fromkeys([*self.ops, *ops]))

    def cost(self, ops: Sequence[OpSpec]) -> Cost:  # noqa: ARG002
        """Nothing."""
        nothing = Estimate(0.0, 0.0, "modelled", "not counted")
        return Cost(nothing, nothing)

    def features(self) -> tuple[float, ...]:
        """Unknown."""
        return (0.0, 0.0, 0.0, 0.0)
