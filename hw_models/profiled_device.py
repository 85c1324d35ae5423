"""This machine as a device: its lookup table is measured on demand and remembered."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ..errors import EspalierError
from ..files import cache_folder, content_hash
from ..graph.opspec import FREE_KINDS, OpSpec
from .cost import Cost, skips_blocks
from .energy import EnergyModel, EnergySource, MeasuredPower
from .machine import cpu_model
from .predictors.measurement import Measurement
from .profiling.adaptive import Sampling
from .profiling.noise import merged_noise
from .profiling.operator_times import is_enough
from .profiling.overhead import Overhead
from .profiling.profiler import Profile, measure_overhead
from .profiling.saying import say_trust
from .runtimes.runtime import make_runtime
from .table_device import summed_latency, table_features
from .tables.correction import FEWEST_NETWORKS, Correction, fitted_correction
from .tables.entry import Entry
from .tables.table import LookupTable

__all__ = ["ProfiledDevice"]

#: Seconds after which the table is written, so that a profile that is killed goes on where it stopped.
_SAVE_SECONDS = 2.0

#: What runs while power is measured: a convolution of ordinary shape.
_STEADY_WORK = OpSpec("conv2d", (64, 28, 28), (64, 28, 28), (3, 3), padding=(1, 1), bias=True)


class ProfiledDevice:
    """Latency measured live, operator by operator; energy as its source says.

    The table lies in the cache folder under the device's name, engine, threads, processor and library versions: a
    change of any of them starts a new one.

    Args:
        name: Name of the device.
        runtime: "espalier", "onnxruntime", "openvino" or "torch".
        threads: Threads that an inference may use.
        rounds: Samples of each operator, at least.
        max_rounds: Samples of an operator whose median stays uncertain, at most; three times `rounds` when None.
        tolerance: How uncertain a median may be: half the width of its 95 % interval as a share of it.
        networks: Whole networks of a search space to measure, which the sum of operators is corrected by; 0 for none.
        energy: What predicts energy; AdaDeep's equation when None.
        table: File of the table; None for one in the cache folder.
        remeasure: Whether to measure again, once, what the table has.

    Attributes:
        skips_blocks: Whether the engine skips what block pruning took away.
        correction: What the sum of operators is corrected by, for the space prepared for; None where no networks of it
            were measured.

    Raises:
        EspalierError: The engine is unknown or not installed, or a number is out of range.
    """

    def __init__(
        self,
        name: str = "host",
        runtime: str = "onnxruntime",
        threads: int = 1,
        rounds: int = 15,
        max_rounds: int | None = None,
        tolerance: float = 0.05,
        energy: EnergySource | None = None,
        table: str | None = None,
        *,
        networks: int = 0,
        remeasure: bool = False,
    ) -> None:
        self.name = name
        self.runtime = make_runtime(runtime, threads)
        self.keeps_integers = self.runtime.keeps_integers
        self.skips_blocks = skips_blocks(self.runtime)
        self.sampling = _sampling(rounds, max_rounds, tolerance)
        self.networks = _networks(networks)
        self._energy = energy or EnergyModel()
        self._file = table
        self._space: tuple[OpSpec, ...] = ()
        self._remeasure = remeasure
        self._measured_now: set[str] = set()
        self.correction: Correction | None = None

    @property
    def _title(self) -> str:
        return f"{self.runtime.name}, {self.runtime.threads} thread{'s' if self.runtime.threads > 1 else ''}"

    @cached_property
    def table_path(self) -> Path:
        """Where the table lies."""
        if self._file is not None:
            return Path(self._file).expanduser()
        key = content_hash(self.name, self._title, cpu_model(), repr(sorted(self.runtime.versions().items())))
        return cache_folder() / "tables" / f"{self.name}-{self.runtime.name}-{key[:12]}.json"

    @cached_property
    def table(self) -> LookupTable:
        """What is known so far."""
        if self.table_path.exists():
            return LookupTable.load(self.table_path)
        fresh = LookupTable(self.name, self._title, self.runtime.versions(), cpu_model())
        fresh.keeps_integers = self.keeps_integers
        return fresh

    @cached_property
    def _overhead(self) -> Overhead:
        return measure_overhead(self.runtime)

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        """Measure the operators that the table lacks or knows too vaguely, with a progress bar."""
        self._space = tuple(dict.fromkeys(self._executed(ops)))
        self._measure(self._space)
        self.correction = None

    def learn(self, networks: Sequence[Measurement], labels: Iterable[str]) -> None:
        """Remember measured networks, and correct the sum of operators of the space prepared for.

        Args:
            networks: What was measured just now.
            labels: Of all networks to correct by; those of other searches, which the table may hold, too, do not count,
                so that the same search gets the same predictions.
        """
        for network in networks:
            self.table.add_network(network)
            self._measured_now.add(network.label)
        if networks:
            self.table.merge_into(self.table_path)
        known = {label: self.table.networks[label] for label in labels if label in self.table.networks}
        self.correction = fitted_correction(replace(self.table, networks=known), self._space)

    def knows_network(self, label: str) -> bool:
        """Whether a network need not be measured."""
        return label in self.table.networks and self._is_current(label)

    def _measure(self, ops: Iterable[OpSpec]) -> None:
        self._prepare_energy()
        missing = [op for op in dict.fromkeys(ops) if op.kind not in FREE_KINDS and not self._is_measured(op)]
        if not missing:
            return
        if not self.table.entries:
            self.table.call_overhead_ms = self._overhead.call_ms
        # What is tight beside a call is so today and after a pause: judged by the table's own figure.
        overhead = replace(self._overhead, call_ms=self.table.call_overhead_ms)
        profile = Profile(self.runtime, missing, overhead, self.sampling)
        self._fill(profile)
        self._measured_now |= {op.key for op in missing}
        say_trust(profile.noise(), profile.unsettled, len(missing), self.sampling)

    def _is_measured(self, op: OpSpec) -> bool:
        """Whether the table has an operator, tight or given up, and not from passes that were cut short."""
        entry = self.table.entries.get(op.key)
        if entry is None or not self._is_current(op.key):
            return False
        # Tables of an earlier day do not know the half width: what is complete in them counts as tight.
        half_width = entry.half_width or 0.0
        return is_enough(self.sampling, entry.mean, half_width, entry.samples, self.table.call_overhead_ms)

    def _is_current(self, key: str) -> bool:
        return not self._remeasure or key in self._measured_now

    def _prepare_energy(self) -> None:
        if isinstance(self._energy, MeasuredPower):
            self._energy.prepare(self.runtime.operator(_STEADY_WORK))

    def _fill(self, profile: Profile) -> None:
        saved = time.monotonic()
        for entries in profile.groups():
            for entry in entries:
                self._take(entry)
            if time.monotonic() - saved > _SAVE_SECONDS:
                self._save(profile)
                saved = time.monotonic()
        self._save(profile)

    def _take(self, entry: Entry) -> None:
        """Put an entry into the table, but not the first pass of a new measurement in a complete one's place."""
        known = self.table.entries.get(entry.key)
        if known is None or entry.samples >= min(known.samples, self.sampling.rounds):
            self.table.add(entry)

    def _save(self, profile: Profile) -> None:
        self.table.noise = merged_noise(self.table.noise, profile.noise())
        self.table.merge_into(self.table_path)

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        """The sum of the operators and of the call's overhead, corrected where networks were measured; modelled.

        Operators that were never measured are measured now.
        """
        ops = self._executed(ops)
        if any(op.kind not in FREE_KINDS and op.key not in self.table.entries for op in ops):
            self._measure(ops)
        self._prepare_energy()
        latency = summed_latency(self.table, ops, f"{self.name} ({self._title})", self.correction)
        return Cost(latency, self._energy.estimate(ops, latency))

    def _executed(self, ops: Iterable[OpSpec]) -> list[OpSpec]:
        return list(ops) if self.skips_blocks else [op.dense for op in ops]

    def features(self) -> tuple[float, ...]:
        """Decimal logarithms of throughput, bandwidth, overhead and integer speed-up."""
        return table_features(self.table)


def _sampling(rounds: int, max_rounds: int | None, tolerance: float) -> Sampling:
    if rounds < 1:
        raise EspalierError(f"device.rounds must be at least 1, got {rounds}")
    if max_rounds is not None and max_rounds < rounds:
        raise EspalierError(f"device.max_rounds must be at least device.rounds, {rounds}, got {max_rounds}")
    if not tolerance > 0:
        raise EspalierError(f"device.tolerance must be above 0, such as 0.05 for 5 %, got {tolerance}")
    return Sampling(rounds, 3 * rounds if max_rounds is None else max_rounds, tolerance)


def _networks(count: int) -> int:
    if count and count < FEWEST_NETWORKS:
        raise EspalierError(f"device.networks must be 0 or at least {FEWEST_NETWORKS}, got {count}")
    return count
