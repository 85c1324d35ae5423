"""From simulated walks to the few that are evaluated."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .belief import Belief
from .codes import Walks
from .front import hypervolume_gains
from .planners import crossed, neighbours
from .simulation import Pool, unique_rows

__all__ = ["BatchRecipe", "propose"]

#: Walks of the pool that are looked at again for every place of a batch.
_SHORTLIST = 150

#: Incumbents whose one-site moves are tried.
_INCUMBENTS = 3

#: Children of the evaluated front among which its next plan is looked for.
_FRONT_CHILDREN = 400


@dataclass(frozen=True)
class BatchRecipe:
    """What a batch of evaluations is made of.

    Attributes:
        size: Plans of a batch.
        moves: Of them, how many differ from one of the best plans at one site.
        front: Of them, how many are to extend the front of accuracy against one of the demand's costs.
        screening: Whether the best simulated walks are taken, else any of those that the planner ended with.
        rejection: Whether walks are left out that could not win even with the highest accuracy believed in.
    """

    size: int = 5
    moves: int = 2
    front: int = 1
    screening: bool = True
    rejection: bool = True


def propose(belief: Belief, pool: Pool, recipe: BatchRecipe, kappa: float, rng: np.random.Generator) -> Walks:
    """New walks to evaluate, the ones of the demand first, then those of the front.

    Args:
        belief: What is known.
        pool: What the planner simulated.
        recipe: What to take.
        kappa: Standard deviations of the upper confidence bounds.
        rng: Of what is drawn.

    Returns:
        At most `recipe.size` unique walks; fewer when nothing else is new and can win.
    """
    chosen: list[Walks] = []
    moves = _wanted(belief, one_site_moves(belief, _INCUMBENTS), recipe.rejection)
    simulated = _simulated(belief, pool, recipe, rng)
    for place in range(recipe.size - recipe.front):
        candidates = moves if place < recipe.moves else simulated
        _take_best(belief, candidates, chosen, kappa)
    front = _front_candidates(belief, pool, rng) if recipe.front else simulated[:0]
    while recipe.front and len(chosen) < recipe.size and _take_for_front(belief, front, chosen, kappa, rng):
        pass
    return np.array(chosen, np.int64).reshape(-1, belief.walks.shape[1])


def one_site_moves(belief: Belief, incumbents: int) -> Walks:
    """Every walk that differs from one of the best at one site."""
    made = []
    for walk in belief.elites(incumbents):
        for position in belief.tables.open_positions:
            for index in range(belief.tables.counts[position]):
                moved = walk.copy()
                moved[position] = index
                made.append(moved)
    return unique_rows(belief.tables.canonical(np.array(made)))


def _wanted(belief: Belief, walks: Walks, rejection: bool) -> Walks:
    walks = walks[belief.is_new(walks)]
    return walks[belief.can_win(walks)] if rejection and len(walks) else walks


def _simulated(belief: Belief, pool: Pool, recipe: BatchRecipe, rng: np.random.Generator) -> Walks:
    if recipe.screening:
        best, _ = pool.ranked()
        return _wanted(belief, best[: 3 * _SHORTLIST], recipe.rejection)[:_SHORTLIST]
    last = pool.simulated()[-max(recipe.size, len(pool) // 10) :]
    return _wanted(belief, rng.permutation(last), recipe.rejection)[: recipe.size]


def _left(candidates: Walks, chosen: list[Walks]) -> Walks:
    taken = np.zeros(len(candidates), bool)
    for walk in chosen:
        taken |= (candidates == walk).all(1)
    return candidates[~taken]


def _take_best(belief: Belief, candidates: Walks, chosen: list[Walks], kappa: float) -> None:
    candidates = _left(candidates, chosen)
    if len(candidates):
        values = belief.imagining(_stacked(chosen, candidates)).values(candidates, kappa)
        chosen.append(candidates[int(values.argmax())])


def _stacked(chosen: list[Walks], like: Walks) -> Walks:
    return np.array(chosen, np.int64).reshape(-1, like.shape[1])


def _front_candidates(belief: Belief, pool: Pool, rng: np.random.Generator) -> Walks:
    """Children of the evaluated plans on the front, and the best simulated ones."""
    costs, accuracies = belief.objective.costs(belief.walks), belief.accuracies
    parents = belief.walks[_on_any_front(accuracies, costs)]
    children = neighbours(belief.tables, crossed(parents, _FRONT_CHILDREN, 0.5, rng), rng)
    best, _ = pool.ranked()
    candidates = unique_rows(np.concatenate([belief.tables.canonical(children), best[:_SHORTLIST]]))
    return candidates[belief.is_new(candidates)]


def _on_any_front(accuracies: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    on_front = np.zeros(len(accuracies), bool)
    for cost in costs.T:
        no_worse = (accuracies >= accuracies[:, None]) & (cost <= cost[:, None])
        better = (accuracies > accuracies[:, None]) | (cost < cost[:, None])
        on_front |= ~(no_worse & better).any(1)
    return on_front


def _take_for_front(
    belief: Belief, candidates: Walks, chosen: list[Walks], kappa: float, rng: np.random.Generator
) -> bool:
    """Take the walk that is expected to add most to the front of one of the costs; False when there is none left."""
    candidates = _left(candidates, chosen)
    if not len(candidates):
        return False
    bounds = belief.imagining(_stacked(chosen, candidates)).accuracy_bounds(candidates, kappa / 2)
    costs, known = belief.objective.costs(candidates), belief.objective.costs(belief.walks)
    column = int(rng.integers(costs.shape[1]))
    gains = hypervolume_gains(belief.accuracies, known[:, column], bounds, costs[:, column])
    chosen.append(candidates[int(gains.argmax())])
    return True
