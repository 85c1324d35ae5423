"""AdaDeep's optimiser: targets by hand, strengths to choices, phases, inheritance, and that it learns."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from espalier.agents.adadeep.learner import HierarchicalLearner, Step, masked_best, td_target
from espalier.agents.adadeep.menu import Menu
from espalier.agents.adadeep.phases import find_phases, inheriting_walk
from espalier.agents.adadeep.recipe import ExplorationRecipe, LearningRecipe
from espalier.agents.adadeep.search import AdaDeepSearch
from espalier.agents.random_search import RandomSearch
from espalier.agents.searcher import Searcher
from espalier.commands.schema import register_schema
from espalier.compression.bank_builder import build_bank
from espalier.compression.survey import survey
from espalier.compression.techniques import ChannelPruning, Int8, WeightSharing
from espalier.envs.observation import Observer, SiteView
from espalier.envs.problem import Callback, Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.errors import EspalierError
from espalier.evaluation.demand import Demand
from espalier.hw_models.roofline import Roofline
from espalier.testing.contracts import SearcherContract
from espalier.testing.toy import ToyEvaluator, toy_network, toy_problem
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import set_random_seed

from tests.conftest import Small

_QUICK = LearningRecipe(net_arch=(32,), gradient_steps=4, batch_size=16)


def _quick(seed: int = 0, **settings: Any) -> AdaDeepSearch:
    return AdaDeepSearch(learning=_QUICK, seed=seed, **settings)


class TestContract(SearcherContract):
    @pytest.fixture
    def searcher(self) -> Searcher:
        return _quick(seed=1)


def _constant(learner: HierarchicalLearner, technique_values: list[float], strength_value: float) -> None:
    """Make the target networks answer the same for every observation."""
    values = ((learner.upper.q_net_target.q_net, technique_values), (learner.lower.critic_target.qf0, [strength_value]))
    with torch.no_grad():
        for network, answers in values:
            for parameter in network.parameters():
                parameter.zero_()
            network[-1].bias.copy_(torch.tensor(answers))


def test_targets_by_hand() -> None:
    """Two steps: after the first the best open technique counts, after the second nothing does."""
    learner = HierarchicalLearner(4, 3, LearningRecipe())
    _constant(learner, [1.0, 5.0, 3.0], 7.0)
    seen = torch.tensor([[1.0, 1, 1, 0], [1, 0, 1, 0.5]])
    after = torch.tensor([[1.0, 0, 1, 0.5], [1, 1, 1, 1]])
    rewards, dones = torch.tensor([[0.25], [0.8]]), torch.tensor([[0.0], [1.0]])
    batch = ReplayBufferSamples(seen, torch.zeros(2, 2), after, dones, rewards, torch.full((2, 1), 0.5))
    upper, lower = learner.targets(batch)
    assert upper.flatten().tolist() == pytest.approx([0.25 + 0.5 * 3, 0.8])
    assert lower.flatten().tolist() == pytest.approx([0.25 + 0.5 * 7, 0.8])
    everything_open = batch._replace(next_observations=torch.ones(2, 4))
    assert learner.targets(everything_open)[0].flatten().tolist() == pytest.approx([0.25 + 0.5 * 5, 0.8])
    assert td_target(rewards, 1 - dones, 1.0, upper).flatten().tolist() == pytest.approx([0.25, 1.6])


def test_closed_techniques_are_never_best() -> None:
    values = torch.tensor([[0.1, 9.0, 0.3], [4.0, 2.0, -1.0]])
    mask = torch.tensor([[True, False, True], [False, True, True]])
    best, index = masked_best(values, mask)
    assert best.flatten().tolist() == pytest.approx([0.3, 2.0])
    assert index.flatten().tolist() == [2, 1]


def test_the_next_strength_is_that_of_the_best_open_technique() -> None:
    """The lower target asks its actor under the technique that the upper one would take."""
    learner = HierarchicalLearner(4, 3, LearningRecipe())
    _constant(learner, [1.0, 5.0, 3.0], 0.0)
    after = torch.tensor([[1.0, 0, 1, 0.5]])
    conditioned = torch.tensor([[1.0, 0, 1, 0.5, 0, 0, 1]])
    value = learner.lower.critic(conditioned, learner.lower.actor_target(conditioned))[0]
    learner.lower.critic_target.load_state_dict(learner.lower.critic.state_dict())
    zero = torch.zeros(1, 1)
    batch = ReplayBufferSamples(after, torch.zeros(1, 2), after, zero, zero, zero + 1)
    assert torch.allclose(learner.targets(batch)[1], value)


def test_only_the_last_step_of_an_episode_is_rewarded() -> None:
    learner = HierarchicalLearner(3, 2, LearningRecipe(n_steps=2, gamma=0.5))
    seen = [np.array([1, 1, number], np.float32) for number in range(3)]
    learner.remember([Step(o, 1, 0.25) for o in seen], 0.8)
    learner.remember([Step(o, 0, -1.0) for o in seen], 0.4)
    rewards, dones = learner.buffer.rewards[:6, 0], learner.buffer.dones[:6, 0]
    assert rewards.tolist() == pytest.approx([0, 0, 0.8, 0, 0, 0.4])
    assert dones.tolist() == [0, 0, 1, 0, 0, 1]
    assert learner.buffer.actions[0, 0].tolist() == [1, 0.25]
    assert learner.buffer.next_observations[0, 0].tolist() == [1, 1, 1]
    batch = learner.buffer._get_samples(np.array([0, 1, 2]))
    assert batch.rewards.flatten().tolist() == pytest.approx([0, 0.5 * 0.8, 0.8])
    assert batch.dones.flatten().tolist() == [0, 1, 1]


def _tree_learner(seed: int, first_reward: Callable[[int, int], float]) -> HierarchicalLearner:
    """Trained on all episodes of two steps with two techniques each; the reward peaks at a last strength of 0.5."""
    set_random_seed(seed)
    recipe = LearningRecipe(technique_rate=2e-3, strength_rate=2e-3, n_steps=1, gradient_steps=300)
    learner = HierarchicalLearner(4, 2, recipe)
    for first in range(2):
        for second in range(2):
            for strength in np.linspace(-1, 1, 9):
                steps = [Step(_START, first, float(strength)), Step(_after(first), second, float(strength))]
                learner.remember(steps, first_reward(first, second) - (float(strength) - 0.5) ** 2)
    losses = learner.train()
    assert sorted(losses) == ["strength_actor_loss", "strength_critic_loss", "technique_loss"]
    return learner


_START = np.array([1, 1, 0, 0], np.float32)


def _after(first: int, is_open: int = 1) -> NDArray[np.float32]:
    return np.array([1, is_open, 1, first], np.float32)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_tree_of_techniques_and_strengths_is_learnt(seed: int) -> None:
    """The first step's best is that of the larger maximum behind it, not that of the larger mean."""
    table = ((0.0, 0.9), (0.6, 0.5))
    learner = _tree_learner(seed, lambda first, second: table[first][second])
    assert learner.technique(_START) == 0
    assert [learner.technique(_after(first)) for first in range(2)] == [1, 0]
    assert learner.technique(_after(0, is_open=0)) == 0
    for first in range(2):
        for second in range(2):
            assert learner.strength(_after(first), second) == pytest.approx(0.5, abs=0.3)


