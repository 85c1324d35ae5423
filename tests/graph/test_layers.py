"""Exchanging layers in a copy of a network that shares its tensors."""

import torch
from espalier.graph.layers import Realisable, SelfDescribing, StoredSmall, executable, replaced
from torch import Tensor, nn


class Simulated(nn.Module):
    """Stands for simulated integers: its realised form adds one."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs

    def realised(self) -> nn.Module:
        return AddOne()


class Small(nn.Module):
    """Stands for a weight stored as one number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def dense(self) -> nn.Module:
        layer = nn.Linear(2, 2, bias=False)
        nn.init.constant_(layer.weight, self.value)
        return layer


class AddOne(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + 1


def test_protocols_tell_layers_apart() -> None:
    assert isinstance(Simulated(), Realisable)
    assert isinstance(Small(1.0), StoredSmall)
    assert not isinstance(nn.Linear(1, 1), Realisable | StoredSmall | SelfDescribing)


def test_a_network_becomes_what_pytorch_executes() -> None:
    network = nn.Sequential(Small(3.0), nn.Sequential(Simulated(), nn.ReLU()))
    executed = executable(network)
    assert [type(layer).__name__ for layer in (executed[0], *executed[1])] == ["Linear", "AddOne", "ReLU"]
    assert executed(torch.tensor([[1.0, -2.0]])).tolist() == [[0.0, 0.0]]
    assert executed(torch.tensor([[1.0, 2.0]])).tolist() == [[10.0, 10.0]]
    assert isinstance(network[0], Small), "the original stays"


def test_what_stays_shares_its_tensors_and_what_goes_leaves_the_original_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())
    network.register_module("nothing", None)
    copy = replaced(network, lambda layer: nn.Tanh() if isinstance(layer, nn.ReLU) else None)
    assert copy is not network
    assert copy[0].weight is network[0].weight
    assert copy[1].running_mean is network[1].running_mean
    assert (type(copy[2]), type(network[2])) == (nn.Tanh, nn.ReLU)
    assert isinstance(replaced(nn.ReLU(), lambda _: nn.Tanh()), nn.Tanh)


def test_a_new_child_of_the_copy_is_no_child_of_the_original() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    copy = replaced(network, lambda _: None)
    copy.append(nn.ReLU())
    assert (len(network), len(copy)) == (1, 2)
