"""The trained policy: a file, and walks for a problem it never saw."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from typing_extensions import override

from ...envs.observation import LAYOUT, SLOTS, Observer
from ...envs.problem import Problem
from ...errors import FormatError
from ...files import write_bytes
from ..dyna.codes import Walks
from .network import ChoicePolicy
from .walk_batch import Ground, WalkBatch
from .walk_env import ACTIONS, OBSERVATIONS

__all__ = ["UniversalPolicy"]

_VERSION = 1
_HEADER = "espalier-universal-policy"


class UniversalPolicy:
    """Walks any network under any demand on any device, without training.

    Args:
        network: The trained policy.
        hidden: Its width.
        facts: What it was trained on, for people.
    """

    def __init__(self, network: ChoicePolicy, hidden: int, facts: Mapping[str, Any] | None = None) -> None:
        self._network = network
        self._hidden = hidden
        self.facts = dict(facts or {})

    @classmethod
    def untrained(cls, hidden: int = 64, facts: Mapping[str, Any] | None = None) -> "UniversalPolicy":
        """With random weights."""
        return cls(ChoicePolicy(OBSERVATIONS, ACTIONS, lambda _: 1e-3, hidden=hidden), hidden, facts)

    def state(self) -> dict[str, torch.Tensor]:
        """The weights."""
        return {name: tensor.detach().clone().contiguous() for name, tensor in self._network.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write weights as safetensors, with what describes them as JSON in the header."""
        header = {"version": _VERSION, "hidden": self._hidden, "observation": _observation(), "facts": self.facts}
        write_bytes(path, save(self.state(), {_HEADER: json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> "UniversalPolicy":
        """Read a file that `save` wrote.

        Raises:
            FormatError: It is missing, damaged, no policy, or made for other observations.
        """
        try:
            with safe_open(path, "pt") as opened:
                header = json.loads((opened.metadata() or {}).get(_HEADER, "{}"))
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
        except (OSError, SafetensorError, ValueError) as error:
            raise FormatError(f"cannot read a universal policy from {path}: {_first_line(error)}") from error
        if header.get("version") != _VERSION:
            raise FormatError(
                f"{path} is no universal policy of version {_VERSION}: make one with agent=universal_training"
            )
        if header.get("observation") != _observation():
            raise FormatError(
                f"{path} reads observations of {header.get('observation')}, this version makes {_observation()}: "
                "train it again"
            )
        try:
            made = cls.untrained(int(header["hidden"]), header.get("facts"))
            made._network.load_state_dict(tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FormatError(f"{path} holds weights of another network: {_first_line(error)}") from error
        return made

    def greedy(self, problem: Problem) -> Walks:
        """The likeliest choice at each site, shape (1, sites)."""
        return self._walked(Ground(problem), 1, None, 1.0)[0]

    def sample(self, ground: Ground, count: int, rng: np.random.Generator, temperature: float = 1.0) -> Walks:
        """Different walks, the likeliest first.

        Args:
            ground: Of the problem.
            count: How many are drawn; those that repeat fall away.
            rng: Draws them.
            temperature: Divides the scores; above 1 for more variety.
        """
        walks, likelihoods = self._walked(ground, count, rng, temperature)
        walks = walks[np.argsort(-likelihoods, kind="stable")]
        _, first = np.unique(walks, axis=0, return_index=True)
        return walks[np.sort(first)]

    def _walked(
        self, ground: Ground, count: int, rng: np.random.Generator | None, temperature: float
    ) -> tuple[Walks, NDArray[np.float64]]:
        problem = ground.problem
        batch = WalkBatch(ground, [problem.demand] * count)
        likelihoods, rows = np.zeros(count), np.arange(count)
        while not batch.is_over:
            scores = self._log_shares(batch.observations(), _affordable(problem, batch)) / temperature
            noise = rng.gumbel(size=scores.shape) if rng else 0.0
            actions = (scores + noise).argmax(1)
            likelihoods += scores[rows, actions]
            batch.choose(actions)
        return ground.tables.canonical(batch.walks), likelihoods

    def _log_shares(self, observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Logarithms of the probabilities of the choices; minus infinity where closed."""
        with torch.no_grad():
            distribution = self._network.get_distribution(torch.from_numpy(observations), masks).distribution
        assert isinstance(distribution, torch.distributions.Categorical)
        logs: NDArray[np.float64] = distribution.logits.double().numpy()
        return np.where(masks, logs, -np.inf)

    @override
    def __repr__(self) -> str:
        return f"UniversalPolicy(hidden={self._hidden}, facts={self.facts})"


def _affordable(problem: Problem, batch: WalkBatch) -> NDArray[np.bool_]:
    """The open choices after which every budget can still be met, or all open ones where there is none."""
    masks = batch.masks().copy()
    if problem.demand.budgets:
        for row, walk in enumerate(batch.walks.tolist()):
            affordable = problem.affordable(batch.position, walk)
            both = masks[row, : len(affordable)] & affordable
            if both.any():
                masks[row, : len(affordable)] = both
    return masks


def _observation() -> dict[str, int]:
    """What the meaning of an observation depends on."""
    sizes = {name: part.stop - part.start for name, part in LAYOUT.items()}
    return {"size": Observer.size, "slots": SLOTS, **sizes}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
