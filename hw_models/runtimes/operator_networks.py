"""One operator as a network of our own compiler's, to be timed in the compiled engine."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...errors import EspalierError
from ...graph.opspec import GATES, OpSpec
from ...graph.opspec import Shape as AnyShape
from ...graph.sparsity import BlockSparsity
from ...kernels.block_grid import BlockGrid
from ...kernels.blocks import Blocks
from ...kernels.compiler.ir import (
    ACTIVATIONS,
    INPUT,
    Activation,
    Add,
    BatchNorm,
    Concat,
    Convolution,
    Floats,
    GlobalPool,
    Layer,
    Network,
    Place,
    Pool,
    Recurrent,
    Rounding,
    Shape,
    Softmax,
)

__all__ = ["chain_network", "operator_network"]

#: What no layer of the compiler's stands for.
_UNKNOWN = ("conv_transpose2d", "matmul", "other")

_NAME = "operator"


def operator_network(spec: OpSpec) -> Network:
    """A network of one operator with random weights, zeros where its sparsity says so.

    Args:
        spec: Of 8 bits or floats: the engine computes in floats.

    Raises:
        EspalierError: The compiler has nothing for operators of this kind.
    """
    if spec.kind in _UNKNOWN:
        raise EspalierError(f"runtime=espalier does not compile operators like {spec.key}; choose another runtime")
    rng = np.random.default_rng(0)
    given, out = _image(spec.input_shape, spec), _image(spec.output_shape, spec)
    if spec.kind in GATES:
        layers = _recurrent(spec, rng, out)
    else:
        layers = (_LAYERS.get(spec.kind, _scaling)(spec, rng, given, out),)
    return _network(layers, given, layers[-1].shape)


def chain_network(length: int) -> Network:
    """A network of `length` trivial layers."""
    names = [INPUT, *(f"trivial_{number}" for number in range(length))]
    layers = (Activation(name, (before,), (1, 1, 1), "relu") for before, name in pairwise(names))
    return _network(tuple(layers), (1, 1, 1), (1, 1, 1))


def _network(layers: tuple[Layer, ...], given: Shape, out: Shape) -> Network:
    return Network(layers, given, out, layers[-1].name, given)


def _image(shape: AnyShape, spec: OpSpec) -> Shape:
    """A shape as (channels, height, width)."""
    if len(shape) >= 3:
        return shape[0], shape[1], int(np.prod(shape[2:]))
    if len(shape) == 2:
        is_sequence = spec.kind in (*GATES, "linear", "softmax")
        return (shape[1], 1, shape[0]) if is_sequence else (shape[0], 1, shape[1])
    return (shape[0] if shape else 1), 1, 1


def _function(spec: OpSpec) -> str:
    """A function that the compiler has; relu stands for others."""
    return spec.activation if spec.activation in ACTIVATIONS else "relu"


def _weights(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.normal(0, 0.05, shape).astype(np.float32)


def _pruned(rng: np.random.Generator, spec: OpSpec, matrix: Floats) -> Blocks | None:
    """Random blocks of the operator's sparsity; the matrix becomes zero outside of them."""
    sparsity = BlockSparsity.parse(spec.sparsity)
    if sparsity is None:
        return None
    grid = BlockGrid(matrix.shape[0], matrix.shape[1], sparsity.block_rows, sparsity.block_columns)
    gates = 1 if grid.rows % (sparsity.gates * grid.block_rows) else sparsity.gates
    first = _random_blocks(rng, sparsity, replace(grid, rows=grid.rows // gates))
    blocks = Blocks(grid, np.tile(first.rows, (gates, 1)), np.tile(first.columns, (gates, 1)), first.order)
    kept = np.zeros(matrix.shape, bool)
    for rows, columns in blocks.rectangles():
        kept[np.ix_(rows, columns)] = True
    matrix[~kept] = 0
    return blocks


def _random_blocks(rng: np.random.Generator, sparsity: BlockSparsity, grid: BlockGrid) -> Blocks:
    """Rows and columns of each block, as many as the rate leaves."""
    heights = np.minimum(grid.block_rows, grid.rows - grid.block_rows * (np.arange(grid.count) // grid.across))
    widths = np.minimum(grid.block_columns, grid.columns - grid.block_columns * (np.arange(grid.count) % grid.across))
    n_rows = np.clip(sparsity.kept_rows, 1, heights)
    wanted = heights * widths / (sparsity.rate * n_rows)
    # What is no whole number is one column more in some of the blocks.
    n_columns = np.clip(np.floor(wanted + rng.random(grid.count)).astype(int), 0, widths)
    rows, columns = (
        _chosen(rng, sizes, counts, length)
        for sizes, counts, length in ((heights, n_rows, grid.block_rows), (widths, n_columns, grid.block_columns))
    )
    return Blocks(grid, rows, columns, np.arange(grid.columns))


def _chosen(
    rng: np.random.Generator, sizes: NDArray[np.int64], counts: NDArray[np.int64], length: int
) -> NDArray[np.bool_]:
    """Of each block `counts` of its first `sizes` places, bool, shape (blocks, length)."""
    draws = rng.random((len(sizes), length))
    draws[np.arange(length) >= sizes[:, None]] = 2.0
    chosen: NDArray[np.bool_] = draws.argsort(1).argsort(1) < counts[:, None]
    return chosen


def _convolution(spec: OpSpec, rng: np.random.Generator, given: Shape, out: Shape) -> Layer:
    weight = _weights(rng, out[0], given[0] // spec.groups, *spec.kernel)
    blocks = _pruned(rng, spec, weight.reshape(out[0], -1))
    moves = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.groups}
    function = _function(spec) if spec.activation else ""
    return Convolution(_NAME, (INPUT,), out, weight, _weights(rng, out[0]), **moves, activation=function, blocks=blocks)  # type: ignore[arg-type]  # pairs and a number


def _recurrent(spec: OpSpec, rng: np.random.Generator, out: Shape) -> tuple[Layer, ...]:
    """Each direction, and what puts them together."""
    hidden, features = out[0] // spec.groups, spec.input_shape[-1]
    gates = GATES[spec.kind] * hidden
    layers: list[Layer] = []
    for place in range(spec.groups):
        inputs, states = _weights(rng, gates, features), _weights(rng, gates, hidden)
        blocks = _pruned(rng, spec, inputs), _pruned(rng, spec, states)
        biases = _weights(rng, gates), _weights(rng, gates)
        about = f"{_NAME}_{place}", (INPUT,), (hidden, 1, out[2]), spec.kind
        layers.append(Recurrent(*about, inputs, states, *biases, bool(place), *blocks))
    both = [Concat(_NAME, tuple(layer.name for layer in layers), out)] if len(layers) > 1 else []
    return (*layers, *both)


def _activation(spec: OpSpec, _: np.random.Generator, given: Shape, __: Shape) -> Layer:
    return Activation(_NAME, (INPUT,), given, _function(spec))


def _scaling(_: OpSpec, rng: np.random.Generator, given: Shape, __: Shape) -> Layer:
    return BatchNorm(_NAME, (INPUT,), given, _weights(rng, given[0]), _weights(rng, given[0]))


def _sum(spec: OpSpec, _: np.random.Generator, given: Shape, __: Shape) -> Layer:
    return Add(_NAME, (INPUT, INPUT), given, _function(spec) if spec.activation else "")


def _copy(_: OpSpec, __: np.random.Generator, given: Shape, out: Shape) -> Layer:
    """Channels and pixels in other places, as the shapes say."""
    stride = tuple(max(1, before // after) for before, after in zip(given[1:], out[1:], strict=True))
    grown = tuple(max(0, after - before) // 2 for before, after in zip(given[1:], out[1:], strict=True))
    sources = tuple(number % given[0] for number in range(out[0]))
    return Place(_NAME, (INPUT,), out, sources, (stride[0], stride[1]), (-grown[0], -grown[1]))


def _pool(spec: OpSpec, _: np.random.Generator, __: Shape, out: Shape) -> Layer:
    return Pool(_NAME, (INPUT,), out, spec.kind == "max_pool2d", spec.kernel, spec.stride, spec.padding)


def _global_pool(_: OpSpec, __: np.random.Generator, given: Shape, ___: Shape) -> Layer:
    return GlobalPool(_NAME, (INPUT,), (given[0], 1, 1))


def _softmax(spec: OpSpec, rng: np.random.Generator, given: Shape, out: Shape) -> Layer:
    return Softmax(_NAME, (INPUT,), given) if given[1:] == (1, 1) else _scaling(spec, rng, given, out)


def _rounding(_: OpSpec, __: np.random.Generator, given: Shape, ___: Shape) -> Layer:
    return Rounding(_NAME, (INPUT,), given, 0.02, 0)


_LAYERS: dict[str, Callable[[OpSpec, np.random.Generator, Shape, Shape], Layer]] = {
    "conv2d": _convolution,
    "linear": _convolution,
    "activation": _activation,
    "add": _sum,
    "concat": _copy,
    "gather": _copy,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool2d": _global_pool,
    "softmax": _softmax,
    "quantize": _rounding,
}
