"""Tracing, against what PyTorch itself executes."""

from typing import Any

import pytest
import torch
from espalier.errors import ModelError
from espalier.graph.coupling import couplings, producers
from espalier.graph.fusion import fuse, with_activation
from espalier.graph.graph import INPUT, Graph
from espalier.graph.memory import peak_activation_bytes, weight_bytes
from espalier.graph.opspec import OpSpec
from espalier.graph.trace import trace
from espalier.tasks.models.lenet import LeNet5
from espalier.tasks.models.resnet import CifarResNet
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


class Branches(nn.Module):
    """Concatenation, addition, grouped and depthwise convolutions, a multiplication."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Conv2d(3, 8, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.shortcut = nn.Conv2d(16, 16, 1)
        self.gate = nn.Conv2d(16, 16, 1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        both = torch.cat([self.left(inputs), functional.relu(self.right(inputs))], 1)
        mixed = self.grouped(self.depthwise(both)) + self.shortcut(both)
        gated = self.norm(mixed) * torch.sigmoid(self.gate(mixed))
        pooled = functional.adaptive_avg_pool2d(functional.max_pool2d(gated, 2), 1)
        return self.head(torch.flatten(pooled, 1))


class DataDependent(nn.Module):
    """fx cannot follow a Python branch on a shape-dependent float; export can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.conv(inputs)
        count = 0
        for _ in range(int(features.shape[2])):  # fx has no number here
            count += 1
        return self.head(features.mean((2, 3)) * count)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.sum() > 0:
            return self.head(inputs)
        return self.head(-inputs)


def _flops(model: nn.Module, example: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(example)
    return int(counter.get_total_flops())


@pytest.mark.parametrize(
    ("model", "shape"),
    [(LeNet5(), (1, 1, 28, 28)), (CifarResNet(20), (1, 3, 32, 32)), (Branches(), (1, 3, 8, 8))],
    ids=["lenet", "resnet", "branches"],
)
def test_macs_and_parameters_equal_pytorchs_own_count(model: nn.Module, shape: tuple[int, ...]) -> None:
    example = torch.rand(shape)
    graph = trace(model, example)
    assert graph.front_end == "torch.fx"
    assert 2 * graph.macs == _flops(model, example)
    assert graph.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert graph[graph.output].output_shape == tuple(model.eval()(example).shape[1:])
    assert graph.input_shape == shape[1:]


def test_shapes_equal_what_the_layers_really_get() -> None:
    model = Branches().eval()
    seen: dict[str, tuple[int, ...]] = {}

    def hook(name: str) -> Any:
        def record(_: nn.Module, __: object, output: Tensor) -> None:
            seen[name] = tuple(output.shape[1:])

        return record

    for name, layer in model.named_children():
        layer.register_forward_hook(hook(name))
    graph = trace(model, torch.rand(1, 3, 8, 8))
    model(torch.rand(1, 3, 8, 8))
    for name, shape in seen.items():
        (operator,) = graph.calls(name)
        assert operator.output_shape == shape


def test_couplings_name_what_ties_layers() -> None:
    graph = trace(Branches(), torch.rand(1, 3, 8, 8))
    found = {(coupling.kind, frozenset(coupling.modules)) for coupling in couplings(graph)}
    assert ("concat", frozenset({"left", "right"})) in found
    assert ("add", frozenset({"grouped", "shortcut"})) in found
    assert any(kind == "depthwise" and "depthwise" in modules for kind, modules in found)
    assert any(kind == "grouped" and "grouped" in modules for kind, modules in found)
    assert any(kind == "multiply" and "gate" in modules for kind, modules in found)
    assert set(producers(graph, graph.calls("head")[0].name)) == {"grouped", "shortcut", "gate"}
    assert producers(graph, graph.calls("left")[0].name) == (INPUT,)


def test_export_takes_over_where_fx_fails() -> None:
    model, example = DataDependent(), torch.rand(1, 1, 6, 6)
    graph = trace(model, example)
    assert graph.front_end == "torch.export"
    assert 2 * graph.macs == _flops(model, example)
    assert {operator.module for operator in graph.operators if operator.module} >= {"conv", "head"}


def test_both_failing_names_the_construct() -> None:
    with pytest.raises(
        ModelError, match=r"Untraceable cannot be traced; torch\.fx stopped at `if inputs\.sum\(\) > 0:`"
    ):
        trace(Untraceable(), torch.rand(1, 4))


class Pair(nn.Module):
    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, inputs


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (Pair(), torch.rand(1, 4), "Pair returns a tuple, expected one tensor"),
        (nn.Linear(3, 2), torch.rand(1, 4), r"Linear fails on an input of shape \(1, 4\)"),
        (nn.Linear(3, 2), torch.rand(2, 3), "must have batch size 1"),
    ],
)
def test_unusable_models_are_refused(model: nn.Module, example: Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trace(model, example)


def test_tracing_leaves_the_mode_as_it_was() -> None:
    model = CifarResNet(20).train()
    trace(model, torch.rand(1, 3, 32, 32))
    assert model.training
    assert all(layer.training for layer in model.modules())


def test_fusion_finds_the_chains_nobody_else_reads() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Sigmoid())
    graph = trace(model, torch.rand(1, 1, 8, 8))
    fusion = fuse(graph)
    first, norm, relu, second, sigmoid = (operator.name for operator in graph.operators)
    assert fusion.batch_norm == {first: norm}
    assert fusion.activation == {first: relu}
    assert fusion.owner == {norm: first, relu: first}
    assert second not in fusion.activation
    assert sigmoid not in fusion.owner


