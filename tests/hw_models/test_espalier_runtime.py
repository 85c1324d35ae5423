"""The engine of our own: operators timed without copies, zeros that are skipped, devices that do not skip them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.compression.assembly import assemble
from espalier.compression.layers import StoredLayer
from espalier.compression.realised import Realiser
from espalier.compression.techniques import BcrPruning
from espalier.errors import EspalierError
from espalier.files import cache_folder
from espalier.graph.opspec import OpSpec
from espalier.graph.sparsity import BlockSparsity
from espalier.hw_models.calibrated_device import CalibratedDevice
from espalier.hw_models.cost import HardwareModel
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.roofline import Roofline
from espalier.hw_models.runtimes.espalier_runtime import EspalierRuntime
from espalier.hw_models.runtimes.operator_networks import chain_network, operator_network
from espalier.hw_models.table_device import TableDevice
from espalier.hw_models.tables.table import Entry, LookupTable
from espalier.kernels.compiler.emit.network import emit_network
from espalier.kernels.compiler.ir import Convolution, Recurrent
from espalier.kernels.engine import CompiledNetwork
from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.library_cache import LibraryCache
from espalier.kernels.toolchain import find_toolchain
from espalier.tasks.models.recurrent import RecurrentClassifier
from numpy.typing import NDArray
from torch import nn

from tests.compression.conftest import make_case

_DENSE = OpSpec("conv2d", (48, 12, 12), (64, 12, 12), (3, 3), padding=(1, 1), bias=True)
_SPARSE = _DENSE.replace(sparsity="bcr:32x144:8.0:r8")

_OPERATORS = [
    _DENSE,
    _SPARSE,
    _DENSE.replace(stride=(2, 2), output_shape=(64, 6, 6), activation="relu"),
    OpSpec("conv2d", (48, 12, 12), (48, 12, 12), (3, 3), padding=(1, 1), groups=48),
    OpSpec("conv2d", (8, 1, 30), (16, 1, 30), (1, 3), padding=(0, 1), bias=True, bits=8),
    OpSpec("linear", (64,), (10,), bias=True),
    OpSpec("linear", (7, 24), (7, 12)),
    OpSpec("gru", (5, 24), (5, 32), bias=True, sparsity="bcr:16x16:4.0:r8"),
    OpSpec("lstm", (5, 24), (5, 32), bias=True, groups=2),
    OpSpec("batch_norm", (8, 6, 6), (8, 6, 6)),
    OpSpec("activation", (8, 6, 6), (8, 6, 6), activation="gelu"),
    OpSpec("elementwise", (8, 30), (8, 30)),
    OpSpec("add", (8, 6, 6), (8, 6, 6), n_inputs=2, activation="relu"),
    OpSpec("concat", (8, 6, 6), (20, 6, 6), n_inputs=2),
    OpSpec("gather", (8, 6, 6), (16, 3, 3)),
    OpSpec("gather", (8, 6, 6), (8, 8, 8)),
    OpSpec("max_pool2d", (8, 6, 6), (8, 3, 3), (2, 2), (2, 2)),
    OpSpec("avg_pool2d", (8, 6, 6), (8, 6, 6), (3, 3), padding=(1, 1)),
    OpSpec("global_avg_pool2d", (8, 6, 6), (8,)),
    OpSpec("softmax", (10,), (10,)),
    OpSpec("quantize", (8, 6, 6), (8, 6, 6)),
    OpSpec("dequantize", (8, 6, 6), (8, 6, 6)),
]


@pytest.fixture(scope="module")
def runtime() -> EspalierRuntime:
    return EspalierRuntime()


def test_a_sparsity_is_written_and_read() -> None:
    sparsity = BlockSparsity(32, 144, 8.0, 12)
    assert sparsity.text == "bcr:32x144:8.0:r12"
    assert BlockSparsity.parse(sparsity.text) == sparsity
    alike = BlockSparsity(32, 144, 8.0, 12, gates=3)
    assert alike.text == "bcr:32x144:8.0:r12:g3"
    assert BlockSparsity.parse(alike.text) == alike
    wrong = ("", "2:4", "bcr:32x144:8.0", "bcr:0x144:8.0:r12", "bcr:32x144:0.5:r1", "bcr:32x144:8.0:r12 ")
    for text in (*wrong, "bcr:32x144:8.0:r12:g1", "bcr:32x144:8.0:r12:g"):
        assert BlockSparsity.parse(text) is None


def test_skipped_zeros_are_not_counted() -> None:
    assert _SPARSE.macs == _DENSE.macs / 8
    assert _SPARSE.weights == _DENSE.weights
    assert _SPARSE.weight_bytes == 4 * (_DENSE.weights / 8 + 64)
    assert _SPARSE.dense == _DENSE
    assert _SPARSE.key == f"{_DENSE.key}:z-bcr:32x144:8.0:r8"
    assert OpSpec.from_dict(_SPARSE.to_dict()) == _SPARSE
    assert _DENSE.replace(sparsity="2:4").macs == _DENSE.macs, "of another structure nothing is known"


@pytest.mark.parametrize("spec", _OPERATORS, ids=lambda spec: spec.key)
def test_every_operator_is_emitted(spec: OpSpec) -> None:
    if spec.kind != "dequantize":
        network = operator_network(spec)
        assert int(np.prod(network.output_shape)) == int(np.prod(spec.output_shape))
        assert emit_network(network, host_instruction_set()).c


def test_operators_run_and_more_work_takes_longer(runtime: EspalierRuntime) -> None:
    ops = [_DENSE, _SPARSE, *_OPERATORS[5:8]]
    assert sum(runtime.compile_ahead(ops)) == len(ops)
    assert sum(runtime.compile_ahead(ops)) == 0
    for call in map(runtime.operator, ops):
        call()
    device = ProfiledDevice(runtime="espalier", rounds=6)
    dense, sparse = (device.cost([op]).latency_ms.value - device.cost([]).latency_ms.value for op in (_DENSE, _SPARSE))
    assert 0 < 1.5 * sparse < dense


def test_random_blocks_keep_what_the_descriptor_says() -> None:
    layer = operator_network(_SPARSE).layers[0]
    assert isinstance(layer, Convolution)
    assert layer.blocks is not None
    assert layer.matrix.size / np.count_nonzero(layer.matrix) == pytest.approx(8, rel=0.05)
    assert {len(rows) for rows, _ in layer.blocks.rectangles()} == {8}
    ragged = operator_network(OpSpec("gru", (5, 25), (5, 33), sparsity="bcr:16x16:4.0:r8")).layers[0]
    assert isinstance(ragged, Recurrent)
    kept = np.count_nonzero(ragged.input_weight) + np.count_nonzero(ragged.state_weight)
    assert (ragged.input_weight.size + ragged.state_weight.size) / kept == pytest.approx(4, rel=0.15)


def test_gates_keep_the_same_where_the_descriptor_says_so() -> None:
    def gates(sparsity: str, hidden: int = 32) -> list[NDArray[np.bool_]]:
        layer = operator_network(OpSpec("gru", (5, 24), (5, hidden), sparsity=sparsity)).layers[0]
        assert isinstance(layer, Recurrent)
        return np.split(layer.state_weight != 0, 3)

    first, second, third = gates("bcr:16x16:4.0:r8:g3")
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)
    assert first.mean() == pytest.approx(1 / 4, rel=0.15)
    for ablated in (gates("bcr:16x16:4.0:r8"), gates("bcr:16x16:4.0:r8:g3", hidden=33)):
        assert not np.array_equal(ablated[0], ablated[1])


def test_operators_that_are_not_compiled_are_named() -> None:
    with pytest.raises(EspalierError, match="runtime=espalier does not compile operators like matmul:i4x4:o4x4"):
        operator_network(OpSpec("matmul", (4, 4), (4, 4)))


def test_bare_layers_copy_neither_in_nor_out(tmp_path: Path) -> None:
    source = emit_network(chain_network(3), host_instruction_set(), is_bare=True)
    cache = LibraryCache(host_instruction_set(), find_toolchain())
    (tmp_path / "w").write_bytes(source.weights)
    out = np.full((1, 1, 1, 1), 7.0, np.float32)
    CompiledNetwork(cache.library(source), tmp_path / "w")(np.ones((1, 1, 1, 1), np.float32), out)
    assert out.item() == 7.0


@pytest.mark.parametrize("kind", ["conv2d", "activation", "linear"])
def test_bare_layers_leave_out_nothing_else(kind: str) -> None:
    shape = (6,) if kind == "linear" else (4, 20, 20)
    spec = OpSpec(kind, shape, shape, kernel=(3, 3), padding=(1, 1)) if kind == "conv2d" else OpSpec(kind, shape, shape)
    spec = spec.replace(activation="relu") if kind == "activation" else spec
    source = emit_network(operator_network(spec), host_instruction_set(), is_bare=True)
    assert source.owners == ("operator",)
    assert source.c.count("  layer_0(n, t);") == 1


def test_libraries_are_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path))
    source = emit_network(chain_network(2), host_instruction_set())
    path = LibraryCache(host_instruction_set(), find_toolchain()).library(source)
    assert path.parent == cache_folder() / "compiled"
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.setattr("subprocess.run", None)
    toolchain = find_toolchain()
    monkeypatch.setattr(type(toolchain), "version", "another")
    cache = LibraryCache(host_instruction_set(), toolchain)
    assert cache.path(source) != path
    with pytest.raises(TypeError):
        cache.library(source)
    assert list(path.parent.iterdir()) == [path]


def test_whole_networks_give_what_pytorch_gives(runtime: EspalierRuntime) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    inputs = torch.randn(5, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    made = runtime.network(network, inputs[:1])
    with torch.no_grad():
        assert torch.allclose(made.outputs(inputs), network(inputs), atol=1e-5)
        assert torch.allclose(torch.as_tensor(made()), network(inputs[:1]), atol=1e-5)


@pytest.fixture(scope="module")
def pruned() -> tuple[object, object]:
    """A recurrent network with BCR pruning as its only technique, and the plan that prunes it most."""
    torch.manual_seed(0)
    technique = BcrPruning(rates=(2.0, 4.0), block_rows=16, block_columns=8)
    case = make_case(RecurrentClassifier(n_features=24, hidden=32), torch.randn(32, 5, 24), [technique])
    return case, case.survey.space.plan([len(choices) - 1 for choices in case.survey.space.choices])


def test_pruned_layers_say_what_an_engine_can_skip(pruned: tuple[object, object]) -> None:
    case, plan = pruned
    specs = [Realiser(case.survey.graph, case.survey.fusion, case.bank, skips).specs(plan) for skips in (False, True)]
    gru = next(spec for spec in specs[1] if spec.kind == "gru")
    sparsity = BlockSparsity.parse(gru.sparsity)
    assert sparsity is not None
    assert (sparsity.block_rows, sparsity.block_columns) == (16, 8)
    assert sparsity.rate == pytest.approx(4, abs=0.3)
    layer = next(one for one in assemble(case.model, plan, case.bank).modules() if isinstance(one, StoredLayer))
    kept = sum(int((tensor != 0).sum()) for name, tensor in layer.tensors().items() if name.startswith("weight"))
    assert gru.macs == pytest.approx(5 * kept, rel=0.02)
    assert [spec.dense for spec in specs[1]] == list(specs[0])
    assert not any(spec.sparsity for spec in specs[0])


def _table(path: Path, *specs: OpSpec) -> TableDevice:
    table = LookupTable("board", "engine, 1 thread", {}, "chip")
    for number, spec in enumerate(specs):
        table.add(Entry(spec, 1.0 + number, 0.0, 1))
    table.save(path)
    return TableDevice(str(path))


def test_devices_that_skip_nothing_count_the_dense_operator(tmp_path: Path) -> None:
    devices: list[HardwareModel] = [
        Roofline("toy", 10.0, 2.0, 1.0),
        CalibratedDevice("board", 0.1, {"conv2d_3x3": {"mmacs": 0.1}}, {"read_mb": 0.01}, 0.1),
        ProfiledDevice(runtime="torch", rounds=3, table=str(tmp_path / "torch.json")),
        _table(tmp_path / "dense.json", _DENSE),
    ]
    for device in devices:
        device.prepare([_SPARSE])
        assert not getattr(device, "skips_blocks", False)
        assert device.cost([_SPARSE]) == device.cost([_DENSE]), device.name


def test_tables_of_an_engine_that_skips_know_both(tmp_path: Path) -> None:
    device = _table(tmp_path / "both.json", _DENSE, _SPARSE)
    assert device.skips_blocks
    other = _DENSE.replace(sparsity="bcr:32x144:4.0:r8")
    latencies = [device.cost([op]).latency_ms.value for op in (_DENSE, _SPARSE, other)]
    assert latencies == [1.0, 2.0, 1.0], "what it lacks counts as dense"
