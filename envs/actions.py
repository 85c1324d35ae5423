"""What a step may be given; anything else is refused before it changes something."""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EspalierError

__all__ = ["checked_index", "checked_indices", "checked_strength", "step_after_end"]


def checked_index(action: Any, count: int) -> int:
    """An action that is the index of one of `count` choices.

    Raises:
        EspalierError: It is none.
    """
    try:
        index = operator.index(action)
    except TypeError:
        index = -1
    if not 0 <= index < count:
        raise EspalierError(f"step expects the index of a choice, a whole number from 0 to {count - 1}, got {action!r}")
    return index


def checked_indices(action: Any, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """An action that holds one index per site.

    Args:
        action: Shape (sites,).
        counts: Choices of each site, shape (sites,).

    Raises:
        EspalierError: It has another shape, or an index is none of a choice.
    """
    try:
        indices = np.asarray(action)
    except ValueError:  # rows of different lengths
        indices = np.zeros(0)
    if indices.shape != counts.shape or not np.issubdtype(indices.dtype, np.integer):
        raise EspalierError(f"step expects one whole number for each of {len(counts)} sites, got {action!r}")
    wrong = np.flatnonzero((indices < 0) | (indices >= counts))
    if len(wrong):
        place = int(wrong[0])
        wanted = f"a whole number from 0 to {counts[place] - 1}"
        raise EspalierError(f"step expects {wanted} at place {place} of the action, got {indices[place]}")
    return indices


def checked_strength(action: Any) -> float:
    """An action that is one number from -1 to 1.

    Raises:
        EspalierError: It is none.
    """
    try:
        values = np.asarray(action, float)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.size != 1 or not -1 <= values.item() <= 1:
        raise EspalierError(f"step expects one number from -1 to 1, got {action!r}")
    return float(values.item())


def step_after_end() -> EspalierError:
    """The error of a step after the end of an episode."""
    return EspalierError("step expects an episode under way, but this one is over: reset() first")
