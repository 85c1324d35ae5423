"""Width scaling: whole residual streams against the original with zeros, hand counts, torch-pruning and engines."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_pruning
from espalier.compression.assembly import assemble, fold_batch_norms
from espalier.compression.bank_builder import build_bank
from espalier.compression.choice import KEEP, Choice
from espalier.compression.counting import SizeCounter
from espalier.compression.layers import Constant
from espalier.compression.plan import Plan
from espalier.compression.realised import Realiser, count_parameters, count_storage_bytes
from espalier.compression.refit import Refit
from espalier.compression.storage import load_network, save_network
from espalier.compression.survey import survey
from espalier.compression.technique import Technique
from espalier.compression.techniques import (
    ChannelPruning,
    DepthSkip,
    Int8,
    SpatialSvd,
    TruncatedSvd,
    WidthScaling,
)
from espalier.errors import EspalierError
from espalier.evaluation.recalibration import RelativeRecalibration
from espalier.graph.placement import ChannelPlacement
from espalier.graph.trace import trace
from espalier.hw_models.runtimes.onnx_runtime import OnnxRuntime
from espalier.tasks.models.mobilenet import MobileNetV2
from espalier.tasks.models.resnet import CifarResNet
from torch import Tensor, nn
from torch.nn import functional

from tests.compression.conftest import Case, make_case


class _Projected(nn.Module):
    """Two stages with 1x1 projections between them, as in ResNet-18, and a feature map that is flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stage1 = nn.Sequential(_Block(16, 16, 1), _Block(16, 16, 1))
        self.stage2 = nn.Sequential(_Block(16, 32, 2), _Block(32, 32, 1))
        self.pool = nn.MaxPool2d(4)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(32 * 4, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.pool(self.stage2(self.stage1(self.stem(inputs))))
        return self.classifier(self.flatten(features))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(inputs)))))
        return functional.relu(branch + self.shortcut(inputs))


