"""The additive Lagrangian plan: every site for itself, under one price of the costs."""

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from ..compression.choice import KEEP
from ..compression.plan import Plan
from ..compression.space import State
from ..envs.problem import Callback, Problem
from .searcher import BaseSearcher, Walk

__all__ = ["LagrangianSearch"]


class LagrangianSearch(BaseSearcher):
    """Minimises sum error^p + lambda cost for a falling price lambda, and evaluates the plans on that path.

    The error of a site is its variant's output error, which the bank knows for nothing; the cost is the demand's
    weighted share of the original's. Sites are coupled by pruned channels only, so going over them a few times finds
    the minimum.

    Args:
        exponents: Values of p, each with a path of its own.
        prices: Values of lambda on a path, from coarse to fine.
        seed: Accepted like every searcher's; nothing is random here.
    """

    def __init__(self, exponents: Sequence[float] = (1.0, 2.0, 1.5), prices: int = 128, seed: int = 0) -> None:
        super().__init__(seed)
        self._exponents = tuple(exponents)
        self._prices = prices

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        local = _LocalCosts(problem)
        for step in _coarse_to_fine(self._prices):
            price = 10 ** (3.0 * step / self._prices - 2)
            for exponent in self._exponents:
                problem.evaluate_walk(self._minimum(problem, local, price, exponent))

    @staticmethod
    def _minimum(problem: Problem, local: "_LocalCosts", price: float, exponent: float) -> Walk:
        def value(walk: Walk) -> float:
            pairs = (local.error_and_share(position, walk) for position in range(len(walk)))
            total: float = sum(error**exponent + price * share for error, share in pairs)
            return total

        walk: Walk = (0,) * len(problem.space.sites)
        for _ in range(3):
            before = walk
            for position in range(len(walk)):
                opened = np.flatnonzero(problem.space.mask(position, walk))
                tried = [problem.space.canonical([*walk[:position], int(i), *walk[position + 1 :]]) for i in opened]
                walk = min(tried, key=value)
            if walk == before:
                break
        return walk


class _LocalCosts:
    """What a choice adds at its site, in the state that earlier choices leave it in; each is looked up once."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._weights = problem.demand.weights.costs or {"latency_ms": 1.0}
        self._known: dict[tuple[int, State, int], tuple[float, float]] = {}

    def error_and_share(self, position: int, walk: Walk) -> tuple[float, float]:
        """The site's output error, and the weighted share of the original's costs that its choice adds or saves."""
        space = self._problem.space
        site = space.sites[position]
        chosen = {name: space.choices[i][walk[i]] for name, i in space.positions.items()}
        state = space.state(site, chosen)
        key = (position, state, walk[position])
        if key not in self._known:
            error = self._problem.bank.error(site, state, chosen[site.name])
            made = dict(zip(space.producers[site.name], state, strict=True))
            costs = [self._weighted(Plan.of(made | {site.name: choice})) for choice in (chosen[site.name], KEEP)]
            self._known[key] = error, costs[0] - costs[1]
        return self._known[key]

    def _weighted(self, plan: Plan) -> float:
        costs, baseline = self._problem.evaluator.costs(plan), self._problem.baseline
        return sum(weight * costs.cost(name) / baseline.cost(name) for name, weight in self._weights.items())


def _coarse_to_fine(count: int) -> list[int]:
    """0 to count - 1, such that every beginning of the list is spread evenly."""
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [number for number in reversed_bits if number < count]
