"""A genetic search over the tiles of one layer."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Generic

from .work import TileT, Work

__all__ = ["Evolution"]

#: Tiles that may become parents.
_PARENTS = 4


class Evolution(Generic[TileT]):
    """Begins with the tiles that the cost model likes best; then crosses and mutates those that measured best.

    Args:
        work: Of the layer.
        seed: Of its chance.
    """

    def __init__(self, work: Work[TileT], seed: int) -> None:
        self._work = work
        self._random = random.Random(seed)  # a search, no secret
        self.measured_us: dict[TileT, float] = {}
        self._proposed: set[TileT] = set()
        self._promising = work.promising()

    def propose(self, count: int) -> list[TileT]:
        """Tiles that were not measured yet; fewer than `count` where there are no more."""
        found: list[TileT] = []
        for tile in [*self._children(4 * count), *self._promising]:
            if len(found) < count and tile not in self._proposed:
                self._proposed.add(tile)
                found.append(tile)
        return found

    def tell(self, tile: TileT, microseconds: float) -> None:
        """A measurement."""
        self.measured_us[tile] = microseconds

    @property
    def best(self) -> TileT:
        """The fastest so far; the default before anything was measured."""
        if not self.measured_us:
            return self._work.default
        return min(self.measured_us, key=lambda tile: self.measured_us[tile])

    def _children(self, count: int) -> list[TileT]:
        parents = sorted(self.measured_us, key=lambda tile: self.measured_us[tile])[:_PARENTS]
        if not parents:
            return []
        children = [self._child(parents) for _ in range(count)]
        return [child for child in children if self._work.fits(child)]

    def _child(self, parents: Sequence[TileT]) -> TileT:
        """Each gene from one of two parents; one gene may change."""
        one, other = self._random.choice(parents), self._random.choice(parents)
        genes = {name: getattr(self._random.choice((one, other)), name) for name in one.genes}
        changed = self._random.choice(list(one.genes))
        genes[changed] = self._random.choice(one.genes[changed])
        return dataclasses.replace(one, **genes)