class _Signals(nn.Module):
    """A residual stream over signals that a depthwise convolution carries on, with biases and without batch-norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(6, 16, 5, padding=2)
        self.second = nn.Conv1d(16, 16, 5, padding=2)
        self.depthwise = nn.Conv1d(16, 16, 3, padding=1, groups=16)
        self.third = nn.Conv1d(16, 24, 5, stride=2, padding=2)
        self.classifier = nn.Linear(24, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        features = functional.relu(self.first(inputs))
        features = self.depthwise(functional.relu(features + self.second(features)))
        return self.classifier(functional.relu(self.third(features)).mean(2))


def _networks() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    def mobilenet() -> nn.Module:
        return MobileNetV2(width=0.25, n_classes=10, stem_stride=1, strides=[1, 1, 2, 1, 1, 2, 1])

    return {
        "padded": (lambda: CifarResNet(14), (3, 4, 4)),
        "projected": (_Projected, (3, 4, 4)),
        "inverted": (mobilenet, (3, 4, 4)),
        "signals": (_Signals, (6, 4)),
    }


_NAMES = tuple(_networks())


def _made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, small = _networks()[name]
    model = make()
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.1)
    mode = "bilinear" if len(small) == 3 else "linear"
    return model, functional.interpolate(torch.randn(24, *small), scale_factor=4, mode=mode)


@cache
def _cached(name: str) -> Case:
    techniques: list[Technique] = [
        WidthScaling(kept=(0.75, 0.5), channel_multiple=4),
        WidthScaling(kept=(0.5,), criterion="l1"),
        ChannelPruning(kept=(0.5,)),
        Int8(),
        SpatialSvd(speedups=(2,)),
        TruncatedSvd(speedups=(2,)),
        DepthSkip(),
    ]
    return make_case(*_made(name), techniques)


@pytest.fixture(params=_NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    return _cached(request.param)


def _plan(case: Case, **chosen: Choice) -> Plan:
    """Choices by kind of site; the rest is kept."""
    return Plan.of({site.name: chosen.get(site.kind, KEEP) for site in case.survey.space.sites})


def _widths(case: Case, **parameters: float) -> Plan:
    """The first choice of every width, or the one with these parameters."""
    space = case.survey.space
    plan = {}
    for site, choices in zip(space.sites, space.choices, strict=True):
        offered = [choice for choice in choices[1:] if dict(choice.parameters).items() >= parameters.items()]
        plan[site.name] = offered[0] if site.kind == "width" and offered else KEEP
    return Plan.of(plan)


def _random_plans(case: Case, count: int) -> list[Plan]:
    """Random plans of which every other one changes widths alone."""
    rng = np.random.default_rng(0)
    space = case.survey.space
    walks = [space.random(rng) for _ in range(count)]
    is_width = [site.kind == "width" for site in space.sites]
    alone = [[index * is_wide for index, is_wide in zip(walk, is_width, strict=True)] for walk in walks[::2]]
    return [space.plan(walk) for walk in (*walks, *alone)]


# ---- what is found


def test_stages_are_found_with_everything_that_goes_with_them() -> None:
    space = _cached("padded").survey.space
    widths = [site for site in space.sites if site.kind == "width"]
    assert [site.name for site in widths] == ["layer1.width", "layer2.width", "layer3.width"]
    assert [site.output_shape for site in widths] == [(16, 16, 16), (32, 8, 8), (64, 4, 4)]
    first, second = space.groups["layer1.width"], space.groups["layer2.width"]
    assert set(first.members) == {"conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.0", "layer1.1"}
    assert set(first.followers) == {"bn1", "layer1.0.bn2", "layer1.1.bn2"}
    assert set(first.consumers) == {"layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1"}
    assert set(second.members) == {"layer2.0.conv2", "layer2.1.conv2", "layer2.0", "layer2.1"}
    placed = {p.path: (p.source, p.target) for p in space.placements}
    assert placed["layer2.0.shortcut"] == ("layer1.width", "layer2.width")
    for site in widths:
        reached = [space.positions[other.name] for other in space.sites if space.groups[site.name].reaches(other)]
        assert space.positions[site.name] < min(reached)


def test_flattened_channels_are_read_position_by_position() -> None:
    space = _cached("projected").survey.space
    assert space.groups["stage2.width"].consumers["classifier"].tolist() == torch.arange(128).view(32, 4).tolist()
    assert set(space.groups["stage1.width"].consumers) >= {"stage2.0.conv1", "stage2.0.shortcut.0"}


def test_a_layer_can_read_and_write_the_same_stream() -> None:
    """The first block of MobileNetV2 has no widening layer: its depthwise convolution carries, its 1x1 reads on."""
    space = _cached("inverted").survey.space
    group = next(group for group in space.groups.values() if "features.1.conv.1" in group.members)
    assert "features.1.conv.1" in group.consumers
    assert "features.1.conv.0.0" in group.followers


class _PaddedAlone(nn.Module):
    """One convolution, its channels among zeros, and what reads them: no addition anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 16, 3, padding=1)
        self.placement = ChannelPlacement.centred(16, 32, 2)
        self.two = nn.Conv2d(32, 8, 3, padding=1)
        self.classifier = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.placement(functional.relu(self.one(inputs)))
        return self.classifier(functional.relu(self.two(features)).mean((2, 3)))


@torch.no_grad()
def test_channels_that_are_placed_do_not_go_alone() -> None:
    torch.manual_seed(0)
    case = make_case(_PaddedAlone(), torch.randn(16, 3, 8, 8), [WidthScaling(kept=(0.5,)), ChannelPruning(kept=(0.5,))])
    assert case.survey.unprunable["one"] == "its channels are put among others by placement"
    widths = [site.name for site in case.survey.space.sites if site.kind == "width"]
    assert widths == ["one.width"]
    network = assemble(case.model, _widths(case), case.bank)
    assert network.placement.in_channels == 8
    assert len(network.placement.sources) == 32
    assert torch.isfinite(network(case.inputs)).all()


