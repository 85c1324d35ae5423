"""Gradient steps before a plan is judged."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.commands.search import Prepared
from espalier.compression.plan import Plan
from espalier.compression.refit import Refit
from espalier.compression.storage import load_network
from espalier.envs.problem import Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.errors import EspalierError
from espalier.evaluation.demand import Demand
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.evaluation.recalibration import RelativeRecalibration
from espalier.evaluation.store import Store
from espalier.evaluation.tuning import BriefTuning
from espalier.finish.finish import Finisher
from espalier.finish.plan_networks import PlanNetworks
from espalier.finish.recipe import FinishRecipe
from espalier.graph.layers import executable
from espalier.tasks.accuracy import accuracy
from espalier.tasks.distillation import DistillationRecipe
from torch import Tensor, nn

from tests.conftest import Small


def _evaluator(small: Small, store: Store | None = None, **settings: float) -> LocalEvaluator:
    return LocalEvaluator(small.task, small.survey, small.bank, small.device, store, **settings)  # type: ignore[arg-type]


def _plans(small: Small, count: int) -> list[Plan]:
    rng = np.random.default_rng(8)
    return [small.survey.space.plan(small.survey.space.random(rng)) for _ in range(count)]


def test_one_step_is_adams_step_on_the_divergence() -> None:
    torch.manual_seed(0)
    model, network = nn.Linear(3, 4).eval(), nn.Linear(3, 4).eval()
    inputs = torch.randn(20, 3)
    tuned = BriefTuning(model, inputs, steps=1, learning_rate=0.01).apply(network)

    rows = torch.randint(20, (64,), generator=torch.Generator().manual_seed(0))
    expected = copy.deepcopy(network).requires_grad_(True)
    p, q = ((layer(inputs[rows]) / 2).softmax(1) for layer in (model, expected))
    (p.detach() * (p.detach() / q).log()).sum(1).mean().backward()
    for before, after in zip(expected.parameters(), tuned.parameters(), strict=True):
        assert before.grad is not None
        # Adam's first step moves every weight by the learning rate against the sign of its gradient.
        torch.testing.assert_close(after, before.detach() - 0.01 * before.grad.sign(), atol=1e-5, rtol=0)


def _distance(small: Small, network: nn.Module, inputs: Tensor) -> float:
    with torch.no_grad():
        return float((small.task.model(inputs) - executable(network)(inputs)).square().mean())


def test_tuned_networks_come_closer_to_the_original(small: Small) -> None:
    plain, tuned = _evaluator(small), _evaluator(small, tuning_steps=20, tuning_rate=1e-3)
    inputs = small.task.search.inputs()
    before, after = (
        np.array([_distance(small, evaluator.network(plan), inputs) for plan in _plans(small, 6)])
        for evaluator in (plain, tuned)
    )
    assert np.median(after / before) < 0.8


def test_refitted_layers_are_those_of_the_refit(small: Small) -> None:
    (plan,) = _plans(small, 1)
    network = _evaluator(small, refit_images=32).network(plan)

    images, model = small.task.calibrate.inputs(), small.task.model
    solved = Refit(model, small.bank, images[:32]).apply(plan)
    recalibration = RelativeRecalibration(model, images[: max(16, round(0.07 * len(small.task.search)))])
    expected = recalibration.apply(solved, small.bank.kept_channels(plan))
    probe = small.task.search.inputs(slice(0, 20))
    with torch.no_grad():
        torch.testing.assert_close(network(probe), expected(probe), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("setting", ["tuning_steps", "refit_images"])
def test_the_accuracy_is_that_of_the_network_it_returns(small: Small, setting: str) -> None:
    evaluator = _evaluator(small, **{setting: 20})
    for plan in _plans(small, 2):
        (answer,) = evaluator.evaluate([plan])
        reached = accuracy(executable(evaluator.network(plan)), small.task.search)
        assert answer.metrics.accuracy == reached


@pytest.mark.parametrize("steps", [0, 20])
def test_fine_tuning_starts_from_what_a_tuning_evaluator_judged(small: Small, tmp_path: Path, steps: int) -> None:
    """Without an epoch of fine-tuning, what is delivered is what it starts from."""
    evaluator = _evaluator(small, tuning_steps=steps, tuning_rate=1e-3)
    problem = Problem(small.bank, evaluator, ConstrainedReward(), Demand(), small.device)
    prepared = Prepared(small.task, small.survey, evaluator, problem)
    recipe = FinishRecipe(1, refit_images=64, distillation=DistillationRecipe(epochs=0), onnx=False)
    networks = prepared.networks(recipe.refit_images)
    finisher = Finisher(networks, small.device, Demand(), problem.judge, recipe, seed=0)
    (plan,) = _plans(small, 1)
    finished = finisher.finish([problem.evaluate(plan)], problem.baseline, tmp_path)
    refitted = PlanNetworks(small.task, small.survey, small.bank, 64).start(plan)
    expected = evaluator.network(plan) if steps else refitted
    delivered = load_network(tmp_path / "model.safetensors", small.task.model)
    inputs = small.task.search.inputs(slice(0, 50))
    with torch.no_grad():
        torch.testing.assert_close(delivered(inputs), executable(expected)(inputs), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(executable(refitted)(inputs), executable(evaluator.network(plan))(inputs), atol=1e-2)
    assert finished.search_accuracies["refitted"] == accuracy(executable(expected), small.task.search)


def test_tuning_leaves_bank_and_random_numbers_alone(small: Small) -> None:
    stored = {key: copy.deepcopy(v.module.state_dict()) for key, v in small.bank.variants.items()}
    before = torch.random.get_rng_state()
    _evaluator(small, tuning_steps=2).evaluate(_plans(small, 3))
    assert torch.equal(torch.random.get_rng_state(), before)
    for key, state in stored.items():
        for name, tensor in small.bank.variants[key].module.state_dict().items():
            assert torch.equal(tensor, state[name])


def test_the_original_is_not_tuned_and_tuned_accuracies_are_kept_apart(small: Small, tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    keep = small.survey.space.keep_plan
    plain, tuned = _evaluator(small, store), _evaluator(small, store, tuning_steps=2)
    assert plain.evaluate([keep])[0].metrics.accuracy == tuned.evaluate([keep])[0].metrics.accuracy
    assert not tuned.evaluate(_plans(small, 1))[0].repeated
    assert not plain.evaluate(_plans(small, 1))[0].repeated
    assert tuned.evaluate(_plans(small, 1))[0].repeated


@pytest.mark.parametrize(
    "setting",
    [{"recalibration_share": -0.1}, {"tuning_steps": -1}, {"tuning_rate": 0.0}],
    ids=lambda one: next(iter(one)),
)
def test_settings_out_of_range_are_refused(small: Small, setting: dict[str, float]) -> None:
    with pytest.raises(EspalierError, match=r"evaluator: .*must be at least 0, tuning_rate above 0; got"):
        _evaluator(small, **setting)
