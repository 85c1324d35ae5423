"""One policy for many demands: it observes as the environments do, answers unseen demands, travels as a file."""

from pathlib import Path

import numpy as np
import pytest
from espalier.agents.dyna.planners import EvolutionPlanner
from espalier.agents.random_search import RandomSearch
from espalier.agents.universal.demands import DemandRecipe
from espalier.agents.universal.learning import UniversalTraining, on_device
from espalier.agents.universal.policy import UniversalPolicy
from espalier.agents.universal.training import TrainingRecipe, train_policy
from espalier.agents.universal.walk_batch import Ground, WalkBatch
from espalier.agents.universal.walk_env import ManyWorlds
from espalier.agents.universal.world import World, learnt_accuracy
from espalier.envs.observation import LAYOUT, Observer
from espalier.envs.problem import Problem
from espalier.envs.walk import Walk, open_positions
from espalier.errors import EspalierError
from espalier.evaluation.demand import Demand, Weights
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.hw_models.roofline import Roofline
from espalier.testing.toy import toy_problem
from numpy.typing import NDArray

from tests.conftest import Small

_RECIPE = TrainingRecipe(demonstrations=90, epochs=24, updates=3, groups=4, walks=16, hyperparameters={"gamma": 1.0})

#: None of them is drawn in training.
_UNSEEN = [
    Demand(Weights(0.5, 0.0, 0.5, 0.0), None),
    Demand(Weights(0.4, 0.1, 0.0, 0.5), 2.0),
    Demand(Weights(0.7, 0.3, 0.0, 0.0), None),
]


@pytest.fixture(scope="module")
def world() -> World:
    problem, rng = toy_problem(), np.random.default_rng(0)
    return World(problem, learnt_accuracy(problem, RandomSearch().search(problem, 60), rng), rng)


@pytest.fixture(scope="module")
def policy(world: World) -> UniversalPolicy:
    return train_policy({"toy": world}, _RECIPE, planner=EvolutionPlanner(60, 5))


def test_batches_observe_what_the_environment_shows() -> None:
    """The oracle is the walk that the Gymnasium environment is made of, under each walk's own demand."""
    problems = [toy_problem(demand=demand) for demand in (*_UNSEEN, Demand(latency_ms=0.01, storage_bytes=3e4))]
    batch = WalkBatch(Ground(problems[0]), [problem.demand for problem in problems])
    walks = [Walk(problem, Observer(problem), open_positions(problem)) for problem in problems]
    rng = np.random.default_rng(0)
    while not batch.is_over:
        for walk, seen, mask in zip(walks, batch.observations(), batch.masks(), strict=True):
            np.testing.assert_allclose(seen, walk.observation(), rtol=1e-6, atol=1e-6)
            assert mask[: len(walk.mask)].tolist() == walk.mask.tolist()
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in batch.masks()])
        batch.choose(actions)
        for walk, action in zip(walks, actions, strict=True):
            assert walk.choose(int(action))
    for walk, seen in zip(walks, batch.observations(), strict=True):
        np.testing.assert_allclose(seen, walk.observation(), rtol=1e-6, atol=1e-6)


def test_a_world_pays_what_the_problem_would_for_the_same_accuracy(world: World) -> None:
    walks = world.ground.tables.random(20, np.random.default_rng(1))
    for demand in _UNSEEN:
        problem = toy_problem(demand=demand)
        expected = []
        for walk, metrics in zip(walks.tolist(), world.metrics(walks), strict=True):
            evaluated = problem.evaluate_walk(walk).metrics
            assert abs(evaluated.accuracy - metrics.accuracy) < 0.05  # learnt from 60 plans
            assert evaluated.energy_mj.value == pytest.approx(metrics.energy_mj.value)
            expected.append(problem.judge(metrics))
        np.testing.assert_allclose(world.rewards(walks, demand), expected)


def test_walks_of_a_group_are_paid_by_their_rank_under_one_demand(world: World) -> None:
    env = ManyWorlds([world], DemandRecipe(), 3, 8, np.random.default_rng(0))
    observations = env.reset()
    demands = observations[:, LAYOUT["demand"]].reshape(3, 8, -1)
    assert (demands == demands[:, :1]).all()
    assert not (demands[0] == demands[1]).all()
    rng, dones = np.random.default_rng(1), np.zeros(24, bool)
    while not dones.any():
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in env.env_method("action_masks")])
        _, rewards, dones, infos = env.step(actions)
    assert dones.all()
    assert "terminal_observation" in infos[0]
    assert (rewards.reshape(3, 8).min(1) == 0).all()
    assert ((rewards >= 0) & (rewards < 1)).all()


@pytest.mark.parametrize("demand", _UNSEEN)
def test_it_answers_an_unseen_demand_better_than_random(policy: UniversalPolicy, demand: Demand) -> None:
    """One evaluation of the policy against the best of three random ones; an untrained policy is the ablation."""

    def reward(one: UniversalPolicy) -> float:
        problem = toy_problem(demand=demand)
        return problem.evaluate_walk(one.greedy(problem)[0].tolist()).reward

    random = [RandomSearch(seed).search(toy_problem(demand=demand), 4) for seed in range(10)]
    bests = [max(e.reward for e in list(archive)[1:]) for archive in random]
    assert reward(policy) > np.mean(bests)
    assert reward(UniversalPolicy.untrained()) < reward(policy)