def test_a_name_that_a_layer_has_is_not_taken() -> None:
    network = _Signals()
    network.add_module("add", nn.ModuleDict({"width": nn.Identity()}))
    space = survey(network.eval(), torch.rand(1, 6, 16), {"width_scaling": WidthScaling()}).space
    assert [site.name for site in space.sites if site.kind == "width"] == ["add.width_"]


def test_patterns_leave_widths_alone() -> None:
    model, inputs = _made("padded")
    techniques = {t.name: t for t in (WidthScaling(), Int8())}
    space = survey(model.eval(), inputs[:1], techniques, exclude=["*.width"]).space
    assert {len(space.choices[space.positions[f"layer{stage}.width"]]) for stage in (1, 2, 3)} == {1}
    assert not any(space.producers.values())


def test_spaces_without_the_technique_have_no_widths() -> None:
    model, inputs = _made("padded")
    techniques = {t.name: t for t in (ChannelPruning(kept=(0.5,)), DepthSkip())}
    space = survey(model.eval(), inputs[:1], techniques).space
    assert not [site for site in space.sites if site.kind == "width"]
    assert not space.placements
    with pytest.raises(EspalierError, match="the search space is empty"):
        survey(nn.Sequential(nn.Conv2d(3, 16, 3)).eval(), torch.rand(1, 3, 8, 8), {"width_scaling": WidthScaling()})


