"""The block size of a layer's sparsity: the smallest that is nearly as fast as the fastest, whatever the weights.

A small block leaves pruning more freedom, a large one is faster; how much depends on shape and rate and hardly on the
weights (Niu, Li et al. 2021, GRIM, arXiv 2108.11033, sec. 5). So synthetic layers are timed before any network is.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import EspalierError
from ..compiler.ir import INPUT, Convolution, Floats, Network, Pair, Shape
from ..instruction_set import InstructionSet
from ..toolchain import Toolchain
from .timing import TimedNetwork, layer_times_us

__all__ = ["LayerShape", "block_times_us", "smallest_fast_block"]

_ROUNDS = 15


@dataclass(frozen=True)
class LayerShape:
    """A convolution, or a linear layer as one of 1 x 1 over one pixel.

    Attributes:
        inputs: (channels, height, width).
        outputs: Output channels.
        kernel: Height and width.
        stride: Of height and width.
        padding: Above and left.
    """

    inputs: Shape
    outputs: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    @property
    def columns(self) -> int:
        """Of the matrix."""
        return self.inputs[0] * self.kernel[0] * self.kernel[1]

    @property
    def output_shape(self) -> Shape:
        """(channels, height, width)."""
        sizes = zip(self.inputs[1:], self.kernel, self.stride, self.padding, strict=True)
        height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
        return self.outputs, height, width


def block_times_us(
    shape: LayerShape,
    rate: float,
    blocks: Sequence[Pair],
    instruction_set: InstructionSet,
    toolchain: Toolchain,
    threads: int = 1,
) -> dict[Pair, float]:
    """Median microseconds of a layer with random weights, for each size of block.

    All of them are in one library and run one after the other, so that each finds the caches as a network leaves them.

    Args:
        shape: Of the layer.
        rate: How many times fewer weights.
        blocks: Rows and columns of a block; all rows of a block are kept, and its share of columns.
        instruction_set: Of this machine.
        toolchain: Of this machine.
        threads: That run it.

    Raises:
        EspalierError: There is no block, or the rate is below 1.
    """
    if not blocks or rate < 1:
        raise EspalierError(f"expected blocks and a rate of at least 1, got {list(blocks)} and {rate:g}")
    layers = tuple(
        Convolution(
            f"block_{rows}x{columns}",
            (INPUT,),
            shape.output_shape,
            _weight(shape, rate, rows, columns),
            np.zeros(shape.outputs, np.float32),
            shape.stride,
            shape.padding,
        )
        for rows, columns in blocks
    )
    network = Network(layers, shape.inputs, shape.output_shape, layers[-1].name, shape.inputs)
    with tempfile.TemporaryDirectory() as folder:
        timed = TimedNetwork(network, instruction_set, toolchain, {}, Path(folder) / "layers", threads)
        (times,) = layer_times_us([timed], _ROUNDS)
    return {block: times[layer.name] for block, layer in zip(blocks, layers, strict=True)}


def _weight(shape: LayerShape, rate: float, rows: int, columns: int) -> Floats:
    """Random numbers of which each block keeps random columns, the same number in all."""
    generator = np.random.default_rng(0)
    matrix = np.zeros((shape.outputs, shape.columns), np.float32)
    for top in range(0, shape.outputs, rows):
        for left in range(0, shape.columns, columns):
            width = min(columns, shape.columns - left)
            kept = left + generator.choice(width, max(1, round(width / rate)), replace=False)
            height = min(rows, shape.outputs - top)
            matrix[top : top + height, kept] = generator.uniform(0.5, 1.0, (height, len(kept)))
    return matrix.reshape(shape.outputs, shape.inputs[0], *shape.kernel)


def smallest_fast_block(times_us: dict[Pair, float], tolerance: float = 0.1) -> Pair:
    """The block of fewest weights among those that are nearly as fast as the fastest.

    Args:
        times_us: Block -> microseconds.
        tolerance: By how much it may be slower, such as .1 for a tenth.

    Raises:
        EspalierError: There is no time.
    """
    if not times_us:
        raise EspalierError("expected the times of at least one block")
    limit = (1 + tolerance) * min(times_us.values())
    return min((block for block, time in times_us.items() if time <= limit), key=lambda block: block[0] * block[1])
