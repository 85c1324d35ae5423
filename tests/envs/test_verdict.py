"""The verdict on a demand, and the reward whose prices adapt."""

import dataclasses

import pytest
from espalier.agents.random_search import RandomSearch
from espalier.envs.problem import Callback, Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.envs.rewards.primal_dual import PrimalDualReward
from espalier.envs.verdict import judge_demand
from espalier.errors import EspalierError
from espalier.evaluation.demand import Demand, Weights
from espalier.testing.contracts import RewardContract
from espalier.testing.toy import toy_problem


def _searched(demand: Demand, reward: object = None) -> Problem:
    problem = toy_problem(reward or ConstrainedReward(), demand)
    RandomSearch(seed=0).search(problem, 60)
    return problem


def test_a_demand_that_is_met_says_what_binds() -> None:
    free = _searched(Demand(max_accuracy_drop_points=None))
    costs = sorted(e.metrics.cost("latency_ms") for e in free.archive)
    demand = Demand(max_accuracy_drop_points=50.0, latency_ms=costs[5])
    problem = _searched(demand)
    verdict = judge_demand(problem)
    assert verdict.feasible
    assert not verdict.nearest
    accuracy, latency = verdict.bounds
    best = problem.archive.best()[0]
    assert (accuracy.name, latency.name) == ("accuracy", "latency_ms")
    assert latency.used == pytest.approx(best.metrics.cost("latency_ms") / costs[5])
    assert latency.extreme == min(e.metrics.cost("latency_ms") for e in problem.archive)
    assert accuracy.price == 0
    relaxed = dataclasses.replace(demand, latency_ms=None)
    rewards = [problem.reward(e.metrics, problem.baseline, relaxed) for e in problem.archive]
    gain = max(rewards) - problem.reward(best.metrics, problem.baseline, relaxed)
    assert latency.price == pytest.approx(max(0.0, gain))


def test_a_demand_that_is_not_met_gets_the_nearest_one_that_is() -> None:
    free = _searched(Demand(max_accuracy_drop_points=None))
    least = min(e.metrics.cost("latency_ms") for e in free.archive)
    demand = Demand(max_accuracy_drop_points=0.0, latency_ms=least)
    problem = _searched(demand)
    assert not any(e.feasible for e in problem.archive)
    verdict = judge_demand(problem)
    assert not verdict.feasible
    assert "the nearest demand that one meets: demand." in verdict.text()
    proposed = dataclasses.replace(demand, **verdict.nearest)
    assert any(proposed.is_met(e.metrics, problem.baseline) for e in problem.archive)
    distances = [max(demand.excesses(e.metrics, problem.baseline).values()) for e in problem.archive]
    meeting = [
        d for d, e in zip(distances, problem.archive, strict=True) if proposed.is_met(e.metrics, problem.baseline)
    ]
    assert min(meeting) == min(distances)


def test_a_demand_without_bounds_has_nothing_to_judge() -> None:
    verdict = judge_demand(_searched(Demand(max_accuracy_drop_points=None)))
    assert verdict.feasible
    assert verdict.text() == "the demand has no bounds"


@pytest.mark.parametrize(
    ("demand", "advice"),
    [
        (Demand(max_accuracy_drop_points=0.5), "or allow more loss with demand.max_accuracy_drop_points"),
        (Demand(max_accuracy_drop_points=None, min_accuracy=0.01), "or allow more loss with demand.min_accuracy"),
        (Demand(max_accuracy_drop_points=None), "or weigh accuracy less with demand.weights.accuracy"),
    ],
)
def test_a_search_that_delivers_the_original_says_so(demand: Demand, advice: str) -> None:
    problem = _searched(demand)
    other = next(e.plan for e in problem.archive if e.plan.hash != problem.space.keep_plan.hash)
    assert "nothing better" not in judge_demand(problem, other).text()
    text = judge_demand(problem, problem.space.keep_plan).text()
    assert text == f"nothing better than the original was found in 60 evaluations: raise budget=, {advice}"


def test_the_original_is_what_a_search_of_one_evaluation_delivers() -> None:
    problem = toy_problem(ConstrainedReward(), Demand())
    RandomSearch(seed=0).search(problem, 1)
    assert "was found in 1 evaluation:" in judge_demand(problem).text()


class TestPrimalDual(RewardContract):
    @pytest.fixture
    def reward(self) -> PrimalDualReward:
        return PrimalDualReward()


def test_prices_follow_dual_ascent() -> None:
    problem = toy_problem(PrimalDualReward(), Demand())
    baseline = problem.baseline
    demand = Demand(max_accuracy_drop_points=None, latency_ms=baseline.cost("latency_ms") / 2)
    reward = PrimalDualReward(rate=0.5, decay=0.2, initial=1.0)
    reward.reset()
    assert reward.observe(baseline, baseline, demand) == {"price_latency_ms": pytest.approx(1.0 + 0.5 * 1.0)}
    cheap = dataclasses.replace(baseline, latency_ms=dataclasses.replace(baseline.latency_ms, value=1e-9))
    for _ in range(40):
        reward.observe(cheap, baseline, demand)
    assert reward.prices["latency_ms"] == 0
    weights = Demand(Weights(1.0, 0.0, 0.0, 0.0), max_accuracy_drop_points=None, latency_ms=demand.latency_ms)
    reward.prices = {"latency_ms": 3.0}
    assert reward(baseline, baseline, weights) == pytest.approx(-3.0)
    reward.reset()
    assert reward(baseline, baseline, weights) == pytest.approx(-1.0)


def test_plans_that_meet_the_demand_keep_their_order_whatever_the_prices() -> None:
    problem = _searched(Demand(max_accuracy_drop_points=20.0), PrimalDualReward())
    metrics = [e.metrics for e in problem.archive if e.feasible]
    assert len(metrics) > 5
    dear, cheap = PrimalDualReward(initial=9.0), PrimalDualReward(initial=0.0)
    rewards = [[reward(m, problem.baseline, problem.demand) for m in metrics] for reward in (dear, cheap)]
    assert rewards[0] == rewards[1]


def test_searches_report_prices_and_begin_anew() -> None:
    class Listener(Callback):
        def __init__(self) -> None:
            self.heard: list[dict[str, float]] = []

        def trained(self, metrics: dict[str, float]) -> None:
            self.heard.append(dict(metrics))

    problem = toy_problem(PrimalDualReward(), Demand(max_accuracy_drop_points=0.01))
    first, second = Listener(), Listener()
    for listener in (first, second):
        RandomSearch(seed=1).search(problem, 20, listener)
    assert first.heard == second.heard
    assert len(first.heard) == 20
    assert first.heard[-1]["reward/price_accuracy"] > 0.5


def test_steps_out_of_range_are_refused() -> None:
    with pytest.raises(EspalierError, match="reward=primal_dual expects rate above 0"):
        PrimalDualReward(rate=0.0)
