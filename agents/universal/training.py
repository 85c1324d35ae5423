"""Training the policy: imitate what evolution finds under many demands, then improve by reinforcement."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger

from ...errors import EspalierError
from ...progress import step
from ..dyna.planners import EvolutionPlanner
from ..dyna.simulation import Pool
from .demands import DemandRecipe
from .network import ChoicePolicy
from .policy import UniversalPolicy
from .walk_batch import WalkBatch
from .walk_env import ManyWorlds
from .world import World

__all__ = ["TrainingRecipe", "train_policy"]

_BATCH = 512

#: How a demonstration is stored: observations, masks, actions of every step.
_Steps = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]


@dataclass(frozen=True)
class TrainingRecipe:
    """How a policy is trained.

    Attributes:
        demands: How demands are drawn.
        demonstrations: Demands under which evolution looks for walks to imitate; 0 to start from nothing.
        imitated: Best walks that are imitated of each.
        epochs: Passes over them.
        imitation_rate: Learning rate of these passes.
        updates: Of PPO; 0 for imitation alone.
        groups: Demands side by side in PPO.
        walks: Walks of each.
        hidden: Width of the network.
        hyperparameters: Of MaskablePPO, beside those that follow from the others.
    """

    demands: DemandRecipe = field(default_factory=DemandRecipe)
    demonstrations: int = 720
    imitated: int = 6
    epochs: int = 16
    imitation_rate: float = 2e-3
    updates: int = 300
    groups: int = 8
    walks: int = 32
    hidden: int = 64
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.demonstrations, self.updates) < 0 or self.demonstrations + self.updates == 0:
            raise EspalierError(
                "agent.recipe needs demonstrations or updates above 0 and neither below, "
                f"got {self.demonstrations} and {self.updates}"
            )
        if self.walks < 2 or self.groups < 1:
            raise EspalierError(f"agent.recipe needs groups >= 1 and walks >= 2, got {self.groups} and {self.walks}")


def train_policy(
    worlds: Mapping[str, World], recipe: TrainingRecipe, seed: int = 0, planner: EvolutionPlanner | None = None
) -> UniversalPolicy:
    """A policy for the demands of a recipe in all worlds at once.

    Args:
        worlds: Name -> network on a device.
        recipe: How to train.
        seed: Of all decisions.
        planner: Finds the walks to imitate.

    Raises:
        EspalierError: There is no world.
    """
    if not worlds:
        raise EspalierError("a universal policy needs at least one world to learn in, got none")
    rng = np.random.default_rng(seed)
    every = tuple(worlds.values())
    started = time.perf_counter()
    env = ManyWorlds(every, recipe.demands, recipe.groups, recipe.walks, rng)
    length = max(len(world.ground.positions) for world in every)
    model = MaskablePPO(
        ChoicePolicy,
        env,
        n_steps=2 * length,
        batch_size=max(2, length * recipe.groups * recipe.walks // 2),
        seed=seed,
        device="cpu",
        policy_kwargs={"hidden": recipe.hidden},
        **recipe.hyperparameters,
    )
    model.set_logger(Logger(None, []))
    _imitate(model.policy, _demonstrations(every, recipe, planner or EvolutionPlanner(), seed, rng), recipe, rng)
    with step("training the policy", recipe.updates) as advance:
        for _ in range(recipe.updates):
            model.learn(1, reset_num_timesteps=False, log_interval=None)  # type: ignore[arg-type]
            advance(1)
    facts = {"worlds": list(worlds), "seed": seed, "seconds": round(time.perf_counter() - started, 1)}
    facts |= {"demonstrations": recipe.demonstrations, "updates": recipe.updates}
    assert isinstance(model.policy, ChoicePolicy)
    model.policy.set_training_mode(False)
    return UniversalPolicy(model.policy, recipe.hidden, facts)


def _demonstrations(
    worlds: Sequence[World], recipe: TrainingRecipe, planner: EvolutionPlanner, seed: int, rng: np.random.Generator
) -> list[_Steps]:
    """The steps of the best walks that evolution finds under drawn demands."""
    steps: list[_Steps] = []
    with step("looking for walks to imitate", recipe.demonstrations) as advance:
        for number in range(recipe.demonstrations):
            world = worlds[number % len(worlds)]
            tables = world.ground.tables
            demand = recipe.demands.draw(rng, world.ground.problem.baseline)
            pool = Pool(lambda walks, w=world, d=demand: w.rewards(walks, d), len(tables.counts))  # type: ignore[misc]
            planner.begin(tables, seed)
            planner.plan(pool, np.zeros((1, len(tables.counts)), np.int64), rng)
            best = pool.ranked()[0][: recipe.imitated]
            batch = WalkBatch(world.ground, [demand] * len(best))
            while not batch.is_over:
                actions = best[:, batch.position]
                steps.append((batch.observations(), batch.masks(), actions))
                batch.choose(actions)
            advance(1)
    return steps


def _imitate(policy: Any, steps: Sequence[_Steps], recipe: TrainingRecipe, rng: np.random.Generator) -> None:
    """Raise the likelihood of demonstrated walks."""
    if not steps:
        return
    observations, masks, actions = (torch.from_numpy(np.concatenate(part)) for part in zip(*steps, strict=True))
    optimizer = torch.optim.Adam(policy.parameters(), recipe.imitation_rate)
    n_batches = -(-len(actions) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.imitation_rate, total_steps=recipe.epochs * n_batches
    )
    policy.set_training_mode(True)
    with step("imitating", recipe.epochs) as advance:
        for _ in range(recipe.epochs):
            for rows in np.array_split(rng.permutation(len(actions)), n_batches):
                _, log_likelihood, _ = policy.evaluate_actions(observations[rows], actions[rows], masks[rows])
                optimizer.zero_grad()
                (-log_likelihood.mean()).backward()
                optimizer.step()
                schedule.step()
            advance(1)
    policy.set_training_mode(False)
