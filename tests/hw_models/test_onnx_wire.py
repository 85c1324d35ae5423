"""ONNX files changed without the onnx package, against the onnx package."""

import numpy as np
import onnx
import onnxruntime
import pytest
from espalier.graph.opspec import OpSpec
from espalier.hw_models.runner.weights import filled, hollow
from espalier.hw_models.runtimes.onnx_builders import operator_model
from espalier.hw_models.runtimes.onnx_layout import without_reorders
from espalier.hw_models.runtimes.onnx_wire import Field, graph_of, message, nodes_of, with_graph
from onnx import numpy_helper

_IMAGE = (16, 8, 8)
_CONV = OpSpec("conv2d", _IMAGE, (24, 8, 8), (3, 3), padding=(1, 1), bias=True, activation="relu")
_SPECS = [_CONV, _CONV.replace(bits=8), OpSpec("linear", (40,), (300,), bias=True), OpSpec("gather", _IMAGE, _IMAGE)]


@pytest.mark.parametrize("spec", _SPECS, ids=lambda spec: spec.key)
def test_what_is_not_changed_stays(spec: OpSpec) -> None:
    model, _ = operator_model(spec)
    data = model.SerializeToString()
    again = onnx.load_from_string(with_graph(data, graph_of(data)))
    assert again == model
    nodes = [(node.op_type, tuple(node.input), tuple(node.output)) for node in model.graph.node]
    assert [(node.op_type, node.inputs, node.outputs) for node in nodes_of(graph_of(data))] == nodes


@pytest.mark.parametrize("spec", _SPECS, ids=lambda spec: spec.key)
def test_only_the_values_of_large_weights_are_left_out_and_come_back(spec: OpSpec) -> None:
    model, feeds = operator_model(spec)
    small = hollow(model.SerializeToString())
    restored = onnx.load_from_string(filled(small))
    assert len(small) < 3000
    for before, after in zip(model.graph.initializer, restored.graph.initializer, strict=True):
        old, new = numpy_helper.to_array(before), numpy_helper.to_array(after)
        assert (old.shape, old.dtype, before.name) == (new.shape, new.dtype, after.name)
        if old.ndim >= 2:
            assert new.std() == pytest.approx(old.std(), rel=0.2)
        else:
            assert np.array_equal(old, new)
    session = onnxruntime.InferenceSession(restored.SerializeToString())
    assert session.run(None, feeds)[0].shape == (1, *spec.output_shape)


def test_the_inner_operator_computes_the_same() -> None:
    """The blocked output, un-blocked by hand, is the plain one."""
    model, feeds = operator_model(_CONV)
    (plain,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    inner, inner_feeds = without_reorders(model.SerializeToString(), feeds, 1)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (blocked,) = onnxruntime.InferenceSession(inner, options).run(None, inner_feeds)
    if blocked.shape == plain.shape and np.allclose(blocked, plain, atol=1e-5):
        pytest.skip("this processor computes convolutions in the plain layout")
    block = next(size for size in (8, 16, 32) if blocked.shape[1] == -(-24 // size) * size)
    rows = blocked.reshape(-1, 8, 8, block).transpose(0, 3, 1, 2).reshape(-1, 8, 8)
    assert np.allclose(rows[:24], plain[0], atol=1e-5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\x0a\x05ab", "truncated"), (b"\x0a", "truncated"), (b"\xff", "truncated"), (b"\x0b", "unknown wire type 3")],
)
def test_what_is_no_message_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        message(data)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="has no graph"):
        graph_of(b"\x08\x01")
    with pytest.raises(ValueError, match="field 3 is a number, expected bytes"):
        _ = Field(3, 0, 5).content
    assert message(b"\x0d\x01\x02\x03\x04") == [Field(1, 5, b"\x01\x02\x03\x04")]
    assert Field(1, 5, b"\x01\x02\x03\x04").encoded() == b"\x0d\x01\x02\x03\x04"
