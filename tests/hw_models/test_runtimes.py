"""The engines: every kind of operator runs, networks give the same outputs."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from espalier.errors import ModelError
from espalier.graph.opspec import KINDS, OpSpec
from espalier.graph.trace import trace
from espalier.hw_models.runtimes import onnx_export
from espalier.hw_models.runtimes.onnx_builders import operator_model
from espalier.hw_models.runtimes.onnx_export import export_onnx
from espalier.hw_models.runtimes.onnx_layout import without_reorders
from espalier.hw_models.runtimes.pytorch import PyTorchRuntime, single_operator
from espalier.hw_models.runtimes.runtime import make_runtime, missing_modules
from espalier.tasks.models.resnet import CifarResNet
from torch import Tensor, nn

from tests.conftest import Small

_IMAGE = (16, 8, 8)
_SPECS = [
    OpSpec("conv2d", _IMAGE, (24, 8, 8), (3, 3), padding=(1, 1), bias=True, activation="relu"),
    OpSpec("conv2d", (3, 9, 9), (5, 4, 4), (3, 3), (2, 2), bias=False),
    OpSpec("conv2d", _IMAGE, _IMAGE, (3, 3), padding=(2, 2), dilation=(2, 2), groups=16),
    OpSpec("conv2d", _IMAGE, (24, 8, 8), (3, 3), padding=(1, 1), bias=True, bits=8),
    OpSpec("conv2d", _IMAGE, (24, 8, 8), (3, 3), padding=(1, 1), bias=True, bits=8, activation="relu"),
    OpSpec("conv_transpose2d", _IMAGE, (8, 16, 16), (2, 2), (2, 2), bias=True),
    OpSpec("linear", (33,), (10,), bias=True, activation="relu6"),
    OpSpec("linear", (33,), (10,), bias=True, bits=8),
    OpSpec("linear", (7, 33), (7, 10), bias=True),
    OpSpec("matmul", (4, 6, 5), (4, 6, 3)),
    OpSpec("gru", (7, 5), (7, 6), bias=True),
    OpSpec("lstm", (7, 5), (7, 12), groups=2),
    OpSpec("batch_norm", _IMAGE, _IMAGE),
    *(OpSpec("activation", _IMAGE, _IMAGE, activation=name) for name in ("relu", "silu", "gelu", "sigmoid")),
    OpSpec("elementwise", _IMAGE, _IMAGE),
    OpSpec("add", _IMAGE, _IMAGE, n_inputs=3),
    OpSpec("concat", (5, 8, 8), _IMAGE, n_inputs=3),
    OpSpec("gather", _IMAGE, _IMAGE),
    OpSpec("gather", _IMAGE, (16, 4, 4)),
    OpSpec("gather", _IMAGE, (32, 8, 8)),
    OpSpec("max_pool2d", _IMAGE, (16, 4, 4), (2, 2), (2, 2)),
    OpSpec("avg_pool2d", _IMAGE, (16, 4, 4), (2, 2), (2, 2)),
    OpSpec("global_avg_pool2d", _IMAGE, (16, 1, 1)),
    OpSpec("softmax", (10,), (10,)),
    OpSpec("quantize", _IMAGE, _IMAGE),
    OpSpec("quantize", (33,), (33,)),
    OpSpec("dequantize", _IMAGE, _IMAGE),
    OpSpec("other", _IMAGE, _IMAGE),
]


def test_the_list_covers_every_kind() -> None:
    assert {spec.kind for spec in _SPECS} == set(KINDS) - {"reshape"}


_NEEDS_OPENVINO = pytest.mark.skipif(bool(missing_modules("openvino")), reason="needs the extra 'openvino'")
_ENGINES = ["onnxruntime", "torch", pytest.param("openvino", marks=_NEEDS_OPENVINO)]


@pytest.mark.parametrize("spec", _SPECS, ids=lambda spec: spec.key)
@pytest.mark.parametrize("runtime", _ENGINES)
def test_every_operator_runs_with_the_shapes_it_states(spec: OpSpec, runtime: str) -> None:
    make_runtime(runtime, 1).operator(spec)()
    model, feeds = operator_model(spec)
    (output,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    if spec.kind not in ("quantize", "dequantize"):
        assert output.shape == (1, *spec.output_shape)
    module, inputs = single_operator(spec)
    with torch.inference_mode():
        assert tuple(module(*inputs).shape) == (1, *spec.output_shape)


def test_layout_changes_are_stripped_from_what_is_timed() -> None:
    model, feeds = operator_model(_SPECS[0])
    stripped, inner = without_reorders(model.SerializeToString(), feeds, 1)
    kinds = {node.op_type for node in onnx.load_from_string(stripped).graph.node}
    assert kinds == {"Conv"}
    assert [values.shape for values in inner.values()] == [(1, 16, 8, 8)]


def test_integer_convolutions_really_run_in_integers() -> None:
    model, _ = operator_model(_SPECS[3])
    stripped, feeds = without_reorders(model.SerializeToString(), {"x0": np.zeros((1, 16, 8, 8), np.uint8)}, 1)
    kinds = {node.op_type for node in onnx.load_from_string(stripped).graph.node}
    assert kinds == {"QLinearConv"}
    assert all(values.dtype == np.uint8 for values in feeds.values())


@pytest.mark.parametrize("name", _ENGINES)
def test_networks_give_the_same_outputs(small: Small, name: str) -> None:
    runtime = make_runtime(name, 1)
    rng = np.random.default_rng(1)
    space = small.survey.space
    inputs = small.task.search.inputs(slice(0, 6))
    for _ in range(4):
        network = small.evaluator.network(space.plan(space.random(rng)))
        executable = runtime.network(network, small.task.example_input)
        executable()
        assert torch.allclose(executable.outputs(inputs), network(inputs), rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("name", _ENGINES)
def test_the_calls_overhead_is_measured_on_trivial_operators(name: str) -> None:
    runtime = make_runtime(name, 1)
    one, many, extra = runtime.call_overhead()
    one()
    many()
    assert extra >= 10
    assert set(runtime.versions()) == {name}


class _Permuted(nn.Module):
    """A permutation that is not its own inverse, and a convolution after it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([6, 7, 2, 1, 4, 5, 3, 0]))
        self.conv = nn.Conv2d(8, 4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.conv(inputs.index_select(1, self.order).relu())
        return outputs


@pytest.mark.parametrize("name", _ENGINES)
def test_permuted_channels_arrive_in_their_order(name: str) -> None:
    """OpenVINO alone would apply the inverse."""
    network, inputs = _Permuted().eval(), torch.rand(1, 8, 4, 4)
    outputs = make_runtime(name, 1).network(network, inputs).outputs(inputs)
    assert torch.allclose(outputs, network(inputs), atol=1e-5)


@_NEEDS_OPENVINO
@pytest.mark.parametrize("spec", [_SPECS[0], _SPECS[2], _SPECS[3]], ids=lambda spec: spec.key)
def test_openvino_computes_in_the_numbers_of_the_descriptor(spec: OpSpec) -> None:
    """What the plug-in says it executes."""
    request = make_runtime("openvino", 1).operator(spec)
    nodes = [node.get_rt_info() for node in request._request.get_compiled_model().get_runtime_model().get_ops()]
    (convolution,) = (node for node in nodes if node["layerType"].astype(str) == "Convolution")
    assert convolution["runtimePrecision"].astype(str) == ("u8" if spec.bits == 8 else "f32")


@_NEEDS_OPENVINO
@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_has_the_threads_it_is_given(threads: int) -> None:
    request = make_runtime("openvino", threads).operator(_SPECS[0])
    assert request._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == threads


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    PyTorchRuntime(threads=before + 1).operator(OpSpec("linear", (4,), (4,)))()
    assert torch.get_num_threads() == before


def test_export_is_quiet_and_right(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, example = CifarResNet(20).eval(), torch.rand(1, 3, 32, 32)
    export_onnx(model, example, tmp_path / "m.onnx")
    assert "".join(capfd.readouterr()) == ""
    (output,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"inputs": example.numpy()})
    assert np.allclose(output, model(example).detach().numpy(), atol=1e-4)
    assert trace(model, example).macs > 0


def test_translations_are_parsed_once_where_pytorch_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interface = import_module("torch.onnx._internal.exporter._registration").onnxscript_apis
    really, calls = interface.get_torchlib_ops, []

    def parse() -> Any:
        calls.append(len(calls))
        return really()

    monkeypatch.setattr(interface, "get_torchlib_ops", parse)
    files = []
    for number in range(3):
        if number == 2:  # a PyTorch that keeps them elsewhere
            monkeypatch.setattr(onnx_export, "import_module", lambda name: import_module(f"{name}_elsewhere"))
        export_onnx(nn.Linear(3, 2).eval(), torch.rand(1, 3), tmp_path / f"{number}.onnx")
        files.append(onnx.load(tmp_path / f"{number}.onnx").graph.node)
        assert len(calls) == (1, 1, 2)[number]
        assert interface.get_torchlib_ops is parse
    assert files[0] == files[1] == files[2]


class _NoOnnx(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.sum() > 0:
            return inputs
        return -inputs


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be exported to ONNX"):
        export_onnx(_NoOnnx(), torch.rand(1, 3), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