def test_activations_merge_only_where_an_engine_merges_them() -> None:
    conv = OpSpec("conv2d", (1, 4, 4), (2, 4, 4))
    assert with_activation((conv,), "relu") == (conv.replace(activation="relu"),)
    assert [spec.kind for spec in with_activation((conv,), "sigmoid")] == ["conv2d", "activation"]
    assert with_activation((conv,), "") == (conv,)


def _brute_force_peak(graph: Graph) -> int:
    """Every tensor lives from the step that makes it to the last step that reads it; views are no tensors.

    An operator of several specs takes as many steps, all of which hold what the operator reads.
    """
    source = {INPUT: INPUT}
    for operator in graph.operators:
        source[operator.name] = source[operator.inputs[0]] if operator.kind == "reshape" else operator.name
    sizes = {INPUT: 4 * torch.Size(graph.input_shape).numel()}
    steps = [(operator, place) for operator in graph.operators for place in range(len(operator.specs))]
    born, dies = {INPUT: -1}, {source[graph.output]: len(steps)}
    for step, (operator, place) in enumerate(steps):
        is_last = place == len(operator.specs) - 1
        made = operator.name if is_last else f"{operator.name}, {place}"
        if operator.kind != "reshape":
            sizes[made], born[made] = operator.specs[place].output_bytes, step
        if not is_last:
            dies[made] = step + 1
        for name in operator.inputs:
            dies[source[name]] = max(dies.get(source[name], step), step)
    return max(
        sum(size for name, size in sizes.items() if born[name] <= step <= dies.get(name, born[name]))
        for step in range(len(steps))
    )


@pytest.mark.parametrize("model", [CifarResNet(20), Branches()], ids=["resnet", "branches"])
def test_peak_memory_equals_brute_force(model: nn.Module) -> None:
    graph = trace(model, torch.rand(1, 3, 32, 32))
    assert peak_activation_bytes(graph.operators, graph.input_shape, graph.output) == _brute_force_peak(graph)
    specs = [spec for operator in graph.operators for spec in operator.specs]
    assert weight_bytes(specs) == 4 * sum(parameter.numel() for parameter in model.parameters())
