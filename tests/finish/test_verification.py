"""The check of what was written."""

import copy
from pathlib import Path

import pytest
import torch
from espalier.compression.layers.quantized import QuantizedLinear
from espalier.compression.storage import load_network, save_network
from espalier.errors import EspalierError
from espalier.finish.verification import verify_file
from espalier.tasks.layout import channels_last
from torch import Tensor, nn


def _original() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 9, 16)
    return channels_last(nn.Sequential(*layers).eval().requires_grad_(False))


def _compressed(model: nn.Module) -> nn.Module:
    network = copy.deepcopy(model)
    layer = QuantizedLinear.from_layer(network[4])
    layer.set_input_grid(0.0, 1.5)
    network[4] = layer
    return network.eval()


def _inputs(count: int) -> Tensor:
    return torch.randn(count, 32, 8, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_last_bit_that_rounds_an_activation_elsewhere_is_no_damage(tmp_path: Path) -> None:
    model, inputs = _original(), _inputs(256)
    network = _compressed(model)
    path = tmp_path / "model.safetensors"
    save_network(path, network, model)

    # Files hold no layout: what is read sums its channels in another order.
    if float((load_network(path, model)(inputs) - network(inputs)).abs().max()) <= 1e-4:
        pytest.skip("this processor sums both layouts alike")
    verify_file(path, network, model, inputs)


@torch.no_grad()
def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    model = _original()
    network = _compressed(model)
    path = tmp_path / "model.safetensors"
    save_network(path, network, model)
    network[0].bias += 0.01
    with pytest.raises(EspalierError, match=r"differ by .* from the network that was written"):
        verify_file(path, network, model, _inputs(4))
