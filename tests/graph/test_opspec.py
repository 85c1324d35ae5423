"""The operator descriptor."""

import json

import pytest
import torch
from espalier.errors import FormatError
from espalier.graph.opspec import OpSpec
from torch import nn


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_convolution_costs_equal_a_count_by_hand(groups: int) -> None:
    layer = nn.Conv2d(8, 16, (3, 5), stride=(2, 1), padding=(1, 2), groups=groups)
    output = layer(torch.zeros(1, 8, 10, 12))
    spec = OpSpec("conv2d", (8, 10, 12), tuple(output.shape[1:]), (3, 5), (2, 1), (1, 2), groups=groups, bias=True)
    macs = sum(3 * 5 * (8 // groups) for _ in range(16) for _ in range(output.shape[2]) for _ in range(output.shape[3]))
    assert spec.macs == macs
    assert spec.weights == layer.weight.numel()
    assert spec.parameters == layer.weight.numel() + 16
    assert spec.weight_bytes == 4 * spec.parameters
    assert spec.input_bytes == 8 * 10 * 12 * 4
    assert spec.output_bytes == output.numel() * 4


def test_transposed_convolution_matmul_linear_and_batch_norm() -> None:
    layer = nn.ConvTranspose2d(4, 6, 2, stride=2)
    spec = OpSpec("conv_transpose2d", (4, 5, 5), (6, 10, 10), (2, 2), (2, 2), bias=True)
    assert layer(torch.zeros(1, 4, 5, 5)).shape[1:] == spec.output_shape
    assert (spec.weights, spec.macs) == (layer.weight.numel(), 4 * 5 * 5 * 6 * 4)
    linear = OpSpec("linear", (7, 3), (7, 5), bias=True)
    assert (linear.macs, linear.weights, linear.parameters) == (7 * 3 * 5, 15, 20)
    assert OpSpec("matmul", (4, 6), (4, 9)).macs == 4 * 6 * 9
    assert OpSpec("batch_norm", (5, 2, 2), (5, 2, 2), bias=True).parameters == 10


def test_integers_travel_in_bytes() -> None:
    conv = OpSpec("conv2d", (8, 4, 4), (16, 4, 4), bias=True, bits=8)
    assert conv.weight_bytes == 8 * 16 + 4 * 16
    assert (conv.input_bytes, conv.output_bytes) == (8 * 16, 16 * 16)
    quantize = OpSpec("quantize", (8, 4, 4), (8, 4, 4))
    assert (quantize.input_bytes, quantize.output_bytes) == (8 * 16 * 4, 8 * 16)
    dequantize = OpSpec("dequantize", (8, 4, 4), (8, 4, 4))
    assert (dequantize.input_bytes, dequantize.output_bytes) == (8 * 16, 8 * 16 * 4)


def test_concat_reads_what_it_writes() -> None:
    assert OpSpec("concat", (3, 2, 2), (8, 2, 2), n_inputs=2).input_bytes == 8 * 4 * 4


def test_keys_are_unique_and_dictionaries_round_trip() -> None:
    base = OpSpec("conv2d", (8, 4, 4), (8, 4, 4), (3, 3), padding=(1, 1))
    variants = [
        base,
        base.replace(stride=(2, 2)),
        base.replace(padding=(0, 0)),
        base.replace(dilation=(2, 2)),
        base.replace(groups=8),
        base.replace(bias=True),
        base.replace(bits=8),
        base.replace(activation="relu"),
        base.replace(sparsity="bcr"),
        base.replace(n_inputs=2),
    ]
    assert len({spec.key for spec in variants}) == len(variants)
    for spec in variants:
        assert OpSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_narrowing_keeps_depthwise_depthwise() -> None:
    depthwise = OpSpec("conv2d", (8, 4, 4), (8, 4, 4), (3, 3), groups=8)
    assert depthwise.narrowed(5, 5).groups == 5
    assert OpSpec("conv2d", (8, 4, 4), (6, 4, 4)).narrowed(3, 2).macs == 3 * 2 * 16


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "must be an object, got list"),
        ({"kind": "conv2d", "colour": 1}, "unknown attributes"),
        ({"kind": "conv3d", "input_shape": [1], "output_shape": [1]}, "unknown operator kind 'conv3d'"),
        ({"kind": "add", "input_shape": "x", "output_shape": [1]}, "must be a list of whole numbers"),
        ({"kind": "add", "input_shape": [1], "output_shape": [-1]}, "must be a list of whole numbers"),
        ({"kind": "add", "input_shape": [1], "output_shape": [1], "bias": 1}, "bias must be of type bool"),
        ({"kind": "add", "input_shape": [1], "output_shape": [1], "kernel": [3]}, "kernel must be"),
        ({"kind": "add"}, "bad operator descriptor"),
    ],
)
def test_bad_descriptors_are_refused(values: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        OpSpec.from_dict(values)
