"""Plans that are best if every site's error and cost simply added up."""

from collections.abc import Sequence

import numpy as np

from ..compression.choice import KEEP
from ..compression.plan import Plan
from ..compression.space import State
from ..envs.problem import Problem
from .searcher import Walk

__all__ = ["AdditiveModel"]

#: Rounds over the sites; pruned channels couple neighbours, so one is not enough.
_ROUNDS = 3


class AdditiveModel:
    """Minimises sum error^p + price * cost over the sites.

    The error of a site is its variant's, which the bank knows for nothing; the cost is the demand's
    weighted share of the original's that the choice adds or saves, in the state that earlier choices leave the site in.
    Each pair is looked up once.

    Args:
        problem: The problem.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._space = problem.space
        self._weights = problem.demand.weights.costs or {"latency_ms": 1.0}
        self._known: dict[tuple[int, State, int], tuple[float, float]] = {}
        self._affected = [self._affected_by(position) for position in range(len(self._space.sites))]

    def _affected_by(self, position: int) -> list[int]:
        """Positions whose error or cost a choice at `position` can change."""
        site = self._space.sites[position]
        readers = [i for i, other in enumerate(self._space.sites) if site.name in self._space.producers[other.name]]
        inside = self._space.inside(site)
        return [position, *readers, *(i for i in inside if i not in readers)]

    def minimum(self, price: float, exponent: float) -> Walk:
        """The walk of least sum, by coordinate descent from keeping everything.

        Args:
            price: Of the whole original's cost.
            exponent: p.
        """
        walk = [0] * len(self._space.sites)
        for _ in range(_ROUNDS):
            before = list(walk)
            for position in range(len(walk)):
                walk[position] = self._best(position, walk, price, exponent)
            walk = list(self._space.canonical(walk))
            if walk == before:
                break
        return tuple(walk)

    def _best(self, position: int, walk: Sequence[int], price: float, exponent: float) -> int:
        def value(index: int) -> float:
            tried = [*walk[:position], index, *walk[position + 1 :]]
            pairs = (self._error_and_share(affected, tried) for affected in self._affected[position])
            total: float = sum(error**exponent + price * share for error, share in pairs)
            return total

        opened = np.flatnonzero(self._space.mask(position, walk))
        return min((int(index) for index in opened), key=value)

    def _error_and_share(self, position: int, walk: Sequence[int]) -> tuple[float, float]:
        space = self._space
        site = space.sites[position]
        if space.is_swallowed(position, walk):
            return 0.0, 0.0
        before = {
            name: space.choices[space.positions[name]][walk[space.positions[name]]]
            for name in space.producers[site.name]
        }
        state = space.state(site, before)
        key = (position, state, walk[position])
        if key not in self._known:
            choice = space.choices[position][walk[position]]
            made = space.made(site, state)
            costs = [self._weighted(Plan.of(made | {site.name: option})) for option in (choice, KEEP)]
            self._known[key] = self._problem.bank.error(site, state, choice), costs[0] - costs[1]
        return self._known[key]

    def _weighted(self, plan: Plan) -> float:
        costs, baseline = self._problem.evaluator.costs(plan), self._problem.baseline
        return sum(weight * costs.cost(name) / baseline.cost(name) for name, weight in self._weights.items())
