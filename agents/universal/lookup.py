"""The baseline of every transfer: plans that an earlier search evaluated, judged anew."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from ...compression.choice import KEEP
from ...compression.plan import Plan
from ...envs.problem import Callback, Problem
from ...errors import EspalierError, FormatError
from ..searcher import BaseSearcher, fresh_random_walk

__all__ = ["LookupSearch", "rescored"]


def rescored(known: Sequence[tuple[Plan, float]], problem: Problem) -> list[tuple[Plan, float]]:
    """Plans and the rewards that they would have, best first.

    Costs are those of the problem's device, exactly; accuracies are those that the plans had when they were evaluated.

    Args:
        known: Plans with their accuracies, 0 to 1.
        problem: Whose demand and device judge; plans that its space does not hold are left out.
    """
    judged = []
    for plan, accuracy in known:
        try:
            canonical = problem.space.plan(problem.space.indices(plan))
        except EspalierError:
            continue
        metrics = replace(problem.evaluator.costs(canonical), accuracy=accuracy)
        judged.append((canonical, problem.judge(metrics)))
    return sorted(judged, key=lambda pair: -pair[1])


class LookupSearch(BaseSearcher):
    """Evaluates the stored plans in the order of the rewards that they would have under the new demand and device.

    What is left of the budget goes to random plans.

    Args:
        journal: `evaluations.jsonl` of an earlier search.
        seed: Of the random plans.

    Raises:
        FormatError: The file cannot be read.
    """

    def __init__(self, journal: str, seed: int = 0) -> None:
        super().__init__(seed)
        self._known = _read(Path(journal))

    @override
    def _run(self, problem: Problem, rng: np.random.Generator, callback: Callback) -> None:
        for plan, _ in rescored(_shifted(self._known, problem), problem):
            problem.evaluate(plan)
        while problem.remaining > 0:
            problem.evaluate_walk(fresh_random_walk(problem, rng))


def _shifted(known: Sequence[tuple[Plan, float]], problem: Problem) -> list[tuple[Plan, float]]:
    """Accuracies moved by what the problem's original differs from the journal's, which may be another network's."""
    kept = next((accuracy for plan, accuracy in known if all(choice == KEEP for _, choice in plan)), None)
    shift = 0.0 if kept is None else problem.baseline.accuracy - kept
    return [(plan, min(1.0, accuracy + shift)) for plan, accuracy in known]


def _read(path: Path) -> list[tuple[Plan, float]]:
    rows: list[dict[str, Any]] = _rows(path)
    try:
        return [(Plan.from_dict(row["plan"]), float(row["metrics"]["accuracy"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is no journal of evaluations: {error}") from error


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    except OSError as error:
        raise FormatError(f"cannot read the evaluations from {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise FormatError(f"{path} is no journal of evaluations: {error}") from error
