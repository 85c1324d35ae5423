"""What a hardware model answers: a value, its standard deviation, and where it comes from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..graph.opspec import OpSpec
from .runtimes.runtime import Runtime

__all__ = ["Cost", "Estimate", "HardwareModel", "Kind", "Relative", "skips_blocks"]

Kind = Literal["measured", "modelled"]

#: "relative" where the source of a figure does not say in what unit it counts.
Relative = Literal["", "relative"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure that says how sure it is and whether anybody measured it.

    Attributes:
        value: The figure, in the unit that its name states.
        std: Its standard deviation, in the same unit; 0 for what is counted exactly.
        kind: "measured" or "modelled".
        on: The device, engine or equation it comes from.
        unit: "" for the unit that the figure's name states; "relative" where only ratios mean anything.
    """

    value: float
    std: float
    kind: Kind
    on: str
    unit: Relative = ""

    def to_dict(self) -> dict[str, Any]:
        """The attributes, ready for JSON; the unit only where it is another than the name states."""
        unit = {"unit": self.unit} if self.unit else {}
        return {"value": self.value, "std": self.std, "kind": self.kind, "on": self.on, **unit}


@dataclass(frozen=True, slots=True)
class Cost:
    """Latency in milliseconds and energy in millijoules of one inference at batch size 1."""

    latency_ms: Estimate
    energy_mj: Estimate


class HardwareModel(Protocol):
    """What a device, an equation or a table says that operators cost."""

    @property
    def name(self) -> str:
        """Name of the device."""

    @property
    def keeps_integers(self) -> bool:
        """Whether the device hands integers from one 8-bit operator to the next."""

    @property
    def runtime(self) -> Runtime | None:
        """The engine that measures whole networks where the device is this machine; None elsewhere."""

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        """Learn what is needed to answer for `ops`; a live device measures what it does not know yet."""

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        """The cost of executing `ops` one after the other.

        Raises:
            EspalierError: An operator is unknown to this model.
        """

    def features(self) -> tuple[float, ...]:
        """Four numbers of order one that tell this device from others, for an agent's observation.

        They are the decimal logarithms of its throughput (GFLOP/s), bandwidth (GB/s), call overhead (microseconds)
        and integer speed-up; 0 where unknown.
        """


def skips_blocks(engine: object) -> bool:
    """Whether a device or an engine skips what block pruning took away, which one that does says in this attribute."""
    return bool(getattr(engine, "skips_blocks", False))
