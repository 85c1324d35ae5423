"""The two front ends: what each must read, and that they agree."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from espalier.errors import ModelError
from espalier.graph._export import trace_with_export
from espalier.graph._fx import trace_with_fx
from espalier.graph.coupling import couplings, producers
from espalier.graph.describe import module_specs
from espalier.graph.failure import describe_failure
from espalier.graph.graph import INPUT, Graph
from espalier.graph.memory import peak_activation_bytes
from espalier.graph.opspec import OpSpec, Shape
from espalier.graph.trace import trace
from espalier.tasks.models.lenet import LeNet5
from espalier.tasks.models.resnet import CifarResNet
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

FRONT_ENDS = pytest.mark.parametrize("front_end", [trace_with_fx, trace_with_export], ids=["fx", "export"])


class FunctionalWeights(nn.Module):
    """Convolutions and a linear map called as functions on the module's own parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.grouped = nn.Parameter(torch.rand(8, 2, 3, 3))
        self.bias = nn.Parameter(torch.rand(8))
        self.wide = nn.Parameter(torch.rand(6, 8, 3, 5))
        self.linear = nn.Parameter(torch.rand(5, 6))

    def forward(self, inputs: Tensor) -> Tensor:
        features = functional.conv2d(self.first(inputs), self.grouped, self.bias, stride=2, padding=(1, 1), groups=2)
        features = functional.conv2d(features, self.wide, padding="same", dilation=(2, 1))
        pooled = functional.avg_pool2d(features, kernel_size=2, stride=2)
        return functional.linear(pooled.mean((2, 3)), self.linear)


class SplitBranches(nn.Module):
    """Half of the channels go around the middle layer, as in ShuffleNet V2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        left, right = self.stem(inputs).chunk(2, 1)
        return self.head(torch.cat([left, self.middle(right)], 1))


class Sliced(nn.Module):
    """The size of a tensor, a view by it, a slice, an arithmetic method."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.view(inputs.size(0), -1)
        return self.head(1 - flat[:, :8].mul(2.0))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, 3, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.cells(inputs)[0]