class _Odd(nn.Module):
    """A stream of two convolutions, and something odd that happens to it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.one = nn.Conv2d(16, 16, 3, padding=1)
        self.two = nn.Conv2d(16, 16, 3, padding=1)
        self.odd: nn.Module = nn.Identity()
        if kind == "grouped":
            self.odd = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        elif kind == "prelu":
            self.odd = nn.PReLU(16)
        elif kind == "flattened":
            self.odd = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16 * 64), nn.Linear(16 * 64, 4))
        elif kind == "linear":
            self.odd = nn.Linear(16, 16)
        elif kind == "slopes":
            self.slopes = nn.Parameter(torch.ones(16))
        elif kind == "twice":
            self.odd = nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(32 if kind == "concat" else 16, 8, 3)
        self.classifier = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.one(inputs)
        stream = features + self.two(features)
        if self.kind == "concat":
            stream = torch.cat([stream, inputs], 1)
        elif self.kind == "pad":
            stream = functional.pad(stream[:, :8], (0, 0, 0, 0, 4, 4))
        elif self.kind == "slopes":
            stream = functional.prelu(stream, self.slopes)
        elif self.kind == "twice":
            stream = self.odd(self.odd(stream))
        elif self.kind == "input":
            stream = stream + inputs
        elif self.kind == "scaled":
            stream = stream * stream.mean((2, 3), keepdim=True)
        elif self.kind == "output":
            return stream
        elif self.kind == "flattened":
            return self.odd(stream)
        elif self.kind == "linear":
            means = stream.mean((2, 3))
            return self.classifier((means + self.odd(means))[:, :8])
        else:
            stream = self.odd(stream)
        return self.classifier(self.last(stream).mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("grouped", "pass through odd, a grouped convolution"),
        ("prelu", "pass through odd, a activation"),
        ("slopes", "pass through prelu, a activation"),
        ("twice", "read or written by odd, which is no site"),
        ("concat", "pass through cat, a concat"),
        ("pad", "pass through getitem, a gather"),
        ("scaled", "pass through m"),
        ("flattened", "flattened before odd.1"),
        ("linear", "odd, a linear layer, writes into its channels"),
        ("input", "are those of the network's input"),
        ("output", "reach the network's output"),
    ],
)
def test_streams_that_are_not_understood_are_refused_with_the_reason(kind: str, reason: str) -> None:
    techniques = {t.name: t for t in (WidthScaling(), Int8())}
    found = survey(_Odd(kind).eval(), torch.rand(1, 16, 8, 8), techniques)
    assert not [site for site in found.space.sites if site.kind == "width"]
    (name,) = [name for name in found.unprunable if name.endswith(".width")]
    assert reason in found.unprunable[name]
    plain = survey(_Odd("plain").eval(), torch.rand(1, 16, 8, 8), techniques).space
    assert set(plain.groups["add.width"].members) == {"one", "two", "add"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "taylor"}, "criterion must be one of consumers, l1, geometric_median, got 'taylor'"),
        ({"kept": (0.5, 1.0)}, "kept must be above 0 and below 1, got 1.0"),
    ],
)
def test_what_is_no_option_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        WidthScaling(**options)  # type: ignore[arg-type]


# ---- what comes out


def _with_zeros(case: Case, network: nn.Module, plan: Plan) -> nn.Module:
    """The original with the weights of a narrowed network in their old places and zeros where channels are gone."""
    space, model = case.survey.space, copy.deepcopy(case.model)
    rows: dict[str, Tensor] = {}
    rows_of_widths: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    for name, group in space.groups.items():
        narrowing = space.narrowing(name, plan[name])
        if narrowing is not None:
            kept = case.bank.kept[name, narrowing]
            rows_of_widths[name] = kept
            rows |= dict.fromkeys((*group.members, *group.followers), kept)
            columns |= {reader: inputs[kept].flatten() for reader, inputs in group.consumers.items()}
    skipped = [site for site in space.sites if site.kind == "block" and plan[site.name] != KEEP]
    replaced = {layer for site in skipped for layer in site.layers}
    for path in {*rows, *columns} - replaced - {site.name for site in space.sites if site.kind == "block"}:
        _widen(model.get_submodule(path), network.get_submodule(path), rows.get(path), columns.get(path))
    for site in skipped:
        constant = network.get_submodule(site.layers[-1])
        whole = Constant(site.out_channels, constant.axes)
        whole.value[rows.get(site.name, slice(None))] = constant.value
        for path in site.layers:
            model.set_submodule(path, whole if path == site.layers[-1] else nn.Identity())
    for placed in space.placements:
        if placed.target in rows_of_widths:
            masked = _Masked(model.get_submodule(placed.path), rows_of_widths[placed.target])
            model.set_submodule(placed.path, masked)
    return model.eval()


class _Masked(nn.Module):
    """A layer of which only some output channels arrive."""

    def __init__(self, layer: nn.Module, kept: Tensor) -> None:
        super().__init__()
        self.layer, self.kept = layer, kept

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.layer(inputs)
        mask = torch.zeros(outputs.shape[1])
        mask[self.kept] = 1
        return outputs * mask[:, None, None]


def _widen(whole: nn.Module, narrow: nn.Module, rows: Tensor | None, columns: Tensor | None) -> None:
    """Write a narrow layer's tensors into an original layer: into these rows and columns, zeros elsewhere."""
    narrow = getattr(narrow, "inner", narrow)
    outputs = torch.arange(len(whole.weight)) if rows is None else rows
    bias = torch.zeros(len(whole.weight))
    bias[outputs] = 0.0 if narrow.bias is None else narrow.bias
    weight = torch.zeros_like(whole.weight)
    values = narrow.weight.view(*narrow.weight.shape[:2], *whole.weight.shape[2:])
    if columns is None:
        weight[outputs] = values
    else:
        weight[outputs[:, None], columns] = values
    whole.weight, whole.bias = nn.Parameter(weight), nn.Parameter(bias)


