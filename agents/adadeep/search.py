"""AdaDeep's two-phase hierarchical optimiser as a searcher."""

import numpy as np
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor
from typing_extensions import override

from ...envs.problem import Callback, Problem
from ...errors import EspalierError
from ..searcher import BaseSearcher
from .phase_agent import PhaseAgent
from .phases import find_phases
from .recipe import ExplorationRecipe, LearningRecipe

__all__ = ["AdaDeepSearch"]


class AdaDeepSearch(BaseSearcher):
    """Layer-wise inheriting search in two phases (Liu et al. 2021, arXiv 2006.04432).

    First an agent walks the convolutions, recurrent layers and blocks, while the other layers are kept; then another
    walks the head and the linear layers, inheriting the best choices found. Each is hierarchical: a deep Q-network
    picks the technique of a layer, a deep deterministic policy gradient its strength.

    Args:
        convolution_share: Share of the evaluations that the first phase makes; a phase without sites makes none.
        rounds: How often both phases take turns. The paper's is 1; later rounds inherit what the other phase found.
        exploration: How the agents explore.
        learning: How they learn.
        seed: Of all decisions.

    Raises:
        EspalierError: A setting is out of its range.
    """

    def __init__(
        self,
        convolution_share: float = 0.7,
        rounds: int = 3,
        exploration: ExplorationRecipe | None = None,
        learning: LearningRecipe | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        if not 0 < convolution_share < 1:
            raise EspalierError(f"agent.convolution_share must lie between 0 and 1, got {convolution_share!r}")
        if rounds < 1:
            raise EspalierError(f"agent.rounds must be at least 1, got {rounds!r}")
        self._share = convolution_share
        self._rounds = rounds
        self._exploration = exploration or ExplorationRecipe()
        self._learning = learning or LearningRecipe()
        self._agents: list[PhaseAgent] = []

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        set_random_seed(self._seed)  # Stable-Baselines3's buffers, noise and networks draw from the global generators
        assert problem.budget is not None
        phases = find_phases(problem)
        planned = self._planned(len(phases), problem.budget - len(problem.archive))
        self._agents = [
            PhaseAgent(problem, phase, plans, self._exploration, self._learning, rng)
            for phase, plans in zip(phases, planned, strict=True)
        ]
        for number in range(self._rounds):
            for agent, plans in zip(self._agents, planned, strict=True):
                agent.search(_part(plans, number, self._rounds), callback)
        found = 1
        while problem.remaining > 0 and found:  # what a phase that ran dry has left over
            found = sum(agent.search(problem.budget, callback) for agent in self._agents)

    def _planned(self, n_phases: int, evaluations: int) -> list[int]:
        if n_phases == 1:
            return [evaluations]
        first = round(self._share * evaluations)
        return [first, evaluations - first]

    @override
    def policy_state(self) -> dict[str, Tensor]:
        return {f"{a.phase.name}.{name}": tensor for a in self._agents for name, tensor in a.learner.state().items()}


def _part(total: int, number: int, parts: int) -> int:
    """Of a total in nearly equal parts, part `number`."""
    return total * (number + 1) // parts - total * number // parts
