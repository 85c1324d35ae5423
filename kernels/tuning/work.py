"""What a tuner knows of a layer: enough to predict a tile's cost, and to find the layer again in a cache."""

import json
from dataclasses import asdict, dataclass

from ...files import content_hash
from ..compiler.emit.panels import stored_matrix
from ..compiler.emit.tiles import Tile
from ..compiler.ir import Convolution, Network
from ..compiler.layout import Layout, choose_layouts
from ..instruction_set import InstructionSet
from ..weight_types import FLOAT32

__all__ = ["Work", "predicted_cycles", "tunable_layers"]

#: Cycles of a kernel's call, and of each vector that it begins with and stores.
_CALL_CYCLES = 40
_SUM_CYCLES = 2.0

#: Cycles until a line that is in the second cache arrives, hidden in part.
_LINE_CYCLES = 2.0


@dataclass(frozen=True)
class Work:
    """A convolution over pixels as a kernel sees it.

    Attributes:
        vectors: Vectors of pixels.
        groups: Of each group of rows with the same columns, how many rows and columns.
        dense: Rows and columns of the whole matrix.
        geometry: Shapes, kernel, stride, padding, dilation, type of weights; what else decides the time.
    """

    vectors: int
    groups: tuple[tuple[int, int], ...]
    dense: tuple[int, int]
    geometry: str

    @classmethod
    def of(cls, layer: Convolution, layout: Layout, lanes: int) -> "Work":
        """The work of a layer whose output has that layout."""
        stored = stored_matrix(layer, 8)
        groups = tuple((len(rows), len(columns)) for rows, columns, _ in stored.groups())
        moves = (layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups)
        stored_as = [] if layer.weight_type == FLOAT32 else [layer.weight_type]
        what = [layer.shape, layout.row_stride, moves, layer.activation, bool(layer.residual), *stored_as]
        dense = (len(layer.weight), layer.matrix.shape[1] * layer.groups)
        return cls(-(-layout.points // lanes), groups, dense, json.dumps(what))

    def signature(self, instruction_set: InstructionSet, machine: str) -> str:
        """What a cache knows the layer by.

        Args:
            instruction_set: That is compiled for.
            machine: Where is measured, such as the processor's model.
        """
        return content_hash(json.dumps([asdict(self), instruction_set.name, machine]))


def tunable_layers(network: Network, instruction_set: InstructionSet) -> dict[str, Work]:
    """The layers whose tiles can be chosen, by name: convolutions over pixels."""
    layouts = choose_layouts(network, instruction_set.lanes)
    return {
        layer.name: Work.of(layer, layouts[layer.name], instruction_set.lanes)
        for layer in network.layers
        if isinstance(layer, Convolution) and not layer.is_depthwise and layouts[layer.name].is_planar
    }


def predicted_cycles(work: Work, tile: Tile) -> float:
    """A cost model: multiplications at two vectors a cycle or loads at two a cycle, calls, and lines from afar.

    It orders tiles before anything is measured; only differences between tiles of one layer mean something.

    Args:
        work: Of a layer.
        tile: Any that fits.
    """
    whole, rest = divmod(work.vectors, tile.vectors)
    total = 0.0
    for rows, columns in (work.dense,) if tile.is_dense else work.groups:
        for height, count in ((tile.rows, rows // tile.rows), (rows % tile.rows, 1)):
            for width, tiles in ((tile.vectors, whole), (rest, 1)):
                if height and width:
                    total += count * tiles * _call(height, width, columns, tile)
    return total


def _call(height: int, width: int, columns: int, tile: Tile) -> float:
    sums = height * width
    # A shifted load reaches over the end of a line: it counts twice. Eight sums hide a multiplication's latency.
    column = max(sums / 2, (height + 2 * width) / 2, 4.0 * sums / max(8, sums))
    lines = columns * (width + 1) * _LINE_CYCLES / (2 if tile.block > 1 else 1) / max(1, tile.rows // 8)
    parts = max(1, -(-columns // tile.columns)) if tile.columns else 1
    return columns * column + parts * (_CALL_CYCLES + sums * _SUM_CYCLES) + lines
