"""Activations that write over their inputs, against the same networks without."""

from collections.abc import Callable

import pytest
import torch
from espalier.graph.overwriting import overwritable, overwriting
from espalier.graph.trace import trace
from espalier.tasks.models.lenet import LeNet5
from espalier.tasks.models.mobilenet import MobileNetV2
from espalier.tasks.models.resnet import CifarResNet
from torch import Tensor, nn


class Reader(nn.Module):
    """A convolution, an activation, and something that may read what lies between."""

    def __init__(self, rest: Callable[["Reader", Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.other = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self._rest = rest

    def forward(self, inputs: Tensor) -> Tensor:
        return self._rest(self, inputs, self.conv(inputs)).flatten(1)


def _added_in_place(net: Reader, inputs: Tensor, made: Tensor) -> Tensor:
    kept = net.other(inputs)
    kept += made
    return net.relu(kept)


def _added_into_what_is_read_later(net: Reader, inputs: Tensor, made: Tensor) -> Tensor:
    total = made
    total += inputs
    return net.relu(total) * made


OVERWRITTEN: dict[str, Callable[[Reader, Tensor, Tensor], Tensor]] = {
    "layer": lambda net, inputs, made: net.relu(made),
    "batch_norm": lambda net, inputs, made: net.relu(net.norm(made)),
    "sum": lambda net, inputs, made: net.relu(made + inputs),
    "sum_of_what_was_read_before": lambda net, inputs, made: net.relu(net.other(made) + made),
    "added_in_place": _added_in_place,
    "called_twice": lambda net, inputs, made: net.relu(net.other(net.relu(made))),
}
LEFT_ALONE: dict[str, Callable[[Reader, Tensor, Tensor], Tensor]] = {
    "read_by_a_sum": lambda net, inputs, made: net.relu(made) + made,
    "of_the_input": lambda net, inputs, made: net.relu(inputs) + made,
    "of_a_view": lambda net, inputs, made: net.relu(made.flatten(1)) + made.flatten(1),
    "called_twice_once_on_what_others_read": lambda net, inputs, made: net.relu(net.other(net.relu(made))) * made,
    "added_into_what_is_read_later": _added_into_what_is_read_later,
}


def _both(network: nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """The overwriting network, its outputs, and those of the network as it is."""
    network.eval()
    twin = overwriting(network, overwritable(trace(network, inputs[:1])))
    with torch.inference_mode():
        expected = network(inputs.clone())
        return twin, twin(inputs.clone()), expected


@pytest.mark.parametrize("name", [*OVERWRITTEN, *LEFT_ALONE])
def test_only_what_nobody_else_reads_is_written_over(name: str) -> None:
    network = Reader((OVERWRITTEN | LEFT_ALONE)[name])
    twin, got, expected = _both(network, torch.randn(2, 3, 5, 5))
    assert torch.equal(got, expected)
    assert twin.relu.inplace == (name in OVERWRITTEN)
    assert not network.relu.inplace, "the network itself is left as it is"


@pytest.mark.parametrize(
    ("network", "shape", "count"),
    [(LeNet5(), (1, 28, 28), 4), (CifarResNet(20), (3, 32, 32), 19), (MobileNetV2(), (3, 32, 32), 35)],
    ids=["lenet5", "resnet20", "mobilenet_v2"],
)
def test_all_activations_of_known_networks(network: nn.Module, shape: tuple[int, ...], count: int) -> None:
    twin, got, expected = _both(network, torch.randn(2, *shape))
    assert torch.equal(got, expected)
    assert sum(getattr(layer, "inplace", False) for layer in twin.modules()) == count


class _Itself(nn.Module):
    """Gives its input, as a layer that was taken out does."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


@pytest.mark.parametrize("stand_in", [nn.Identity(), _Itself()])
def test_a_layer_that_gives_its_own_input_is_noticed(stand_in: nn.Module) -> None:
    network = Reader(lambda net, inputs, made: net.relu(net.norm(net.other(made))) + made).eval()
    inputs = torch.randn(2, 3, 5, 5)
    activations = overwritable(trace(network, inputs[:1]))
    assert activations == {"relu": (("norm", "other"),)}
    network.norm = nn.Identity()
    network.other = stand_in
    with torch.inference_mode():
        assert torch.equal(overwriting(network, activations)(inputs), network(inputs))


def test_a_folded_batch_norm_leaves_the_layer_before_it() -> None:
    network = Reader(lambda net, inputs, made: net.relu(net.norm(made))).eval()
    activations = overwritable(trace(network, torch.randn(1, 3, 5, 5)))
    network.norm = nn.Identity()
    assert overwriting(network, activations).relu.inplace


def test_another_activation_stays() -> None:
    network = Reader(lambda net, inputs, made: net.relu(made)).eval()
    activations = overwritable(trace(network, torch.randn(1, 3, 5, 5)))
    network.relu = nn.Sigmoid()
    assert isinstance(overwriting(network, activations).relu, nn.Sigmoid)
