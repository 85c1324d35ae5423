"""The environments: checkers, masks, replay, rewards' arithmetic."""

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from espalier.envs.layer_wise import LayerWiseEnv
from espalier.envs.layer_wise_continuous import LayerWiseContinuousEnv
from espalier.envs.observation import SLOTS, Observer
from espalier.envs.one_shot import OneShotEnv
from espalier.envs.problem import BudgetExhausted, Callback, Problem
from espalier.envs.rewards.absolute import AbsoluteReward
from espalier.envs.rewards.adadeep import AdaDeepReward
from espalier.envs.rewards.amc import AmcReward
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.envs.rewards.mnasnet import MnasNetReward
from espalier.errors import DemandError, EspalierError
from espalier.evaluation.archive import Evaluation
from espalier.evaluation.demand import Demand, Weights
from espalier.evaluation.metrics import COSTS, Metrics
from espalier.hw_models.cost import Estimate
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

from tests.conftest import Small

_NAMES = ["espalier/LayerWise-v0", "espalier/LayerWiseContinuous-v0", "espalier/OneShot-v0"]


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.filterwarnings("error")
def test_both_checkers_pass(small: Small, name: str) -> None:
    env = gymnasium.make(name, problem=small.problem())
    check_env(env.unwrapped, skip_render_check=True)
    check_env_of_sb3(env)


def _roll_out(name: str, problem: Problem, seed: int) -> list[Any]:
    env = gymnasium.make(name, problem=problem)
    env.action_space.seed(seed)
    seen: list[Any] = []
    for _ in range(4):
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            observation, reward, over, _, info = env.step(env.action_space.sample())
            seen.append((observation.tobytes(), float(reward), info.get("plan")))
    return seen


@pytest.mark.parametrize("name", _NAMES)
def test_a_seeded_roll_out_replays_exactly(small: Small, name: str) -> None:
    first = _roll_out(name, small.problem(), 3)
    assert _roll_out(name, small.problem(), 3) == first
    assert _roll_out(name, small.problem(), 4) != first


def test_an_episode_is_the_plan_it_walks(small: Small) -> None:
    problem = small.problem()
    env = LayerWiseEnv(problem)
    walk = problem.space.random(np.random.default_rng(1))
    env.reset()
    rewards = []
    for action in env.actions(walk):
        assert env.action_masks()[action]
        _, reward, over, truncated, info = env.step(np.int64(action))
        rewards.append(reward)
        assert not info["invalid_action"]
        assert not truncated
    assert over
    expected = small.evaluator.evaluate([problem.space.plan(walk)])[0].metrics
    assert info["metrics"] == expected.to_dict()
    assert info["plan"] == problem.space.plan(walk).to_dict()
    assert rewards[:-1] == [0.0] * (len(rewards) - 1)
    assert rewards[-1] == problem.judge(expected)


def test_masks_are_those_of_the_space(small: Small) -> None:
    problem = small.problem()
    env = LayerWiseEnv(problem)
    walk = problem.space.random(np.random.default_rng(2))
    env.reset()
    for position, action in zip(env._positions, env.actions(walk), strict=True):
        expected = problem.space.mask(position, walk)
        assert env.action_masks()[: len(expected)].tolist() == expected.tolist()
        assert not env.action_masks()[len(expected) :].any()
        env.step(np.int64(action))


def test_closed_actions_become_the_nearest_open_one_and_are_reported(small: Small) -> None:
    problem = small.problem()
    env = LayerWiseEnv(problem)
    env.reset()
    closed = env.action_space.n - 1  # type: ignore[attr-defined]
    assert not env.action_masks()[closed]
    _, _, _, _, info = env.step(np.int64(closed))
    assert info["invalid_action"]
    nearest = max(np.flatnonzero(problem.space.mask(0, [])))
    assert env._walk.indices[0] == nearest