@torch.no_grad()
@pytest.mark.parametrize("skipped", [False, True])
def test_a_narrow_network_is_the_original_with_zeros(case: Case, skipped: bool) -> None:
    plan = _widths(case, kept=0.5)
    if skipped:
        blocks = [site.name for site in case.survey.space.sites if site.kind == "block"]
        chosen = dict(plan) | dict.fromkeys(blocks[::2], Choice.of("depth_skip"))
        space = case.survey.space
        plan = space.plan(space.indices(Plan.of(chosen)))
    network = assemble(case.model, plan, case.bank)
    expected = _with_zeros(case, network, plan)(case.inputs)
    assert torch.allclose(network(case.inputs), expected, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(expected, case.model(case.inputs), atol=1e-2 * float(expected.abs().max()))


@torch.no_grad()
def test_channels_that_nobody_reads_go_without_a_trace() -> None:
    """In every stage half of the channels are dead, and the shortcuts put dead channels on dead ones."""
    model, inputs = _made("padded")
    dead = {1: torch.arange(8, 16), 2: torch.arange(16, 32), 3: torch.arange(32, 64)}
    readers = {1: ("layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1"), 3: ("layer3.1.conv1", "linear")}
    readers[2] = ("layer2.1.conv1", "layer3.0.conv1")
    for stage, paths in readers.items():
        for path in paths:
            model.get_submodule(path).weight.data[:, dead[stage]] = 0
    # The shortcuts read all channels alike: of two that no layer reads, the one that varies less goes.
    for path, stage in (("bn1", 1), ("layer1.0.bn2", 1), ("layer1.1.bn2", 1), ("layer2.0.bn2", 2), ("layer2.1.bn2", 2)):
        for values in model.get_submodule(path).parameters():
            values.data[dead[stage]] *= 1e-2
    case = make_case(model, inputs, [WidthScaling(kept=(0.5,))])
    network = assemble(case.model, _widths(case), case.bank)
    for stage, channels in dead.items():
        (narrowing,) = case.survey.space.narrowings(f"layer{stage}.width")
        assert not set(channels.tolist()) & set(case.bank.kept[f"layer{stage}.width", narrowing].tolist())
    assert network.conv1.out_channels == 8
    assert network.layer3[1].bn2.num_features == 32
    assert torch.allclose(network(inputs), model(inputs), atol=1e-4)


@torch.no_grad()
def test_counts_are_those_of_a_hand_computation() -> None:
    """ResNet-14 at 16x16 with streams of 12, 24 and 48 channels; the layers inside the blocks keep their widths."""
    case = _cached("padded")
    plan = _widths(case, kept=0.75)
    a, b, c = 12, 24, 48
    stage1 = 256 * 9 * (3 * a + 4 * a * 16)
    stage2 = 64 * 9 * (a * 32 + 3 * b * 32)
    stage3 = 16 * 9 * (b * 64 + 3 * c * 64)
    weights = stage1 // 256 + stage2 // 64 + stage3 // 16 + c * 10
    biases = a + 2 * (16 + a) + 2 * (32 + b) + 2 * (64 + c) + 10
    specs = Realiser(case.survey.graph, case.survey.fusion, case.bank).specs(plan)
    assert sum(spec.macs for spec in specs) == stage1 + stage2 + stage3 + c * 10
    counter = SizeCounter(case.model, case.bank, case.survey.batch_norm_pairs)
    assert counter.count(plan)[0] == weights + biases


@pytest.mark.parametrize("name", ["projected", "inverted"])
def test_torch_pruning_narrows_the_same_layers(name: str) -> None:
    """Its coupled groups, asked for the same channels, leave the same shapes everywhere."""
    case = _cached(name)
    plan, space = _widths(case, kept=0.5), case.survey.space
    ours = assemble(case.model, plan, case.bank)
    theirs = copy.deepcopy(case.model).requires_grad_(True)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, case.inputs[:1])
    for group_name in [site.name for site in space.sites if site.kind == "width"]:
        narrowing = space.narrowing(group_name, plan[group_name])
        assert narrowing is not None
        layer = theirs.get_submodule(space.groups[group_name].members[0])
        kept = set(case.bank.kept[group_name, narrowing].tolist())
        gone = [channel for channel in range(layer.out_channels) if channel not in kept]
        graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, gone).prune()
    expected = {path: p.shape for path, p in theirs.named_parameters() if path.endswith("weight")}
    assert {path: p.shape for path, p in ours.named_parameters() if path.endswith("weight")} == expected


