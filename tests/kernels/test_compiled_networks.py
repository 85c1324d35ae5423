"""Whole networks compiled with optimisations against PyTorch in double precision."""

from collections.abc import Callable

import pytest
import torch
from espalier.kernels.toolchain import find_toolchain
from espalier.tasks.models.conv1d import Conv1dNetwork
from espalier.tasks.models.imagenet_resnet import ImageNetResNet
from espalier.tasks.models.lenet import LeNet5
from espalier.tasks.models.mobilenet import MobileNetV2
from espalier.tasks.models.recurrent import RecurrentClassifier
from espalier.tasks.models.resnet import CifarResNet
from espalier.tasks.models.small_cnn import SmallCnn
from espalier.tasks.models.vgg import VggSmall
from torch import Tensor, nn

from tests.kernels.programs import TOLERANCE, Compiler, QuickToolchain, error, expected, randomised

_MOBILE = {"stem_stride": 1, "strides": (1, 1, 2, 2, 1, 2, 1), "n_classes": 10}

_NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LeNet-5": (LeNet5, (1, 28, 28)),
    "ResNet-20": (CifarResNet, (3, 32, 32)),
    "ResNet-18": (ImageNetResNet, (3, 64, 64)),
    "MobileNetV2": (lambda: MobileNetV2(width=0.5, **_MOBILE), (3, 32, 32)),
    "VggSmall": (VggSmall, (1, 16, 16)),
    "audio CNN": (SmallCnn, (1, 40, 48)),
    "HAR Conv1d": (Conv1dNetwork, (9, 128)),
    "GRU": (lambda: RecurrentClassifier("gru", hidden=72), (49, 40)),
    "LSTM": (lambda: RecurrentClassifier("lstm", hidden=72, n_layers=2), (49, 40)),
}


#: As users compile; the others take the compiler too long.
_OPTIMISED = ("LeNet-5", "HAR Conv1d", "GRU")


def _varied(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = _NETWORKS[name]
    return randomised(make()), torch.randn(2, *shape)


@pytest.mark.parametrize("name", _NETWORKS)
def test_networks(compiler: Compiler, name: str) -> None:
    module, inputs = _varied(name)
    wanted = expected(module, inputs)
    assert wanted.std(1).min() > 0.01 * wanted.abs().max(), "outputs that hardly vary would prove nothing"
    assert (wanted[0] - wanted[1]).abs().max() > 0.01 * wanted.abs().max()
    compiler.toolchain = find_toolchain() if name in _OPTIMISED else QuickToolchain(find_toolchain().command, ("-O1",))
    found = compiler.network(module, inputs, threads=2)(inputs)
    assert error(found, wanted) <= TOLERANCE