def test_strengths_go_from_the_mildest_to_the_strongest_open_choice() -> None:
    problem = toy_problem()
    menu, observer = Menu(problem), Observer(problem)
    assert menu.techniques == ("keep", *sorted(problem.space.techniques))
    keep = [0] * len(problem.space.sites)
    weights = problem.demand.weights
    shares = {"latency_ms": weights.latency, "energy_mj": weights.energy, "storage_bytes": weights.storage}
    for position, choices in enumerate(problem.space.choices):
        view = observer.view(position, keep)
        for number, technique in enumerate(menu.techniques):
            own = [i for i, c in enumerate(choices) if c.technique == technique and view.mask[i]]
            assert menu.mask(position, view)[number] == bool(own)
            if not own:
                continue
            reached = [menu.choice(position, view, number, s) for s in np.linspace(0, 1, 50)]
            assert list(dict.fromkeys(reached)) == menu.ordered(position, view, number).tolist()
            assert sorted(set(reached)) == own
            costs = [
                problem.costs([i if p == position else 0 for p in range(len(keep))]) for i in dict.fromkeys(reached)
            ]
            weighed = [sum((w + 1e-3) * c.cost(n) / problem.baseline.cost(n) for n, w in shares.items()) for c in costs]
            assert weighed == sorted(weighed, reverse=True)
            assert menu.choice(position, view, number, -3.0) == reached[0]
            assert menu.choice(position, view, number, 3.0) == reached[-1]


