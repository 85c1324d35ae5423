"""Recurrent layers, convolutions over signals and residual blocks: from the survey to the file and the engine."""

from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.compression.assembly import assemble, fold_batch_norms
from espalier.compression.bank_builder import build_bank
from espalier.compression.blocks import find_blocks
from espalier.compression.choice import KEEP, Choice
from espalier.compression.counting import SizeCounter
from espalier.compression.plan import Plan
from espalier.compression.realised import Realiser, count_parameters, count_storage_bytes
from espalier.compression.refit import Refit
from espalier.compression.storage import load_network, save_network
from espalier.compression.survey import survey
from espalier.compression.techniques import (
    ChannelPruning,
    Composition,
    DepthSkip,
    DepthwiseSeparable,
    Int8,
    LowBits,
    MagnitudePruning,
    RecurrentSvd,
    SpatialSvd,
    TruncatedSvd,
)
from espalier.graph.trace import trace
from espalier.hw_models.runtimes.onnx_runtime import OnnxRuntime
from espalier.tasks.models.resnet import CifarResNet
from torch import Tensor, nn
from torch.nn import functional

from tests.compression.conftest import Case, make_case


class _Signals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(6, 32, 5, padding=2, bias=False)
        self.norm = nn.BatchNorm1d(32)
        self.second = nn.Conv1d(32, 32, 5, stride=2, padding=2)
        self.classifier = nn.Linear(32, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        features = functional.relu(self.norm(self.first(inputs)))
        features = functional.max_pool1d(functional.relu(self.second(features)), 2)
        return self.classifier(features.mean(2))


class _Steps(nn.Module):
    def __init__(self, cell: type[nn.GRU | nn.LSTM]) -> None:
        super().__init__()
        self.recurrent = cell(12, 32, batch_first=True)
        self.second = cell(32, 24, batch_first=True)
        self.classifier = nn.Linear(24, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs, _ = self.recurrent(inputs)
        outputs, _ = self.second(outputs)
        return self.classifier(outputs[:, -1])


def _case(model: nn.Module, inputs: Tensor) -> Case:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    techniques = [
        ChannelPruning(kept=(0.5,)),
        ChannelPruning(kept=(0.5,), criterion="l1"),
        ChannelPruning(kept=(0.5,), criterion="geometric_median"),
        ChannelPruning(kept=(0.5,), criterion="taylor"),
        RecurrentSvd(speedups=(2,), rank_multiple=1),
        SpatialSvd(),
        DepthwiseSeparable(multipliers=(1,)),
        Int8(),
        LowBits(bits=(8, 4)),
        MagnitudePruning(sparsities=(0.5,)),
        TruncatedSvd(speedups=(2,)),
        DepthSkip(),
        Composition([ChannelPruning(kept=(0.5,)), LowBits(bits=(4,))]),
    ]
    return make_case(model, inputs, techniques)


def _make(name: str) -> Case:
    torch.manual_seed(0)
    if name == "signals":
        return _case(_Signals(), functional.interpolate(torch.randn(48, 6, 8), 32, mode="linear"))
    if name == "blocks":
        return _case(CifarResNet(8), functional.interpolate(torch.randn(24, 3, 4, 4), 16, mode="bilinear"))
    cell = {"gru": nn.GRU, "lstm": nn.LSTM}[name]
    mixed = torch.randn(64, 10, 12) @ torch.randn(12, 12) * 0.5
    return _case(_Steps(cell), mixed)


@pytest.fixture(scope="module", params=["signals", "gru", "lstm", "blocks"])
def case(request: pytest.FixtureRequest) -> Case:
    return _make(request.param)


def _random_plans(case: Case, count: int) -> list[Plan]:
    rng = np.random.default_rng(0)
    return [case.survey.space.plan(case.survey.space.random(rng)) for _ in range(count)]


def _single(case: Case, name: str, choice: Choice) -> Plan:
    return Plan.of({s.name: choice if s.name == name else KEEP for s in case.survey.space.sites})


@torch.no_grad()
def test_every_choice_gives_a_network_of_the_right_shape_and_its_own_costs(case: Case) -> None:
    space = case.survey.space
    realiser = Realiser(case.survey.graph, case.survey.fusion, case.bank)
    kept_macs = sum(spec.macs for spec in realiser.specs(space.keep_plan))
    assert kept_macs == case.survey.graph.macs
    for site, choices in zip(space.sites, space.choices, strict=True):
        for choice in choices[1:]:
            plan = _single(case, site.name, choice)
            network = fold_batch_norms(assemble(case.model, plan, case.bank), case.survey.batch_norm_pairs)
            assert torch.isfinite(network(case.inputs)).all()
            traced = trace(network, case.inputs[:1])
            executed = sum(spec.dense.macs for operator in traced.operators for spec in operator.specs)
            assert sum(spec.macs for spec in realiser.specs(plan)) == executed <= kept_macs


def test_counting_without_a_network_is_counting_it(case: Case) -> None:
    counter = SizeCounter(case.model, case.bank, case.survey.batch_norm_pairs)
    pairs = case.survey.batch_norm_pairs
    for plan in [case.survey.space.keep_plan, *_random_plans(case, 12)]:
        network = assemble(case.model, plan, case.bank)
        assert counter.count(plan) == (count_parameters(network, pairs), count_storage_bytes(network, pairs))


@torch.no_grad()
def test_files_hold_every_plan(case: Case, tmp_path: Path) -> None:
    for number, plan in enumerate(_random_plans(case, 4)):
        network = assemble(case.model, plan, case.bank)
        save_network(tmp_path / str(number), network, case.model)
        loaded = load_network(tmp_path / str(number), case.model)
        assert torch.allclose(loaded(case.inputs), network(case.inputs), atol=1e-5)


@torch.no_grad()
def test_the_refit_works_on_every_plan(case: Case) -> None:
    for plan in _random_plans(case, 4):
        refitted = Refit(case.model, case.bank, case.inputs).apply(plan)
        assert torch.isfinite(refitted(case.inputs)).all()


@torch.no_grad()
@pytest.mark.parametrize("remembered_bytes", [2**30, 3000])
def test_remembered_layers_are_those_of_a_fresh_refit(case: Case, remembered_bytes: int) -> None:
    space, rng = case.survey.space, np.random.default_rng(1)
    refit = Refit(case.model, case.bank, case.inputs, remembered_bytes)
    walk = space.random(rng)
    for _ in range(8):
        position = int(rng.integers(len(walk)))
        walk = space.canonical([*walk[:position], *space.random(rng)[position:]])
        plan = space.plan(walk)
        fresh = Refit(case.model, case.bank, case.inputs).apply(plan)
        for found in (refit.apply(plan), refit.apply(plan)):
            assert torch.equal(found(case.inputs), fresh(case.inputs))


@torch.no_grad()
def test_an_engine_computes_the_same(case: Case) -> None:
    plan = _random_plans(case, 3)[-1]
    network = fold_batch_norms(assemble(case.model, plan, case.bank), case.survey.batch_norm_pairs)
    executable = OnnxRuntime(1).network(network, case.inputs[:1])
    ours = torch.cat([network(one) for one in case.inputs[:4].split(1)])
    assert torch.allclose(executable.outputs(case.inputs[:4]), ours, atol=2e-2 * float(ours.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_hidden_units_that_nobody_needs_go_without_a_trace(cell: str) -> None:
    """Units that neither the recurrence nor the classifier reads: pruning them changes nothing."""
    made = _make(cell)
    layer = made.model.get_submodule("recurrent")
    layer.weight_hh_l0[:, 16:] = 0
    made.model.get_submodule("second").weight_ih_l0[:, 16:] = 0
    again = _case(made.model, made.inputs)
    plan = _single(again, "recurrent", Choice.of("channel_pruning", kept=0.5))
    network = assemble(again.model, plan, again.bank)
    assert network.get_submodule("recurrent").hidden_size == 16
    assert network.get_submodule("second").input_size == 16
    assert torch.allclose(network(made.inputs), made.model(made.inputs), atol=1e-5)


@torch.no_grad()
def test_criteria_rank_channels_as_their_papers_say() -> None:
    case = _make("signals")
    weight = case.model.get_submodule("first").weight.flatten(1)
    expected = {
        "channel_pruning_l1": weight.abs().sum(1),
        "channel_pruning_geometric_median": torch.stack([(weight - row).norm(dim=1).sum() for row in weight]),
        "channel_pruning_taylor": _taylor_by_finite_differences(case),
    }
    for technique, scores in expected.items():
        narrowing = case.survey.space.narrowing("first", Choice.of(technique, kept=0.5))
        assert narrowing is not None
        kept = case.bank.kept["first", narrowing]
        assert set(kept.tolist()) == set(scores.topk(16).indices.tolist())


def _taylor_by_finite_differences(case: Case) -> Tensor:
    """Each channel's gate is moved a little: the mean square of the loss's slope."""
    model = case.model.double()
    inputs = case.inputs.double()
    answers = model(inputs).argmax(1)
    scores = []
    for channel in range(32):
        losses = []
        for step in (1e-5, -1e-5):
            gate = torch.ones(32, dtype=torch.float64)
            gate[channel] += step

            def scaled(_: nn.Module, __: object, output: Tensor, gate: Tensor = gate) -> Tensor:
                return output * gate[:, None]

            hook = model.get_submodule("first").register_forward_hook(scaled)
            losses.append(functional.cross_entropy(model(inputs), answers, reduction="none"))
            hook.remove()
        scores.append(((losses[0] - losses[1]) / 2e-5).square().sum())
    model.float()
    return torch.stack(scores)


@torch.no_grad()
def test_low_rank_inputs_lose_nothing_when_the_inputs_have_that_rank() -> None:
    torch.manual_seed(0)
    flat = torch.randn(64, 10, 6) @ torch.randn(6, 12)
    case = _case(_Steps(nn.GRU), flat)
    site = case.survey.space.sites[0]
    technique = RecurrentSvd(speedups=(1.2,), rank_multiple=1)
    assert technique.rank(site, Choice.of("recurrent_svd", speedup=1.2)) >= 6
    wide = survey(case.model, flat[:1], {"recurrent_svd": technique})
    bank = build_bank(case.model, wide.space, flat, "y")
    plan = Plan.of({s.name: wide.space.choices[0][1] if s.name == "recurrent" else KEEP for s in wide.space.sites})
    network = assemble(case.model, plan, bank)
    assert torch.allclose(network(flat), case.model(flat), atol=1e-3)


def test_blocks_are_found_where_shortcuts_lead_around_layers() -> None:
    graph = trace(CifarResNet(8).eval(), torch.rand(1, 3, 16, 16))
    blocks = find_blocks(graph)
    assert [block.name for block in blocks] == ["layer1.0", "layer2.0", "layer3.0"]
    expected = tuple(f"layer2.0.{layer}" for layer in ("conv1", "bn1", "relu1", "conv2", "bn2"))
    assert blocks[1].layers == expected
    assert not find_blocks(trace(_Signals().eval(), torch.rand(1, 6, 32)))


@torch.no_grad()
def test_a_skipped_block_is_its_shortcut_and_the_mean_of_its_branch() -> None:
    case = _make("blocks")
    plan = _single(case, "layer2.0", Choice.of("depth_skip"))
    network = assemble(case.model, plan, case.bank)
    model = case.model
    block = model.layer2[0]
    stem = model.layer1(model.relu(model.bn1(model.conv1(case.inputs))))
    branch = block.bn2(block.conv2(block.relu1(block.bn1(block.conv1(stem)))))
    summed = functional.relu(block.shortcut(stem) + branch.mean((0, 2, 3)).view(1, -1, 1, 1))
    expected = model.linear(model.flatten(model.pool(model.layer3(summed))))
    assert torch.allclose(network(case.inputs), expected, atol=1e-4)


def test_choices_inside_a_skipped_block_are_closed() -> None:
    space = _make("blocks").survey.space
    position, inner = space.positions["layer1.0"], space.positions["layer1.0.conv1"]
    assert position < inner
    walk = [0] * len(space.sites)
    assert space.mask(inner, walk).sum() > 1
    walk[position] = 1
    assert space.mask(inner, walk).sum() == 1
    walk[inner] = 1
    assert space.plan(walk)["layer1.0.conv1"] == KEEP


def test_eight_bits_of_storage_are_offered_where_no_integer_kernel_is() -> None:
    case = _make("gru")
    names = {str(choice) for choice in case.survey.space.choices[0]}
    assert "low_bits(bits=8)" in names
    assert "int8" not in names
    assert "low_bits(bits=8)" not in {str(choice) for choice in case.survey.space.choices[-1]}
