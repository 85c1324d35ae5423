"""This machine as a device: its lookup table is measured on demand and remembered."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from ..files import cache_folder, content_hash
from ..graph.opspec import FREE_KINDS, OpSpec
from .cost import Cost, Estimate
from .energy import EnergyModel
from .machine import cpu_model
from .profiling.profiler import Overhead, measure_overhead, profile_operators
from .runtimes.runtime import make_runtime
from .table_device import summed_latency, table_features
from .tables.table import LookupTable

__all__ = ["ProfiledDevice"]

#: Operators after which the table is written, so that an interrupted profile goes on where it stopped.
_SAVE_EVERY = 64


class ProfiledDevice:
    """Latency measured live, operator by operator; energy from an equation.

    The table lies in the cache folder under the device's name, engine, threads, processor and library versions: a
    change of any of them starts a new one.

    Args:
        name: Name of the device.
        runtime: "onnxruntime" or "torch".
        threads: Threads that an inference may use.
        rounds: Samples of each operator.
        energy: Energy model.
        table: File of the table; None for one in the cache folder.

    Raises:
        EspalierError: The engine is unknown or not installed.
    """

    def __init__(
        self,
        name: str = "host",
        runtime: str = "onnxruntime",
        threads: int = 1,
        rounds: int = 15,
        energy: EnergyModel | None = None,
        table: str | None = None,
    ) -> None:
        self.name = name
        self.runtime = make_runtime(runtime, threads)
        self.keeps_integers = self.runtime.keeps_integers
        self._rounds = rounds
        self._energy = energy or EnergyModel()
        self._file = table

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
        """Measure the operators that the table lacks, with a progress bar."""
        missing = [op for op in dict.fromkeys(ops) if op.kind not in FREE_KINDS and op.key not in self.table.entries]
        if not missing:
            return
        if not self.table.entries:
            self.table.call_overhead_ms = self._overhead.call_ms
        for count, entry in enumerate(profile_operators(self.runtime, missing, self._overhead, self._rounds), 1):
            self.table.add(entry)
            if count % _SAVE_EVERY == 0:
                self.table.merge_into(self.table_path)
        self.table.merge_into(self.table_path)

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        """The sum of the operators and of the call's overhead; both figures are modelled.

        Operators that were never measured are measured now.
        """
        if any(op.kind not in FREE_KINDS and op.key not in self.table.entries for op in ops):
            self.prepare(ops)
        latency = summed_latency(self.table, ops, f"{self.name} ({self._title})")
        return Cost(latency, Estimate(self._energy.energy_mj(ops), 0.0, "modelled", "AdaDeep energy equation"))

    def features(self) -> tuple[float, ...]:
        """Decimal logarithms of throughput, bandwidth, overhead and integer speed-up."""
        return table_features(self.table)
