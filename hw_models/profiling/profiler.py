"""Timing operators live, one after the other, on an engine of this machine."""

from collections.abc import Iterable, Iterator, Sequence

from ...graph.opspec import FREE_KINDS, OpSpec
from ...progress import step
from ..runtimes.runtime import Runtime
from ..tables.table import Entry
from .timing import one_processor, summarise, time_alternating

__all__ = ["Overhead", "measure_overhead", "profile_operators"]

#: Operators that take turns: many enough for a disturbance to hit several of them, few enough to stay in the caches.
_GROUP = 8


class Overhead:
    """What an engine spends beside its operators.

    Attributes:
        call_ms: Milliseconds of a call, without any operator.
        operator_ms: Milliseconds of starting one operator.
    """

    def __init__(self, call_ms: float, operator_ms: float) -> None:
        self.call_ms = call_ms
        self.operator_ms = operator_ms


def measure_overhead(runtime: Runtime, rounds: int = 100) -> Overhead:
    """Compare a call of one trivial operator with one of several."""
    one, many, extra = runtime.call_overhead()
    with one_processor(runtime.threads):
        samples = time_alternating([one, many], rounds)
    short, long = (summarise(row).median_ms for row in samples)
    operator_ms = max(long - short, 0.0) / extra
    return Overhead(max(short - operator_ms, 0.0), operator_ms)


def profile_operators(
    runtime: Runtime, specs: Iterable[OpSpec], overhead: Overhead, rounds: int = 15
) -> Iterator[Entry]:
    """Measure operators, each descriptor once, in groups that take turns.

    Args:
        runtime: The engine.
        specs: What to measure; repetitions and operators that take no time are left out.
        overhead: What to subtract from each measurement.
        rounds: Samples of each.

    Yields:
        One entry per operator, so that whoever is interrupted can keep what was measured.
    """
    wanted = [spec for spec in dict.fromkeys(specs) if spec.kind not in FREE_KINDS]
    if not wanted:
        return
    with step("profiling operators", len(wanted)) as advance, one_processor(runtime.threads):
        for start in range(0, len(wanted), _GROUP):
            group = wanted[start : start + _GROUP]
            yield from _profile_group(runtime, group, overhead, rounds)
            advance(len(group), group[-1].kind)


def _profile_group(runtime: Runtime, group: Sequence[OpSpec], overhead: Overhead, rounds: int) -> Iterator[Entry]:
    samples = time_alternating([runtime.operator(spec) for spec in group], rounds)
    for spec, row in zip(group, samples, strict=True):
        timing = summarise(row)
        net_ms = max(timing.median_ms - overhead.call_ms, overhead.operator_ms)
        yield Entry(spec, net_ms, timing.std_ms, timing.samples)
