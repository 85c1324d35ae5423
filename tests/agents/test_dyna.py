"""The Dyna agent as a whole: beats random, replays, stops when everything is known, refuses nonsense."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from espalier.agents.dyna.belief import BeliefRecipe
from espalier.agents.dyna.front import hypervolume
from espalier.agents.dyna.planners import EvolutionPlanner, RandomPlanner
from espalier.agents.dyna.policy import PolicyPlanner
from espalier.agents.dyna.proposals import BatchRecipe
from espalier.agents.dyna.search import DynaRecipe, DynaSearch
from espalier.agents.exhaustive import ExhaustiveSearch
from espalier.agents.random_search import RandomSearch
from espalier.agents.searcher import Searcher
from espalier.commands.building import build, resolved
from espalier.commands.catalogue import options
from espalier.commands.schema import register_schema
from espalier.compression.bank_builder import build_bank
from espalier.compression.survey import survey
from espalier.compression.techniques import ChannelPruning, Int8
from espalier.envs.problem import Callback, Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.errors import EspalierError
from espalier.evaluation.demand import Demand
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.testing.contracts import SearcherContract
from espalier.testing.toy import toy_problem
from hydra import compose, initialize_config_module

from tests.conftest import Small


def _policy() -> PolicyPlanner:
    return PolicyPlanner(32, 3, hyperparameters={"n_epochs": 2, "learning_rate": 2e-3, "gamma": 1.0})


class TestContract(SearcherContract):
    @pytest.fixture(params=["policy", "evolution", "random"])
    def searcher(self, request: pytest.FixtureRequest) -> Searcher:
        made = {"policy": _policy, "evolution": EvolutionPlanner, "random": RandomPlanner}
        return DynaSearch(made[request.param](), seed=1)


def _best(agent: Searcher, budget: int = 30) -> float:
    return agent.search(toy_problem(), budget).best()[0].reward


def test_it_beats_random_search_at_equal_evaluations() -> None:
    """The ablation is random search: what is learnt between evaluations is the whole difference."""
    seeds = range(3)
    ours = [_best(DynaSearch(_policy(), seed=seed)) for seed in seeds]
    random = [_best(RandomSearch(seed=seed)) for seed in seeds]
    assert np.median(ours) > np.median(random)
    assert min(ours) >= max(random)


@pytest.mark.parametrize(
    "recipe",
    [
        DynaRecipe(belief=BeliefRecipe(errors=False)),
        DynaRecipe(belief=BeliefRecipe(exact_costs=False)),
        DynaRecipe(belief=BeliefRecipe(interactions=False)),
        DynaRecipe(kappa=0.0),
        DynaRecipe(start=1, batch=BatchRecipe(size=1, moves=0, front=0)),
        DynaRecipe(batch=BatchRecipe(screening=False, rejection=False)),
    ],
)
def test_every_part_can_be_left_out(recipe: DynaRecipe) -> None:
    archive = DynaSearch(EvolutionPlanner(40, 3), recipe).search(toy_problem(), 24)
    assert len(archive) == 24


def test_the_front_places_extend_the_front() -> None:
    """The ablation: the same agent without them dominates less."""
    areas = []
    for front in (2, 0):
        problem = toy_problem()
        archive = DynaSearch(EvolutionPlanner(60, 6), DynaRecipe(batch=BatchRecipe(front=front))).search(problem, 50)
        accuracies = np.array([e.metrics.accuracy for e in archive])
        area = 0.0
        for cost in ("latency_ms", "storage_bytes"):
            shares = np.array([e.metrics.cost(cost) for e in archive]) / problem.baseline.cost(cost)
            area += hypervolume(accuracies, shares)
        areas.append(area)
    assert areas[0] > areas[1]


def test_rejected_plans_are_only_those_that_cannot_win(small: Small) -> None:
    problem = small.problem()
    archive = list(DynaSearch(EvolutionPlanner(60, 5), DynaRecipe(batch=BatchRecipe(front=0))).search(problem, 40))
    wasted = 0
    for place, evaluation in enumerate(archive[10:], 10):
        before = archive[: place - place % 5]
        highest = min(1.0, max(e.metrics.accuracy for e in before) + 0.01)
        wasted += problem.judge(replace(evaluation.metrics, accuracy=highest)) <= max(e.reward for e in before)
    assert wasted == 0


def test_a_small_space_is_enumerated_and_left(small: Small) -> None:
    model = small.task.model
    techniques = {"channel_pruning": ChannelPruning(kept=(0.5,)), "int8": Int8()}
    surveyed = survey(model, small.task.example_input, techniques, ["features.10", "classifier.0", "classifier.2"])
    bank = build_bank(model, surveyed.space, small.task.calibrate.inputs(), "enumerated")
    evaluator = LocalEvaluator(small.task, surveyed, bank, small.device)
    problem = Problem(bank, evaluator, ConstrainedReward(), Demand(), small.device)
    everything = len(ExhaustiveSearch().search(problem, 1000))
    assert everything <= 18
    found = DynaSearch(_policy()).search(problem, 1000)
    assert len(found) == everything


def test_the_policy_is_kept_for_the_checkpoint_and_training_is_reported() -> None:
    class Recorder(Callback):
        names: set[str]

        def trained(self, metrics: Mapping[str, float]) -> None:
            self.names = set(metrics)

    recorder = Recorder()
    agent = DynaSearch(_policy())
    assert agent.policy_state() == {}
    agent.search(toy_problem(), 20, recorder)
    assert agent.policy_state()
    assert recorder.names >= {"train/surrogate_noise", "train/simulated_walks", "train/best_simulated"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DynaRecipe(start=0), r"agent\.recipe\.start must be at least 1, got 0"),
        (lambda: DynaRecipe(kappa=-1.0), r"agent\.recipe\.kappa must be at least 0, got -1"),
        (lambda: DynaRecipe(batch=BatchRecipe(size=2, moves=2, front=1)), "together fit in its size"),
        (lambda: DynaRecipe(batch=BatchRecipe(size=0, moves=0, front=0)), "together fit in its size"),
        (lambda: DynaSearch("policy"), r"agent\.planner must build a planner, got str"),  # type: ignore[arg-type]
    ],
)
def test_wrong_recipes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        make()


@pytest.mark.parametrize("planner", options("planner"))
def test_every_planner_is_a_choice_of_the_configuration(planner: str) -> None:
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        config = compose("config", overrides=["agent=dyna", f"planner@agent.planner={planner}"])
    agent = build(resolved(config)["agent"])
    assert len(agent.search(toy_problem(), 15)) == 15