@torch.no_grad()
def test_random_plans_run_are_counted_right_and_survive_a_file(case: Case, tmp_path: Path) -> None:
    pairs = case.survey.batch_norm_pairs
    counter = SizeCounter(case.model, case.bank, pairs)
    realiser = Realiser(case.survey.graph, case.survey.fusion, case.bank)
    covered = {spec for plan in realiser.covering_plans() for spec in realiser.specs(plan)}
    recalibration = RelativeRecalibration(case.model, case.inputs)
    for plan in _random_plans(case, 8):
        network = assemble(case.model, plan, case.bank)
        assert counter.count(plan) == (count_parameters(network, pairs), count_storage_bytes(network, pairs))
        folded = fold_batch_norms(recalibration.apply(network, case.bank.kept_channels(plan)), pairs)
        outputs = folded(case.inputs)
        assert torch.isfinite(outputs).all()
        assert trace(folded, case.inputs[:1]).macs == sum(spec.macs for spec in realiser.specs(plan))
        assert set(realiser.specs(plan)) <= covered
        save_network(tmp_path / "m", folded, case.model)
        assert torch.allclose(load_network(tmp_path / "m", case.model)(case.inputs), outputs, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("everything", [False, True], ids=["widths", "everything"])
def test_an_engine_computes_the_same(case: Case, everything: bool) -> None:
    """Narrow streams alone, exactly; with random choices at all other sites, but for how integers are rounded."""
    plan = _widths(case, kept=0.5)
    if everything:
        chosen = dict(_random_plans(case, 1)[0]) | {site: choice for site, choice in plan if choice != KEEP}
        plan = case.survey.space.plan(case.survey.space.indices(Plan.of(chosen)))
        assert {choice.technique for _, choice in plan} > {"keep", "width_scaling"}
    network = fold_batch_norms(assemble(case.model, plan, case.bank), case.survey.batch_norm_pairs)
    answered = OnnxRuntime(1).network(network, case.inputs[:1]).outputs(case.inputs[:4])
    ours = torch.cat([network(one) for one in case.inputs[:4].split(1)])
    assert torch.allclose(answered, ours, atol=(2e-2 if everything else 1e-4) * float(ours.abs().max()))


@torch.no_grad()
def test_refitting_brings_outputs_closer(case: Case) -> None:
    before, after = [], []
    expected = case.model(case.inputs)
    for plan in _random_plans(case, 3):
        plain = assemble(case.model, plan, case.bank)
        refitted = Refit(case.model, case.bank, case.inputs).apply(plan)
        assert [p.shape for p in refitted.parameters() if p.ndim > 1] == [
            p.shape for p in plain.parameters() if p.ndim > 1
        ]
        before.append(float((plain(case.inputs) - expected).norm()))
        after.append(float((refitted(case.inputs) - expected).norm()))
    assert np.median(np.array(after) / before) < 0.9


@torch.no_grad()
def test_remembered_layers_are_those_of_a_fresh_refit(case: Case) -> None:
    space, rng = case.survey.space, np.random.default_rng(2)
    refit = Refit(case.model, case.bank, case.inputs, 2**30)
    walk = space.random(rng)
    for _ in range(6):
        position = int(rng.integers(len(walk)))
        walk = space.canonical([*walk[:position], *space.random(rng)[position:]])
        found = refit.apply(space.plan(walk))(case.inputs)
        assert torch.equal(found, Refit(case.model, case.bank, case.inputs).apply(space.plan(walk))(case.inputs))


@torch.no_grad()
def test_the_first_layer_of_a_narrow_stream_keeps_its_filters() -> None:
    """Nothing before it changed, so neither the bank nor the refit may change what is left of it."""
    case = _cached("padded")
    plan = _widths(case, kept=0.5)
    (kept,) = [
        kept
        for (name, n), kept in case.bank.kept.items()
        if name == "layer1.width" and n.criterion != "l1" and n.kept == 8
    ]
    for network in (assemble(case.model, plan, case.bank), Refit(case.model, case.bank, case.inputs).apply(plan)):
        assert torch.equal(network.conv1.weight, case.model.conv1.weight[kept])
        assert torch.equal(network.bn1.running_mean, case.model.bn1.running_mean[kept])
        assert isinstance(network.layer2[0].shortcut, ChannelPlacement)


# ---- how channels are picked


@torch.no_grad()
def test_the_smallest_filters_of_all_writers_go_first() -> None:
    case = _cached("padded")
    writers = ("conv1", "layer1.0.conv2", "layer1.1.conv2")
    sizes = sum(case.model.get_submodule(path).weight.abs().sum((1, 2, 3)) for path in writers)
    narrowing = case.survey.space.narrowing("layer1.width", Choice.of("width_scaling_l1", kept=0.5))
    assert narrowing is not None
    assert set(case.bank.kept["layer1.width", narrowing].tolist()) == set(sizes.topk(8).indices.tolist())


@torch.no_grad()
def test_the_error_is_what_the_readers_lose() -> None:
    """The oracle gives one reader after the other fewer channels and looks at the scores."""
    case = _cached("padded")
    space, model = case.survey.space, case.model
    choice = Choice.of("width_scaling", kept=0.5)
    site = space.sites[space.positions["layer1.width"]]
    narrowing = space.narrowing(site.name, choice)
    assert narrowing is not None
    kept = case.bank.kept[site.name, narrowing]
    changes = []
    for reader in space.groups[site.name].consumers:
        state = tuple(narrowing if name == site.name else None for name in space.producers[reader])
        narrow = case.bank.variants[reader, state, KEEP].module
        changes.append(_change(case, reader, lambda features, _, narrow=narrow: narrow(features[:, kept])))
    gone = torch.ones(site.out_channels).index_fill(0, kept, 0.0)[:, None, None]
    shortcut = model.layer2[0].shortcut
    changes.append(_change(case, "layer2.0.shortcut", lambda features, out: out - shortcut.forward(features * gone)))
    expected = sum(change**2 for change in changes) ** 0.5
    assert len(changes) == 4
    assert case.bank.error(site, (), choice) == pytest.approx(expected, rel=0.35)  # first order, and 16 examples


def _change(case: Case, path: str, instead: Callable[[Tensor, Tensor], Tensor]) -> float:
    """How far the scores move, relative to them, when a layer gives something else for what it reads."""
    inputs = case.inputs[:16]
    scores = case.model(inputs)
    hook = case.model.get_submodule(path).register_forward_hook(lambda _, read, out: instead(read[0], out))
    try:
        moved = case.model(inputs)
    finally:
        hook.remove()
    scores, moved = (each - each.mean(1, keepdim=True) for each in (scores, moved))
    return float((moved - scores).norm() / scores.norm())


def test_the_bank_is_read_back_from_disk(tmp_path: Path) -> None:
    model, inputs = _made("signals")
    techniques = {t.name: t for t in (WidthScaling(), Int8())}
    model = model.eval().requires_grad_(False)
    space = survey(model, inputs[:1], techniques).space
    first, again = (build_bank(model, space, inputs, "x", tmp_path) for _ in range(2))
    assert list(first.variants) == list(again.variants)
    assert all(torch.equal(first.kept[key], again.kept[key]) for key in first.kept)
    for key, variant in first.variants.items():
        assert again.variants[key].error == variant.error
        assert again.variants[key].specs == variant.specs
