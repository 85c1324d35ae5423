"""oneDNN's integer kernels against whole-number arithmetic in float64."""

import pytest
import torch
from espalier.kernels.integer import IntegerConv2d, IntegerLinear, _rounded
from torch.nn import functional


@pytest.mark.parametrize(("groups", "stride", "channels"), [(1, 1, 8), (1, 2, 7), (8, 1, 8)])
def test_convolution_equals_exact_arithmetic(groups: int, stride: int, channels: int) -> None:
    torch.manual_seed(0)
    codes = torch.randint(-127, 128, (16, channels // groups, 3, 3), dtype=torch.int8)
    inputs = torch.randint(0, 256, (2, channels, 9, 7), dtype=torch.uint8)
    scale, bias, grid = torch.rand(16) * 0.01 + 0.001, torch.randn(16), (0.03, 7)
    layer = IntegerConv2d(
        codes,
        scale,
        bias,
        stride=(stride, stride),
        padding=(1, 1),
        dilation=(1, 1),
        groups=groups,
        input_grid=grid,
    )
    centred = inputs.double() - grid[1]
    sums = functional.conv2d(centred, codes.double(), None, stride, 1, 1, groups)
    expected = sums * grid[0] * scale.double().view(1, -1, 1, 1) + bias.double().view(1, -1, 1, 1)
    assert torch.allclose(layer.compute(inputs).double(), expected, rtol=1e-4, atol=1e-4)


def test_linear_equals_exact_arithmetic_and_rounds_to_its_output_grid() -> None:
    torch.manual_seed(0)
    codes = torch.randint(-127, 128, (10, 33), dtype=torch.int8)
    inputs = torch.rand(4, 33) * 6
    scale, bias, grid = torch.rand(10) * 0.01, torch.randn(10), (6 / 255, 0)
    rounded = (inputs / grid[0]).round().clamp(0, 255).double() * grid[0]
    expected = rounded @ (codes.double() * scale.double()[:, None]).T + bias.double()
    free = IntegerLinear(codes, scale, bias, input_grid=grid)
    assert torch.allclose(free(inputs).double(), expected, rtol=1e-4, atol=1e-4)
    step = float(expected.abs().max()) / 100
    gridded = IntegerLinear(codes, scale, bias, input_grid=grid, output_grid=(step, 128))
    assert (gridded(inputs).double() - expected).abs().max() <= step / 2 + 1e-4


@pytest.mark.parametrize("grid", [(0.05, 120), (0.3, 0), (1e-3, 255)])
def test_inputs_are_rounded_as_pytorch_does(grid: tuple[float, int]) -> None:
    inputs = torch.randn(7, 3, 5, 9, generator=torch.Generator().manual_seed(0))
    inputs.flatten()[:400] = (torch.arange(400) - 200.5) * grid[0]  # ties
    before = inputs.clone()
    expected = torch.ops.quantized_decomposed.quantize_per_tensor(inputs, *grid, 0, 255, torch.uint8)
    assert torch.equal(_rounded(inputs, grid), expected)
    assert torch.equal(inputs, before)


def test_inputs_of_eight_bits_are_rounded_as_the_numbers_they_are() -> None:
    inputs = (torch.randn(500, generator=torch.Generator().manual_seed(0)) * 3).bfloat16()
    assert torch.equal(_rounded(inputs, (0.03, 100)), _rounded(inputs.float(), (0.03, 100)))