def test_observations_do_not_depend_on_the_network(small: Small) -> None:
    problem = small.problem()
    assert LayerWiseEnv(problem).observation_space.shape == (Observer.size,)
    assert Observer.size == 16 + SLOTS * 5 + 6 + 12 + 4
    observation, _ = LayerWiseEnv(problem).reset()
    tight, _ = LayerWiseEnv(small.problem(Demand(latency_ms=problem.baseline.cost("latency_ms") / 2))).reset()
    assert (observation != tight).any()


def test_savings_in_the_observation_are_those_of_the_plans(small: Small) -> None:
    problem = small.problem()
    observer = Observer(problem)
    view = observer.view(1, [0] * len(problem.space.sites))
    for index in np.flatnonzero(view.mask):
        walk = [0] * len(problem.space.sites)
        walk[1] = int(index)
        costs = problem.costs(walk)
        expected = 1 - costs.cost("latency_ms") / problem.baseline.cost("latency_ms")
        assert view.savings[index, 0] == pytest.approx(expected, abs=1e-5)
        assert view.errors[index] == pytest.approx(problem.errors(walk)[1])


def test_strengths_order_the_choices_by_what_they_save(small: Small) -> None:
    env = LayerWiseContinuousEnv(small.problem())
    env.reset()
    assert env.choice(-1.0) == env.choice(-7.0)
    strengths = np.linspace(-1, 1, 41)
    chosen = [env.choice(float(strength)) for strength in strengths]
    weights = np.array([0.25, 0.0, 0.25]) + 1e-3
    saved = env._discrete.view.savings @ weights
    assert [saved[index] for index in chosen] == sorted(saved[index] for index in chosen)
    assert set(chosen) == set(np.flatnonzero(env._discrete.view.mask))
    assert env.choice(1.0) == int(np.argmax(np.where(env._discrete.view.mask, saved, -1)))


def test_one_shot_evaluates_the_whole_plan_at_once(small: Small) -> None:
    problem = small.problem()
    env = OneShotEnv(problem)
    env.reset()
    assert env.action_masks().shape == (int(env.action_space.nvec.sum()),)  # type: ignore[attr-defined]
    walk = problem.space.random(np.random.default_rng(5))
    _, reward, over, _, info = env.step(np.array([walk[p] for p in env._positions]))
    assert over
    assert info["plan"] == problem.space.plan(walk).to_dict()
    assert reward == problem.evaluate_walk(walk).reward
    assert info["invalid_actions"] == 0


class _Recorder(Callback):
    def __init__(self) -> None:
        self.seen: list[Evaluation] = []

    def evaluated(self, evaluation: Evaluation) -> None:
        self.seen.append(evaluation)


def test_a_problem_counts_unique_plans_and_stops_at_the_budget(small: Small) -> None:
    problem, recorder = small.problem(), _Recorder()
    problem.begin(3, recorder)
    rng = np.random.default_rng(0)
    walks = [problem.space.random(rng) for _ in range(3)]
    first = problem.evaluate_walk(walks[0])
    assert problem.evaluate_walk(walks[0]) is first
    problem.evaluate_walk(walks[1])
    assert problem.remaining == 0
    with pytest.raises(BudgetExhausted):
        problem.evaluate_walk(walks[2])
    assert problem.evaluate_walk(walks[1]).index == 2
    assert [evaluation.index for evaluation in recorder.seen] == [0, 1, 2]
    assert recorder.seen[0].plan == problem.space.keep_plan


def test_several_plans_are_answered_like_one_after_the_other(small: Small) -> None:
    rng = np.random.default_rng(0)
    one, several, recorder = small.problem(), small.problem(), _Recorder()
    walks = [one.space.random(rng) for _ in range(4)]
    asked = [walks[0], walks[1], walks[0], [0] * len(walks[0]), walks[2]]
    one.begin(10)
    expected = [one.evaluate_walk(walk) for walk in asked]
    several.begin(4, recorder)
    found = several.evaluate_walks(asked)
    assert [(e.index, e.plan, e.metrics, e.reward) for e in found] == [
        (e.index, e.plan, e.metrics, e.reward) for e in expected
    ]
    assert [evaluation.index for evaluation in recorder.seen] == [0, 1, 2, 3]
    several.begin(3, recorder)
    with pytest.raises(BudgetExhausted):
        several.evaluate_walks(asked)
    assert len(several.archive) == 3


