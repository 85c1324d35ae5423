"""Timing operators live, one after the other, on an engine of this machine."""

from collections.abc import Iterable, Iterator

from ...graph.opspec import FREE_KINDS, OpSpec
from ...progress import step
from ..runtimes.runtime import CompilesAhead, Runtime
from ..tables.table import Entry
from .adaptive import Sampling
from .noise import Noise, NoiseWatch
from .operator_times import OperatorTimes, Samples
from .overhead import Overhead
from .timing import one_processor, relative_half_width, summarise

__all__ = ["Profile", "measure_overhead"]


def measure_overhead(runtime: Runtime, rounds: int = 100) -> Overhead:
    """Compare a call of one trivial operator with one of several."""
    with one_processor(runtime.threads):
        return Overhead.measured(*runtime.call_overhead(), rounds)


class Profile:
    """Measures operators, each descriptor once, in groups that take turns, in several passes; watches the machine.

    Args:
        runtime: The engine.
        specs: What to measure; repetitions and operators that take no time are left out.
        overhead: What starting an operator takes; what a call takes is measured beside each group.
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
            The entries of one group from all that was measured of them so far, so that whoever is interrupted can keep
            them; every operator comes several times.
        """
        if not self._wanted:
            return
        self._compile_ahead()
        trivial, _, _ = self._runtime.call_overhead()
        times = OperatorTimes(self._wanted, trivial, self._overhead, self._sampling)
        with step("profiling operators", times.turns) as advance, one_processor(self._runtime.threads):
            self._watch = NoiseWatch()
            done = 0
            for found in times.measure(self._runtime.operator):
                yield [self._entry(spec, samples, times.is_settled(samples)) for spec, samples in found.items()]
                self._watch.look()
                kind = next(iter(found)).kind
                advance(times.done - done, kind if times.done > done else f"{kind}, again")
                done = times.done

    def _compile_ahead(self) -> None:
        if isinstance(self._runtime, CompilesAhead):
            with step("compiling operators", len(self._wanted)) as advance:
                for count in self._runtime.compile_ahead(self._wanted):
                    advance(count)

    def noise(self) -> Noise | None:
        """What disturbed the machine so far; None before anything was measured."""
        return self._watch.report() if self._watch else None

    def _entry(self, spec: OpSpec, samples: Samples, is_settled: bool) -> Entry:
        timing, half_width = summarise(samples), relative_half_width(samples)
        self.unsettled.pop(spec, None)
        if not is_settled:
            self.unsettled[spec] = half_width
        return Entry(spec, timing.median_ms, timing.std_ms, timing.samples, half_width=half_width)