def test_it_reads_the_demand(policy: UniversalPolicy) -> None:
    """Who wants accuracy alone gets a more accurate answer than who wants a small file."""
    answers = []
    for weights in (Weights(1.0, 0.0, 0.0, 0.0), Weights(0.1, 0.0, 0.0, 0.9)):
        problem = toy_problem(demand=Demand(weights, None))
        answers.append(problem.evaluate_walk(policy.greedy(problem)[0].tolist()).metrics)
    assert answers[0].accuracy > answers[1].accuracy
    assert answers[0].storage_bytes.value > answers[1].storage_bytes.value


def test_samples_are_open_different_and_the_same_every_time(policy: UniversalPolicy) -> None:
    ground = Ground(toy_problem(demand=_UNSEEN[0]))
    first, second = (policy.sample(ground, 64, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert len(np.unique(first, axis=0)) == len(first)
    assert (ground.tables.canonical(first) == first).all()


def test_training_replays(world: World) -> None:
    recipe = TrainingRecipe(demonstrations=2, epochs=1, updates=1, groups=2, walks=4)
    first, second = (train_policy({"toy": world}, recipe, seed=5).state() for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


def test_samples_take_only_choices_that_the_environment_leaves_open(small: Small) -> None:
    """The oracle is the environment's own mask, which bounds of the costs close; without them samples break it."""
    free = small.problem()
    evaluator = free.evaluator
    assert isinstance(evaluator, LocalEvaluator)
    demand = Demand(storage_bytes=0.2 * free.baseline.storage_bytes.value)
    bound = Problem(free.bank, evaluator, free.reward, demand, small.device, evaluator.bounds())
    policy = UniversalPolicy.untrained()
    shares = []
    for problem in (bound, free):
        walks = policy.sample(Ground(problem), 12, np.random.default_rng(0))
        shares.append(np.mean([_is_open(bound, walk) for walk in walks]))
    assert shares[0] == 1.0
    assert shares[1] < 1.0


def _is_open(problem: Problem, indices: NDArray[np.int64]) -> bool:
    walk = Walk(problem, Observer(problem), open_positions(problem))
    return all(walk.choose(int(indices[position])) for position in open_positions(problem))


def test_a_search_can_end_with_a_policy(tmp_path: Path, small: Small) -> None:
    file = tmp_path / "policy.safetensors"
    recipe = TrainingRecipe(demonstrations=2, epochs=1, updates=0)
    agent = UniversalTraining(str(file), {"fast": Roofline("fast", 100.0, 10.0)}, recipe)
    assert agent.policy_state() == {}
    archive = agent.search(small.problem(), 15)
    assert len(archive) == 15
    loaded = UniversalPolicy.load(file)
    assert loaded.facts["worlds"] == ["own", "fast"]
    assert all((loaded.state()[name] == tensor).all() for name, tensor in agent.policy_state().items())


def test_another_device_changes_costs_and_no_accuracy(small: Small) -> None:
    problem = small.problem()
    moved = on_device(problem, Roofline("slow", small.device.gflops / 10, small.device.bandwidth_gbps / 10))
    walk = problem.space.random(np.random.default_rng(0))
    here, there = problem.evaluate_walk(walk).metrics, moved.evaluate_walk(walk).metrics
    assert here.accuracy == there.accuracy
    assert there.latency_ms.value > here.latency_ms.value
    assert problem.costs(walk).latency_ms == here.latency_ms


def test_a_problem_with_one_device_cannot_move() -> None:
    with pytest.raises(EspalierError, match="ToyEvaluator knows one device only"):
        on_device(toy_problem(), Roofline("other", 1.0, 1.0))


def test_demands_are_as_the_recipe_says() -> None:
    original = toy_problem().baseline
    rng = np.random.default_rng(0)
    drawn = [DemandRecipe(budget_share=0.5).draw(rng, original) for _ in range(300)]
    shares = [limit / original.cost(name) for demand in drawn for name, limit in demand.budgets.items()]
    assert 1 / 3 <= min(shares) < 0.36
    assert 0.97 < max(shares) <= 1
    assert len(shares) == pytest.approx(300 * 4 * 0.5, rel=0.15)
    assert np.mean([demand.weights.accuracy for demand in drawn]) == pytest.approx(0.5, abs=0.03)
    assert {demand.max_accuracy_drop_points is None for demand in drawn} == {True, False}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingRecipe(demonstrations=0, updates=0), "needs demonstrations or updates above 0"),
        (lambda: TrainingRecipe(walks=1), "needs groups >= 1 and walks >= 2, got 8 and 1"),
        (lambda: DemandRecipe(tightest=0.0), "demands.tightest is a share above 0"),
        (lambda: DemandRecipe((1.0, 0.0, 1.0, 1.0)), "demands.concentrations needs 4 numbers above 0"),
        (lambda: train_policy({}, TrainingRecipe()), "needs at least one world"),
    ],
)
def test_wrong_recipes_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EspalierError, match=message):
        make()
