"""The additive Lagrangian plan: every site for itself, under one price of the costs."""

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from ..envs.problem import Callback, Problem
from .additive import AdditiveModel
from .searcher import BaseSearcher

__all__ = ["LagrangianSearch"]


class LagrangianSearch(BaseSearcher):
    """Evaluates the plans on the path of `AdditiveModel` minima under a falling price of the costs.

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
        model = AdditiveModel(problem)
        for step in _coarse_to_fine(self._prices):
            for exponent in self._exponents:
                problem.evaluate_walk(model.minimum(10 ** (3.0 * step / self._prices - 2), exponent))


def _coarse_to_fine(count: int) -> list[int]:
    """0 to count - 1, such that every beginning of the list is spread evenly."""
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [number for number in reversed_bits if number < count]
