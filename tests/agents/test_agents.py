"""Every searcher: counts alike, replays, and beats random where it must."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from espalier.agents.additive import AdditiveModel
from espalier.agents.cloning import clone
from espalier.agents.exhaustive import ExhaustiveSearch
from espalier.agents.lagrangian import _coarse_to_fine
from espalier.agents.optuna_search import OptunaSearch
from espalier.agents.prior import PriorRecipe, propose_elites
from espalier.agents.searcher import Searcher, mutated
from espalier.agents.stable_baselines3 import StableBaselines3, algorithm_class
from espalier.commands.schema import register_schema
from espalier.compression.bank_builder import build_bank
from espalier.compression.survey import survey
from espalier.compression.techniques import ChannelPruning, Int8, WeightSharing
from espalier.envs import ACTIONS
from espalier.envs.problem import Callback, Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.errors import EspalierError
from espalier.evaluation.demand import Demand
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.evaluation.store import Store
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from tests.conftest import REPOSITORY, Small

_AGENTS = sorted(path.stem for path in (REPOSITORY / "conf" / "agent").glob("*.yaml"))

#: They need files or make one; `test_universal_search.py` and `test_universal.py` hold them to the same contract.
_WITH_FILES = ("lookup", "universal", "universal_dyna", "universal_training")


def _agent(name: str, seed: int = 0, *overrides: str) -> Searcher:
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        config = compose("config", overrides=[f"agent={name}", f"seed={seed}", *overrides])
    agent: Searcher = instantiate(config.agent, _convert_="all")
    return agent


class _Recorder(Callback):
    def __init__(self) -> None:
        self.trainings: list[Mapping[str, float]] = []

    def trained(self, metrics: Mapping[str, float]) -> None:
        self.trainings.append(dict(metrics))


def _restricted(small: Small, store: Path, sites: list[str]) -> Problem:
    """A space small enough to know completely."""
    model = small.task.model
    techniques = {t.name: t for t in (ChannelPruning(kept=(0.5,)), Int8(), WeightSharing(bits=(2,)))}
    surveyed = survey(model, small.task.example_input, techniques, sites)
    bank = build_bank(model, surveyed.space, small.task.calibrate.inputs(), "restricted")
    evaluator = LocalEvaluator(small.task, surveyed, bank, small.device, Store(store))
    return Problem(bank, evaluator, ConstrainedReward(), Demand(max_accuracy_drop_points=5.0), small.device)


@pytest.mark.parametrize("name", [name for name in _AGENTS if name not in ("exhaustive", *_WITH_FILES)])
def test_every_agent_counts_alike_and_replays(small: Small, name: str) -> None:
    budget = 16
    plans = []
    for _ in range(2):
        problem = small.problem()
        archive = _agent(name, seed=3).search(problem, budget)
        assert len(archive) <= budget
        assert len({evaluation.plan.hash for evaluation in archive}) == len(archive)
        assert [evaluation.index for evaluation in archive] == list(range(len(archive)))
        plans.append([evaluation.plan.hash for evaluation in archive])
    assert plans[0] == plans[1]
    assert len(plans[0]) == budget or name == "lagrangian"


def test_exhaustive_search_knows_everything_and_others_find_its_best(small: Small, tmp_path: Path) -> None:
    sites = ["features.7", "features.10", "classifier.0", "classifier.2"]
    tiny = _restricted(small, tmp_path / "store.sqlite", sites)
    everything = ExhaustiveSearch().search(tiny, 10_000)
    space = tiny.space
    rng = np.random.default_rng(0)
    assert {space.plan(space.random(rng)).hash for _ in range(500)} <= {e.plan.hash for e in everything}
    best = everything.best()[0].reward
    for name in ("greedy", "evolution", "tpe", "maskable_ppo_cloned"):
        found = _agent(name).search(tiny, min(60, len(everything))).best()[0].reward
        assert found >= best - 0.02, name


def test_a_space_smaller_than_the_budget_ends_every_search(small: Small, tmp_path: Path) -> None:
    tiny = _restricted(small, tmp_path / "store.sqlite", ["features.10", "classifier.0"])
    everything = len(ExhaustiveSearch().search(tiny, 10_000))
    for name in ("random", "maskable_ppo"):
        assert len(_agent(name).search(tiny, everything + 50)) <= everything


def test_large_spaces_are_refused(small: Small) -> None:
    with pytest.raises(EspalierError, match=r"agent=exhaustive takes spaces of up to 100,000 plans, this one has"):
        ExhaustiveSearch().search(small.problem(), 10)


def test_masks_matter(small: Small) -> None:
    """The ablation: with masks no closed choice is ever made, without them some are."""
    closed = {}
    for name, algorithm in (("masked", MaskablePPO), ("unmasked", PPO)):
        from espalier.envs.layer_wise import LayerWiseEnv  # noqa: PLC0415

        env = LayerWiseEnv(small.problem())
        count = 0
        original = env.step

        def counting(action: Any, step: Any = original) -> Any:
            nonlocal count
            result = step(action)
            count += int(result[-1]["invalid_action"])
            return result

        env.step = counting  # type: ignore[method-assign]
        algorithm("MlpPolicy", env, n_steps=32, batch_size=32, seed=0, device="cpu").learn(64)
        closed[name] = count
    assert closed["masked"] == 0
    assert closed["unmasked"] > 0


def test_cloning_raises_the_likelihood_of_what_is_cloned(small: Small) -> None:
    from espalier.envs.layer_wise import LayerWiseEnv  # noqa: PLC0415

    problem = small.problem()
    env = LayerWiseEnv(problem)
    model = MaskablePPO("MlpPolicy", env, n_steps=16, batch_size=16, seed=0, device="cpu")
    walk = problem.space.random(np.random.default_rng(4))
    problem.begin(5)
    clone(model, problem, [walk], steps=150)
    assert len(problem.archive) == 1
    observation, _ = env.reset()
    walked = []
    for _ in range(env.episode_length):
        action, _ = model.predict(observation, action_masks=env.action_masks(), deterministic=True)
        walked.append(int(action))
        observation, *_ = env.step(action)
    assert walked == env.actions(walk)


def test_the_prior_spends_what_it_says_and_beats_random_plans(small: Small) -> None:
    problem = small.problem()
    problem.begin(40)
    rng = np.random.default_rng(0)
    elites = propose_elites(problem, PriorRecipe(evaluations=10, elites=8, candidates=30, generations=6), rng)
    assert 8 <= len(problem.archive) <= 10
    assert len(elites) == 8
    proposed = np.median([problem.evaluate_walk(walk).reward for walk in elites])
    drawn = np.median([problem.evaluate_walk(problem.space.random(rng)).reward for _ in range(12)])
    assert proposed > drawn


def test_training_metrics_reach_the_callback(small: Small) -> None:
    recorder = _Recorder()
    agent = _agent("maskable_ppo")
    assert isinstance(agent, StableBaselines3)
    assert agent.policy_state() == {}
    agent.search(small.problem(), 30, recorder)
    names = {name for metrics in recorder.trainings for name in metrics}
    assert "train/loss" in names
    state = agent.policy_state()
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    assert state


def test_multi_objective_search_spreads_over_the_front(small: Small) -> None:
    archive = _agent("nsga2").search(small.problem(), 40)
    assert len(archive.front()) >= 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: algorithm_class("stable_baselines3.PPPO"), "cannot be imported"),
        (lambda: algorithm_class("nonsense"), "cannot be imported"),
        (lambda: algorithm_class("pathlib.Path"), "is no algorithm of Stable-Baselines3"),
        (
            lambda: StableBaselines3("stable_baselines3.PPO", hyperparameters={"n_step": 3}),
            r"stable_baselines3\.PPO has no hyperparameter 'n_step'; known: policy, env",
        ),
        (lambda: OptunaSearch(lambda seed: None, objectives=["speed"]), "unknown objective 'speed'; known: reward"),  # type: ignore[arg-type, return-value]
    ],
)
def test_wrong_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        make()


@pytest.mark.parametrize("environment", ["espalier/LayerWise-v0", "espalier/OneShot-v0"])
def test_an_algorithm_on_the_wrong_environment_says_so_at_once(environment: str) -> None:
    with pytest.raises(EspalierError, match=r"DDPG needs continuous actions: choose env=layer_wise_continuous"):
        StableBaselines3("stable_baselines3.DDPG", environment)


def test_what_is_known_of_the_environments_actions_is_true(small: Small) -> None:
    for name, actions in ACTIONS.items():
        made = gymnasium.make(name, problem=small.problem(), disable_env_checker=True)
        assert type(made.action_space) is type(actions)


def test_mutations_change_only_what_they_say(small: Small) -> None:
    problem = small.problem()
    rng = np.random.default_rng(0)
    keep = (0,) * len(problem.space.sites)
    for _ in range(50):
        child = mutated(problem, keep, rng)
        assert sum(a != b for a, b in zip(child, keep, strict=True)) <= 1
        assert problem.space.canonical(child) == child


def test_additive_minima_equal_brute_force_where_sites_are_independent(small: Small) -> None:
    """Without pruning no choice touches another site: the best sum is the sum of the bests."""
    surveyed = survey(small.task.model, small.task.example_input, {"int8": Int8(), "weight_sharing": WeightSharing()})
    bank = build_bank(small.task.model, surveyed.space, small.task.calibrate.inputs(), "independent")
    evaluator = LocalEvaluator(small.task, surveyed, bank, small.device)
    problem = Problem(bank, evaluator, ConstrainedReward(), Demand(), small.device)
    space, weights = problem.space, {"latency_ms": 0.25, "storage_bytes": 0.25}

    def share(walk: list[int]) -> float:
        costs = problem.costs(walk)
        return sum(w * costs.cost(name) / problem.baseline.cost(name) for name, w in weights.items())

    for price, exponent in ((0.05, 1.0), (0.5, 2.0), (5.0, 1.0)):
        expected = []
        for position, choices in enumerate(space.choices):
            values = []
            for index in range(len(choices)):
                walk = [index if i == position else 0 for i in range(len(space.sites))]
                values.append(
                    problem.errors(walk)[position] ** exponent + price * (share(walk) - share([0] * len(walk)))
                )
            expected.append(int(np.argmin(values)))
        # Integers that meet save a conversion, which no single site sees: only latency's small share may differ.
        assert AdditiveModel(problem).minimum(price, exponent) == tuple(expected)


def test_prices_go_from_coarse_to_fine() -> None:
    assert _coarse_to_fine(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert sorted(_coarse_to_fine(11)) == list(range(11))
    assert Path(__file__).exists()
