"""Dense layers compiled to C against PyTorch in double precision, many of them side by side in one program."""

import pytest
import torch
from espalier.graph.placement import ChannelPlacement
from torch import Tensor, nn

from tests.kernels.programs import (
    TOLERANCE,
    Branches,
    Compiler,
    Function,
    Residual,
    error,
    errors,
    expected,
    on_each_instruction_set,
    randomised,
)


def _kernels() -> list[nn.Module]:
    """Kernel, stride, padding, dilation."""
    cases = [
        (1, 1, 0, 1),
        (1, 2, 0, 1),
        (1, 1, 1, 1),
        (3, 1, 1, 1),
        (3, 1, 0, 1),
        (3, 2, 1, 1),
        (3, 3, 2, 1),
        (3, 1, 2, 2),
        (3, 2, 3, 3),
        (5, 1, 2, 1),
        (5, 2, 0, 1),
        (7, 1, 3, 1),
        (7, 3, 3, 1),
        ((1, 3), 1, (0, 1), 1),
        ((3, 1), (2, 1), (1, 0), 1),
        ((1, 5), (1, 2), (3, 0), (1, 1)),
        (2, 1, 1, 1),
        (3, 1, "same", 1),
        ((1, 3), 1, "same", (1, 2)),
        (3, 1, "valid", 1),
    ]
    return [nn.Conv2d(3, 6, *case, bias=bool(place % 3)) for place, case in enumerate(cases)]


