"""Networks as rows of numbers: decisions by position, how often each is taken, and work by kind of operator."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..spaces.architecture import Architecture
from .work import QUANTITIES, work_table

__all__ = ["LARGEST_COLUMNS", "FeatureMap", "feature_rows"]

Floats = NDArray[np.float64]

#: Columns that a file may ask for; a space of a hundred positions with fifty words each has half of that.
LARGEST_COLUMNS = 10_000


@dataclass(frozen=True)
class FeatureMap:
    """The columns that networks are described by, learnt from examples.

    A column is named by what it holds: "is|block 3|k3_e6" is 1 where that word stands at that position,
    "n|block|k3_e6" counts a word over the positions of one group (what comes before the space in a position's name),
    "number|decoder_layer_num" and "square|..." are a number and its square, "product|a|b" is a product of two numbers,
    and "work|conv2d_3x3|mmacs" sums one quantity over the operators of a kind. What a network lacks is 0, so that words
    and operators that no example had count nothing.

    Attributes:
        columns: Names of the columns.
        mean: Mean of each column over the examples, shape (columns,).
        scale: Standard deviation of each column over the examples, above 0, shape (columns,).
    """

    columns: tuple[str, ...]
    mean: Floats
    scale: Floats

    @classmethod
    def learn(cls, examples: Sequence[Architecture]) -> "FeatureMap":
        """Take the columns in which the examples differ."""
        rows = feature_rows(examples)
        names = tuple(sorted({name for row in rows for name in row}))
        matrix = _matrix(rows, names)
        differs = matrix.std(axis=0) > 1e-9 * np.maximum(1.0, np.abs(matrix).max(axis=0, initial=0.0))
        kept = matrix[:, differs]
        columns = tuple(name for name, differ in zip(names, differs, strict=True) if differ)
        return cls(columns, kept.mean(axis=0), kept.std(axis=0))

    def matrix(self, networks: Sequence[Architecture]) -> Floats:
        """Standardised columns of networks, shape (networks, columns)."""
        return self.matrix_of_rows(feature_rows(networks))

    def matrix_of_rows(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        """The same from `feature_rows`, so that several maps can share them."""
        return (_matrix(rows, self.columns) - self.mean) / self.scale

    def starting_with(self, *prefixes: str) -> NDArray[np.int64]:
        """Indices of the columns whose names begin with one of `prefixes`."""
        return np.array([index for index, name in enumerate(self.columns) if name.startswith(prefixes)], dtype=np.int64)


def feature_rows(networks: Sequence[Architecture]) -> list[dict[str, float]]:
    """Everything that can be a column, by name, of each network."""
    return [_row(network) for network in networks]


def _matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Floats:
    place = {name: index for index, name in enumerate(names)}
    matrix = np.zeros((len(rows), len(names)))
    for index, row in enumerate(rows):
        for name, value in row.items():
            if (column := place.get(name)) is not None:
                matrix[index, column] = value
    return matrix


def _row(network: Architecture) -> dict[str, float]:
    row: dict[str, float] = {}
    words = {position: word for position, word in network.decisions.items() if isinstance(word, str)}
    row.update({f"is|{position}|{word}": 1.0 for position, word in words.items()})
    counted = Counter((position.split(" ")[0], word) for position, word in words.items())
    row.update({f"n|{group}|{word}": float(count) for (group, word), count in counted.items()})
    row.update(
        _numbers({name: float(value) for name, value in network.decisions.items() if not isinstance(value, str)})
    )
    for kind, work in work_table(network.ops).items():
        row.update({f"work|{kind}|{name}": float(value) for name, value in zip(QUANTITIES, work, strict=True)})
    return row


def _numbers(numbers: Mapping[str, float]) -> dict[str, float]:
    """Numbers, their squares and products: work grows with products of widths and depths."""
    names = sorted(numbers)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    return {
        **{f"number|{name}": numbers[name] for name in names},
        **{f"square|{name}": numbers[name] ** 2 for name in names},
        **{f"product|{a}|{b}": math.prod((numbers[a], numbers[b])) for a, b in pairs},
    }
