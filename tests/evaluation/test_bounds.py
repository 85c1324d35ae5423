"""Lower bounds of the costs: never above what a plan costs, and tight enough to close choices."""

import numpy as np
import pytest
import torch
from espalier.compression.bank_builder import build_bank
from espalier.compression.survey import survey
from espalier.compression.techniques import (
    ChannelPruning,
    Composition,
    DepthSkip,
    Int8,
    LowBits,
    SpatialSvd,
    WidthScaling,
)
from espalier.envs.layer_wise import LayerWiseEnv
from espalier.envs.problem import Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.errors import DemandError
from espalier.evaluation.demand import BUDGETS, Demand
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.tasks.data.split import Split, Splits
from espalier.tasks.models.recurrent import RecurrentClassifier
from espalier.tasks.models.resnet import CifarResNet
from espalier.tasks.task import Task
from torch import nn

from tests.conftest import Small


def _made(small: Small, name: str) -> Problem:
    if name == "digits":
        evaluator = small.evaluator
        return Problem(small.bank, evaluator, ConstrainedReward(), Demand(), small.device, evaluator.bounds())
    torch.manual_seed(0)
    is_recurrent = name == "recurrent"
    shape = (12, 20) if is_recurrent else (3, 16, 16)
    model: nn.Module = RecurrentClassifier(n_features=20, hidden=32) if is_recurrent else CifarResNet(8)
    axis = 2 if is_recurrent else 1
    channels = shape[axis - 1]
    part = Split(torch.rand(24, *shape), torch.arange(24) % 10, (0.0,) * channels, (1.0,) * channels, axis)
    task = Task(name, model, Splits(part, part, part, part))
    compositions = [Composition([ChannelPruning(), Int8()])]
    techniques = [ChannelPruning(), SpatialSvd(), Int8(), LowBits(), DepthSkip(), *compositions]
    if name == "widths":
        techniques.append(WidthScaling(kept=(0.75, 0.5), channel_multiple=4))
    surveyed = survey(task.model, task.example_input, {technique.name: technique for technique in techniques})
    bank = build_bank(task.model, surveyed.space, task.calibrate.inputs(), "x")
    evaluator = LocalEvaluator(task, surveyed, bank, small.device)
    return Problem(bank, evaluator, ConstrainedReward(), Demand(macs=1e12), small.device, evaluator.bounds())


@pytest.mark.parametrize("name", ["digits", "blocks", "widths", "recurrent"])
def test_no_plan_costs_less_than_its_bounds(small: Small, name: str) -> None:
    problem = _made(small, name)
    space, bounds = problem.space, problem.evaluator.bounds()
    rng = np.random.default_rng(0)
    least = bounds.least()
    for _ in range(25):
        walk = space.random(rng)
        costs = np.array([problem.costs(walk).cost(cost) for cost in BUDGETS])
        assert all(least[cost] <= value * (1 + 1e-9) for cost, value in zip(BUDGETS, costs, strict=True))
        for position in range(len(space.sites)):
            bound = bounds.after(position, walk)[walk[position]]
            assert (bound <= costs * (1 + 1e-9)).all(), (position, dict(zip(BUDGETS, bound / costs, strict=True)))


def test_bounds_of_whole_walks_are_exact_where_nothing_is_added(small: Small) -> None:
    problem = _made(small, "digits")
    space, bounds = problem.space, problem.evaluator.bounds()
    rng = np.random.default_rng(1)
    last = len(space.sites) - 1
    for _ in range(10):
        walk = space.random(rng)
        bound = dict(zip(BUDGETS, bounds.after(last, walk)[walk[last]], strict=True))
        assert bound["macs"] == problem.costs(walk).cost("macs")


def test_masks_close_what_breaks_a_budget_and_nothing_that_can_meet_it(small: Small) -> None:
    free = _made(small, "digits")
    space = free.space
    rng = np.random.default_rng(2)
    walks = [space.random(rng) for _ in range(300)]
    storage = sorted(free.costs(walk).cost("storage_bytes") for walk in walks)
    demand = Demand(storage_bytes=storage[60])
    problem = Problem(small.bank, small.evaluator, ConstrainedReward(), demand, small.device, small.evaluator.bounds())
    closed = 0
    for walk in walks:
        meets = problem.costs(walk).cost("storage_bytes") <= storage[60]
        open_all_along = all(problem.affordable(p, walk)[walk[p]] for p in range(len(walk)))
        assert open_all_along or not meets
        closed += not open_all_along
    assert closed > 60
    env = LayerWiseEnv(problem)
    env.reset()
    done = False
    while not done:
        mask = env.action_masks()
        assert mask.any()
        _, _, done, _, info = env.step(np.int64(np.flatnonzero(mask)[0]))
    assert info["metrics"]["storage_bytes"]["value"] < 1.5 * storage[60]


def test_what_cannot_be_met_is_refused_with_the_bound(small: Small) -> None:
    evaluator = small.evaluator
    demand = Demand(macs=10.0)
    problem = Problem(small.bank, evaluator, ConstrainedReward(), demand, small.device, evaluator.bounds())
    with pytest.raises(DemandError, match="macs=10 cannot be met: every plan of this space needs at least"):
        problem.check_feasible()
    assert problem.affordable(0, [0] * len(problem.space.sites)).sum() == 1


def test_what_stays_open_when_nothing_is_affordable_is_an_open_choice(small: Small) -> None:
    evaluator = small.evaluator
    problem = Problem(small.bank, evaluator, ConstrainedReward(), Demand(macs=10.0), small.device, evaluator.bounds())
    space = problem.space
    rng = np.random.default_rng(3)
    for _ in range(30):
        walk = space.random(rng)
        for position in range(len(space.sites)):
            left = problem.affordable(position, walk)
            assert left.sum() == 1
            assert space.mask(position, walk)[left].all()
