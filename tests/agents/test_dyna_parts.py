"""What the Dyna agent plans with, against independent oracles: the space, the evaluator, algebra, counting."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from espalier.agents.adadeep.phases import find_phases
from espalier.agents.dyna import costs
from espalier.agents.dyna.codes import WalkTables
from espalier.agents.dyna.costs import CostTables
from espalier.agents.dyna.front import hypervolume, hypervolume_gains
from espalier.agents.dyna.objective import Objective, relevant_costs
from espalier.agents.dyna.planners import EverythingPlanner, EvolutionPlanner, RandomPlanner, TeamPlanner, neighbours
from espalier.agents.dyna.policy import PolicyPlanner
from espalier.agents.dyna.simulation import Pool, unique_rows
from espalier.agents.dyna.surrogate import AccuracySurrogate, FeatureMap, Scales, logit
from espalier.agents.dyna.walk_env import SimulatedWalks
from espalier.compression.bank_builder import build_bank
from espalier.compression.survey import survey
from espalier.compression.techniques import ChannelPruning, DepthSkip, Int8, WidthScaling
from espalier.envs.observation import Observer
from espalier.envs.problem import Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.errors import EspalierError
from espalier.evaluation.demand import Demand, Weights
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.evaluation.metrics import COSTS, Metrics
from espalier.tasks.data.split import Split, Splits
from espalier.tasks.models.resnet import CifarResNet
from espalier.tasks.task import Task
from espalier.testing.toy import toy_problem
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, rankdata

from tests.conftest import Small

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def problem(small: Small) -> Problem:
    """Pruned neighbours, integers that meet, and a head that swallows linear layers."""
    return small.problem()


@pytest.fixture(scope="module")
def tables(problem: Problem) -> WalkTables:
    return WalkTables(problem.bank)


@pytest.fixture(scope="module")
def residual(small: Small) -> Problem:
    """Residual streams that are narrowed as a whole, blocks that are skipped, integers between them."""
    torch.manual_seed(0)
    part = Split(torch.rand(24, 3, 16, 16), torch.arange(24) % 10, (0.0,) * 3, (1.0,) * 3)
    task = Task("residual", CifarResNet(8), Splits(part, part, part, part))
    techniques = [WidthScaling(), ChannelPruning(kept=(0.5,)), Int8(), DepthSkip()]
    surveyed = survey(task.model, task.example_input, {technique.name: technique for technique in techniques})
    bank = build_bank(task.model, surveyed.space, task.calibrate.inputs(), "x")
    evaluator = LocalEvaluator(task, surveyed, bank, small.device)
    return Problem(bank, evaluator, ConstrainedReward(), Demand(), small.device)


def test_tables_know_streams_that_are_narrowed_as_a_whole(residual: Problem) -> None:
    space, tables, rng = residual.space, WalkTables(residual.bank), np.random.default_rng(0)
    raw = np.stack([rng.integers(0, count, 200) for count in tables.counts], 1)
    walks = tables.canonical(raw)
    assert walks.tolist() == [list(space.canonical(walk)) for walk in raw.tolist()]
    expected = np.array([residual.errors(walk) for walk in walks.tolist()])
    for position, site in enumerate(space.sites):
        for inner in space.inside(site):
            expected[walks[:, position] > 0, inner] = 0.0
    assert np.array_equal(tables.errors(walks), expected)
    objective = Objective(residual, tables, np.random.default_rng(0))
    assert objective.is_exact
    for walk, metrics in zip(walks.tolist(), objective.metrics(walks), strict=True):
        exact = residual.costs(walk)
        for name in set(COSTS) - {"peak_memory_bytes"}:
            assert metrics.cost(name) == pytest.approx(exact.cost(name), rel=1e-9)


def test_a_width_is_observed_and_decided_like_a_layer(residual: Problem) -> None:
    space, observer = residual.space, Observer(residual)
    keep = [0] * len(space.sites)
    position = space.positions["layer2.width"]
    flags = {site.kind: observer.view(p, keep).vector[:5].tolist() for p, site in enumerate(space.sites)}
    assert flags["width"] == [0.0] * 5
    assert len({tuple(values) for values in flags.values()}) == len(flags)
    view = observer.view(position, keep)
    for index in (1, 2):
        walk = [*keep[:position], index, *keep[position + 1 :]]
        saved = residual.baseline.cost("latency_ms") - residual.costs(walk).cost("latency_ms")
        assert view.savings[index, 0] == pytest.approx(saved / residual.baseline.cost("latency_ms"), rel=1e-5)
        assert view.errors[index] == pytest.approx(residual.errors(walk)[position])
    first, second = find_phases(residual)
    assert position in first.positions
    assert not any(space.sites[p].kind == "width" for p in second.positions)


def test_tables_say_what_the_space_says(problem: Problem, tables: WalkTables) -> None:
    space, rng = problem.space, np.random.default_rng(0)
    raw = np.stack([rng.integers(0, count, 200) for count in tables.counts], 1)
    walks = tables.canonical(raw)
    assert walks.tolist() == [list(space.canonical(walk)) for walk in raw.tolist()]
    for position in range(len(space.sites)):
        expected = [space.mask(position, walk) for walk in walks.tolist()]
        assert np.array_equal(tables.masks(position, walks), np.array(expected))
    head = space.positions["head"]
    inside = [space.positions[name] for name in space.sites[head].layers]
    expected = np.array([problem.errors(walk) for walk in walks.tolist()])
    expected[np.ix_(walks[:, head] > 0, inside)] = 0.0
    assert np.array_equal(tables.errors(walks), expected)


def test_random_walks_are_canonical_and_reach_every_choice(tables: WalkTables) -> None:
    walks = tables.random(3000, np.random.default_rng(0))
    assert np.array_equal(tables.canonical(walks), walks)
    for position, count in enumerate(tables.counts):
        assert set(walks[:, position].tolist()) == set(range(count))


def test_cost_tables_are_exact(problem: Problem, tables: WalkTables) -> None:
    objective = Objective(problem, tables, np.random.default_rng(0))
    assert objective.is_exact
    walks = tables.random(300, np.random.default_rng(1))
    for walk, metrics in zip(walks.tolist(), objective.metrics(walks), strict=True):
        exact = problem.costs(walk)
        for name in set(COSTS) - {"peak_memory_bytes"}:
            assert metrics.cost(name) == pytest.approx(exact.cost(name), rel=1e-9)


def test_single_sites_alone_would_be_off(problem: Problem, tables: WalkTables) -> None:
    """The ablation: pruned neighbours and integers that meet cost something together."""

    def latency(walk: Any) -> Floats:
        return np.array([problem.costs(walk).cost("latency_ms")])

    alone = CostTables(latency, tables, np.random.default_rng(0), np.array([False]))
    walks = tables.random(100, np.random.default_rng(1))
    exact = np.array([latency(walk) for walk in walks.tolist()])
    assert np.abs(alone(walks) - exact).max() > 1e-3 * exact[0, 0]


def test_cost_tables_find_who_acts_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of three sites at once is found and tabulated; a maximum over more than a table takes is given up."""
    tables = WalkTables(toy_problem().bank)
    tables.representatives = tuple(np.arange(count) for count in tables.counts)  # every choice acts in its own way
    a, b, c, d = tables.open_positions[:4]
    monkeypatch.setattr(costs, "_LARGEST_TABLE", math.prod(tables.counts[position] for position in (a, b, d)))

    def cost(walk: Any) -> Floats:
        triple = float(walk[a] * walk[b] * walk[d])
        return np.array([5.0 + triple + walk[c], 1.0 + max((i + 1) * index for i, index in enumerate(walk))])

    made = CostTables(cost, tables, np.random.default_rng(0), np.array([True, True]))
    assert made.exact.tolist() == [True, False]
    walks = tables.random(200, np.random.default_rng(1))
    assert np.allclose(made(walks)[:, 0], [cost(walk)[0] for walk in walks.tolist()])


