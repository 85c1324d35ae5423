"""Layers computed strip by strip against PyTorch in double precision, in strips of few rows."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from espalier.kernels.compiler import strips
from espalier.kernels.compiler.ir import Convolution, Layer, Network, Pool
from espalier.kernels.compiler.layout import choose_layouts
from espalier.kernels.compiler.lower import lower
from espalier.kernels.compiler.strips import Chain, plan_strips
from espalier.kernels.engine import CompiledNetwork
from torch import nn

from tests.kernels.programs import HOST_SETS, Branches, Compiler, Residual, errors, randomised
from tests.kernels.pruned import PrunedConv2d, prune

#: Rows of the images: many strips, the last one ragged.
_HEIGHT, _WIDTH = 23, 25


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that holds a few rows of the tests' images, so that even these are computed in strips."""
    monkeypatch.setattr(strips, "_LARGE_BYTES", 0)
    monkeypatch.setattr(strips, "_FEWEST_POINTS", 1)
    monkeypatch.setattr(strips, "_CACHE_BYTES", 14_000)


def _convolution(kernel: int = 3, padding: int = 1, **options: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(6, 6, kernel, padding=padding, **options), nn.ReLU())


def _plain() -> nn.Module:
    return nn.Conv2d(6, 6, 3, padding=1)


def _added() -> nn.Module:
    """A convolution whose rows are in several blocks, so that it is summed up in memory."""
    return prune(PrunedConv2d(6, 6, 3, padding=1), (4, 18), (0.5, 0.5))


def _networks() -> list[nn.Module]:
    """Networks from six channels, none like another in what a strip reads of the one before."""
    return [
        nn.Sequential(_convolution(), _convolution()),
        nn.Sequential(_convolution(), _convolution(), nn.MaxPool2d(2)),
        nn.Sequential(_convolution(), _convolution(), _convolution(), nn.MaxPool2d(2), _convolution()),
        nn.Sequential(nn.Conv2d(6, 6, 3, 2, 1), nn.MaxPool2d(3, 2, 1)),
        nn.Sequential(_convolution(5, 2), nn.MaxPool2d(3, 2, 1), _convolution(1, 0)),
        nn.Sequential(_convolution(1, 0), _convolution(5, 2), nn.MaxPool2d(3, 3)),
        nn.Sequential(_convolution(), _convolution(3, 2, dilation=2), nn.MaxPool2d((1, 2))),
        nn.Sequential(_convolution(), nn.Conv2d(6, 6, (5, 1), padding=(2, 0)), nn.Conv2d(6, 6, (1, 3), padding=(0, 1))),
        nn.Sequential(_convolution(), nn.MaxPool2d(2, 2, ceil_mode=True), _convolution()),
        nn.Sequential(_convolution(), Residual(nn.Sequential(_convolution(), _plain()))),
        nn.Sequential(Residual(_plain(), nn.ReLU()), _convolution(), nn.MaxPool2d(2)),
    ]


@cache
def _read() -> tuple[Network, ...]:
    """The networks as the compiler sees them."""
    return tuple(lower(module, torch.zeros(1, 6, _HEIGHT, _WIDTH)) for module in _networks())


def _chains(network: Network) -> list[Chain]:
    return plan_strips(network, choose_layouts(network, 16))


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("isa", [HOST_SETS[0], "plain"])
def test_strips_give_what_whole_layers_give(compiler: Compiler, isa: str) -> None:
    torch.manual_seed(0)
    added = nn.Sequential(_added(), _added(), nn.MaxPool2d(2))
    module = Branches([*(randomised(network) for network in _networks()), added])
    inputs = torch.randn(2, 6, _HEIGHT, _WIDTH)
    files = compiler.files(module, inputs, isa)
    assert files.source.read_text().count("for (int s = 0; s <") == len(module.branches)
    for threads in (1, 2):
        network = CompiledNetwork(files.library, files.weights, threads)
        for _ in range(2):
            assert errors(module, inputs, network(inputs)) == {}


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("bytes_", [6_000, 9_000, 14_000])
def test_rows_that_are_read_are_there(bytes_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brute force: each strip finds what it reads in the strip before it in the chain, or in the rows kept of that."""
    monkeypatch.setattr(strips, "_CACHE_BYTES", bytes_)
    seen = 0
    for network in _read():
        for chain in _chains(network):
            assert chain.count > 1
            for layer in network.layers:
                if layer.name in chain.strips:
                    _assert_whole(network, layer, chain)
                    seen += 1
    assert seen >= 2 * len(_read())


def _assert_whole(network: Network, layer: Layer, chain: Chain) -> None:
    """All rows of a layer are computed, from rows that are there."""
    strip, done = chain.strips[layer.name], set[int]()
    for s in range(chain.count):
        first = s * strip.rows - strip.lag
        rows = range(max(0, first) if s else 0, min(first + strip.rows, layer.shape[1]))
        done |= set(rows)
        for name, needed in _needed(layer, rows).items():
            if name in chain.strips:
                source = chain.strips[name]
                end = (s + 1) * source.rows - source.lag
                held = range(end - source.rows - source.halo, end)
                inside = range(network.shape_of(name)[1])
                # Convolutions read the zeros above and below an image.
                assert {row for row in needed if isinstance(layer, Convolution) or row in inside} <= set(held)
    assert done == set(range(layer.shape[1]))


def _needed(layer: Layer, rows: range) -> dict[str, set[int]]:
    """Of each tensor the rows that some rows of a layer are made of."""
    assert isinstance(layer, Convolution | Pool)
    gap = layer.dilation[0] if isinstance(layer, Convolution) else 1
    steps = [step * gap - layer.padding[0] for step in range(layer.kernel[0])]
    return {layer.inputs[0]: {row * layer.stride[0] + step for row in rows for step in steps}}


def test_a_tensor_that_stays_in_the_cache_is_made_at_once() -> None:
    assert _chains(_read()[1]) == []


@pytest.mark.usefixtures("small_cache")
def test_a_tensor_that_others_read_is_made_as_a_whole() -> None:
    network = _read()[0]
    first, second = network.layers
    (chain,) = _chains(network)
    assert [strip.is_short for strip in chain.strips.values()] == [True, False]
    assert _chains(replace(network, output=first.name)) == []
    late = replace(second, name="late", inputs=(second.name,))
    others = (first, second, late, replace(late, name="later", inputs=(first.name,)))
    short = [name for one in _chains(replace(network, layers=others, output="later")) for name in one.strips]
    assert first.name not in short


@pytest.mark.usefixtures("small_cache")
def test_much_to_compute_for_each_number_needs_no_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "_MANY", 6 * 9)
    assert _chains(_read()[0]) == []