def test_closed_choices_are_skipped() -> None:
    problem = toy_problem()
    menu = Menu(problem)
    view = Observer(problem).view(1, [0] * 5)
    number = menu.techniques.index("channel_pruning")
    mild, strong = menu.ordered(1, view, number)
    mask = view.mask.copy()
    closed = SiteView(view.vector, view.savings, view.errors, mask)
    assert {menu.choice(1, closed, number, s) for s in np.linspace(0, 1, 30)} == {mild, strong}
    mask[mild] = False
    assert {menu.choice(1, closed, number, s) for s in np.linspace(0, 1, 30)} == {strong}
    assert menu.decision(1, closed, int(strong)) == (number, 0.5)
    mask[strong] = False
    assert not menu.mask(1, closed)[number]
    assert menu.mask(1, closed)[0]


def test_a_decision_stands_for_its_choice(small: Small) -> None:
    problem = small.problem()
    menu, observer = Menu(problem), Observer(problem)
    walk = problem.space.random(np.random.default_rng(2))
    for position in range(len(walk)):
        view = observer.view(position, walk)
        for choice in np.flatnonzero(view.mask):
            assert menu.choice(position, view, *menu.decision(position, view, int(choice))) == choice


def test_features_begin_with_the_mask(small: Small) -> None:
    problem = small.problem()
    menu, observer = Menu(problem), Observer(problem)
    view = observer.view(0, [0] * len(problem.space.sites))
    features = menu.features(0, view)
    assert features.shape == (menu.n_features,)
    assert np.isfinite(features).all()
    assert (features[: len(menu.techniques)] == menu.mask(0, view)).all()


def test_phases_take_their_kinds_of_sites(small: Small) -> None:
    kinds = ["block", "conv2d", "recurrent", "conv2d", "head", "linear", "linear"]
    counts = [2, 3, 2, 1, 2, 4, 1]
    sites = [SimpleNamespace(kind=kind, name=kind) for kind in kinds]
    problem: Any = SimpleNamespace(space=SimpleNamespace(sites=sites, choices=[[None] * count for count in counts]))
    first, second = find_phases(problem)
    assert (first.name, first.positions, first.inherited) == ("convolutions", (0, 1, 2), (4, 5))
    assert (second.name, second.positions, second.inherited) == ("fully_connected", (4, 5), (0, 1, 2))


def test_a_walk_inherits_and_observes_what_it_inherited(small: Small) -> None:
    problem = small.problem()
    observer = Observer(problem)
    _, second = find_phases(problem)
    chosen = problem.space.random(np.random.default_rng(5))
    walk = inheriting_walk(problem, observer, second, chosen)
    assert walk.position == second.positions[0]
    assert [walk.indices[p] for p in second.inherited] == [chosen[p] for p in second.inherited]
    assert walk.running[:-1] != [0] * 5
    nothing = inheriting_walk(problem, observer, second, [0] * len(chosen))
    assert nothing.running[:-1] == [0] * 5


def test_the_second_phase_inherits_the_best_of_the_first(small: Small) -> None:
    problem = small.problem()
    evaluations = list(_quick(seed=2, convolution_share=0.5, rounds=1).search(problem, 31))
    first, second = find_phases(problem)
    walks = [problem.space.indices(e.plan) for e in evaluations]
    early, late = walks[1:16], walks[16:]
    assert len(late) == 15
    assert all(walk[p] == 0 for walk in early for p in second.positions)
    best = problem.space.indices(max(evaluations[:16], key=lambda e: (e.feasible, e.reward)).plan)
    assert all(walk[p] == best[p] for walk in late for p in first.positions)
    assert len({tuple(walk[p] for p in second.positions) for walk in late}) == 15


def test_later_rounds_inherit_the_linear_layers(small: Small) -> None:
    problem = small.problem()
    evaluations = list(_quick(seed=2, convolution_share=0.5, rounds=2).search(problem, 41))
    _, second = find_phases(problem)
    best = problem.space.indices(max(evaluations[:21], key=lambda e: (e.feasible, e.reward)).plan)
    third = [problem.space.indices(e.plan) for e in evaluations[21:31]]
    expected = {p: best[p] for p in second.positions}
    for walk in third:  # a convolution can close what a linear layer had
        assert all(walk[p] in (expected[p], 0) for p in second.positions)


