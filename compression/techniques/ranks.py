"""Ranks and widths that suit the vector units of processors, and the choices that lead to different ones."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from ..choice import Choice

__all__ = ["aligned", "distinct"]

Size = TypeVar("Size", bound=Hashable)


def aligned(size: float, multiple: int) -> int:
    """The largest multiple of `multiple` that is no more than `size`; below the first, the whole part; at least 1."""
    whole = max(1, int(size))
    return whole if whole < multiple else whole // multiple * multiple


def distinct(
    choices: Iterable[Choice], size: Callable[[Choice], Size], saves: Callable[[Size], bool]
) -> Sequence[Choice]:
    """The first choice that leads to each size, of the sizes that save something.

    Args:
        choices: In the order they are offered.
        size: Rank, width or the like that a choice leads to.
        saves: Whether a layer of that size is smaller than the original.
    """
    found: dict[Size, Choice] = {}
    for choice in choices:
        if saves(reached := size(choice)):
            found.setdefault(reached, choice)
    return tuple(found.values())
