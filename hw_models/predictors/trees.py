"""Boosted regression trees as arrays: fitted by scikit-learn, evaluated by NumPy, written as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor

from ...errors import FormatError

__all__ = ["BoostedTrees", "fit_trees"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_TREES, _DEPTH, _LEARNING_RATE = 120, 3, 0.06
_LARGEST_NODES = 100_000
_LEAF = -1


@dataclass(frozen=True)
class BoostedTrees:
    """The sum of many small trees (Friedman 2001).

    A node sends a row to `left` where its column is at most the threshold, else to `right`; a leaf has no children.
    Children stand after their parent, so that every walk ends.

    Attributes:
        roots: Node at which each tree begins, shape (trees,).
        column: Column that a node looks at; of a leaf -1, shape (nodes,).
        threshold: What it is compared with, shape (nodes,).
        left: Next node where the value is at most the threshold, shape (nodes,).
        right: Next node elsewhere, shape (nodes,).
        value: What a leaf adds, shape (nodes,).
    """

    roots: Integers
    column: Integers
    threshold: Floats
    left: Integers
    right: Integers
    value: Floats

    def predict(self, matrix: Floats) -> Floats:
        """The trees' sum for each row, shape (rows,)."""
        single = matrix.astype(np.float32)  # scikit-learn compares in single precision
        total = np.zeros(len(matrix))
        for root in self.roots:
            node = np.full(len(matrix), root)
            while (inner := self.column[node] != _LEAF).any():
                rows, at = np.flatnonzero(inner), node[inner]
                goes_left = single[rows, self.column[at]] <= self.threshold[at]
                node[rows] = np.where(goes_left, self.left[at], self.right[at])
            total += self.value[node]
        return total

    def to_dict(self) -> dict[str, Any]:
        """The arrays as lists, ready for JSON."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: Any, columns: int, source: str) -> "BoostedTrees":
        """Rebuild what `to_dict` wrote.

        Args:
            values: The JSON object.
            columns: How many columns rows have.
            source: Where it comes from, for error messages.

        Raises:
            FormatError: The arrays are missing, of different lengths, or no trees.
        """
        names = tuple(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or set(values) != set(names):
            raise FormatError(f"{source}: trees must be an object with {', '.join(names)}")
        made = {name: _array(values[name], name, source) for name in names}
        trees = cls(**made)
        if not trees._is_sound(columns):
            raise FormatError(f"{source}: trees must be arrays of one length whose children stand after their parent")
        return trees

    def _is_sound(self, columns: int) -> bool:
        nodes = len(self.column)
        if nodes == 0 or any(len(a) != nodes for a in (self.threshold, self.left, self.right, self.value)):
            return False
        inner = np.flatnonzero(self.column != _LEAF)
        children = np.concatenate([self.left[inner], self.right[inner]])
        return bool(
            (self.roots >= 0).all()
            and (self.roots < nodes).all()
            and (self.column >= _LEAF).all()
            and (self.column < columns).all()
            and (children > np.tile(inner, 2)).all()
            and (children < nodes).all()
        )


def _array(values: Any, name: str, source: str) -> NDArray[Any]:
    whole = name in ("roots", "column", "left", "right")
    accepted: tuple[type, ...] = (int,) if whole else (int, float)
    if (
        not isinstance(values, list)
        or len(values) > _LARGEST_NODES
        or not all(type(value) in accepted and abs(value) < 1e18 for value in values)
    ):
        what = "whole numbers" if whole else "finite numbers"
        raise FormatError(f"{source}: {name} of the trees must be a list of at most {_LARGEST_NODES} {what}")
    return np.array(values, dtype=np.int64 if whole else np.float64)


def fit_trees(matrix: Floats, target: Floats, weights: Floats, seed: int) -> BoostedTrees:
    """Fit trees to what a linear model left over.

    Args:
        matrix: Columns, shape (rows, columns).
        target: What is to be predicted, shape (rows,).
        weights: Weight of each row, shape (rows,).
        seed: Decides which rows and columns each tree sees.
    """
    model = GradientBoostingRegressor(
        n_estimators=_TREES,
        max_depth=_DEPTH,
        learning_rate=_LEARNING_RATE,
        subsample=0.7,
        max_features=0.3,
        min_samples_leaf=5,
        init="zero",
        random_state=seed,
    ).fit(matrix, target, sample_weight=weights)
    parts = [tree.tree_ for tree in model.estimators_[:, 0]]
    starts = np.cumsum([0, *(part.node_count for part in parts)])
    inner = np.concatenate([part.children_left for part in parts]) != _LEAF
    shift = np.repeat(starts[:-1], [part.node_count for part in parts])

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([np.ravel(getattr(part, name)) for part in parts])

    return BoostedTrees(
        roots=starts[:-1].astype(np.int64),
        column=np.where(inner, joined("feature"), _LEAF).astype(np.int64),
        threshold=np.where(inner, joined("threshold"), 0.0),
        left=np.where(inner, joined("children_left") + shift, _LEAF).astype(np.int64),
        right=np.where(inner, joined("children_right") + shift, _LEAF).astype(np.int64),
        value=_LEARNING_RATE * joined("value"),
    )
