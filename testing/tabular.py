"""Problems whose every plan was evaluated once: optimum and Pareto front are known, a search takes no time."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from ..compression.plan import Plan
from ..compression.space import SearchSpace
from ..errors import EspalierError, FormatError
from ..evaluation.evaluator import EvaluatedPlan, Evaluator
from ..evaluation.metrics import COSTS, Metrics
from ..files import content_hash, write_bytes
from ..progress import step

__all__ = ["Table", "TabularEvaluator", "all_walks", "build_table", "space_hash"]

_VERSION = 1

#: Plans that an evaluator is given at once.
_BATCH = 64

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Every plan of a space with its metrics.

    Attributes:
        space: `space_hash` of the space.
        walks: One row per plan, shape (plans, sites); the first keeps everything.
        accuracies: Shape (plans,), 0 to 1.
        costs: One column per name of `COSTS`, shape (plans, len(COSTS)).
        original: Metrics of the plan that keeps everything; they say where the figures come from.
    """

    space: str
    walks: NDArray[np.int16]
    accuracies: Floats
    costs: Floats
    original: Metrics

    def __len__(self) -> int:
        return len(self.walks)

    def metrics(self, row: int, accuracy: float | None = None) -> Metrics:
        """The metrics of one plan.

        Args:
            row: Its row.
            accuracy: Takes the place of the plan's own.
        """
        accuracy = float(self.accuracies[row]) if accuracy is None else accuracy
        return Metrics(accuracy, *(self._estimate(name, row) for name in COSTS))

    def _estimate(self, name: str, row: int) -> Any:
        value, original = float(self.costs[row, COSTS.index(name)]), getattr(self.original, name)
        return replace(original, value=value, std=original.std * value / original.value)

    def save(self, path: Path) -> None:
        """Write the table as safetensors, with what describes it as JSON in the header."""
        header = {"version": _VERSION, "space": self.space, "original": self.original.to_dict()}
        arrays: dict[str, NDArray[Any]] = {"walks": self.walks, "accuracies": self.accuracies, "costs": self.costs}
        write_bytes(path, save(arrays, {"espalier-plan-table": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> "Table":
        """Read a table that `save` wrote.

        Raises:
            FormatError: The file is missing, of another version, or no table.
        """
        try:
            with safe_open(path, "numpy") as opened:
                header = json.loads((opened.metadata() or {}).get("espalier-plan-table", "{}"))
            arrays = load_file(path)
            if header.get("version") != _VERSION:
                raise FormatError(f"{path} is no plan table of version {_VERSION}: build it again")
            original = Metrics.from_dict(header["original"])
            return cls(str(header["space"]), arrays["walks"], arrays["accuracies"], arrays["costs"], original)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise FormatError(f"cannot read a plan table from {path}: {error}") from error


def space_hash(space: SearchSpace) -> str:
    """A hash of the sites and their choices, which a table must share with the space that it is used for."""
    pairs = zip(space.sites, space.choices, strict=True)
    return content_hash(*(f"{site.name}: {', '.join(map(str, choices))}" for site, choices in pairs))


def all_walks(space: SearchSpace) -> Iterator[tuple[int, ...]]:
    """Every plan of a space once, as a walk; the one that keeps everything first."""
    for walk in itertools.product(*(range(len(choices)) for choices in space.choices)):
        if space.canonical(walk) == walk:
            yield walk


def build_table(space: SearchSpace, evaluator: Evaluator) -> Table:
    """Evaluate every plan.

    Args:
        space: The space; all its plans are evaluated.
        evaluator: From plans to metrics.
    """
    walks = list(all_walks(space))
    metrics: list[Metrics] = []
    with step("evaluating every plan", len(walks)) as advance:
        for start in range(0, len(walks), _BATCH):
            plans = [space.plan(walk) for walk in walks[start : start + _BATCH]]
            metrics += [answer.metrics for answer in evaluator.evaluate(plans)]
            advance(len(plans))
    costs = np.array([[one.cost(name) for name in COSTS] for one in metrics])
    accuracies = np.array([one.accuracy for one in metrics])
    return Table(space_hash(space), np.array(walks, np.int16), accuracies, costs, metrics[0])


class TabularEvaluator:
    """Answers from a table what an evaluator would have to measure.

    Args:
        space: The space that the table was made for.
        table: All its plans.

    Raises:
        EspalierError: The table belongs to another space.
    """

    def __init__(self, space: SearchSpace, table: Table) -> None:
        if table.space != space_hash(space):
            raise EspalierError("the plan table was made for other sites or choices: build it again")
        self._space = space
        self._table = table

    @cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        return {tuple(walk): row for row, walk in enumerate(self._table.walks.tolist())}

    def _row(self, plan: Plan) -> int:
        return self._rows[self._space.indices(plan)]

    def evaluate(self, plans: Sequence[Plan]) -> Sequence[EvaluatedPlan]:
        """The metrics of each plan, in no time."""
        return [EvaluatedPlan(self._table.metrics(self._row(plan)), 0.0, True) for plan in plans]

    def costs(self, plan: Plan) -> Metrics:
        """The costs of a plan with an accuracy of nan."""
        return self._table.metrics(self._row(plan), float("nan"))
