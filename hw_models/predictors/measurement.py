"""What everything that was timed has in common: operators, executed together, and how long that took."""

from dataclasses import dataclass

from ...graph.opspec import OpSpec

__all__ = ["Measurement"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Operators executed one after the other, at batch size 1, and their latency.

    An entry of a lookup table is a measurement of one operator, a block's one of a few, a network's one of all of its
    operators.

    Attributes:
        ops: What was executed.
        latency_ms: Mean latency in milliseconds.
        std_ms: Standard deviation of `latency_ms`; 0 where the source does not tell.
        samples: How many runs the mean is taken over; 1 where the source does not tell.
        label: What the source calls it, such as an architecture string or a table's key.
    """

    ops: tuple[OpSpec, ...]
    latency_ms: float
    std_ms: float = 0.0
    samples: int = 1
    label: str = ""
