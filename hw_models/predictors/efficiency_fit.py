"""Coefficients of `Efficiency`, fitted to what was measured: operators alone, blocks or whole networks."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from ...errors import EspalierError
from .efficiency import Coefficients, Efficiency
from .intervals import HeldOutErrors
from .latencies import positive_latencies
from .measurement import Measurement
from .nonnegative import nonnegative_least_squares
from .work import QUANTITIES, work_table

__all__ = ["fit_efficiency", "leave_out"]

Floats = NDArray[np.float64]

_FOLDS = 5
#: How strongly kinds are drawn towards what all kinds have in common.
_PULLS = (0.0, 1e-3, 1e-2, 1e-1, 1.0)
#: The same towards another device's.
_PULLS_TO_ANOTHER = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e4)
#: The same for what was measured in fewer than so many different amounts: a constant tells nothing.
_FIXED, _FEWEST_DISTINCT = 1e4, 4
#: Rounds of re-weighting, and the relative error beyond which a measurement counts less, in robust deviations.
_ROUNDS, _HUBER = 4, 1.5
#: Coefficients that contribute less than this share of the latency everywhere are dropped.
_NEGLIGIBLE = 5e-4


def fit_efficiency(
    measurements: Sequence[Measurement], seed: int = 0, has_overhead: bool = True, like: Efficiency | None = None
) -> tuple[Efficiency, HeldOutErrors]:
    """Fit coefficients of at least 0 to measurements; relative errors count, large ones less than in proportion.

    Kinds that measurements tell little about are drawn towards coefficients that all kinds share; how strongly is
    chosen by cross-validation. What hardly differs between the measurements gets no coefficient of its own.

    Args:
        measurements: Of any operators, alone or together; those without operators are left out.
        seed: Decides the folds.
        has_overhead: Whether each measurement holds what a call takes. Blocks of a network do not.
        like: Another device. Where it is given, each coefficient is drawn to that device's, times one factor for all,
            instead of to what all kinds share: a handful of measurements then suffices.

    Returns:
        The coefficients, and the errors of cross-validation, -1 for a single measurement.

    Raises:
        EspalierError: There are no measurements of operators, or a latency is not above 0.
    """
    problem = _Problem.of(measurements, has_overhead, like)
    pull, held_out = _best_pull(problem, seed)
    return problem.efficiency(pull), HeldOutErrors.of(problem.latency, held_out)


def leave_out(
    measurements: Sequence[Measurement], groups: Sequence[Hashable], seed: int = 0
) -> Iterator[tuple[list[int], Efficiency]]:
    """Fits without overhead, from each of which one group of blocks is left out.

    Args:
        measurements: As for `fit_efficiency`, each with operators.
        groups: The group of each.
        seed: Decides the folds of the cross-validation that chooses how strongly kinds are drawn together.

    Yields:
        Indices of the measurements that were left out, and what was fitted to the others.
    """
    problem = _Problem.of(measurements, has_overhead=False)
    pull, _ = _best_pull(problem, seed)
    for group in dict.fromkeys(groups):
        rest = [index for index, name in enumerate(groups) if name != group]
        if rest:
            left_out = [index for index, name in enumerate(groups) if name == group]
            yield left_out, problem.part(rest).efficiency(pull)


def _best_pull(problem: "_Problem", seed: int) -> tuple[float, Floats]:
    """How strongly to draw kinds together, and what cross-validation then predicts, shape (measurements,)."""
    pulls = _PULLS if problem.like is None else _PULLS_TO_ANOTHER
    if len(problem.latency) < 2:
        return pulls[-1], np.full(len(problem.latency), np.inf)
    held_out = {pull: _held_out(problem, pull, seed) for pull in pulls}
    pull = min(pulls, key=lambda one: float(np.median(np.abs(held_out[one] / problem.latency - 1))))
    return pull, held_out[pull]


@dataclass(frozen=True)
class _Problem:
    """Measurements as rows: column 0 is the call, then the quantities of each kind.

    Attributes:
        kinds: The kinds of work.
        work: Shape (measurements, 1 + 5 kinds).
        latency: Milliseconds, shape (measurements,).
        like: Another device, to whose coefficients these are drawn.
    """

    kinds: tuple[str, ...]
    work: Floats
    latency: Floats
    like: Efficiency | None

    @classmethod
    def of(cls, measurements: Sequence[Measurement], has_overhead: bool, like: Efficiency | None = None) -> "_Problem":
        used = [one for one in measurements if one.ops]
        if not used:
            raise EspalierError("efficiencies cannot be fitted: no operator was measured")
        latency = positive_latencies([one.latency_ms for one in used], "fitting efficiencies needs")
        tables = [work_table(one.ops) for one in used]
        kinds = tuple(sorted({kind for table in tables for kind in table}))
        empty, call = np.zeros(len(QUANTITIES)), [float(has_overhead)]
        work = np.array([np.concatenate([call, *(table.get(kind, empty) for kind in kinds)]) for table in tables])
        return cls(kinds, work, latency, like)

    def part(self, rows: Sequence[int] | NDArray[np.int64]) -> "_Problem":
        return _Problem(self.kinds, self.work[rows], self.latency[rows], self.like)

    @cached_property
    def told(self) -> NDArray[np.bool_]:
        """Which quantities of which kinds differ between measurements, shape (5 kinds,)."""
        return np.array([len(np.unique(column)) >= _FEWEST_DISTINCT for column in self.work[:, 1:].T])

    def _drawn_to(self) -> Floats:
        """What the coefficients are drawn to, shape (1 + 5 kinds,)."""
        shares = self.work / self.latency[:, None]
        if self.like is not None:
            return self._factor * _in_order(self.like, self.kinds)
        summed = np.stack([shares[:, 1 + index :: len(QUANTITIES)].sum(axis=1) for index in range(len(QUANTITIES))], 1)
        solution = _robust(np.column_stack([shares[:, 0], summed]), np.zeros((0, 1 + len(QUANTITIES))), np.zeros(0))
        return np.concatenate([solution[:1], np.tile(solution[1:], len(self.kinds))])

    @cached_property
    def _factor(self) -> float:
        """How many times as long as the other device this one takes, in the median."""
        if self.like is None:
            return 1.0
        theirs = self.work @ _in_order(self.like, self.kinds)
        if not (theirs > 0).all():
            raise EspalierError("the other device's figures say that some of the measured networks take no time")
        return float(np.median(self.latency / theirs))

    def solve(self, pull: float) -> Floats:
        """Coefficients by kind, shape (1 + 5 kinds,)."""
        shares = self.work / self.latency[:, None]
        # A coefficient is drawn by what it contributes: a change of the latency by as much weighs the same anywhere.
        pulls = np.concatenate([[pull], np.where(self.told, pull, _FIXED)])
        strength = np.sqrt(pulls * len(shares)) * shares.mean(axis=0)
        drawn_to = self._drawn_to()
        solution = _robust(shares, np.diag(strength), strength * drawn_to)
        # A kind that only other measurements have is drawn by nothing.
        return np.where(self.work.any(axis=0), solution, drawn_to)

    def efficiency(self, pull: float) -> Efficiency:
        solution = self.solve(pull)
        contributes = (self.work * solution / self.latency[:, None]).max(axis=0) > _NEGLIGIBLE
        kept = np.where(contributes, solution, 0.0)[1:].reshape(len(self.kinds), len(QUANTITIES))
        told: NDArray[np.int64] = np.flatnonzero(self.told.reshape(kept.shape).any(axis=1))
        kinds = {self.kinds[index]: _named(kept[index]) for index in told}
        if self.like is None:
            return Efficiency(float(solution[0]), kinds, _named(self._drawn_to()[1 : 1 + len(QUANTITIES)]))
        untold = {kind: _named(self._factor * _amounts(theirs)) for kind, theirs in self.like.kinds.items()}
        return Efficiency(float(solution[0]), {**untold, **kinds}, _named(self._factor * _amounts(self.like.other)))


def _in_order(efficiency: Efficiency, kinds: Sequence[str]) -> Floats:
    """The coefficients of a device as the columns of `_Problem.work`; shape (1 + 5 kinds,)."""
    return np.concatenate([[efficiency.overhead_ms], *(_amounts(efficiency.coefficients(kind)) for kind in kinds)])


def _amounts(coefficients: Coefficients) -> Floats:
    """Coefficients in the order of `QUANTITIES`."""
    return np.array([coefficients.get(name, 0.0) for name in QUANTITIES])


def _named(row: Floats) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in zip(QUANTITIES, row, strict=True) if value > 0}


def _robust(shares: Floats, pull: Floats, drawn_to: Floats) -> Floats:
    """Non-negative least squares of shares x = 1 and pull x = drawn_to, with Huber's weights on the former."""
    solution, weights = np.zeros(shares.shape[1]), np.ones(len(shares))
    for _ in range(_ROUNDS):
        matrix = np.concatenate([weights[:, None] * shares, pull])
        solution = nonnegative_least_squares(matrix, np.concatenate([weights, drawn_to]))
        errors = np.abs(shares @ solution - 1)
        deviation = max(1.4826 * float(np.median(errors)), 1e-6)
        weights = np.sqrt(np.minimum(1.0, _HUBER * deviation / np.maximum(errors, 1e-12)))
    return solution


def _held_out(problem: _Problem, pull: float, seed: int) -> Floats:
    predicted = np.empty(len(problem.latency))
    for fit, rest in KFold(min(_FOLDS, len(problem.latency)), shuffle=True, random_state=seed).split(problem.work):
        predicted[rest] = problem.work[rest] @ problem.part(fit).solve(pull)
    return np.maximum(predicted, 1e-9)
