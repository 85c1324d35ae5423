"""Timing operators live, one after the other, on an engine of this machine."""

from collections.abc import Iterable, Iterator, Sequence

from ...graph.opspec import FREE_KINDS, OpSpec
from ...progress import step
from ..runtimes.runtime import Runtime
from ..tables.table import Entry
from .adaptive import Sampling, time_until_tight
from .noise import Noise, NoiseWatch
from .overhead import Overhead
from .timing import one_processor, relative_half_width, summarise

__all__ = ["Profile", "measure_overhead"]

#: Operators that take turns: many enough for a disturbance to hit several of them, few enough to stay in the caches.
_GROUP = 8


def measure_overhead(runtime: Runtime, rounds: int = 100) -> Overhead:
    """Compare a call of one trivial operator with one of several."""
    with one_processor(runtime.threads):
        return Overhead.measured(*runtime.call_overhead(), rounds)


class Profile:
    """Measures operators, each descriptor once, in groups that take turns, and watches the machine meanwhile.

    Args:
        runtime: The engine.
        specs: What to measure; repetitions and operators that take no time are left out.
        overhead: What to subtract from each measurement.
        sampling: How often to measure.

    Attributes:
        unsettled: Operators whose median was still uncertain after all rounds, with the half width of its 95 %
            interval as a share of it.
    """

    def __init__(self, runtime: Runtime, specs: Iterable[OpSpec], overhead: Overhead, sampling: Sampling) -> None:
        self._runtime = runtime
        self._wanted = [spec for spec in dict.fromkeys(specs) if spec.kind not in FREE_KINDS]
        self._overhead = overhead
        self._sampling = sampling
        self._watch: NoiseWatch | None = None
        self.unsettled: dict[OpSpec, float] = {}

    def groups(self) -> Iterator[list[Entry]]:
        """Measure, with a progress bar.

        Yields:
            The entries of one group, so that whoever is interrupted can keep what was measured.
        """
        if not self._wanted:
            return
        with step("profiling operators", len(self._wanted)) as advance, one_processor(self._runtime.threads):
            self._watch = NoiseWatch()
            for start in range(0, len(self._wanted), _GROUP):
                group = self._wanted[start : start + _GROUP]
                yield self._measured(group)
                self._watch.look()
                advance(len(group), group[-1].kind)

    def noise(self) -> Noise | None:
        """What disturbed the machine so far; None before anything was measured."""
        return self._watch.report() if self._watch else None

    def _measured(self, group: Sequence[OpSpec]) -> list[Entry]:
        calls = [self._runtime.operator(spec) for spec in group]
        entries = []
        for spec, samples in zip(group, time_until_tight(calls, self._sampling), strict=True):
            timing = summarise(samples)
            entries.append(Entry(spec, self._overhead.net_ms(timing), timing.std_ms, timing.samples))
            if not self._sampling.is_settled(samples):
                self.unsettled[spec] = relative_half_width(samples)
        return entries