def test_a_search_that_proposes_nothing_new_ends(small: Small) -> None:
    problem = small.problem()
    problem.begin(10)

    def repeat() -> None:
        for _ in range(10_000):
            problem.evaluate(problem.space.keep_plan)

    with pytest.raises(BudgetExhausted):
        repeat()


def test_budgets_below_every_plan_are_refused_with_the_least(small: Small) -> None:
    with pytest.raises(
        DemandError, match=r"demand\.latency_ms=1e-06 cannot be met: the least that a plan .* reaches is"
    ):
        small.problem(Demand(latency_ms=1e-6)).check_feasible(samples=20)
    problem = small.problem(Demand(macs=small.problem().baseline.cost("macs") / 2))
    problem.check_feasible()


def test_too_many_choices_are_refused(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier.envs.walk.SLOTS", 3)
    with pytest.raises(EspalierError, match=r"has \d+ choices, an observation has room for 3: narrow the space"):
        LayerWiseEnv(small.problem())


def _metrics(accuracy: float, latency: float = 10.0, storage: float = 100.0) -> Metrics:
    values = dict.fromkeys(COSTS, 1000.0) | {"latency_ms": latency, "storage_bytes": storage}
    return Metrics(accuracy, **{name: Estimate(value, 0.0, "modelled", "t") for name, value in values.items()})


_BASE = _metrics(0.9)
_PLAN = _metrics(0.85, 5.0, 20.0)


def test_adadeep_reward_by_hand() -> None:
    demand = Demand(Weights(0.5, 0.25, 0.0, 0.25), None, latency_ms=8.0)
    expected = 0.5 * (0.05 / 0.1) + 0.25 * 0.5 + 0.25 * 0.8 + 0.5 * (1 - 5 / 8)
    assert AdaDeepReward()(_PLAN, _BASE, demand) == pytest.approx(expected)
    assert AdaDeepReward(multipliers={"latency_ms": 0.0})(_PLAN, _BASE, demand) == pytest.approx(expected - 0.5 * 3 / 8)


def test_amc_reward_by_hand() -> None:
    assert AmcReward()(_PLAN, _BASE, Demand()) == pytest.approx(-0.15 * math.log(1001))
    with pytest.raises(EspalierError, match=r"reward\.cost must be one of latency_ms, .*, got 'speed'"):
        AmcReward(cost="speed")


def test_mnasnet_reward_by_hand() -> None:
    demand = Demand(latency_ms=8.0)
    expected = 0.85 * (5 / 8) ** -0.07 * (20 / 100) ** -0.07
    assert MnasNetReward()(_PLAN, _BASE, demand) == pytest.approx(expected)


def test_absolute_reward_by_hand() -> None:
    demand = Demand(latency_ms=4.0, storage_bytes=40.0)
    assert AbsoluteReward()(_PLAN, _BASE, demand) == pytest.approx(0.85 - 0.07 * (0.25 + 0.5))
    with pytest.raises(DemandError, match="reward=absolute aims at budgets: set at least one"):
        AbsoluteReward()(_PLAN, _BASE, Demand())


def test_constrained_reward_by_hand() -> None:
    free = Demand(Weights(0.5, 0.25, 0.0, 0.25), None)
    savings = 0.25 * math.log10(2) + 0.25 * math.log10(5)
    assert ConstrainedReward()(_PLAN, _BASE, free) == pytest.approx(savings - 0.5 * 0.5)
    bounded = Demand(Weights(0.5, 0.25, 0.0, 0.25), 1.0, latency_ms=4.0)
    hinges = 0.04 / 0.1 + 0.25
    assert ConstrainedReward()(_PLAN, _BASE, bounded) == pytest.approx(savings - 0.25 - 2 * hinges)
    assert ConstrainedReward()(_metrics(0.1), _BASE, bounded) == -2.0
    # Slack earns nothing: a looser budget that holds leaves the reward alone.
    loose = Demand(Weights(0.5, 0.25, 0.0, 0.25), None, latency_ms=9.0)
    assert ConstrainedReward()(_PLAN, _BASE, loose) == ConstrainedReward()(_PLAN, _BASE, free)


def _kept(name: str, sites: int) -> object:
    """An action that compresses as little as it can."""
    return {_NAMES[0]: 0, _NAMES[1]: [-1.0], _NAMES[2]: [0] * sites}[name]


@pytest.mark.parametrize(
    ("name", "action", "message"),
    [
        (_NAMES[0], 999, r"the index of a choice, a whole number from 0 to \d+, got 999"),
        (_NAMES[0], -1, r"from 0 to \d+, got -1"),
        (_NAMES[0], 2.5, r"from 0 to \d+, got 2\.5"),
        (_NAMES[0], "keep", r"from 0 to \d+, got 'keep'"),
        (_NAMES[1], 999, "one number from -1 to 1, got 999"),
        (_NAMES[1], [math.nan], r"one number from -1 to 1, got \[nan\]"),
        (_NAMES[1], [0.0, 0.5], r"one number from -1 to 1, got \[0\.0, 0\.5\]"),
        (_NAMES[1], "keep", "one number from -1 to 1, got 'keep'"),
        (_NAMES[2], 0, r"one whole number for each of \d+ sites, got 0"),
        (_NAMES[2], [[0], [0, 1]], r"one whole number for each of \d+ sites, got \[\[0"),
        (_NAMES[2], (0, 2.5), r"one whole number for each of \d+ sites, got \[0, 2\.5"),
        (_NAMES[2], (0, 999), r"a whole number from 0 to \d+ at place 1 of the action, got 999"),
        (_NAMES[2], (-1, 0), r"a whole number from 0 to \d+ at place 0 of the action, got -1"),
    ],
)
def test_what_is_no_action_is_refused_and_changes_nothing(
    small: Small, name: str, action: object, message: str
) -> None:
    problem = small.problem()
    env = gymnasium.make(name, problem=problem).unwrapped
    env.reset()
    sites = len(problem.space.sites)
    # A pair stands for the first two entries of a whole plan.
    wrong = [*action, *[0] * (sites - 2)] if isinstance(action, tuple) else action
    with pytest.raises(EspalierError, match=message):
        env.step(wrong)
    over = False
    while not over:
        *_, over, _, info = env.step(_kept(name, sites))
    assert len(problem.archive) == 1
    if name != _NAMES[1]:  # where a choice costs more than keep, that one saves least
        assert info["plan"] == problem.space.keep_plan.to_dict()


@pytest.mark.parametrize("name", _NAMES)
def test_a_step_after_the_end_is_refused(small: Small, name: str) -> None:
    problem = small.problem()
    env = gymnasium.make(name, problem=problem).unwrapped
    action = _kept(name, len(problem.space.sites))
    for _ in range(2):
        env.reset()
        over = False
        while not over:
            *_, over, _, _ = env.step(action)
        with pytest.raises(EspalierError, match=r"this one is over: reset\(\) first"):
            env.step(action)


@pytest.mark.parametrize("name", _NAMES)
def test_environments_expect_a_problem(name: str) -> None:
    with pytest.raises(EspalierError, match=r"expects problem=, an espalier\.envs\.problem\.Problem, got None"):
        gymnasium.make(name, problem=None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_no_finite_number_are_refused(
    small: Small, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    problem = small.problem()
    monkeypatch.setattr(ConstrainedReward, "__call__", lambda *_: value)
    with pytest.raises(EspalierError, match=rf"the reward ConstrainedReward returned {value} in evaluation 0"):
        problem.begin(5)
    assert len(problem.archive) == 0
