"""What is open at a site, told by technique: the upper agent's actions and the lower agent's scale."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...compression.choice import KEEP
from ...envs.observation import SiteView, Vector
from ...envs.problem import Problem

__all__ = ["Menu"]

#: Per technique: whether it is open, how many choices it has, savings and errors of its mildest and strongest choice.
_FEATURES = 6

#: Choices of a technique that count as many.
_MANY_CHOICES = 8


class Menu:
    """Techniques by name, the same at every site, and each one's choices from mild to strong.

    What a choice saves is weighed as the demand weighs latency, energy and storage.

    Args:
        problem: The problem.

    Attributes:
        techniques: Names: keep, then the space's in alphabetical order, whether a site has them or not.
    """

    def __init__(self, problem: Problem) -> None:
        space = problem.space
        weights = problem.demand.weights
        self.techniques: tuple[str, ...] = (KEEP.technique, *sorted(space.techniques))
        self._choices = space.choices
        self._weights = np.array([weights.latency, weights.energy, weights.storage]) + 1e-3
        self._numbers = [[self.techniques.index(c.technique) for c in choices] for choices in space.choices]

    @property
    def n_features(self) -> int:
        """Length of what `features` gives."""
        return _FEATURES * len(self.techniques)

    def ordered(self, position: int, view: SiteView, technique: int) -> NDArray[np.intp]:
        """The open choices of a technique at a site from mild to strong; empty where the technique is closed.

        Args:
            position: Of the site.
            view: Of the site in its present state.
            technique: Index into `techniques`.

        Returns:
            Indices of the site's choices by rising saving.
        """
        opened = np.flatnonzero(view.mask & (np.array(self._numbers[position]) == technique))
        return opened[np.argsort(view.savings[opened] @ self._weights, kind="stable")]

    def mask(self, position: int, view: SiteView) -> NDArray[np.bool_]:
        """Which techniques have an open choice, shape (techniques,); keep always has."""
        mask = np.zeros(len(self.techniques), bool)
        mask[np.array(self._numbers[position])[view.mask]] = True
        return mask

    def choice(self, position: int, view: SiteView, technique: int, strength: float) -> int:
        """The choice that a technique and a strength stand for.

        Args:
            position: Of the site.
            view: Of the site in its present state.
            technique: Index of an open technique.
            strength: In [0, 1]: 0 is the technique's mildest open choice, 1 its strongest; equal shares of the
                interval belong to each. What lies outside counts as the nearer end.
        """
        ordered = self.ordered(position, view, technique)
        return int(ordered[min(int(max(strength, 0.0) * len(ordered)), len(ordered) - 1)])

    def decision(self, position: int, view: SiteView, choice: int) -> tuple[int, float]:
        """The technique and the strength that stand for an open choice: what `choice` undoes."""
        technique = self._numbers[position][choice]
        ordered = self.ordered(position, view, technique)
        return technique, (int(np.flatnonzero(ordered == choice)[0]) + 0.5) / len(ordered)

    def features(self, position: int, view: SiteView) -> Vector:
        """What the networks see of the techniques, float32, shape (n_features,); the mask comes first."""
        table = np.zeros((_FEATURES, len(self.techniques)), np.float32)
        table[0] = self.mask(position, view)
        for technique in np.flatnonzero(table[0]):
            table[1:, technique] = self._summary(view, self.ordered(position, view, int(technique)))
        return table.flatten()

    def _summary(self, view: SiteView, ordered: Sequence[int] | NDArray[np.intp]) -> list[float]:
        ends = [ordered[0], ordered[-1]]
        savings = view.savings[ends] @ self._weights / self._weights.sum()
        errors = np.log10(np.maximum(view.errors[ends], 1e-3)) / 3 + 1
        return [len(ordered) / _MANY_CHOICES, *(4 * savings), *errors]
