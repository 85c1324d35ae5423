"""The shortcut without weights, channel by channel."""

import json
from pathlib import Path

import pytest
import torch
from espalier.compression.layers import build_module, describe_module
from espalier.compression.storage import load_network, save_network
from espalier.errors import FormatError
from espalier.graph.placement import ChannelPlacement
from espalier.graph.trace import trace
from torch import Tensor, nn
from torch.nn import functional


def _by_hand(inputs: Tensor, sources: list[int], stride: int) -> Tensor:
    zeros = torch.zeros_like(inputs[:, 0])
    channels = [inputs[:, source] if source >= 0 else zeros for source in sources]
    return torch.stack(channels, 1)[:, :, ::stride, ::stride]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    "sources", [[-1, 0, 1, 2, -1], [0, 1, 2], [2, -1, 0], [1, 1], [-1, 0, 1, -1], [-1, -1], [0, 1, 2, -1]]
)
def test_channels_are_repeated_or_zero(sources: list[int], stride: int) -> None:
    inputs = torch.randn(2, 3, 7, 8)
    layer = ChannelPlacement(3, sources, stride)
    expected = _by_hand(inputs, sources, stride)
    assert torch.equal(layer(inputs), expected)
    again = build_module(json.loads(json.dumps(describe_module(layer))))
    assert torch.equal(again(inputs), expected)
    assert not layer.state_dict()
    graph = trace(nn.Sequential(layer), inputs[:1])
    assert graph.operators[0].specs[-1].output_shape == expected.shape[1:]
    assert graph.operators[0].module == "0"


def test_the_shortcut_of_he_et_al_pads_both_sides() -> None:
    inputs = torch.randn(1, 5, 4, 4)
    expected = functional.pad(inputs[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2))
    assert torch.equal(ChannelPlacement.centred(5, 8, 2)(inputs), expected)


def test_what_is_left_of_it_is_a_part_of_what_it_gave() -> None:
    """Without some inputs and outputs: the whole, its lost inputs set to zero, at the outputs that are left."""
    inputs = torch.randn(2, 6, 4, 4)
    whole = ChannelPlacement.centred(6, 12, 2)
    kept, left = [0, 2, 5], [0, 3, 4, 5, 8, 11]
    gone = [channel for channel in range(6) if channel not in kept]
    expected = whole(inputs.index_fill(1, torch.tensor(gone), 0))[:, left]
    assert torch.equal(whole.narrowed(kept, left)(inputs[:, kept]), expected)


@pytest.mark.parametrize("sources", [[3], [-2], []])
def test_sources_must_be_channels(sources: list[int]) -> None:
    with pytest.raises(ValueError, match=r"sources must be channels below 3 or -1, got \["):
        ChannelPlacement(3, sources)
    with pytest.raises(FormatError, match="bad description of a ChannelPlacement layer"):
        build_module({"layer": "ChannelPlacement", "in_channels": 3, "sources": sources, "stride": 1})


def test_files_tell_placements_apart(tmp_path: Path) -> None:
    model = nn.Sequential(ChannelPlacement(3, [0, -1]), nn.Flatten())
    other = nn.Sequential(ChannelPlacement(3, [2, 1]), nn.Flatten())
    save_network(tmp_path / "m", other, model)
    inputs = torch.randn(1, 3, 2, 2)
    assert torch.equal(load_network(tmp_path / "m", model)(inputs), other(inputs))
