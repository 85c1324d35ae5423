"""The finishes of block column-row sparse layers, on scikit-learn's digits and on layers of every kind."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from espalier.compression.bank import Bank
from espalier.compression.bank_builder import build_bank
from espalier.compression.choice import KEEP, Choice
from espalier.compression.layers import BlockSparseCodec, OverSignals, StoredLayer
from espalier.compression.plan import Plan
from espalier.compression.storage import load_network
from espalier.compression.survey import Survey, survey
from espalier.compression.technique import Technique
from espalier.compression.techniques import BcrPruning, ChannelPruning
from espalier.envs.problem import Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.errors import ModelError
from espalier.evaluation.demand import Demand
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.finish.admm import Admm
from espalier.finish.block_sites import block_sites, dense_plan, replace_by_stored
from espalier.finish.finish import Finished, Finisher
from espalier.finish.gradual import Gradual
from espalier.finish.masked import Masked
from espalier.finish.plan_networks import PlanNetworks
from espalier.finish.pruning import PruningMethod
from espalier.finish.recipe import FinishRecipe
from espalier.finish.reweighted import Reweighted
from espalier.hw_models.roofline import Roofline
from espalier.tasks.data.digits import digits
from espalier.tasks.data.split import Split, Splits
from espalier.tasks.distillation import DistillationRecipe, distil
from espalier.tasks.models.conv1d import Conv1dNetwork
from espalier.tasks.models.recurrent import RecurrentClassifier
from espalier.tasks.models.vgg import VggSmall
from espalier.tasks.task import Task
from espalier.tasks.training import TrainingRecipe, train
from torch import Tensor, nn

_RATE = 4.0


@dataclass(frozen=True)
class Pruned:
    """A trained network, its space and its bank."""

    task: Task
    survey: Survey
    bank: Bank

    @property
    def networks(self) -> PlanNetworks:
        """Made with few images."""
        return PlanNetworks(self.task, self.survey, self.bank, 64)

    def plan(self, **others: Choice) -> Plan:
        """Block column-row pruning wherever it is open, and other choices."""
        bcr = Choice.of("bcr_pruning", rate=_RATE)
        space = self.bank.space
        chosen = {
            site.name: bcr if bcr in choices else KEEP for site, choices in zip(space.sites, space.choices, strict=True)
        }
        return Plan.of(chosen | {name.replace("_", "."): choice for name, choice in others.items()})


def _prepared(
    name: str, model: nn.Module, splits: Splits, techniques: Sequence[Technique], exclude: Sequence[str] = ()
) -> Pruned:
    task = Task(name, model, splits)
    surveyed = survey(
        task.model, task.example_input, {technique.name: technique for technique in techniques}, (), exclude
    )
    return Pruned(task, surveyed, build_bank(task.model, surveyed.space, task.calibrate.inputs(), task.fingerprint))


def _blocks(rows: int = 8, columns: int = 24) -> BcrPruning:
    return BcrPruning((_RATE,), rows, columns, 4)


@pytest.fixture(scope="module")
def pruned() -> Pruned:
    torch.manual_seed(0)
    splits = digits(size=8, calibrate=64, search=200, test=900)
    model = VggSmall([16, 24], hidden=24, in_channels=1, image_size=8, n_classes=10)
    train(model, splits.fit, TrainingRecipe(epochs=8), seed=0)
    return _prepared("digits", model, splits, [_blocks(), ChannelPruning()], ["classifier.2"])


def _recipe(epochs: int) -> DistillationRecipe:
    return DistillationRecipe(epochs=epochs, batch_size=16, learning_rate=5e-3, batch_norm="trained")


def _methods(epochs: int) -> list[PruningMethod]:
    both = {"approach": _recipe(epochs), "retraining": _recipe(epochs), "update_steps": 5}
    return [
        Masked(retraining=_recipe(epochs)),
        Admm(rho=0.05, **both),
        Reweighted(strength=1e-3, **both),
        Gradual(**both),
    ]  # type: ignore[arg-type]


def _finish(pruned: Pruned, method: PruningMethod, folder: Path, onnx: bool = False) -> Finished:
    device = Roofline("toy", gflops=10.0, bandwidth_gbps=2.0, overhead_us=1.0, int8_speedup=3.0)
    evaluator = LocalEvaluator(pruned.task, pruned.survey, pruned.bank, device)
    problem = Problem(pruned.bank, evaluator, ConstrainedReward(), Demand(), device)
    recipe = FinishRecipe(
        candidates=1, refit_images=64, distillation=DistillationRecipe(epochs=1), onnx=onnx, pruning=method
    )
    finisher = Finisher(pruned.networks, device, Demand(), problem.judge, recipe, seed=3)
    return finisher.finish([problem.evaluate(pruned.plan())], problem.baseline, folder)


def _codecs(network: nn.Module) -> dict[str, BlockSparseCodec]:
    return {path: module for path, module in network.named_modules() if isinstance(module, BlockSparseCodec)}


@pytest.mark.parametrize("method", _methods(4), ids=lambda method: type(method).__name__)
def test_a_finish_delivers_block_sparse_layers_that_are_nearly_as_good(
    pruned: Pruned, method: PruningMethod, tmp_path: Path
) -> None:
    finished = _finish(pruned, method, tmp_path)
    report = finished.pruning
    assert report is not None
    assert finished.to_dict()["pruning"]["method"] == report.method == type(method).__name__.lower()
    network = load_network(tmp_path / "model.safetensors", pruned.task.model)
    codecs = _codecs(network)
    assert len(codecs) >= 4
    for codec in codecs.values():
        assert 0.8 * codec.shape.numel() / _RATE < codec.n_parameters <= codec.shape.numel() / _RATE
        assert not codec.decode()[~codec.mask()].any()
    assert report.retraining.accuracy_after >= report.retraining.accuracy_before
    assert finished.search_accuracies["final"] > 0.75
    assert finished.search_accuracies["final"] >= finished.search_accuracies["refitted"]
    assert finished.accuracies["original"].value > 0.9


def test_files_of_a_finish_run_in_onnxruntime_and_verify(pruned: Pruned, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    finished = _finish(pruned, _methods(1)[1], tmp_path, onnx=True)
    assert finished.onnx_max_abs_error is not None
    assert finished.onnx_max_abs_error < 1e-4


def test_the_default_leaves_the_winner_as_it_is(pruned: Pruned, tmp_path: Path) -> None:
    default = FinishRecipe().pruning
    assert default == Masked()
    assert default.prune(pruned.networks, pruned.plan(), 0) is None
    finished = _finish(pruned, default, tmp_path)
    assert finished.pruning is None
    assert finished.to_dict()["pruning"] is None


@pytest.mark.parametrize("method", _methods(1), ids=lambda method: type(method).__name__)
def test_plans_without_blocks_are_left_alone(pruned: Pruned, method: PruningMethod) -> None:
    assert method.prune(pruned.networks, pruned.bank.space.keep_plan, 0) is None


def test_equal_seeds_give_equal_weights_and_neither_original_nor_bank_changes(pruned: Pruned) -> None:
    method = _methods(1)[1]
    before = copy.deepcopy(pruned.task.model.state_dict())
    plan, states = pruned.plan(), []
    variants = copy.deepcopy([variant.module.state_dict() for variant in pruned.bank.variants.values()])
    for seed in (1, 1, 2):
        made = method.prune(pruned.networks, plan, seed)
        assert made is not None
        states.append(made[0].state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    values = [name for name in first if name.endswith("values")]
    assert values
    assert any(first[name].shape != other[name].shape or not torch.equal(first[name], other[name]) for name in values)
    assert all(torch.equal(before[name], tensor) for name, tensor in pruned.task.model.state_dict().items())
    for old, variant in zip(variants, pruned.bank.variants.values(), strict=True):
        assert all(torch.equal(old[name], tensor) for name, tensor in variant.module.state_dict().items())


def test_without_the_penalty_weights_stay_far_from_sparse(pruned: Pruned) -> None:
    """The same training with next to no rho prunes away far more."""
    distances = []
    for rho in (0.3, 1e-12):
        method = Admm(approach=_recipe(6), retraining=DistillationRecipe(epochs=0), update_steps=5, rho=rho)
        made = method.prune(pruned.networks, pruned.plan(), 0)
        assert made is not None
        before, after = made[1].distances
        distances.append(after)
        assert 0.1 < before < 1
    assert distances[0] < 0.5 * distances[1]


def test_masks_hold_while_the_rest_is_trained(pruned: Pruned) -> None:
    network = copy.deepcopy(pruned.networks.refitted(dense_plan(pruned.plan(), pruned.bank.space)))
    replace_by_stored(network, block_sites(network, pruned.plan(), pruned.bank.space))
    before = {path: (codec.mask().clone(), codec.decode().detach().clone()) for path, codec in _codecs(network).items()}
    network.requires_grad_(True)
    distil(network, pruned.task.model, pruned.task.fit, pruned.task.search, _recipe(2), 0)
    for path, codec in _codecs(network).items():
        mask, values = before[path]
        assert torch.equal(codec.mask(), mask)
        assert torch.equal(codec.decode() != 0, mask)
        assert not torch.equal(codec.decode(), values)


def test_other_choices_of_the_plan_are_kept(pruned: Pruned) -> None:
    """A layer that reads fewer channels is pruned as it stands in the narrowed network."""
    space = pruned.bank.space
    first = space.sites[0].name
    narrow = next(c for c in space.choices[0] if c.technique == "channel_pruning")
    plan = space.plan(space.indices(Plan.of(dict(pruned.plan()) | {first: narrow})))
    made = Gradual(approach=_recipe(1), retraining=_recipe(1), update_steps=5).prune(pruned.networks, plan, 0)
    assert made is not None
    network = made[0]
    kept = space.kept_channels(first, narrow)
    assert network.get_submodule(first).out_channels == kept
    second = network.get_submodule(space.sites[1].name)
    assert isinstance(second, StoredLayer)
    assert second.codecs["weight"].shape[1] == kept
    assert torch.isfinite(pruned.networks.folded(network)(pruned.task.search.inputs(slice(0, 4)))).all()


def _noise(shape: tuple[int, ...], axis: int) -> Splits:
    generator = torch.Generator().manual_seed(0)
    ones = (1.0,) * shape[axis - 1]
    parts = []
    for count in (24, 40, 16, 16):
        inputs, labels = torch.randn(count, *shape, generator=generator), torch.arange(count) % 4
        parts.append(Split(inputs, labels, ones, ones, axis))
    return Splits(*parts)


_KINDS: list[tuple[nn.Module, tuple[int, ...], int]] = [
    (Conv1dNetwork(6, (16, 24), 3, 4), (6, 32), 1),
    (RecurrentClassifier("gru", 12, 16, 1, 4), (5, 12), 2),
    (RecurrentClassifier("lstm", 12, 16, 2, 4), (5, 12), 2),
]


@pytest.mark.parametrize(("model", "shape", "axis"), _KINDS, ids=["conv1d", "gru", "lstm"])
def test_layers_of_every_kind_are_pruned_to_the_nearest_sparse_ones(
    model: nn.Module, shape: tuple[int, ...], axis: int
) -> None:
    prepared = _prepared("noise", copy.deepcopy(model), _noise(shape, axis), [_blocks(8, 12)])
    plan, space = prepared.plan(), prepared.bank.space
    network = copy.deepcopy(prepared.task.model)
    sites = block_sites(network, plan, space)
    weights = [(w, w.parameter.detach().clone()) for site in sites for w in site.weights.values()]
    replace_by_stored(network, sites)
    codecs = list(_codecs(network).values())
    assert len(codecs) == len(weights) > 0
    for codec, (weight, before) in zip(codecs, weights, strict=True):
        assert torch.equal(codec.decode(), weight.projected(before))
        assert codec.n_parameters <= before.numel() / _RATE
    by_hand = copy.deepcopy(prepared.task.model)
    masks = {site.path: [w.mask(w.parameter) for w in site.weights.values()] for site in sites}
    for path, kept in masks.items():
        layer = by_hand.get_submodule(path)
        named = [parameter for name, parameter in layer.named_parameters() if name.startswith("weight")]
        for parameter, mask in zip(named, kept, strict=True):
            parameter.data.mul_(mask.view_as(parameter))
    inputs = prepared.task.search.inputs()
    assert torch.allclose(network(inputs), by_hand(inputs), atol=1e-5)
    assert any(isinstance(m, OverSignals) for m in network.modules()) == isinstance(model, Conv1dNetwork)


@pytest.mark.parametrize(("model", "shape", "axis"), _KINDS, ids=["conv1d", "gru", "lstm"])
def test_layers_of_every_kind_go_through_a_finish(model: nn.Module, shape: tuple[int, ...], axis: int) -> None:
    prepared = _prepared("noise", copy.deepcopy(model), _noise(shape, axis), [_blocks(8, 12)])
    for method in _methods(1)[1:3]:
        made = method.prune(prepared.networks, prepared.plan(), 0)
        assert made is not None
        scores: Tensor = prepared.networks.folded(made[0])(prepared.task.search.inputs())
        assert torch.isfinite(scores).all()
        assert _codecs(made[0])


def test_batch_norms_follow_their_batches_only_where_they_are_trained(pruned: Pruned) -> None:
    for how, moves in (("fixed", False), ("trained", True)):
        network = copy.deepcopy(pruned.task.model).requires_grad_(True)
        norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
        before = norm.running_mean.clone()
        recipe = DistillationRecipe(epochs=1, learning_rate=1e-2, batch_norm=how)  # type: ignore[arg-type]
        distil(network, pruned.task.model, pruned.task.fit, pruned.task.calibrate, recipe, 0)
        network_has_moved = not torch.equal(norm.running_mean, before)
        assert network_has_moved <= moves, "the best checkpoint may be the start"
        assert not norm.training


@pytest.mark.parametrize("settings", [{"optimizer": "sgd", "learning_rate": 0.05}, {"precision": "bfloat16"}])
def test_other_optimizers_and_precisions_learn_too(pruned: Pruned, settings: dict[str, object]) -> None:
    network = copy.deepcopy(pruned.networks.refitted(pruned.plan())).requires_grad_(True)
    recipe = DistillationRecipe(**{"epochs": 3, "learning_rate": 3e-3, "batch_norm": "trained"} | settings)  # type: ignore[arg-type]
    report = distil(network, pruned.task.model, pruned.task.fit, pruned.task.search, recipe, 0)
    assert report.losses[-1] < report.losses[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, r"distillation\.optimizer must be adamw or sgd, got 'lion'"),
        ({"batch_norm": "frozen"}, r"distillation\.batch_norm must be fixed or trained, got 'frozen'"),
        ({"precision": "float16"}, r"distillation\.precision must be float32 or bfloat16, got 'float16'"),
    ],
)
def test_unknown_names_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        DistillationRecipe(**settings)  # type: ignore[arg-type]