class _Sizes(nn.Module):
    """A convolution for each width, on a part of the image."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths
        self.layers = nn.ModuleList(nn.Conv2d(3, 4, 3, padding=1) for _ in widths)

    def forward(self, inputs: Tensor) -> Tensor:
        cut = [inputs[:, :, : width // 2 + 1, :width] for width in self.widths]
        return torch.cat([layer(image).flatten(1) for layer, image in zip(self.layers, cut, strict=True)], 1)


def _grouped() -> list[nn.Module]:
    return [
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 6, 3, 2, 1, groups=6),
        nn.Conv2d(6, 6, 5, 1, 2, dilation=2, groups=6),
        nn.Conv2d(6, 12, 3, padding=1, groups=6),
        nn.Conv2d(6, 4, 3, padding=1, groups=2),
        nn.Conv2d(6, 9, 1, groups=3),
        nn.Sequential(nn.AdaptiveAvgPool2d((3, 3)), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU6()),
        nn.Sequential(nn.AdaptiveAvgPool2d((3, 3)), nn.Conv2d(6, 6, 3, 2, groups=6)),
        nn.Sequential(nn.AdaptiveAvgPool2d((3, 3)), nn.Conv2d(6, 4, 2, groups=2)),
    ]


def _fused() -> list[nn.Module]:
    """Activations and sums behind convolutions of large and of small images, and where nothing can be fused."""
    activations = (nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.Hardsigmoid(), nn.Hardswish())
    large = [nn.Sequential(nn.Conv2d(6, 5, 3, padding=1), activation) for activation in activations]
    small = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 5, 1), activation) for activation in activations]
    return [
        *large,
        *small,
        *activations,
        Residual(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()),
        Residual(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Hardswish()),
        Residual(nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU()), nn.Tanh()),
        Residual(nn.Identity(), nn.ReLU6()),
        Residual(nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))),
        nn.Sequential(nn.AdaptiveAvgPool2d((3, 3)), Residual(nn.Conv2d(6, 6, 3, padding=1), nn.SiLU())),
        Function(lambda inputs: inputs * 0.5 + 2),
    ]


def _others() -> list[nn.Module]:
    return [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d((1, 3), (1, 2), ceil_mode=True),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveMaxPool2d(1),
        nn.AdaptiveMaxPool2d((3, 2)),
        ChannelPlacement.centred(6, 12, 2),
        ChannelPlacement(6, [3, -1, 0, 0, -1], 3),
        ChannelPlacement(6, [5, 4]),
        nn.ZeroPad2d((1, 2, 0, 3)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 17), nn.Softmax(1)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 17), nn.LogSoftmax(-1)),
        nn.Sequential(nn.Flatten(), nn.Linear(6 * 9 * 12, 7), nn.ReLU(), nn.Linear(7, 33), nn.BatchNorm1d(33)),
        Function(lambda inputs: inputs.mean((2, 3))),
        Function(lambda inputs: inputs[:, :, -3:, 1:9:2]),
        Function(lambda inputs: torch.fake_quantize_per_tensor_affine(inputs, 0.05, 120, 0, 255)),
        Function(lambda inputs: torch.fake_quantize_per_tensor_affine(inputs, 0.3, 0, -8, 7)),
    ]


@on_each_instruction_set
def test_kernels_strides_paddings_and_dilations(compiler: Compiler, isa: str) -> None:
    torch.manual_seed(0)
    module, inputs = Branches(_kernels()), torch.randn(2, 3, 9, 17)
    found = compiler.network(module, inputs, isa)(inputs)
    assert errors(module, inputs, found) == {}


@on_each_instruction_set
def test_ragged_images(compiler: Compiler, isa: str) -> None:
    """Widths around whole vectors, single pixels and single rows; batches."""
    torch.manual_seed(1)
    module, inputs = _Sizes([1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33]), torch.randn(8, 3, 17, 33)
    network = compiler.network(module, inputs, isa)
    for batch in (1, 2, 8):
        assert error(network(inputs[:batch]), expected(module, inputs[:batch])) <= TOLERANCE


@on_each_instruction_set
def test_groups_activations_and_sums(compiler: Compiler, isa: str) -> None:
    torch.manual_seed(2)
    module, inputs = randomised(Branches([*_grouped(), *_fused()])), 3 * torch.randn(2, 6, 9, 12)
    found = compiler.network(module, inputs, isa)(inputs)
    assert errors(module, inputs, found) == {}


@on_each_instruction_set
def test_what_is_no_convolution(compiler: Compiler, isa: str) -> None:
    torch.manual_seed(3)
    module, inputs = randomised(Branches(_others())), torch.randn(2, 6, 9, 12)
    found = compiler.network(module, inputs, isa)(inputs)
    assert errors(module, inputs, found) == {}


@pytest.mark.parametrize("steps", [1, 7, 40])
def test_signals(compiler: Compiler, steps: int) -> None:
    torch.manual_seed(5)
    branches = [
        nn.Conv1d(5, steps, 3, padding=1),
        nn.Conv1d(5, 6, 5, 2, 2, groups=1),
        nn.Sequential(nn.ReLU(), nn.Conv1d(5, 5, 3, padding=2, dilation=2, groups=5), nn.BatchNorm1d(5)),
        nn.Sequential(nn.AvgPool1d(3, 1, 1), nn.MaxPool1d(1), nn.AdaptiveAvgPool1d(1)),
        nn.Sequential(nn.Conv1d(5, 4, 1), nn.Flatten(), nn.Linear(4 * steps, 3)),
        Function(lambda inputs: inputs.transpose(1, 2).transpose(1, 2).mean(2)),
    ]
    module, inputs = randomised(Branches(branches)), torch.randn(3, 5, steps)
    assert errors(module, inputs, compiler.network(module, inputs)(inputs)) == {}


def test_a_signal_with_as_many_steps_as_channels_keeps_its_order(compiler: Compiler) -> None:
    torch.manual_seed(6)
    module, inputs = nn.Conv1d(5, 8, 3, padding=1), torch.randn(2, 5, 8)
    assert error(compiler.network(module, inputs)(inputs), expected(module, inputs)) <= TOLERANCE


@pytest.mark.parametrize("module", [nn.Identity(), nn.MaxPool2d(2), nn.ReLU()])
def test_networks_without_weights(compiler: Compiler, module: nn.Module) -> None:
    inputs = torch.randn(2, 3, 4, 6)
    assert torch.equal(compiler.network(module, inputs)(inputs), module(inputs))
