"""Fronts of accuracy against one cost: dominated area, and what a point would add to it."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["hypervolume", "hypervolume_gains"]

Floats = NDArray[np.float64]


def _steps(accuracies: Floats, costs: Floats) -> tuple[Floats, Floats]:
    """The staircase of the best accuracy at each cost: costs where it rises, and the accuracy from there on."""
    order = np.lexsort((-accuracies, costs))
    costs, reached = costs[order], np.maximum.accumulate(accuracies[order])
    rises = np.diff(reached, prepend=-np.inf) > 0
    return costs[rises], reached[rises]


def hypervolume(accuracies: Floats, costs: Floats, largest_cost: float = 1.0) -> float:
    """Area of the points that some plan is at least as good as, between accuracy 0 and `largest_cost`.

    Args:
        accuracies: Shape (plans,), at least 0; more is better.
        costs: Shape (plans,), at least 0; less is better.
        largest_cost: Plans that cost more count nothing.
    """
    inside = costs < largest_cost
    if not inside.any():
        return 0.0
    starts, heights = _steps(accuracies[inside], costs[inside])
    return float((np.diff(starts, append=largest_cost) * heights).sum())


def hypervolume_gains(
    accuracies: Floats, costs: Floats, new_accuracies: Floats, new_costs: Floats, largest_cost: float = 1.0
) -> Floats:
    """What each new point alone would add to the hypervolume, shape (new points,).

    Args:
        accuracies: Of the plans there are.
        costs: Of the plans there are.
        new_accuracies: Of the new points.
        new_costs: Of the new points.
        largest_cost: See `hypervolume`.
    """
    inside = costs < largest_cost
    starts, heights = _steps(accuracies[inside], costs[inside])
    edges = np.concatenate([[0.0], starts, [largest_cost]])
    levels = np.concatenate([[0.0], heights])
    widths = np.clip(edges[1:] - np.maximum(edges[:-1], new_costs[:, None]), 0.0, None)
    return (widths * np.clip(new_accuracies[:, None] - levels, 0.0, None)).sum(1)  # type: ignore[no-any-return]