def test_costs_that_no_table_holds_come_from_the_evaluator(small: Small) -> None:
    problem = small.problem(Demand(Weights(0.5, 0, 0, 0, 0.5, 0), peak_memory_bytes=1e5))
    assert relevant_costs(problem) == ("peak_memory_bytes",)
    tables = WalkTables(problem.bank)
    objective = Objective(problem, tables, np.random.default_rng(0))
    assert not objective.is_exact
    walks = tables.random(20, np.random.default_rng(0))
    expected = [problem.judge(replace(problem.costs(walk), accuracy=0.9)) for walk in walks.tolist()]
    assert objective.rewards(walks, np.full(20, 0.9)).tolist() == pytest.approx(expected)


def test_a_reward_that_reads_more_than_the_tables_hold_is_found_out(small: Small) -> None:
    def reward(metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        return metrics.accuracy - metrics.latency_ms.std / baseline.latency_ms.value

    problem = Problem(small.bank, small.evaluator, reward, Demand(), small.device)
    assert not Objective(problem, WalkTables(problem.bank), np.random.default_rng(0)).is_exact


def test_relevant_costs_are_those_of_the_demand() -> None:
    weighted = toy_problem(demand=Demand(Weights(0.5, 0, 0.5, 0, 0, 0), latency_ms=1.0))
    assert relevant_costs(weighted) == ("latency_ms", "energy_mj")
    assert relevant_costs(toy_problem(demand=Demand(Weights(1, 0, 0, 0, 0, 0)))) == ("latency_ms", "storage_bytes")


def _samples(tables: WalkTables, count: int) -> tuple[NDArray[np.int64], Floats]:
    walks = tables.random(count, np.random.default_rng(2))
    noise = 0.02 * np.random.default_rng(3).standard_normal(count)
    return walks, logit(0.95 - 0.5 * tables.errors(walks).sum(1).clip(0, 8) / 8) + noise


def test_without_interactions_it_is_bayesian_ridge_in_closed_form(tables: WalkTables) -> None:
    """Posterior of the weights, N(S X^T y / noise, S) with S = (X^T X / noise + diag(1 / variances))^-1."""
    features = FeatureMap(tables, True, np.random.default_rng(0))
    surrogate = AccuracySurrogate(features, Scales(interactions=0.0))
    walks, targets = _samples(tables, 40)
    surrogate.fit(walks, targets)
    scales = surrogate.scales
    assert scales.interactions == 0.0

    def design(rows: NDArray[np.int64]) -> Floats:
        return np.concatenate([np.ones((len(rows), 1)), *features(rows)], 1)

    widths = [part.shape[1] for part in features(walks)]
    variances = np.repeat([25.0, scales.choices, scales.errors, scales.summaries], [1, *widths])
    covariance = np.linalg.inv(design(walks).T @ design(walks) / scales.noise + np.diag(1 / variances))
    others = tables.random(30, np.random.default_rng(5))
    mean, deviation = surrogate.predict(others)
    assert np.allclose(mean, design(others) @ covariance @ design(walks).T @ targets / scales.noise, atol=1e-6)
    assert np.allclose(deviation**2, np.diag(design(others) @ covariance @ design(others).T), atol=1e-6)


def test_the_evidence_is_the_density_of_the_targets_and_rises(tables: WalkTables) -> None:
    features = FeatureMap(tables, True, np.random.default_rng(0))
    surrogate = AccuracySurrogate(features)
    walks, targets = _samples(tables, 25)
    surrogate.fit(walks, targets)
    densities = []
    for scales in (Scales(), surrogate.scales):
        hot, roots, summaries = features(walks)
        apart = np.array([[(a != b).sum() for b in walks] for a in walks])
        covariance = 25.0 + scales.choices * hot @ hot.T + scales.errors * roots @ roots.T
        covariance += scales.summaries * summaries @ summaries.T + scales.interactions * np.exp(-apart / 2)
        covariance += scales.noise * np.eye(25)
        densities.append(multivariate_normal(np.zeros(25), covariance).logpdf(targets))
    reached = surrogate._evidence(surrogate.scales) - surrogate._evidence(Scales())
    assert reached == pytest.approx(densities[1] - densities[0])
    assert reached > 0


def test_errors_of_layers_predict_unseen_plans(tables: WalkTables) -> None:
    """The ablation: without errors and summaries the same few plans tell much less of others."""
    walks, targets = _samples(tables, 25)
    others = tables.random(200, np.random.default_rng(9))
    truth = logit(0.95 - 0.5 * tables.errors(others).sum(1).clip(0, 8) / 8)
    correlations = []
    for has_errors, scales in ((True, Scales()), (False, Scales(errors=0.0, summaries=0.0))):
        surrogate = AccuracySurrogate(FeatureMap(tables, has_errors, np.random.default_rng(0)), scales)
        surrogate.fit(walks, targets)
        mean, _ = surrogate.predict(others)
        correlations.append(np.corrcoef(rankdata(mean), rankdata(truth))[0, 1])
    assert correlations[0] > 0.9 > correlations[1]


def test_imagining_keeps_the_mean_and_takes_doubt_away(tables: WalkTables) -> None:
    surrogate = AccuracySurrogate(FeatureMap(tables, True, np.random.default_rng(0)))
    surrogate.fit(*_samples(tables, 20))
    others = tables.random(10, np.random.default_rng(7))
    before, after = surrogate.predict(others), surrogate.imagining(others[:2]).predict(others)
    assert np.allclose(before[0], after[0], atol=1e-6)
    assert (after[1] <= before[1] + 1e-9).all()
    assert (after[1][:2] < 0.9 * before[1][:2]).all()


def _counted_area(accuracies: Floats, shares: Floats, cells: int) -> float:
    """Share of the cells of a grid that some point dominates; coordinates are multiples of a cell."""
    edges = np.arange(cells) / cells
    covered = (accuracies[:, None, None] >= edges[None, :, None] + 0.5 / cells) & (
        shares[:, None, None] <= edges[None, None, :] + 0.5 / cells
    )
    return float(covered.any(0).mean())


@pytest.mark.parametrize("seed", range(10))
def test_hypervolume_equals_counting_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    accuracies, shares = rng.integers(0, 21, 8) / 20, rng.integers(0, 26, 8) / 20
    assert hypervolume(accuracies, shares) == pytest.approx(_counted_area(accuracies, shares, 20))
    more_accuracies, more_shares = rng.integers(0, 21, 5) / 20, rng.integers(0, 26, 5) / 20
    gains = hypervolume_gains(accuracies, shares, more_accuracies, more_shares)
    for gain, accuracy, share in zip(gains, more_accuracies, more_shares, strict=True):
        both = hypervolume(np.append(accuracies, accuracy), np.append(shares, share))
        assert gain == pytest.approx(both - hypervolume(accuracies, shares))


def test_no_plan_below_the_largest_cost_has_no_area() -> None:
    assert hypervolume(np.array([0.9]), np.array([1.0])) == 0.0


def test_a_pool_values_each_walk_once_and_ranks_them() -> None:
    asked: list[int] = []

    def value(walks: NDArray[np.int64]) -> Floats:
        asked.append(len(walks))
        return walks.sum(1).astype(float)

    pool = Pool(value, 2)
    walks = np.array([[0, 1], [2, 2], [0, 1]])
    assert pool(walks).tolist() == [1, 4, 1]
    assert pool(np.array([[2, 2], [1, 0]])).tolist() == [4, 1]
    assert asked == [2, 1]
    ranked, values = pool.ranked()
    assert ranked.tolist() == [[2, 2], [0, 1], [1, 0]]
    assert values.tolist() == [4, 1, 1]
    assert len(pool) == 3
    assert unique_rows(walks).tolist() == [[0, 1], [2, 2]]


def test_simulated_walks_pay_ranks_at_the_end(tables: WalkTables) -> None:
    env = SimulatedWalks(tables, 16)
    pool = Pool(lambda walks: walks.sum(1).astype(float), len(tables.counts))
    env.value_by(pool)
    rng = np.random.default_rng(0)
    env.reset()
    for step in range(env.episode_length):
        masks = np.stack(env.env_method("action_masks"))
        observations, rewards, dones, infos = env.step(np.array([rng.choice(np.flatnonzero(mask)) for mask in masks]))
        assert dones.all() == (step + 1 == env.episode_length)
    walks = pool.simulated()
    assert np.array_equal(tables.canonical(walks), walks)
    keys = [tuple(info["terminal_observation"]) for info in infos]
    assert len(set(keys)) == len(walks)
    expected = (rankdata(sorted(pool(walks)), "min") - 1) / 16
    assert np.allclose(sorted(rewards), expected)
    assert np.array_equal(observations, env.reset())
    with pytest.raises(AttributeError, match="nothing"):
        env.env_method("nothing")


def test_demonstrations_show_what_a_walk_would_see(tables: WalkTables) -> None:
    env = SimulatedWalks(tables, 4)
    env.value_by(Pool(lambda walks: np.zeros(len(walks)), len(tables.counts)))
    walks = tables.random(4, np.random.default_rng(0))
    observations, actions, masks = env.demonstrations(walks)
    seen = env.reset()
    for step, position in enumerate(tables.open_positions):
        rows = slice(4 * step, 4 * step + 4)
        assert np.array_equal(observations[rows], seen)
        assert np.array_equal(masks[rows], env.masks())
        assert np.array_equal(actions[rows], walks[:, position])
        assert masks[rows][np.arange(4), actions[rows]].all()
        seen, *_ = env.step(walks[:, position])


def _hidden_optimum(tables: WalkTables) -> tuple[Pool, NDArray[np.int64]]:
    """Walks are worth the number of sites that they decide like a hidden one."""
    hidden = tables.random(1, np.random.default_rng(11))
    return Pool(lambda walks: (walks == hidden).sum(1).astype(float), len(tables.counts)), hidden


def test_planners_beat_random_walks_and_replay(tables: WalkTables) -> None:
    settings = {"n_epochs": 4, "learning_rate": 3e-3, "gamma": 1.0, "gae_lambda": 1.0}
    keep = np.zeros((1, len(tables.counts)), np.int64)
    found: dict[str, float] = {}
    for name, make in {
        "random": lambda: RandomPlanner(600),
        "evolution": lambda: EvolutionPlanner(60, 8),
        "policy": lambda: PolicyPlanner(60, 10, hyperparameters=settings),
        "team": lambda: TeamPlanner({"a": PolicyPlanner(60, 3, hyperparameters=settings), "b": EvolutionPlanner(40)}),
    }.items():
        simulated = []
        for _ in range(2):
            pool, _ = _hidden_optimum(tables)
            planner = make()  # type: ignore[no-untyped-call]
            planner.begin(tables, 3)
            planner.plan(pool, keep, np.random.default_rng(0))
            simulated.append(pool.simulated())
        assert np.array_equal(*simulated), name
        assert np.array_equal(tables.canonical(simulated[0]), simulated[0])
        found[name] = float(pool.ranked()[1][:10].mean())
        assert bool(planner.policy_state()) == (name in ("policy", "team"))
    assert min(found["evolution"], found["policy"], found["team"]) > found["random"] + 1


def test_imitation_helps_the_policy(tables: WalkTables) -> None:
    """The ablation: without imitating its best walks it has found less by the same number of walks."""
    found = []
    for imitated in (16, 0):
        values = []
        for seed in range(3):
            pool, _ = _hidden_optimum(tables)
            planner = PolicyPlanner(48, 6, imitated=imitated)
            planner.begin(tables, seed)
            planner.plan(pool, np.zeros((1, len(tables.counts)), np.int64), np.random.default_rng(0))
            values.append(pool.ranked()[1][:20].mean())
        found.append(np.mean(values))
    assert found[0] > found[1]


def test_everything_is_everything(small: Small) -> None:
    problem = toy_problem()
    tables = WalkTables(problem.bank)
    pool = Pool(lambda walks: np.zeros(len(walks)), len(tables.counts))
    planner = EverythingPlanner()
    planner.begin(tables, 0)
    planner.plan(pool, np.zeros((1, len(tables.counts)), np.int64), np.random.default_rng(0))
    drawn = tables.random(500, np.random.default_rng(0))
    known = len(pool)
    pool(drawn)
    assert len(pool) == known
    with pytest.raises(EspalierError, match=r"planner=everything takes spaces of up to 10 plans, this one has"):
        EverythingPlanner(10).begin(tables, 0)


def test_neighbours_differ_at_one_or_two_sites(tables: WalkTables) -> None:
    walks = tables.random(300, np.random.default_rng(0))
    differences = (neighbours(tables, walks, np.random.default_rng(1)) != walks).sum(1)
    assert set(differences.tolist()) <= {0, 1, 2}  # a second change can take back the first
    assert (differences > 0).mean() > 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PolicyPlanner(1), "n_envs >= 2 and iterations >= 1, got 1 and 8"),
        (lambda: PolicyPlanner(hyperparameters={"n_step": 3}), "no hyperparameter 'n_step'; known: learning_rate"),
        (lambda: TeamPlanner({}), "needs at least one planner"),
    ],
)
def test_wrong_planners_are_refused(make: Any, message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        make()
