"""The engines: every kind of operator runs, networks give the same outputs."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from espalier.errors import ModelError
from espalier.graph.opspec import KINDS, OpSpec
from espalier.graph.trace import trace
from espalier.hw_models.runtimes.onnx_builders import operator_model
from espalier.hw_models.runtimes.onnx_export import export_onnx
from espalier.hw_models.runtimes.onnx_runtime import OnnxRuntime
from espalier.hw_models.runtimes.pytorch import PyTorchRuntime, single_operator
from espalier.hw_models.runtimes.runtime import Runtime, make_runtime
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


@pytest.mark.parametrize("spec", _SPECS, ids=lambda spec: spec.key)
@pytest.mark.parametrize("runtime", [OnnxRuntime(), PyTorchRuntime()], ids=["onnxruntime", "torch"])
def test_every_operator_runs_with_the_shapes_it_states(spec: OpSpec, runtime: Runtime) -> None:
    runtime.operator(spec)()
    model, feeds = operator_model(spec)
    (output,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    if spec.kind not in ("quantize", "dequantize"):
        assert output.shape == (1, *spec.output_shape)
    module, inputs = single_operator(spec)
    with torch.inference_mode():
        assert tuple(module(*inputs).shape) == (1, *spec.output_shape)


def test_layout_changes_are_stripped_from_what_is_timed() -> None:
    runtime = OnnxRuntime()
    model, feeds = operator_model(_SPECS[0])
    stripped, inner = runtime._without_reorders(model, feeds)
    kinds = {node.op_type for node in onnx.load_from_string(stripped).graph.node}
    assert kinds == {"Conv"}
    assert [values.shape for values in inner.values()] == [(1, 16, 8, 8)]


def test_integer_convolutions_really_run_in_integers() -> None:
    model, _ = operator_model(_SPECS[3])
    stripped, feeds = OnnxRuntime()._without_reorders(model, {"x0": np.zeros((1, 16, 8, 8), np.uint8)})
    kinds = {node.op_type for node in onnx.load_from_string(stripped).graph.node}
    assert kinds == {"QLinearConv"}
    assert all(values.dtype == np.uint8 for values in feeds.values())


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
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


def test_the_calls_overhead_is_measured_on_trivial_operators() -> None:
    for runtime in (OnnxRuntime(), PyTorchRuntime()):
        one, many, extra = runtime.call_overhead()
        one()
        many()
        assert extra >= 10
        assert set(runtime.versions()) == {runtime.name}


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


class _NoOnnx(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.sum() > 0:
            return inputs
        return -inputs


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be exported to ONNX"):
        export_onnx(_NoOnnx(), torch.rand(1, 3), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
