"""The states' products of recurrent layers, as a tuner knows them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..compiler.emit.recurrent import share_columns, state_bands
from ..compiler.emit.tiles import StateTile, default_state_tile
from ..compiler.ir import Recurrent
from ..instruction_set import InstructionSet
from ..weight_types import BYTES
from .work import LINE_CYCLES, SUM_CYCLES, Work

__all__ = ["StateWork"]

#: Cycles until a multiplication's result can be added to.
_LATENCY_CYCLES = 4.0

#: Bytes of a cache line.
_LINE = 64


@dataclass(frozen=True)
class StateWork(Work[StateTile]):
    """The steps of a recurrent layer as a kernel sees them.

    Attributes:
        gates: Of each state unit.
        shares_columns: Whether the gates of each vector of state units keep the same columns.
        columns: Of each gate of each vector of state units, how many its rows keep.
        weight_bytes: Of all of them.
    """

    gates: int
    shares_columns: bool
    columns: tuple[int, ...]
    weight_bytes: int

    @classmethod
    def of(cls, layer: Recurrent, instruction_set: InstructionSet) -> "StateWork":
        """The work of a layer after all passes."""
        gates, lanes = len(layer.state_weight) // layer.shape[0], instruction_set.lanes
        bands = state_bands(layer, lanes)
        columns = tuple(len(band.columns) for band in bands)
        weight_bytes = sum(max(1, lanes * count) for count in columns) * BYTES[layer.weight_type]
        geometry = json.dumps([layer.shape, layer.kind, layer.is_reversed, layer.weight_type])
        return cls(instruction_set, geometry, gates, share_columns(bands, gates), columns, weight_bytes)

    @property
    def default(self) -> StateTile:
        """The tile without tuning."""
        return default_state_tile(self.gates, self.shares_columns, self.weight_bytes)

    def fits(self, tile: StateTile) -> bool:
        """Whether registers hold the sums of the gates that are computed together, and these may be."""
        together = self.gates if tile.is_joint else 1
        return tile.registers(together) <= self.instruction_set.registers and tile.is_joint <= self.shares_columns

    @property
    def first_genes(self) -> Mapping[str, tuple[int, ...]]:
        """All: there are few."""
        return StateTile.genes

    def predicted_cycles(self, tile: StateTile) -> float:
        """Of a step: multiplications and loads at two a cycle, sums, and weights, which prefetching brings sooner."""
        together = self.gates if tile.is_joint else 1
        column = max((together + 1) / 2, _LATENCY_CYCLES / tile.copies)
        if tile.prefetches:
            column += together / 4
        is_far = self.default.prefetches
        total = self.weight_bytes / _LINE * LINE_CYCLES * (2 if is_far and not tile.prefetches else 1)
        for count in self.columns[::together]:
            rest = count % tile.copies
            total += (count - rest) * column + rest * max(column, _LATENCY_CYCLES)
            total += together * tile.copies * SUM_CYCLES
        return total