class Doubling(nn.Module):
    """A layer that describes itself, with Python that no tracer could follow."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + inputs if float(inputs.sum()) == float(inputs.sum()) else inputs

    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        return (OpSpec("quantize", input_shape, input_shape), OpSpec("add", input_shape, input_shape, n_inputs=2))


def _flops(model: nn.Module, example: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(example)
    return int(counter.get_total_flops())


def _peak(graph: Graph) -> int:
    return peak_activation_bytes(graph.operators, graph.input_shape, graph.output)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (LeNet5(), (1, 1, 28, 28)),
        (CifarResNet(8), (1, 3, 32, 32)),
        (SplitBranches(), (1, 3, 8, 8)),
        (Sliced(), (1, 4, 2, 2)),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.Hardswish()), (1, 2, 12, 12)),
    ],
    ids=["lenet", "resnet", "split", "sliced", "pools"],
)
def test_both_front_ends_read_the_same(model: nn.Module, shape: tuple[int, ...]) -> None:
    example = torch.rand(shape)
    model.eval()
    symbolic, exported = trace_with_fx(model, example), trace_with_export(model, example)
    for graph in (symbolic, exported):
        assert 2 * graph.macs == _flops(model, example)
        assert graph.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert graph[graph.output].output_shape == tuple(model(example).shape[1:])
    layers = [{o.module: o.specs for o in graph.operators if o.spec.weights} for graph in (symbolic, exported)]
    assert layers[0] == layers[1]
    pools = [Counter(o.spec.key for o in g.operators if "pool" in o.kind) for g in (symbolic, exported)]
    assert pools[0] == pools[1]
    kinds = [{(c.kind, frozenset(c.modules)) for c in couplings(graph)} for graph in (symbolic, exported)]
    assert kinds[0] == kinds[1]
    assert {o.kind for o in symbolic.operators} - {"reshape"} == {o.kind for o in exported.operators} - {"reshape"}


def test_functions_on_parameters_are_counted_as_layers() -> None:
    model, example = FunctionalWeights(), torch.rand(1, 3, 12, 12)
    graph = trace(model, example)
    assert graph.front_end == "torch.fx"
    assert 2 * graph.macs == _flops(model, example)
    assert graph.parameters == sum(parameter.numel() for parameter in model.parameters())
    _, grouped, wide, pool, mean, linear = graph.operators
    assert grouped.spec == OpSpec("conv2d", (4, 12, 12), (8, 6, 6), (3, 3), (2, 2), (1, 1), groups=2, bias=True)
    assert wide.spec == OpSpec("conv2d", (8, 6, 6), (6, 6, 6), (3, 5), padding=(2, 2), dilation=(2, 1))
    assert pool.spec == OpSpec("avg_pool2d", (6, 6, 6), (6, 3, 3), (2, 2), (2, 2))
    assert (mean.kind, linear.spec) == ("global_avg_pool2d", OpSpec("linear", (6,), (5,)))


def test_a_function_with_weights_stands_for_itself_in_couplings() -> None:
    graph = trace(FunctionalWeights(), torch.rand(1, 3, 12, 12))
    (coupling,) = couplings(graph)
    assert (coupling.kind, coupling.modules) == ("grouped", ("first", "conv2d"))
    assert producers(graph, "conv2d_1") == ("conv2d",)


def test_a_constant_weight_is_counted_like_a_trained_one() -> None:
    class Constant(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return functional.linear(inputs, torch.ones(2, 4))

    (operator,) = trace(Constant(), torch.rand(1, 4)).operators
    assert operator.spec == OpSpec("linear", (4,), (2,))


@FRONT_ENDS
def test_the_parts_of_a_split_read_what_is_split(front_end: object) -> None:
    graph = front_end(SplitBranches().eval(), torch.rand(1, 3, 8, 8))
    (stem,) = graph.calls("stem")
    parts = [operator for operator in graph.operators if operator.kind == "gather"]
    assert [part.inputs for part in parts] == [(stem.name,)] * 2
    assert {part.spec.output_shape for part in parts} == {(4, 8, 8)}
    (concat,) = couplings(graph)
    assert (concat.kind, set(concat.modules)) == ("concat", {"stem", "middle"})
    # The stem's output lives until the second part is taken: its 8 channels and both parts of 4, 8x8 floats each.
    assert _peak(graph) == (8 + 4 + 4) * 64 * 4


@FRONT_ENDS
@pytest.mark.parametrize(
    "split",
    [
        lambda x: x.split(2, 1),
        lambda x: torch.split(x, [3, 1], 1),
        lambda x: torch.chunk(x, 2, 1),
        lambda x: torch.tensor_split(x, 2, 1),
    ],
    ids=["method", "sizes", "function", "tensor_split"],
)
def test_every_way_to_split_is_followed(front_end: object, split: object) -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.split = nn.Conv2d(3, 4, 1)  # a layer's name is no call

        def forward(self, chunk: Tensor) -> Tensor:
            return split(self.split(chunk))[0]

    graph = front_end(Halves().eval(), torch.rand(1, 3, 5, 5))
    assert producers(graph, graph.output) == ("split",)


@pytest.mark.parametrize("front_end", [trace_with_fx, trace_with_export])
def test_recurrent_layers_are_one_operator_a_layer(front_end: Callable[[nn.Module, Tensor], Graph]) -> None:
    graph = front_end(Recurrent().eval(), torch.rand(1, 5, 4))
    (operator,) = [o for o in graph.operators if o.module]
    assert graph.output == operator.name
    assert operator.module == "cells"
    assert operator.spec == OpSpec("lstm", (5, 4), (5, 3), bias=True)
    assert operator.spec.macs == 5 * 4 * 3 * (4 + 3)
    assert operator.spec.parameters == sum(parameter.numel() for parameter in nn.LSTM(4, 3).parameters())


def test_stacked_recurrent_layers_count_like_pytorchs_own() -> None:
    layer = nn.GRU(4, 3, num_layers=2, bidirectional=True, batch_first=True)
    specs = module_specs(layer, (7, 4), (7, 6))
    assert [spec.output_shape for spec in specs] == [(7, 6), (7, 6)]
    assert sum(spec.parameters for spec in specs) == sum(parameter.numel() for parameter in layer.parameters())
    with pytest.raises(ModelError, match="must have batch_first=True, got a GRU"):
        module_specs(nn.GRU(4, 3), (7, 4), (7, 3))


def test_export_refuses_layers_that_return_several_tensors() -> None:
    class Sorted(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            values, order = torch.sort(inputs)
            return values + order

    with pytest.raises(ModelError, match=r"sort.* returns several tensors"):
        trace_with_export(Sorted().eval(), torch.rand(1, 5, 4))


def test_signals_are_images_of_one_row() -> None:
    network = nn.Sequential(nn.Conv1d(3, 4, 5, 2, 1), nn.ReLU(), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1))
    graph = trace(network.eval(), torch.rand(1, 3, 21))
    kinds = [operator.spec for operator in graph.operators]
    assert kinds[0] == OpSpec("conv2d", (3, 1, 21), (4, 1, 10), (1, 5), (1, 2), (0, 1), bias=True)
    assert kinds[2] == OpSpec("max_pool2d", (4, 1, 10), (4, 1, 5), (1, 2), (1, 2))
    assert kinds[3].kind == "global_avg_pool2d"


def test_layers_that_describe_themselves_stay_whole() -> None:
    graph = trace(nn.Sequential(nn.Conv2d(1, 2, 1), Doubling(), nn.ReLU()), torch.rand(1, 1, 3, 3))
    doubling = graph.operators[1]
    assert doubling.module == "1"
    assert [spec.kind for spec in doubling.specs] == ["quantize", "add"]


def test_a_shared_layer_is_stored_once_and_executed_twice() -> None:
    layer = nn.Linear(6, 6)
    graph = trace(nn.Sequential(layer, nn.ReLU(), layer), torch.rand(1, 6))
    assert graph.parameters == 6 * 6 + 6
    assert graph.macs == 2 * 36
    assert len(graph.calls("0")) == 2


def test_a_graph_tells_readers_and_refuses_unknown_names() -> None:
    graph = trace(SplitBranches(), torch.rand(1, 3, 8, 8))
    (stem,) = graph.consumers(INPUT)
    assert stem.module == "stem"
    assert len(graph.consumers(stem.name)) == 2
    assert graph.consumers(graph.output) == ()
    assert graph.calls("nothing") == ()
    with pytest.raises(KeyError, match="nothing"):
        graph["nothing"]


def test_a_network_that_does_nothing_has_no_costs() -> None:
    class Nothing(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs

    graph = trace(Nothing(), torch.rand(1, 3))
    assert (graph.operators, graph.output, graph.macs, graph.parameters) == ((), INPUT, 0, 0)
    assert _peak(graph) == 12


def test_a_failure_is_one_line_that_quotes_the_users_code() -> None:
    def fail() -> None:
        raise RuntimeError("first line\nsecond line")

    with pytest.raises(RuntimeError) as caught:
        fail()
    described = describe_failure(caught.value)
    assert described.startswith("`")
    assert "test_front_ends.py:" in described
    assert described.endswith("first line")
    assert describe_failure(KeyError()) == "KeyError"


def test_a_failing_forward_is_quoted_and_the_mode_comes_back() -> None:
    class Asserting(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise LookupError("no such feature")

    model = Asserting().train()
    with pytest.raises(
        ModelError, match=r"Asserting fails on .*`raise LookupError.*test_front_ends\.py.*no such feature"
    ):
        trace(model, torch.rand(1, 2))
    assert model.training
