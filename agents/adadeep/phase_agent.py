"""The agent of one phase: walks its sites, learns from each walk's reward."""

from collections.abc import Sequence
from typing import NamedTuple

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


class _Mood(NamedTuple):
    """What an episode explores with: shares of random steps, and of those that keep; the best plan's walk."""

    epsilon: float
    restraint: float
    best: Sequence[int]


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

        Every walk inherits the choices that the best plan so far makes at the other phase's sites.

        Args:
            new_plans: How many to find.
            callback: Told of the losses.

        Returns:
            How many were found.

        Raises:
            BudgetExhausted: The evaluations are spent.
        """
        inherited = self._best()
        found = repeats = 0
        while found < new_plans and repeats < self._exploration.max_repeats:
            epsilon = self._exploration.epsilon(self._found, self._planned, repeats)
            if self._episode(inherited, epsilon, callback):
                found, repeats = found + 1, 0
                self._found += 1
            else:
                repeats += 1
        return found

    def _best(self) -> Sequence[int]:
        return self._problem.space.indices(self._problem.archive.best()[0].plan)

    def _episode(self, inherited: Sequence[int], epsilon: float, callback: Callback) -> bool:
        """One walk; whether it led to a new plan, and was learnt from."""
        walk = inheriting_walk(self._problem, self._observer, self.phase, inherited)
        # A plan that compresses everywhere is ruined by its worst choice: random steps keep, now more often, now less.
        mood = _Mood(epsilon, self._rng.random(), self._best())
        steps = []
        while not walk.is_over:
            step = self._step(walk, mood)
            steps.append(step)
            strength = (step.strength + 1) / 2
            walk.choose(self._menu.choice(walk.position, walk.view, step.technique, strength))
        is_new = not self._problem.is_known(self._problem.space.plan(walk.indices))
        reward = self._problem.evaluate_walk(walk.indices).reward
        if is_new:
            self._learn(steps, reward, epsilon, callback)
        return is_new

    def _learn(self, steps: Sequence[Step], reward: float, epsilon: float, callback: Callback) -> None:
        self.learner.remember(steps, reward)
        losses = {f"train/{self.phase.name}/{name}": loss for name, loss in self.learner.train().items()}
        callback.trained({f"rollout/{self.phase.name}/epsilon": epsilon, **losses})

    def _step(self, walk: Walk, mood: _Mood) -> Step:
        observation = np.concatenate([self._menu.features(walk.position, walk.view), walk.observation()])
        best = mood.best[walk.position]
        if mood.epsilon < 1 and walk.mask[best] and self._rng.random() < self._exploration.inherit:
            technique, share = self._menu.decision(walk.position, walk.view, best)
            return Step(observation, technique, 2 * share - 1)
        if self._rng.random() < mood.epsilon:
            return self._random_step(walk, observation, mood.restraint)
        technique = self.learner.technique(observation)
        strength = self.learner.strength(observation, technique) + float(self._noise()[0])
        return Step(observation, technique, min(max(strength, -1.0), 1.0))

    def _random_step(self, walk: Walk, observation: Vector, restraint: float) -> Step:
        opened = np.flatnonzero(self._menu.mask(walk.position, walk.view))
        technique = 0 if self._rng.random() < restraint else int(self._rng.choice(opened))
        return Step(observation, technique, float(self._rng.uniform(-1, 1)))