@pytest.mark.parametrize("only", [("0", "2"), ("6", "8")], ids=["convolutions", "linear"])
def test_one_phase_takes_everything_where_the_other_has_no_sites(only: tuple[str, ...]) -> None:
    network = toy_network()
    inputs = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    techniques = {t.name: t for t in (ChannelPruning(), Int8(), WeightSharing())}
    surveyed = survey(network, inputs[:1], techniques, only)
    bank = build_bank(network, surveyed.space, inputs, f"toy {only}")
    device = Roofline("toy", gflops=10.0, bandwidth_gbps=5.0, int8_speedup=4.0)
    problem = Problem(bank, ToyEvaluator(surveyed, bank, device), ConstrainedReward(), Demand(), device)
    agent = _quick()
    archive = agent.search(problem, 12)
    assert len(archive) == 12 or len(archive) == problem.space.size
    assert len({name.split(".")[0] for name in agent.policy_state()}) == 1


def test_a_space_smaller_than_the_budget_ends_the_search() -> None:
    problem = toy_problem()
    archive = _quick(exploration=ExplorationRecipe(max_repeats=3, repeat_step=0.0, start=0.0, end=0.0)).search(
        problem, 900
    )
    assert len(archive) < 900


def test_it_beats_random_plans_at_equal_evaluations() -> None:
    problem = toy_problem()
    learning = LearningRecipe(gradient_steps=10)
    found = [AdaDeepSearch(learning=learning, seed=s).search(problem, 40).best()[0].reward for s in range(3)]
    drawn = [RandomSearch(seed=s).search(problem, 40).best()[0].reward for s in range(3)]
    assert np.median(found) > max(drawn)


def test_the_seed_alone_decides(small: Small) -> None:
    plans = []
    for disturbance, seed in ((1, 3), (2, 3), (1, 4)):
        set_random_seed(disturbance)
        plans.append([e.plan.hash for e in _quick(seed).search(small.problem(), 20)])
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_the_weights_and_losses_of_both_phases_are_told(small: Small) -> None:
    told: list[str] = []

    class Recorder(Callback):
        def trained(self, metrics: Any) -> None:
            told.extend(metrics)

    agent = _quick()
    assert agent.policy_state() == {}
    agent.search(small.problem(), 20, Recorder())
    state = agent.policy_state()
    for phase in ("convolutions", "fully_connected"):
        assert f"{phase}.technique.q_net.q_net.0.weight" in state
        assert f"{phase}.strength.actor.mu.0.weight" in state
        assert f"train/{phase}/technique_loss" in told
        assert f"rollout/{phase}/epsilon" in told


def test_epsilon_falls_with_the_plans_found_and_rises_with_repeats() -> None:
    recipe = ExplorationRecipe(warmup=10, start=0.5, end=0.1, share=0.5, repeat_step=0.05)
    assert [recipe.epsilon(n, 60) for n in (0, 9, 10, 20, 30, 60)] == pytest.approx([1, 1, 0.5, 0.3, 0.1, 0.1])
    assert recipe.epsilon(60, 60, repeats=3) == pytest.approx(0.25)
    assert recipe.epsilon(60, 60, repeats=99) == 1
    assert [recipe.epsilon(n, 9) for n in (2, 3, 4, 5)] == pytest.approx([1, 0.5, 0.5 - 0.4 / 1.5, 0.1])
    assert recipe.epsilon(0, 0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaDeepSearch(convolution_share=1.0), r"agent\.convolution_share must lie between 0 and 1, got 1\.0"),
        (lambda: AdaDeepSearch(rounds=0), r"agent\.rounds must be at least 1, got 0"),
        (lambda: ExplorationRecipe(end=1.5), r"agent\.exploration\.end must be from 0 to 1, got 1\.5"),
        (lambda: ExplorationRecipe(inherit=-0.1), r"agent\.exploration\.inherit must be from 0 to 1, got -0\.1"),
        (lambda: ExplorationRecipe(noise=-1.0), r"agent\.exploration\.noise must be at least 0, got -1\.0"),
        (lambda: LearningRecipe(n_steps=0), r"agent\.learning\.n_steps must be at least 1, got 0"),
        (lambda: LearningRecipe(net_arch=(64, 0)), r"agent\.learning\.net_arch must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        make()


def test_the_configuration_states_the_defaults() -> None:
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        config = compose("config", overrides=["agent=adadeep"])
    assert ExplorationRecipe() == instantiate(config.agent.exploration)
    learning = instantiate(config.agent.learning, _convert_="all")
    assert LearningRecipe(net_arch=[64, 64]) == learning
    assert list(LearningRecipe().net_arch) == learning.net_arch
    own = inspect.signature(AdaDeepSearch).parameters
    assert all(own[name].default == config.agent[name] for name in ("convolution_share", "rounds"))
