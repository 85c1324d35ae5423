"""Descriptors of layers and calls, against the layers themselves."""

import itertools

import pytest
import torch
from espalier.graph.describe import ACTIVATIONS, RESHAPES, SPLITS, call_spec, module_specs, output_shape, same_padding
from espalier.graph.opspec import KINDS, OpSpec
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def _spec(module: nn.Module, inputs: Tensor) -> OpSpec:
    output = module.eval()(inputs)
    (spec,) = module_specs(module, tuple(inputs.shape[1:]), tuple(output.shape[1:]))
    return spec


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 9, 3, groups=3),
        nn.Conv2d(6, 6, (3, 1), stride=(1, 2), padding=(1, 0), groups=6, bias=False),
        nn.Conv2d(6, 4, 3, padding="same", dilation=2),
        nn.Conv2d(6, 4, 3, padding="valid"),
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.Sequential(nn.Flatten(), nn.Linear(6 * 11 * 12, 5, bias=False))[1],
    ],
    ids=["grouped", "depthwise", "same", "valid", "transposed", "linear"],
)
def test_weighted_layers_cost_what_pytorch_counts(layer: nn.Module) -> None:
    inputs = torch.rand(1, 6 * 11 * 12) if isinstance(layer, nn.Linear) else torch.rand(1, 6, 11, 12)
    spec = _spec(layer, inputs)
    with FlopCounterMode(display=False) as counter:
        layer(inputs)
    assert 2 * spec.macs == counter.get_total_flops()
    assert spec.weights == layer.weight.numel()
    assert spec.parameters == sum(parameter.numel() for parameter in layer.parameters())
    assert spec.bias == (layer.bias is not None)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    list(itertools.product([(1, 1), (3, 5)], [(1, 1), (2, 3)], [(0, 0), (2, 1)], [(1, 1), (2, 1)])),
)
def test_output_shapes_equal_those_of_a_real_convolution(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    layer = nn.Conv2d(2, 5, kernel, stride, padding, dilation)
    spec = _spec(layer, torch.rand(1, 2, 9, 13))
    assert output_shape(spec, (2, 17, 14)) == tuple(layer(torch.rand(1, 2, 17, 14)).shape[1:])
    assert output_shape(OpSpec("linear", (7, 3), (7, 5)), (4, 3)) == (4, 5)


@pytest.mark.parametrize(("kernel", "dilation"), [((3, 3), (1, 1)), ((5, 1), (1, 1)), ((3, 5), (2, 3))])
def test_same_padding_keeps_the_size(kernel: tuple[int, int], dilation: tuple[int, int]) -> None:
    padding = same_padding(kernel, dilation)
    layer = nn.Conv2d(1, 1, kernel, padding=padding, dilation=dilation)
    assert layer(torch.zeros(1, 1, 15, 16)).shape == (1, 1, 15, 16)


@pytest.mark.parametrize("module_type", list(ACTIVATIONS), ids=lambda module_type: module_type.__name__)
def test_an_activation_has_one_name_as_a_layer_and_as_a_function(module_type: type[nn.Module]) -> None:
    spec = _spec(module_type(), torch.rand(1, 3, 4, 4))
    assert (spec.kind, spec.activation) == ("activation", ACTIVATIONS[module_type])
    assert call_spec(spec.activation, [(3, 4, 4)], (3, 4, 4)) == spec
    assert callable(getattr(nn.functional, spec.activation))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.MaxPool2d(2), OpSpec("max_pool2d", (4, 8, 8), (4, 4, 4), (2, 2), (2, 2))),
        (nn.MaxPool2d(3, 2, 1), OpSpec("max_pool2d", (4, 8, 8), (4, 4, 4), (3, 3), (2, 2), (1, 1))),
        (nn.AvgPool2d((2, 4)), OpSpec("avg_pool2d", (4, 8, 8), (4, 4, 2), (2, 4), (2, 4))),
        (nn.AdaptiveAvgPool2d(1), OpSpec("global_avg_pool2d", (4, 8, 8), (4, 1, 1))),
        (nn.AdaptiveAvgPool2d((4, 2)), OpSpec("avg_pool2d", (4, 8, 8), (4, 4, 2), (2, 4), (2, 4))),
        (nn.AdaptiveMaxPool2d(2), OpSpec("max_pool2d", (4, 8, 8), (4, 2, 2), (4, 4), (4, 4))),
        (nn.Flatten(), OpSpec("reshape", (4, 8, 8), (256,))),
        (nn.Unflatten(1, (2, 2)), OpSpec("reshape", (4, 8, 8), (2, 2, 8, 8))),
        (nn.Identity(), OpSpec("reshape", (4, 8, 8), (4, 8, 8))),
        (nn.Dropout(), OpSpec("reshape", (4, 8, 8), (4, 8, 8))),
        (nn.Softmax(1), OpSpec("softmax", (4, 8, 8), (4, 8, 8))),
        (nn.LogSoftmax(1), OpSpec("softmax", (4, 8, 8), (4, 8, 8))),
        (nn.BatchNorm2d(4), OpSpec("batch_norm", (4, 8, 8), (4, 8, 8), bias=True)),
        (nn.ChannelShuffle(2), OpSpec("other", (4, 8, 8), (4, 8, 8))),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_without_macs(layer: nn.Module, expected: OpSpec) -> None:
    spec = _spec(layer, torch.rand(1, 4, 8, 8))
    assert spec == expected
    assert spec.macs == 0


@pytest.mark.parametrize(
    ("name", "inputs", "kind"),
    [
        ("add", [(4, 2, 2), (4, 2, 2)], "add"),
        ("add", [(4, 2, 2)], "elementwise"),  # a constant is added
        ("rsub", [(4, 2, 2)], "elementwise"),
        ("mul", [(4, 2, 2), (4, 1, 1)], "elementwise"),
        ("cat", [(1, 2, 2), (3, 2, 2)], "concat"),
        ("select", [(4, 2, 2)], "gather"),
        ("never_heard_of", [], "other"),
    ],
)
def test_calls_by_name(name: str, inputs: list[tuple[int, ...]], kind: str) -> None:
    spec = call_spec(name, inputs, (4, 2, 2))
    assert (spec.kind, spec.n_inputs, spec.output_shape) == (kind, max(1, len(inputs)), (4, 2, 2))


def test_a_mean_over_the_image_is_global_pooling_and_another_mean_is_not() -> None:
    assert call_spec("mean", [(4, 8, 8)], (4,)).kind == "global_avg_pool2d"
    assert call_spec("mean", [(4, 8, 8)], (8, 8)).kind == "other"
    assert call_spec("mean", [(5, 8)], (8,)).kind == "other"


def test_no_call_is_of_two_sorts() -> None:
    assert not RESHAPES & set(SPLITS)
    assert not RESHAPES & set(ACTIVATIONS.values())
    assert all(call_spec(name, [(4, 2, 2)], (4, 2, 2)).kind == "reshape" for name in RESHAPES)
    assert "reshape" in KINDS
