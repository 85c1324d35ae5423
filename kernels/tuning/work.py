"""What a tuner knows of a layer: enough to predict a tile's cost, and to find the layer again in a cache."""

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from ...files import content_hash
from ..compiler.emit.panels import stored_matrix
from ..compiler.emit.tiles import Tile
from ..compiler.ir import Convolution
from ..instruction_set import InstructionSet
from ..weight_types import FLOAT32

__all__ = ["CALL_CYCLES", "LINE_CYCLES", "SUM_CYCLES", "Group", "TileT", "Work", "dense_of", "geometry_of", "groups_of"]

TileT = TypeVar("TileT", bound=Tile)

#: Rows and columns of rows that keep the same columns.
Group = tuple[int, int]

#: Cycles of a kernel's call, and of each vector that it begins with and stores.
CALL_CYCLES = 40
SUM_CYCLES = 2.0

#: Cycles until a line that is in the second cache arrives, hidden in part.
LINE_CYCLES = 2.0


@dataclass(frozen=True)
class Work(ABC, Generic[TileT]):
    """A layer, or a part of one, as a kernel sees it.

    Attributes:
        instruction_set: That is compiled for.
        geometry: Shapes, kernel, stride, padding, dilation, type of weights; what else decides the time.
    """

    instruction_set: InstructionSet
    geometry: str

    @property
    @abstractmethod
    def default(self) -> TileT:
        """The tile without tuning."""

    @abstractmethod
    def fits(self, tile: TileT) -> bool:
        """Whether registers hold what a tile has in them, and the layer is as large as the tile."""

    @abstractmethod
    def predicted_cycles(self, tile: TileT) -> float:
        """A cost model.

        It orders tiles before anything is measured; only differences between tiles of one layer mean something.

        Args:
            tile: Any that fits.
        """

    @property
    @abstractmethod
    def first_genes(self) -> Mapping[str, tuple[int, ...]]:
        """The genes of which all combinations are promising enough to be predicted."""

    def promising(self) -> list[TileT]:
        """The default, then all combinations of the first genes that fit, the most promising first."""
        names, values = self.first_genes.keys(), itertools.product(*self.first_genes.values())
        kind: type[Any] = type(self.default)
        tiles: list[TileT] = [kind(**dict(zip(names, some, strict=True))) for some in values]
        return [self.default, *sorted(filter(self.fits, tiles), key=self.predicted_cycles)]

    def signature(self, machine: str) -> str:
        """What a cache knows the layer by.

        Args:
            machine: Where is measured, such as the processor's model.
        """
        return content_hash(json.dumps([self.default.kind, asdict(self), machine]))


def groups_of(layer: Convolution, row_multiple: int) -> tuple[Group, ...]:
    """Of each group of a layer's rows with the same columns, how many rows and columns.

    Args:
        layer: After all passes.
        row_multiple: Rows that a kernel takes at once.
    """
    stored = stored_matrix(layer, row_multiple)
    return tuple((len(rows), len(columns)) for rows, columns, _ in stored.groups())


def dense_of(layer: Convolution) -> Group:
    """Rows and columns of a layer's whole matrix."""
    return len(layer.weight), layer.matrix.shape[1] * layer.groups


def geometry_of(layer: Convolution, row_stride: int) -> str:
    """What decides the time of a convolution, beside its matrix.

    Args:
        layer: After all passes.
        row_stride: Points from a row of its output to the next.
    """
    moves = (layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups)
    stored_as = [] if layer.weight_type == FLOAT32 else [layer.weight_type]
    return json.dumps([layer.shape, row_stride, moves, layer.activation, bool(layer.residual), *stored_as])
