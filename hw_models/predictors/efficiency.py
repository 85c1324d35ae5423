"""What a device takes per unit of work, by kind of operator, fitted to measurements.

The roofline (Williams et al. 2009) says that an operator takes the longer of its arithmetic and its memory traffic.
Here it takes their sum, and what starting it takes: t = a + b MACs + c activation bytes + d weight bytes, with
coefficients of their own for each kind of operator. Sums are linear in the coefficients, so that measurements of whole
networks suffice to find them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.model_selection import KFold

from ...errors import EspalierError
from ...graph.opspec import OpSpec
from .intervals import HeldOutErrors
from .measurement import Measurement
from .work import QUANTITIES, WorkTable, work_table

__all__ = ["Efficiency", "fit_efficiency"]

Floats = NDArray[np.float64]

_FEWEST, _FOLDS = 20, 5
#: How strongly kinds are drawn towards what all kinds have in common.
_PULLS = (1e-3, 1e-2, 1e-1, 1.0)
#: The same for what was measured in fewer than so many different amounts: a constant tells nothing.
_FIXED, _FEWEST_DISTINCT = 1e4, 4
#: Rounds of re-weighting, and the relative error beyond which a measurement counts less, in robust deviations.
_ROUNDS, _HUBER = 4, 1.5
#: Coefficients that contribute less than this share of the latency everywhere are dropped.
_NEGLIGIBLE = 5e-4

#: Milliseconds per unit of `QUANTITIES`.
Coefficients = Mapping[str, float]


@dataclass(frozen=True)
class Efficiency:
    """Milliseconds per unit of work.

    Attributes:
        overhead_ms: What a call takes beside its operators.
        kinds: Kind of work -> milliseconds per unit of each of `QUANTITIES`; what is absent is 0.
        other: The same for all other kinds.
    """

    overhead_ms: float
    kinds: Mapping[str, Coefficients]
    other: Coefficients

    def latency_ms(self, ops: Sequence[OpSpec]) -> float:
        """Milliseconds of executing `ops` one after the other."""
        return self.overhead_ms + sum(self.work_ms(kind, work) for kind, work in work_table(ops).items())

    def work_ms(self, kind: str, work: Sequence[float] | Floats) -> float:
        """Milliseconds of some work of one kind.

        Args:
            kind: As `work_kind` names it.
            work: Amounts of `QUANTITIES`, shape (4,).
        """
        coefficients = self.coefficients(kind)
        return sum(coefficients.get(name, 0.0) * float(value) for name, value in zip(QUANTITIES, work, strict=True))

    def coefficients(self, kind: str) -> Coefficients:
        """Those of a kind; of a convolution that was not measured those of its family with the nearest kernel."""
        if kind in self.kinds:
            return self.kinds[kind]
        family, _, kernel = kind.rpartition("_")
        side = kernel.partition("x")[0]
        relatives = [one for one in self.kinds if one.rpartition("_")[0] == family and side.isdecimal()]
        if not family or not relatives:
            return self.other
        return self.kinds[min(relatives, key=lambda one: abs(int(one.rpartition("x")[2]) - int(side)))]


def fit_efficiency(measurements: Sequence[Measurement], seed: int = 0) -> tuple[Efficiency, HeldOutErrors]:
    """Fit coefficients of at least 0 to measurements; relative errors count, large ones less than in proportion.

    Kinds that measurements tell little about are drawn towards coefficients that all kinds share; how strongly is
    chosen by cross-validation. What hardly differs between the measurements gets no coefficient of its own.

    Args:
        measurements: At least 20, of any operators, alone or together; those without operators are left out.
        seed: Decides the folds.

    Returns:
        The coefficients, and the errors of cross-validation.

    Raises:
        EspalierError: There are too few measurements, or a latency is not above 0.
    """
    used = [one for one in measurements if one.ops]
    if len(used) < _FEWEST:
        raise EspalierError(f"fitting efficiencies needs at least {_FEWEST} measurements of operators, got {len(used)}")
    latency = np.array([one.latency_ms for one in used])
    if not np.isfinite(latency).all() or latency.min() <= 0:
        raise EspalierError("fitting efficiencies needs latencies above 0 ms")
    problem = _Problem.of([work_table(one.ops) for one in used], latency)
    held_out = {pull: _held_out(problem, pull, seed) for pull in _PULLS}
    pull = min(_PULLS, key=lambda one: float(np.median(np.abs(held_out[one] / latency - 1))))
    return problem.efficiency(pull), HeldOutErrors.of(latency, held_out[pull])


@dataclass(frozen=True)
class _Problem:
    """Measurements as rows: column 0 is the call, then the quantities of each kind.

    Attributes:
        kinds: The kinds of work.
        told: Which quantities of which kinds differ between measurements, shape (4 kinds,).
        work: Shape (measurements, 1 + 4 kinds).
        latency: Milliseconds, shape (measurements,).
    """

    kinds: tuple[str, ...]
    told: NDArray[np.bool_]
    work: Floats
    latency: Floats

    @classmethod
    def of(cls, tables: Sequence[WorkTable], latency: Floats) -> "_Problem":
        kinds = tuple(sorted({kind for table in tables for kind in table}))
        empty = np.zeros(len(QUANTITIES))
        rows = [np.concatenate([[1.0], *(table.get(kind, empty) for kind in kinds)]) for table in tables]
        work = np.array(rows)
        told = np.array([len(np.unique(column)) >= _FEWEST_DISTINCT for column in work[:, 1:].T])
        return cls(kinds, told, work, latency)

    def part(self, rows: NDArray[np.int64]) -> "_Problem":
        return _Problem(self.kinds, self.told, self.work[rows], self.latency[rows])

    def _common(self) -> Floats:
        """Coefficients that all kinds share, shape (1 + 4 kinds,)."""
        shares = self.work / self.latency[:, None]
        summed = np.stack([shares[:, 1 + index :: len(QUANTITIES)].sum(axis=1) for index in range(len(QUANTITIES))], 1)
        solution = _robust(np.column_stack([shares[:, 0], summed]), np.zeros((0, 5)), np.zeros(0))
        return np.concatenate([solution[:1], np.tile(solution[1:], len(self.kinds))])

    def solve(self, pull: float) -> tuple[Floats, Floats]:
        """Coefficients by kind, and those that all kinds share, each of shape (1 + 4 kinds,)."""
        common = self._common()
        shares = self.work / self.latency[:, None]
        # A coefficient is drawn by what it contributes: a change of the latency by as much weighs the same anywhere.
        pulls = np.concatenate([[pull], np.where(self.told, pull, _FIXED)])
        strength = np.sqrt(pulls * len(shares)) * shares.mean(axis=0)
        return _robust(shares, np.diag(strength), strength * common), common

    def efficiency(self, pull: float) -> Efficiency:
        solution, common = self.solve(pull)
        contributes = (self.work * solution / self.latency[:, None]).max(axis=0) > _NEGLIGIBLE
        kept = np.where(contributes, solution, 0.0)[1:].reshape(len(self.kinds), len(QUANTITIES))
        told: NDArray[np.int64] = np.flatnonzero(self.told.reshape(kept.shape).any(axis=1))
        kinds = {self.kinds[index]: _named(kept[index]) for index in told}
        return Efficiency(float(solution[0]), kinds, _named(common[1 : 1 + len(QUANTITIES)]))


def _named(row: Floats) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in zip(QUANTITIES, row, strict=True) if value > 0}


def _robust(shares: Floats, pull: Floats, drawn_to: Floats) -> Floats:
    """Non-negative least squares of shares x = 1 and pull x = drawn_to, with Huber's weights on the former."""
    weights = np.ones(len(shares))
    for _ in range(_ROUNDS):
        matrix = np.concatenate([weights[:, None] * shares, pull])
        # Columns of like length keep the solver from giving up on ill-scaled problems.
        length = np.maximum(np.linalg.norm(matrix, axis=0), 1e-12)
        solution, _ = nnls(matrix / length, np.concatenate([weights, drawn_to]), maxiter=30 * matrix.shape[1])
        solution = solution / length
        errors = np.abs(shares @ solution - 1)
        deviation = max(1.4826 * float(np.median(errors)), 1e-6)
        weights = np.sqrt(np.minimum(1.0, _HUBER * deviation / np.maximum(errors, 1e-12)))
    return np.asarray(solution)


def _held_out(problem: _Problem, pull: float, seed: int) -> Floats:
    predicted = np.empty(len(problem.latency))
    for fit, rest in KFold(_FOLDS, shuffle=True, random_state=seed).split(problem.work):
        solution, _ = problem.part(fit).solve(pull)
        predicted[rest] = problem.work[rest] @ solution
    return np.maximum(predicted, 1e-9)
