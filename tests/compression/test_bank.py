"""The bank, assembly, costs, model files and the refit."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from espalier.compression import bank_builder
from espalier.compression.assembly import assemble, fold_batch_norms, structural_copy
from espalier.compression.bank import Bank
from espalier.compression.bank_builder import build_bank
from espalier.compression.choice import KEEP, Choice
from espalier.compression.layers import absorber, build_module, describe_module, parameter_count
from espalier.compression.plan import Plan
from espalier.compression.realised import Realiser, count_parameters, count_storage_bytes
from espalier.compression.refit import Refit
from espalier.compression.space import Narrowing
from espalier.compression.storage import load_network, save_network, serialise_network
from espalier.compression.survey import Survey, survey
from espalier.compression.techniques import ChannelPruning, Int8, SpatialSvd
from espalier.errors import FormatError
from espalier.graph.opspec import FREE_KINDS
from espalier.graph.trace import trace
from espalier.tasks.models.resnet import CifarResNet
from espalier.tasks.models.vgg import VggSmall
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.conftest import Small


def _plans(small: Small, count: int = 12) -> list[Plan]:
    rng = np.random.default_rng(0)
    space = small.survey.space
    return [space.keep_plan, *(space.plan(space.random(rng)) for _ in range(count))]


@pytest.fixture(scope="module")
def resnet() -> tuple[nn.Module, Survey, Bank, Tensor]:
    torch.manual_seed(0)
    model = CifarResNet(20).eval().requires_grad_(False)
    inputs = torch.randn(24, 3, 32, 32)
    surveyed = survey(model, inputs[:1], {t.name: t for t in (ChannelPruning(), Int8(), SpatialSvd())}, ["layer[23].*"])
    return model, surveyed, build_bank(model, surveyed.space, inputs, "resnet"), inputs


def test_assembly_shares_tensors_and_leaves_the_original_alone(small: Small) -> None:
    before = {name: tensor.clone() for name, tensor in small.task.model.state_dict().items()}
    for plan in _plans(small):
        network = assemble(small.task.model, plan, small.bank)
        assert network(small.task.example_input).shape == (1, 10)
    keep = assemble(small.task.model, small.survey.space.keep_plan, small.bank)
    assert all(a is b for a, b in zip(keep.parameters(), small.task.model.parameters(), strict=True))
    after = small.task.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_realised_operators_are_those_of_the_assembled_network(small: Small) -> None:
    """Trace what was assembled and folded; its work must be what the costs were summed over."""
    realiser = Realiser(small.survey.graph, small.survey.fusion, small.bank)
    for plan in _plans(small):
        network = fold_batch_norms(assemble(small.task.model, plan, small.bank), small.survey.batch_norm_pairs)
        graph = trace(network, small.task.example_input)
        costly = [s for o in graph.operators for s in o.specs if s.kind in ("conv2d", "linear", "global_avg_pool2d")]
        expected = sorted((s.kind, s.input_shape, s.output_shape, s.kernel, s.groups, s.bits) for s in costly)
        counted = [s for s in realiser.specs(plan) if s.kind in ("conv2d", "linear", "global_avg_pool2d")]
        assert sorted((s.kind, s.input_shape, s.output_shape, s.kernel, s.groups, s.bits) for s in counted) == expected
        assert not any(spec.kind in FREE_KINDS for spec in realiser.specs(plan))
        assert realiser.output(plan) in {operator.name for operator in realiser.operators(plan)}


def test_counts_equal_the_delivered_network_and_its_file(small: Small) -> None:
    pairs = small.survey.batch_norm_pairs
    for plan in _plans(small):
        network = assemble(small.task.model, plan, small.bank)
        folded = fold_batch_norms(network, pairs)
        assert count_parameters(network, pairs) == parameter_count(folded)
        size = len(serialise_network(folded, small.task.model))
        assert count_storage_bytes(network, pairs) == pytest.approx(size, rel=0.1, abs=1500)


def test_folding_changes_nothing(small: Small) -> None:
    inputs = small.task.search.inputs(slice(0, 16))
    for plan in _plans(small):
        network = assemble(small.task.model, plan, small.bank)
        folded = fold_batch_norms(network, small.survey.batch_norm_pairs)
        assert torch.allclose(folded(inputs), network(inputs), rtol=1e-3, atol=2e-3)
        foldable = [absorber(network.get_submodule(layer)) for layer, _ in small.survey.batch_norm_pairs]
        left = sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
        assert left == sum(part is None for part in foldable)


def test_covering_plans_lead_to_every_operator_of_random_plans(small: Small) -> None:
    realiser = Realiser(small.survey.graph, small.survey.fusion, small.bank)
    covered = {spec for plan in realiser.covering_plans() for spec in realiser.specs(plan)}
    wanted = {spec for plan in _plans(small, 60) for spec in realiser.specs(plan)}
    assert wanted <= covered


def test_model_files_round_trip(small: Small, tmp_path: Path) -> None:
    inputs = small.task.search.inputs(slice(0, 8))
    for number, plan in enumerate(_plans(small)):
        folded = fold_batch_norms(assemble(small.task.model, plan, small.bank), small.survey.batch_norm_pairs)
        path = tmp_path / f"{number}.safetensors"
        assert save_network(path, folded, small.task.model) == path.stat().st_size
        assert torch.allclose(load_network(path, small.task.model)(inputs), folded(inputs), atol=1e-5)
        assert serialise_network(folded, small.task.model) == path.read_bytes()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"widths": (16, 24, 40)}, r"the first that differs is features\.14\.weight of shape \(40, 24, 3, 3\)"),
        ({"hidden": 17}, r"the first that differs is classifier\.0\.weight of shape \(17, 128\)"),
    ],
)
def test_a_model_of_other_shapes_is_refused_even_where_they_were_replaced(
    small: Small, tmp_path: Path, other: dict[str, Any], message: str
) -> None:
    space, model, path = small.survey.space, small.task.model, tmp_path / "m.safetensors"
    indices = [next((i for i, c in enumerate(own) if c.technique == "int8"), 0) for own in space.choices]
    network = fold_batch_norms(assemble(model, space.plan(indices), small.bank), small.survey.batch_norm_pairs)
    save_network(path, network, model)
    same: dict[str, Any] = {"widths": (16, 24, 32), "hidden": 24}
    load_network(path, VggSmall(**same))
    with pytest.raises(FormatError, match=message):
        load_network(path, VggSmall(**(same | other)))


def test_a_model_file_without_a_fingerprint_is_read(small: Small, tmp_path: Path) -> None:
    model = small.task.model
    save_network(tmp_path / "new", model, model)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if "num_batches" not in name}
    save_file(state, tmp_path / "old", {"espalier-model": json.dumps({"version": 1, "layers": {}})})
    inputs = small.task.search.inputs(slice(0, 8))
    assert torch.equal(load_network(tmp_path / "old", model)(inputs), load_network(tmp_path / "new", model)(inputs))


def test_a_model_that_lacks_layers_is_refused(small: Small, tmp_path: Path) -> None:
    save_network(tmp_path / "m", small.task.model, small.task.model)
    short = copy.deepcopy(small.task.model)
    short.classifier = nn.Sequential(*list(short.classifier)[:-1])  # type: ignore[operator]
    with pytest.raises(FormatError, match=r"its original had other parameters, .* is the one after the last of \d+"):
        load_network(tmp_path / "m", short)


def _damage(path: Path, small: Small, kind: str) -> None:
    layers: object = {"classifier.0": {"layer": "Conv9d"}}
    if kind == "rubbish":
        path.write_bytes(b"rubbish")
    elif kind == "foreign":
        save_file({"a": torch.zeros(1)}, path)
    elif kind == "json":
        save_file({"a": torch.zeros(1)}, path, {"espalier-model": "{"})
    elif kind == "list":
        save_file({"a": torch.zeros(1)}, path, {"espalier-model": "[]"})
    elif kind == "version":
        save_file({"a": torch.zeros(1)}, path, {"espalier-model": json.dumps({"version": 99})})
    elif kind == "layer":
        save_file({"a": torch.zeros(1)}, path, {"espalier-model": json.dumps({"version": 1, "layers": layers})})
    elif kind == "layers":
        save_file({"a": torch.zeros(1)}, path, {"espalier-model": json.dumps({"version": 1})})
    elif kind == "tensors":
        save_file({"a": torch.zeros(1)}, path, {"espalier-model": json.dumps({"version": 1, "layers": {}})})
    elif kind == "shape":
        state = {k: v.contiguous() for k, v in small.task.model.state_dict().items()}
        state["classifier.0.bias"] = torch.zeros(3)
        save_file(state, path, {"espalier-model": json.dumps({"version": 1, "layers": {}})})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "cannot read the model file"),
        ("rubbish", "cannot read the model file"),
        ("foreign", "is not a model file of Espalier"),
        ("json", "does not describe its layers"),
        ("list", "does not describe its layers: expected an object"),
        ("version", "has version 99, expected 1"),
        ("layers", "does not describe its layers"),
        ("layer", "unknown layer 'Conv9d'"),
        ("tensors", "does not fit the network: missing"),
        ("shape", "does not fit the network"),
    ],
)
def test_damaged_model_files_are_refused(small: Small, tmp_path: Path, kind: str, message: str) -> None:
    _damage(tmp_path / "m.safetensors", small, kind)
    with pytest.raises(FormatError, match=message):
        load_network(tmp_path / "m.safetensors", small.task.model)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(2, 4, 3), nn.Linear(2, 3), nn.BatchNorm2d(3), nn.BatchNorm1d(3), nn.ReLU()]
)
def test_structures_round_trip(layer: nn.Module) -> None:
    again = build_module(json.loads(json.dumps(describe_module(nn.Sequential(layer, nn.Identity())))))
    again[0].load_state_dict(layer.state_dict())  # type: ignore[index]
    assert [t.shape for t in again.state_dict().values()] == [t.shape for t in layer.state_dict().values()]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("x", "must be an object with a name"),
        ({"layer": "os.system"}, "unknown layer 'os.system'"),
        ({"layer": "Linear", "in_features": 3}, "bad description of a Linear layer"),
        ({"layer": "Conv2d", "geometry": 3}, "bad description of a Conv2d layer"),
    ],
)
def test_descriptions_run_no_code_and_are_checked(description: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        build_module(description)
    with pytest.raises(FormatError, match="a RNN cannot be written to a model file"):
        describe_module(nn.RNN(1, 1))


def test_banks_are_resumed_site_by_site(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = small.task.model, small.task.calibrate.inputs()
    space = survey(
        model, small.task.example_input, {"int8": Int8(), "channel_pruning": ChannelPruning(kept=(0.5,))}
    ).space
    first = build_bank(model, space, inputs, "x", tmp_path)
    files = sorted(tmp_path.iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-7])
    built: list[str] = []
    original = bank_builder._Builder._fit_site

    def counting(self: object, site: object, *rest: object) -> object:
        built.append(site.name)  # type: ignore[attr-defined]
        return original(self, site, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bank_builder._Builder, "_fit_site", counting)
    again = build_bank(model, space, inputs, "x", tmp_path)
    assert len(built) == 2
    assert list(first.variants) == list(again.variants)
    for key, variant in first.variants.items():
        assert again.variants[key].error == variant.error
        assert again.variants[key].specs == variant.specs
        states = zip(
            variant.module.state_dict().values(), again.variants[key].module.state_dict().values(), strict=True
        )
        assert all(torch.equal(a, b) for a, b in states)
    built.clear()
    build_bank(model, space, inputs, "other weights", tmp_path)
    assert len(built) == len(files)
    assert first.storage_bytes > 0


def test_pruned_networks_are_physically_smaller_and_residual_safe(
    resnet: tuple[nn.Module, Survey, Bank, Tensor],
) -> None:
    model, surveyed, bank, inputs = resnet
    space = surveyed.space
    choices = {}
    for site, options in zip(space.sites, space.choices, strict=True):
        pruning = [choice for choice in options if choice.technique == "channel_pruning"]
        choices[site.name] = pruning[-1] if pruning else KEEP
    plan = Plan.of(choices)
    network = assemble(model, plan, bank)
    assert network(inputs[:2]).shape == (2, 10)
    assert network.layer2[0].conv1.out_channels == 8  # type: ignore[index, union-attr]
    assert network.layer2[0].bn1.num_features == 8  # type: ignore[index, union-attr]
    assert network.layer2[0].conv2.in_channels == 8  # type: ignore[index, union-attr]
    assert parameter_count(network) < 0.4 * parameter_count(model)


def test_consumers_of_pruned_channels_are_refitted(resnet: tuple[nn.Module, Survey, Bank, Tensor]) -> None:
    """Against the same network with the channels zeroed and nothing refitted: the refit must be closer."""
    model, surveyed, bank, inputs = resnet
    name = "layer2.1.conv1"
    choice = Choice.of("channel_pruning", kept=0.75)
    plan = Plan.of({s.name: choice if s.name == name else KEEP for s in surveyed.space.sites})
    pruned = assemble(model, plan, bank)
    masked = structural_copy(model)
    norm = masked.get_submodule("layer2.1.bn1")
    gone = torch.ones(32, dtype=torch.bool)
    gone[bank.kept[name, Narrowing("consumers", 24)]] = False
    zeroed = nn.BatchNorm2d(32).eval()
    zeroed.load_state_dict(norm.state_dict())
    with torch.no_grad():
        zeroed.weight[gone] = 0
        zeroed.bias[gone] = 0
    masked.set_submodule("layer2.1.bn1", zeroed)
    expected = model(inputs)
    assert (pruned(inputs) - expected).norm() < (masked(inputs) - expected).norm()


@torch.no_grad()
def test_refitting_a_plan_brings_its_outputs_closer(small: Small) -> None:
    """Summed over plans, on images that the refit has not seen; one image batch has no influence on the bank."""
    fitted_on, seen = small.task.calibrate.inputs(), small.task.search.inputs()
    expected = small.task.model(seen)
    before, after = [], []
    variants = {key: [t.clone() for t in v.module.state_dict().values()] for key, v in small.bank.variants.items()}
    for plan in _plans(small, 8)[1:]:
        plain = assemble(small.task.model, plan, small.bank)
        refitted = Refit(small.task.model, small.bank, fitted_on).apply(plan)
        pairs = small.survey.batch_norm_pairs
        assert count_parameters(refitted, pairs) == count_parameters(plain, pairs)
        before.append(float((plain(seen) - expected).norm()))
        after.append(float((refitted(seen) - expected).norm()))
    assert np.median(np.array(after) / before) < 0.9
    for key, variant in small.bank.variants.items():
        assert all(torch.equal(a, b) for a, b in zip(variants[key], variant.module.state_dict().values(), strict=True))


def test_refitting_what_was_not_changed_is_the_identity(small: Small) -> None:
    inputs = small.task.calibrate.inputs()
    network = Refit(small.task.model, small.bank, inputs).apply(small.survey.space.keep_plan)
    assert torch.equal(network(inputs), small.task.model(inputs))
