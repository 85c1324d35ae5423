"""Which layers are computed strip by strip: some rows of each before the next rows of the first.

Between two layers of a chain only a strip of the tensor exists, in memory short enough to stay in the cache. Layers
that read rows below lag behind the layers they read; the rows that they read again are kept from strip to strip.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .ir import Convolution, Layer, Network, Pool
from .layout import Layout, layer_reach

__all__ = ["Chain", "Strip", "plan_strips", "short_layout"]

#: What the strips of a chain and its weights may take: two thirds of a second cache of today.
_CACHE_BYTES = 1_300_000

#: Tensors of fewer bytes stay in the cache as a whole.
_LARGE_BYTES = 3 << 20

#: Multiplications for each number that comes out, behind which traffic hides.
_MANY = 160

#: Points of a strip at least, so that few vectors reach over its end and few threads wait.
_FEWEST_POINTS = 384

#: Layers of a chain and rows of its last layer's strips that are tried.
_MOST_LAYERS = 6
_ROWS = (16, 8, 4, 2, 1)

#: Rows by which the first layer may be ahead, so that windows of a pool begin with a strip.
_AHEAD = (0, 1, 2, 3)

#: Floats in a cache line.
_LINE = 16


@dataclass(frozen=True)
class Strip:
    """How a tensor is made: strip s holds the rows from s * rows - lag on.

    Attributes:
        rows: Of a strip.
        lag: Rows that it is behind; those that it is ahead where negative, by which the first strip is longer.
        halo: Rows of the strip before that are read again.
        is_short: Whether only one strip and the halo exist at a time.
    """

    rows: int
    lag: int
    halo: int
    is_short: bool


@dataclass(frozen=True)
class Chain:
    """Layers that are computed strip by strip.

    Attributes:
        strips: Of each layer's tensor by its name, in order.
        count: Strips.
    """

    strips: Mapping[str, Strip]
    count: int


def short_layout(layout: Layout, strip: Strip) -> Layout:
    """Where a strip's numbers lie; the new rows of each channel begin with a cache line."""
    lead = -(-max(1, layout.padding[1]) // _LINE) * _LINE + (-strip.halo * layout.row_stride) % _LINE
    # A vector may reach over the end, and what is left of a channel's first pixel must stay zero.
    floats = (strip.halo + strip.rows) * layout.row_stride + 2 * _LINE + layout.padding[1]
    lines = -(-floats // _LINE)
    stride = (lines + 1 - lines % 2) * _LINE
    return replace(layout, channel_stride=stride, lead=lead, length=lead + layout.shape[0] * stride)


def plan_strips(network: Network, layouts: Mapping[str, Layout]) -> list[Chain]:
    """The chains that spare most of the traffic to and from large tensors, in order; few networks have any.

    Args:
        network: After all passes.
        layouts: Of every tensor as a whole.
    """
    names = [layer.name for layer in network.layers]
    spared: list[float] = [0.0] * (len(names) + 1)
    chosen: list[Chain | None] = [None] * (len(names) + 1)
    for end in range(1, len(names) + 1):
        spared[end] = spared[end - 1]
        for start in range(max(0, end - _MOST_LAYERS), end - 1):
            layers = network.layers[start:end]
            gain = sum(_spared(*pair, layouts) for pair in itertools.pairwise(layers))
            if gain and spared[start] + gain > spared[end] and (chain := _chain(network, layers, layouts)):
                spared[end], chosen[end] = spared[start] + gain, chain
    chains = []
    end = len(names)
    while end:
        chain = chosen[end]
        if chain is not None:
            chains.append(chain)
        end -= len(chain.strips) if chain is not None else 1
    return chains[::-1]


def _spared(layer: Layer, reader: Layer, layouts: Mapping[str, Layout]) -> int:
    """Bytes of a large tensor between two layers of which at least one has little to compute."""
    bytes_ = 4 * layouts[layer.name].length
    return bytes_ if bytes_ > _LARGE_BYTES and min(map(_multiplications, (layer, reader))) < _MANY else 0


def _multiplications(layer: Layer) -> float:
    """For each number that comes out."""
    return np.count_nonzero(layer.weight) / len(layer.weight) if isinstance(layer, Convolution) else 0.0


def _chain(network: Network, layers: Sequence[Layer], layouts: Mapping[str, Layout]) -> Chain | None:
    """The layers as a chain with the largest strips that the cache holds; None where there is none."""
    names = {layer.name for layer in layers}
    for layer in layers[:-1]:
        readers = network.readers(layer.name)
        if layer.name == network.output or not readers or any(reader.name not in names for reader in readers):
            return None
    if not all(_can(layer, names, layouts, place == 0) for place, layer in enumerate(layers)):
        return None
    # A kernel finds what it adds where it writes: both tensors must be whole.
    if any(isinstance(layer, Convolution) and layer.residual for layer in layers[:-1]):
        return None
    if isinstance(layers[-1], Convolution) and layers[-1].residual in names:
        return None
    for rows in _ROWS:
        chains = [chain for ahead in _AHEAD if (chain := _with_rows(layers, rows, _lags(layers, names, ahead)))]
        chains = [chain for chain in chains if chain.count > 1 and _fits(layers, chain, layouts)]
        if chains:
            return min(chains, key=lambda chain: _kept_floats(chain, layouts))
    return None


def _kept_floats(chain: Chain, layouts: Mapping[str, Layout]) -> int:
    """Numbers that move from each strip to the next."""
    sizes = ((layouts[name], strip.halo) for name, strip in chain.strips.items())
    return sum(layout.shape[0] * layout.row_stride * halo for layout, halo in sizes)


def _can(layer: Layer, names: set[str], layouts: Mapping[str, Layout], is_first: bool) -> bool:
    """Whether a layer can be computed in strips."""
    out, source = layouts[layer.name], layouts[layer.inputs[0]]
    if not out.is_planar:
        return False
    if isinstance(layer, Pool):
        return source.is_planar and layer.is_maximum and layer.inputs[0] in names
    if not isinstance(layer, Convolution) or layer.is_depthwise:
        return False
    # The first may read copies, which are made of the whole tensor at once.
    reach = zip(layer_reach(layer, source.shape[1:]), source.padding, strict=True)
    return is_first or (
        layer.stride == (1, 1) and source.row_stride == out.row_stride and all(read <= zeros for read, zeros in reach)
    )


@dataclass(frozen=True)
class _Window:
    """Rows that a layer reads of one tensor: from y * stride - above to y * stride + below."""

    name: str
    stride: int
    above: int
    below: int


def _windows(layer: Layer, names: set[str]) -> list[_Window]:
    """What a layer reads of the tensors of its chain."""
    found = []
    for name in names & set(layer.inputs):
        if isinstance(layer, Pool):
            found.append(_Window(name, layer.stride[0], layer.padding[0], layer.kernel[0] - 1 - layer.padding[0]))
        elif isinstance(layer, Convolution):
            reach = (layer.kernel[0] - 1) * layer.dilation[0]
            found.append(_Window(name, layer.stride[0], layer.padding[0], reach - layer.padding[0]))
    return found


def _lags(layers: Sequence[Layer], names: set[str], ahead: int) -> dict[str, int]:
    """By how many rows each layer must be behind so that what it reads is there.

    Args:
        layers: Of a chain.
        names: Of their tensors.
        ahead: Rows by which those are ahead that read nothing of the chain.
    """
    lags: dict[str, int] = {}
    for layer in layers:
        needed = [
            math.ceil((lags[window.name] + window.below + 1 - window.stride) / window.stride)
            for window in _windows(layer, names)
        ]
        lags[layer.name] = max(needed, default=-ahead)
    return lags


def _with_rows(layers: Sequence[Layer], rows: int, lags: Mapping[str, int]) -> Chain | None:
    """The chain whose last layer's strips have so many rows; None where paths through it disagree."""
    names = set(lags)
    sizes = {layers[-1].name: rows}
    halos = {name: max(0, -lag) for name, lag in lags.items()}
    for layer in reversed(layers):
        if layer.name not in sizes:
            return None
        for window in _windows(layer, names):
            size = sizes[layer.name] * window.stride
            if sizes.setdefault(window.name, size) != size:
                return None
            halo = lags[layer.name] * window.stride + window.above - lags[window.name]
            halos[window.name] = max(halos[window.name], halo)
    last = layers[-1].name
    strips = {name: Strip(sizes[name], lags[name], halos[name], name != last) for name in lags}
    counts = [math.ceil((layer.shape[1] + lags[layer.name]) / sizes[layer.name]) for layer in layers]
    return Chain(strips, max(counts))


def _fits(layers: Sequence[Layer], chain: Chain, layouts: Mapping[str, Layout]) -> bool:
    """Whether strips are large enough to be worth it, and all of a chain's fit into the cache with its weights."""
    total = 0
    for layer in layers:
        strip, layout = chain.strips[layer.name], layouts[layer.name]
        points = strip.rows * layout.row_stride
        if isinstance(layer, Convolution):
            if points < _FEWEST_POINTS:
                return False
            total += 4 * int(np.count_nonzero(layer.weight))
        total += 4 * layout.shape[0] * (points + strip.halo * layout.row_stride)
    return total <= _CACHE_BYTES
