"""A device that is known by its lookup table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..errors import EspalierError, FormatError
from ..graph.opspec import CONVERSIONS, FREE_KINDS, OpSpec
from .cost import Cost, Estimate
from .energy import EnergyModel, EnergySource
from .predictors.measurement import Measurement
from .runtimes.runtime import Runtime
from .tables.correction import Correction, fitted_correction
from .tables.coverage import Coverage
from .tables.formats import read_table
from .tables.interpolation import Estimated, Interpolation
from .tables.sums import relative_unit, sum_title, summed_latency, table_features
from .tables.table import LookupTable

__all__ = ["TableDevice", "summed_latency", "table_features"]


@dataclass(frozen=True, slots=True)
class _Figures:
    """What one operator costs: latency and energy with their variances, and with the doubt of what was estimated."""

    latency: float = 0.0
    latency_variance: float = 0.0
    latency_doubt: float = 0.0
    energy: float = 0.0
    energy_doubt: float = 0.0
    is_estimated: bool = False
    is_extrapolated: bool = False


class TableDevice:
    """Latency from a file, as `espalier profile` writes it or others published it; energy from the same or an equation.

    Args:
        table: Path of the file, in any format that `espalier profile import` reads.
        energy: What predicts energy, where the table has none; AdaDeep's equation when None.
        interpolate: Whether an operator that the table lacks is estimated from those that it knows
            (`espalier.hw_models.tables.interpolation`); otherwise it is refused.
        only_bits: Bits of the only number format that the device computes in; every operator counts as one of these.
            None where operators keep their own.
        free_kinds: Kinds of operators that cost nothing, because the source does not list them.
        name: Name of the device; None for the table's.
        origin: Where the file is to be had, for the error when it is missing.

    Attributes:
        skips_blocks: Whether the table comes from an engine that skips what block pruning took away.
        correction: What the sum of operators is corrected by, for the space prepared for; None where the table has no
            networks of it.

    Raises:
        FormatError: The file is missing or damaged.
    """

    runtime: Runtime | None = None

    def __init__(
        self,
        table: str,
        energy: EnergySource | None = None,
        interpolate: bool = False,
        only_bits: int | None = None,
        free_kinds: Sequence[str] = (),
        name: str | None = None,
        origin: str = "",
    ) -> None:
        self._path = Path(table).expanduser()
        self._table = _read(self._path, origin)
        self._energy = energy or EnergyModel()
        self._interpolates = interpolate
        self._only_bits = only_bits
        self._free_kinds = frozenset((*FREE_KINDS, *free_kinds, *(CONVERSIONS if only_bits else ())))
        self._known: dict[str, _Figures] = {}
        self.correction: Correction | None = None
        self.name = name or self._table.device
        self.keeps_integers = self._table.keeps_integers
        self.skips_blocks = any(entry.spec.sparsity for entry in self._table.entries.values())

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        """Check that the table knows all of `ops`, or that they can be estimated; correct their sum where it can be.

        Raises:
            EspalierError: Some are unknown; names one.
        """
        ops = list(ops)
        self.correction = fitted_correction(self._table, map(self._as_executed, ops))
        self._known.clear()
        unknown = {op.key: op.kind for op in ops if not self._can_price(op)}
        if unknown:
            kinds = set(unknown.values())
            advice = (
                f"nothing like them was measured: device.free_kinds=[{sorted(kinds)[0]}] would count such as nothing"
                if self._interpolates
                else "profile the same task and space on the device, or estimate them: device.interpolate=true"
            )
            lacking = f"the table {self._path} lacks {len(unknown)} operators of this search space"
            raise EspalierError(f"{lacking}, such as {min(unknown)}; {advice}")

    def coverage(self, ops: Iterable[OpSpec]) -> Coverage:
        """How the table comes to the figures of operators, with or without `interpolate`."""
        found = Coverage()
        for op in dict.fromkeys(ops):
            executed = self._as_executed(op)
            if op.kind in self._free_kinds:
                found.free.append(executed.key)
            elif executed.key in self._table.entries:
                found.known.append(executed.key)
            else:
                self._take_estimate(executed, found)
        return found

    def _take_estimate(self, op: OpSpec, found: Coverage) -> None:
        try:
            estimate = self._latencies(op)
        except EspalierError:
            found.unknown.append(op.key)
            return
        getattr(found, estimate.how).append(op.key)
        found.relative_stds[op.key] = estimate.std / estimate.value if estimate.value else 0.0

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        """The sum of the operators and of the call's overhead.

        Errors of measured figures add up as those of independent draws; errors of estimated ones as if all of them
        erred to the same side, as those of one curve do.
        """
        latency, variance, doubt = self._table.call_overhead_ms, 0.0, 0.0
        energy = energy_doubt = 0.0
        estimated = extrapolated = 0
        known, correction = self._known, self.correction
        for previous, op in zip((None, *ops), ops, strict=False):
            figures = known.get(op.key) or self._look_up(op)
            latency += figures.latency
            if correction:
                latency += correction.between_ms(previous, op)
            variance += figures.latency_variance
            energy += figures.energy
            if figures.is_estimated:
                doubt += figures.latency_doubt
                energy_doubt += figures.energy_doubt
                estimated += 1
                extrapolated += figures.is_extrapolated
        on = f"{self.name} table, {sum_title(correction)}{_caveat(estimated, extrapolated, len(ops))}"
        common = correction.relative_std * latency if correction else 0.0
        std = math.sqrt(variance + doubt * doubt + common * common)
        latency_ms = Estimate(latency, std, "modelled", on, relative_unit(self._table.unit))
        if not self._has_energies:
            return Cost(latency_ms, self._energy.estimate([*map(self._as_executed, ops)], latency_ms))
        return Cost(latency_ms, Estimate(energy, energy_doubt, "modelled", on, relative_unit(self._table.energy_unit)))

    def features(self) -> tuple[float, ...]:
        """Decimal logarithms of throughput, bandwidth, overhead and integer speed-up, as far as the table tells."""
        return table_features(self._table)

    @cached_property
    def _has_energies(self) -> bool:
        entries = [entry for entry in self._table.entries.values() if not entry.number_format]
        return bool(entries) and all(entry.energy is not None for entry in entries)

    @cached_property
    def _latencies(self) -> Interpolation:
        return Interpolation(self._table.measurements())

    @cached_property
    def _energies(self) -> Interpolation:
        return Interpolation(
            Measurement((entry.spec,), entry.energy, label=entry.key)
            for entry in self._table.entries.values()
            if entry.energy is not None and not entry.number_format
        )

    def _as_executed(self, op: OpSpec) -> OpSpec:
        """What the table is asked for: where it does not know how zeros are skipped, the dense operator."""
        executed = replace(op, bits=self._only_bits) if self._only_bits else op
        return executed if executed.key in self._table.entries else executed.dense

    def _can_price(self, op: OpSpec) -> bool:
        try:
            self._look_up(op)
        except EspalierError:
            return False
        return True

    def _look_up(self, op: OpSpec) -> _Figures:
        """What an operator costs, remembered under its own key."""
        if op.key not in self._known:
            self._known[op.key] = self._corrected(op)
        return self._known[op.key]

    def _corrected(self, op: OpSpec) -> _Figures:
        figures = _Figures() if op.kind in self._free_kinds else self._figures(op)
        if self.correction is None or (op.kind in self._free_kinds and op.kind not in FREE_KINDS):
            return figures
        return replace(figures, latency=self.correction.operator_ms(self._as_executed(op), figures.latency))

    def _figures(self, op: OpSpec) -> _Figures:
        executed = self._as_executed(op)
        entry = self._table.entries.get(executed.key)
        if entry is not None:
            return _Figures(entry.mean, entry.std**2, energy=entry.energy or 0.0)
        if not self._interpolates:
            raise EspalierError(f"the latency table of {self._table.device} lacks the operator {executed.key}")
        found = self._latencies(executed)
        energy_found = self._energies(executed) if self._has_energies else None
        return _Figures(
            found.value,
            latency_doubt=found.std,
            energy=energy_found.value if energy_found else 0.0,
            energy_doubt=energy_found.std if energy_found else 0.0,
            is_estimated=True,
            is_extrapolated=_is_extrapolated(found, energy_found),
        )


def _read(path: Path, origin: str) -> LookupTable:
    try:
        return read_table(path)
    except FormatError as error:
        if origin and not path.exists():
            raise FormatError(f"{error}; {origin}") from error
        raise


def _is_extrapolated(*estimates: Estimated | None) -> bool:
    return any(estimate is not None and estimate.how == "extrapolated" for estimate in estimates)


def _caveat(estimated: int, extrapolated: int, count: int) -> str:
    if not estimated:
        return ""
    beyond = f", {extrapolated} of them beyond what was measured" if extrapolated else ""
    return f"; {estimated} of {count} estimated{beyond}"
