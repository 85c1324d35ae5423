"""Errors at the network's outputs, against the outputs themselves."""

import math

import pytest
import torch
from espalier.compression.assembly import with_layers
from espalier.compression.choice import KEEP
from espalier.compression.sensitivity import Sensitivity, sensitivities
from espalier.compression.site import Site, find_sites
from espalier.graph.trace import trace
from torch import Tensor, nn

from tests.conftest import Small


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 5)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _sites(network: nn.Module, inputs: Tensor) -> dict[str, Site]:
    return {site.name: site for site in find_sites(network, trace(network, inputs[:1]))[0]}


def _centred(scores: Tensor) -> Tensor:
    return scores - scores.mean(1, keepdim=True)


@pytest.mark.parametrize("name", ["0", "2", "4"])
def test_a_small_change_moves_the_scores_as_far_as_predicted(network: nn.Sequential, name: str) -> None:
    """The oracle adds the change to the layer's outputs and runs the rest of the network."""
    inputs = torch.randn(400, 2, 6, 6)
    sites = _sites(network, inputs)
    position = int(name)
    outputs = network[: position + 1](inputs)
    change = 1e-3 * torch.randn_like(outputs)
    scores, moved = network(inputs), network[position + 1 :](outputs + change)
    expected = (_centred(moved - scores).square().sum() / _centred(scores).square().sum()).sqrt()
    found = sensitivities(network, [sites[name]], inputs)[name]
    assert found.change(change) == pytest.approx(float(expected), rel=0.1)
    assert found.change(change[:200]) == pytest.approx(float(expected), rel=0.15)


def test_the_same_for_every_class_is_no_change(network: nn.Sequential) -> None:
    inputs = torch.randn(8, 2, 6, 6)
    found = sensitivities(network, [_sites(network, inputs)["4"]], inputs)["4"]
    assert found.change(torch.ones(8, 5)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("axis", "shape"), [(-3, (2, 3, 4, 5, 5)), (-1, (2, 3, 7, 4))])
def test_channels_that_are_gone_do_not_count(axis: int, shape: tuple[int, ...]) -> None:
    gradients = torch.randn(shape)
    kept = torch.tensor([0, 2])
    full = torch.zeros(shape[1:])
    part = torch.randn_like(full.index_select(axis, kept))
    full.index_copy_(axis, kept, part)
    sensitivity = Sensitivity(gradients, 2.0, axis)
    assert sensitivity.change(part, kept) == pytest.approx(sensitivity.change(full))
    by_hand = [float((gradients[r, n] * full[n]).sum()) ** 2 / 4 for r in range(shape[0]) for n in range(shape[1])]
    assert sensitivity.change(full) == pytest.approx(math.sqrt(sum(by_hand) / len(by_hand)), rel=1e-5)


def test_errors_of_a_bank_are_changes_of_the_scores(small: Small) -> None:
    """Of a fine technique the network itself says how far its scores move when one layer is replaced."""
    model, space = small.task.model, small.survey.space
    inputs = small.task.calibrate.inputs(slice(0, 64))
    scores = model(inputs)
    pairs = []
    for (name, state, choice), variant in small.bank.variants.items():
        site = space.sites[space.positions[name]]
        if choice == KEEP or any(state) or not site.is_layer or space.narrowing(name, choice):
            continue
        moved = with_layers(model, {site.layers[-1]: variant.module})(inputs)
        measured = float((_centred(moved - scores).square().sum() / _centred(scores).square().sum()).sqrt())
        pairs.append((variant.error, measured))
    close = [error / measured for error, measured in pairs if 1e-3 < measured < 0.2]
    assert len(close) >= 5
    assert 0.6 < sorted(close)[len(close) // 2] < 1.6
