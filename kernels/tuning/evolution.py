"""A genetic search over the tiles of one layer."""

import dataclasses
import random
from collections.abc import Sequence

from ..compiler.emit.tiles import GENES, Tile, default_tile, fits
from ..instruction_set import InstructionSet
from .work import Work, predicted_cycles

__all__ = ["Evolution"]

#: Tiles that may become parents.
_PARENTS = 4


class Evolution:
    """Begins with the tiles that the cost model likes best; then crosses and mutates those that measured best.

    Args:
        work: Of the layer.
        instruction_set: Whose registers the tiles must fit.
        seed: Of its chance.
    """

    def __init__(self, work: Work, instruction_set: InstructionSet, seed: int) -> None:
        self._work = work
        self._instruction_set = instruction_set
        self._random = random.Random(seed)  # a search, no secret
        self.measured_us: dict[Tile, float] = {}
        self._proposed: set[Tile] = set()

    def propose(self, count: int) -> list[Tile]:
        """Tiles that were not measured yet; fewer than `count` where there are no more."""
        found: list[Tile] = []
        for tile in [*self._children(4 * count), *self._by_model()]:
            if len(found) < count and tile not in self._proposed:
                self._proposed.add(tile)
                found.append(tile)
        return found

    def tell(self, tile: Tile, microseconds: float) -> None:
        """A measurement."""
        self.measured_us[tile] = microseconds

    @property
    def best(self) -> Tile:
        """The fastest so far; the default before anything was measured."""
        if not self.measured_us:
            return default_tile(self._instruction_set, self._work.vectors)
        return min(self.measured_us, key=lambda tile: self.measured_us[tile])

    def _by_model(self) -> list[Tile]:
        """The default, then all tiles of one block and one loop, the most promising first."""
        tiles = [
            Tile(rows, vectors, block, columns, 1, bool(dense))
            for rows in GENES["rows"]
            for vectors in GENES["vectors"]
            for block in (1, 4)
            for columns in (0, 288)
            for dense in GENES["is_dense"]
        ]
        fitting = [tile for tile in tiles if self._fits(tile)]
        fitting.sort(key=lambda tile: predicted_cycles(self._work, tile))
        return [default_tile(self._instruction_set, self._work.vectors), *fitting]

    def _fits(self, tile: Tile) -> bool:
        return fits(tile, self._instruction_set, self._work.vectors)

    def _children(self, count: int) -> list[Tile]:
        parents = sorted(self.measured_us, key=lambda tile: self.measured_us[tile])[:_PARENTS]
        if not parents:
            return []
        children = [self._child(parents) for _ in range(count)]
        return [child for child in children if self._fits(child)]

    def _child(self, parents: Sequence[Tile]) -> Tile:
        """Each gene from one of two parents; one gene may change."""
        one, other = self._random.choice(parents), self._random.choice(parents)
        genes = {name: getattr(self._random.choice((one, other)), name) for name in GENES}
        changed = self._random.choice(list(GENES))
        genes[changed] = self._random.choice(GENES[changed])
        return dataclasses.replace(one, **{**genes, "is_dense": bool(genes["is_dense"])})
