"""Search in the manner of Dyna: evaluate a few plans, learn, plan in simulation, evaluate what looks best."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from ...envs.problem import Callback, Problem
from ...errors import EspalierError
from ..searcher import BaseSearcher
from .belief import Belief, BeliefRecipe
from .codes import Walks
from .planners import Planner
from .proposals import BatchRecipe, propose
from .simulation import Pool
from .start import additive_minima, first_walks

__all__ = ["DynaRecipe", "DynaSearch"]

#: kappa is multiplied by one of these before each batch.
_CURIOSITY = (0.3, 1.0, 2.0)

#: The best plans that a planner starts from.
_ELITES = 20

#: Random walks among which one is looked for when everything simulated is known.
_LAST_RESORT = 500


@dataclass(frozen=True)
class DynaRecipe:
    """How a search goes.

    Attributes:
        start: Plans evaluated before the surrogate is asked, the one that keeps everything included.
        additive: Whether plans that would be best if errors and costs added up are among these, and simulated before
            each batch.
        kappa: Standard deviations added to the predicted accuracy where it is uncertain; times .3, 1 or 2 at random.
        belief: What is learnt from evaluations.
        batch: What is evaluated next.
    """

    start: int = 10
    additive: bool = True
    kappa: float = 1.0
    belief: BeliefRecipe = field(default_factory=BeliefRecipe)
    batch: BatchRecipe = field(default_factory=BatchRecipe)

    def __post_init__(self) -> None:
        if self.start < 1:
            raise EspalierError(f"agent.recipe.start must be at least 1, got {self.start}")
        if self.kappa < 0:
            raise EspalierError(f"agent.recipe.kappa must be at least 0, got {self.kappa}")
        parts = self.batch.moves + self.batch.front
        if min(self.batch.moves, self.batch.front) < 0 or not 1 <= max(1, parts) <= self.batch.size:
            raise EspalierError(
                "agent.recipe.batch needs moves and front of at least 0 that together fit in its size, "
                f"got {asdict(self.batch)}"
            )


class DynaSearch(BaseSearcher):
    """Dyna (Sutton 1991) with a surrogate of accuracy alone: what costs are is known exactly.

    Between batches of evaluations the planner works through thousands of simulated walks, paid with the reward of an
    upper confidence bound of their accuracy. A batch is one-site moves of the best plans, the best simulated walks and
    walks that extend the front; none is known already, and none is evaluated for the demand's sake that could not win
    even with the highest accuracy seen.

    Args:
        planner: Looks for walks of high simulated value.
        recipe: How the search goes.
        seed: Of all decisions.
    """

    def __init__(self, planner: Planner, recipe: DynaRecipe | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        if not isinstance(planner, Planner):
            raise EspalierError(f"agent.planner must build a planner, got {type(planner).__name__}")
        self._planner = planner
        self._recipe = recipe or DynaRecipe()

    @override
    def policy_state(self) -> dict[str, torch.Tensor]:
        return self._planner.policy_state()

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        recipe = self._recipe
        belief = Belief(problem, recipe.belief, rng)
        self._planner.begin(belief.tables, self._seed)
        minima = additive_minima(problem) if recipe.additive else belief.walks[:0]
        _evaluate(problem, belief, self._first_walks(problem, belief, minima, rng))
        while True:
            belief.learn()
            kappa = recipe.kappa * float(rng.choice(_CURIOSITY))
            pool = Pool(lambda walks, kappa=kappa: belief.values(walks, kappa), belief.walks.shape[1])  # type: ignore[misc]
            pool(minima)
            self._planner.plan(pool, belief.elites(_ELITES), rng)
            callback.trained(self._facts(belief, pool))
            walks = propose(belief, pool, recipe.batch, kappa, rng)
            if not len(walks):
                walks = belief.tables.random(_LAST_RESORT, rng)
                walks = walks[belief.is_new(walks)][:1]
            if not len(walks):
                return
            _evaluate(problem, belief, walks)

    def _first_walks(
        self,
        problem: Problem,  # noqa: ARG002  # a subclass that knows the problem's kind knows better
        belief: Belief,
        minima: Walks,
        rng: np.random.Generator,
    ) -> Walks:
        """What is evaluated before the surrogate is asked."""
        return first_walks(belief.tables, minima, self._recipe.start, self._recipe.belief.errors, rng)

    @staticmethod
    def _facts(belief: Belief, pool: Pool) -> dict[str, float]:
        _, values = pool.ranked()
        scales: dict[str, Any] = {f"train/surrogate_{name}": scale for name, scale in vars(belief.scales).items()}
        return {**scales, "train/simulated_walks": float(len(pool)), "train/best_simulated": float(values[0])}


def _evaluate(problem: Problem, belief: Belief, walks: Walks) -> None:
    for walk, evaluation in zip(walks, problem.evaluate_walks(walks.tolist()), strict=True):
        belief.add(walk, evaluation)
