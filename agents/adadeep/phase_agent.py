"""The agent of one phase: walks its sites, learns from each walk's reward."""

from collections.abc import Sequence

import numpy as np
from stable_baselines3.common.noise import NormalActionNoise

from ...envs.observation import Observer, Vector
from ...envs.problem import Callback, Problem
from ...envs.walk import Walk
from .learner import HierarchicalLearner, Step
from .menu import Menu
from .phases import Phase, inheriting_walk
from .recipe import ExplorationRecipe, LearningRecipe

__all__ = ["PhaseAgent"]


class PhaseAgent:
    """Decides the sites of one phase; networks, replay buffer and exploration are its own.

    Args:
        problem: The problem, whose search has begun.
        phase: Its sites.
        planned: New plans that it is meant to find; exploration is timed by it.
        exploration: How to explore.
        learning: How to learn.
        rng: Of its decisions.

    Attributes:
        learner: The networks.
    """

    def __init__(
        self,
        problem: Problem,
        phase: Phase,
        planned: int,
        exploration: ExplorationRecipe,
        learning: LearningRecipe,
        rng: np.random.Generator,
    ) -> None:
        self.phase = phase
        self._problem = problem
        self._planned = planned
        self._exploration = exploration
        self._rng = rng
        self._menu = Menu(problem)
        self._observer = Observer(problem)
        n_features = self._menu.n_features + Observer.size
        self.learner = HierarchicalLearner(n_features, len(self._menu.techniques), learning)
        # Strengths span [0, 1], the actor's answers [-1, 1].
        self._noise = NormalActionNoise(np.zeros(1), np.full(1, 2 * exploration.noise))
        self._found = 0

    def search(self, new_plans: int, callback: Callback) -> int:
        """Walk until so many new plans were found, or too many walks in a row led to known ones.

        Every walk inherits the other phase's choices of the best plan so far.

        Args:
            new_plans: How many to find.
            callback: Told of the losses.

        Returns:
            How many were found.

        Raises:
            BudgetExhausted: The evaluations are spent.
        """
        inherited = self._problem.space.indices(self._problem.archive.best()[0].plan)
        found = repeats = 0
        while found < new_plans and repeats < self._exploration.max_repeats:
            epsilon = self._exploration.epsilon(self._found, self._planned, repeats)
            if self._episode(inherited, epsilon, callback):
                found, repeats = found + 1, 0
                self._found += 1
            else:
                repeats += 1
        return found

    def _episode(self, inherited: Sequence[int], epsilon: float, callback: Callback) -> bool:
        """One walk; whether it led to a new plan, and was learnt from."""
        walk = inheriting_walk(self._problem, self._observer, self.phase, inherited)
        steps = self._walk(walk, epsilon)
        if self._problem.is_known(self._problem.space.plan(walk.indices)):
            self._problem.evaluate_walk(walk.indices)
            return False
        evaluation = self._problem.evaluate_walk(walk.indices)
        self.learner.remember(steps, evaluation.reward)
        losses = self.learner.train()
        name = self.phase.name
        callback.trained({f"rollout/{name}/epsilon": epsilon, **{f"train/{name}/{k}": v for k, v in losses.items()}})
        return True

    def _walk(self, walk: Walk, epsilon: float) -> list[Step]:
        steps = []
        # A walk that compresses everywhere is ruined by its worst choice: random steps also keep, now more, now less.
        restraint = self._rng.random()
        while not walk.is_over:
            step = self._decide(walk, epsilon, restraint)
            steps.append(step)
            strength = (step.strength + 1) / 2
            walk.choose(self._menu.choice(walk.position, walk.view, step.technique, strength))
        return steps

    def _decide(self, walk: Walk, epsilon: float, restraint: float) -> Step:
        observation = self._observe(walk)
        if self._rng.random() < epsilon:
            opened = np.flatnonzero(self._menu.mask(walk.position, walk.view))
            technique = 0 if self._rng.random() < restraint else int(self._rng.choice(opened))
            return Step(observation, technique, float(self._rng.uniform(-1, 1)))
        technique = self.learner.technique(observation)
        strength = self.learner.strength(observation, technique) + float(self._noise()[0])
        return Step(observation, technique, min(max(strength, -1.0), 1.0))

    def _observe(self, walk: Walk) -> Vector:
        return np.concatenate([self._menu.features(walk.position, walk.view), walk.observation()])
