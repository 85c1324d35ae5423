"""What a search says of the demand: whether it can be met, what each bound costs, what could be met instead."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..compression.plan import Plan
from ..evaluation.archive import Evaluation
from ..evaluation.demand import Demand
from .problem import Problem

__all__ = ["BoundVerdict", "DemandVerdict", "judge_demand"]

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class BoundVerdict:
    """One bound of a demand.

    Attributes:
        name: "accuracy" or a cost.
        limit: The floor of the accuracy, or the budget.
        reached: What the best plan reaches.
        extreme: The best that any evaluated plan reaches.
        used: Share of the budget that the best plan uses; of the accuracy, of what may be lost the share that is.
        price: Reward that the best evaluated plan would gain if this bound alone did not bind; 0 where it is free.
    """

    name: str
    limit: float
    reached: float
    extreme: float
    used: float
    price: float


@dataclass(frozen=True, slots=True)
class DemandVerdict:
    """The whole demand, on the search split and the device's model.

    Attributes:
        feasible: Whether an evaluated plan meets every bound.
        bounds: One verdict a bound.
        nearest: Where none does, the bounds of the nearest demand that one meets: those that had to give way.
        fruitless: Where the original is delivered although its demand is met: what to say of it; "" elsewhere.
    """

    feasible: bool
    bounds: tuple[BoundVerdict, ...]
    nearest: dict[str, float]
    fruitless: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        bounds = [{name: getattr(bound, name) for name in BoundVerdict.__slots__} for bound in self.bounds]
        return {"feasible": self.feasible, "bounds": bounds, "nearest": self.nearest}

    def text(self) -> str:
        """One line on feasibility."""
        if self.fruitless:
            return self.fruitless
        if not self.bounds:
            return "the demand has no bounds"
        if self.feasible:
            tight = [bound.name for bound in self.bounds if bound.price > _TOLERANCE]
            return "every bound is met; " + (f"what binds: {', '.join(tight)}" if tight else "none of them binds")
        changes = ", ".join(f"demand.{name}={value:.6g}" for name, value in self.nearest.items())
        return f"no evaluated plan meets every bound; the nearest demand that one meets: {changes}"


def judge_demand(problem: Problem, delivered: Plan | None = None) -> DemandVerdict:
    """Judge the demand by everything that a search evaluated.

    Args:
        problem: After a search.
        delivered: The plan that was chosen in the end; None for the best of the search.
    """
    evaluations = list(problem.archive)
    best = problem.archive.best()[0]
    limits = _limits(problem)
    bounds = tuple(_judge_bound(problem, name, limit, best, evaluations) for name, limit in limits.items())
    feasible = any(evaluation.feasible for evaluation in evaluations)
    is_original = (delivered or best.plan).hash == problem.space.keep_plan.hash
    fruitless = _fruitless(problem.demand, len(evaluations)) if is_original and feasible else ""
    return DemandVerdict(feasible, bounds, {} if feasible else _nearest(problem, evaluations), fruitless)


def _fruitless(demand: Demand, evaluations: int) -> str:
    """What to do where nothing was found."""
    if demand.max_accuracy_drop_points is not None:
        advice = "allow more loss with demand.max_accuracy_drop_points"
    elif demand.min_accuracy is not None:
        advice = "allow more loss with demand.min_accuracy"
    else:
        advice = "weigh accuracy less with demand.weights.accuracy"
    tried = f"{evaluations} evaluation{'' if evaluations == 1 else 's'}"
    return f"nothing better than the original was found in {tried}: raise budget=, or {advice}"


def _limits(problem: Problem) -> dict[str, float]:
    floor = problem.demand.accuracy_floor(problem.baseline)
    return ({"accuracy": floor} if floor > 0 else {}) | problem.demand.budgets


def _judge_bound(
    problem: Problem, name: str, limit: float, best: Evaluation, evaluations: Sequence[Evaluation]
) -> BoundVerdict:
    if name == "accuracy":
        reached = best.metrics.accuracy
        extreme = max(evaluation.metrics.accuracy for evaluation in evaluations)
        may_lose = problem.baseline.accuracy - limit
        used = (problem.baseline.accuracy - reached) / may_lose if may_lose > 0 else float(reached < limit)
    else:
        reached = best.metrics.cost(name)
        extreme = min(evaluation.metrics.cost(name) for evaluation in evaluations)
        used = reached / limit
    return BoundVerdict(name, limit, reached, extreme, used, _price(problem, name, best, evaluations))


def _price(problem: Problem, name: str, best: Evaluation, evaluations: Sequence[Evaluation]) -> float:
    """How much more reward there is among the plans that meet the demand without one bound."""
    relaxed = _without(problem.demand, name)
    met = [e for e in evaluations if relaxed.is_met(e.metrics, problem.baseline)]
    rewards = [problem.reward(e.metrics, problem.baseline, relaxed) for e in met]
    if not rewards:
        return 0.0
    return max(0.0, max(rewards) - problem.reward(best.metrics, problem.baseline, relaxed))


def _without(demand: Demand, name: str) -> Demand:
    if name == "accuracy":
        return replace(demand, max_accuracy_drop_points=None, min_accuracy=None)
    changes: dict[str, Any] = {name: None}
    return replace(demand, **changes)


def _nearest(problem: Problem, evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """The bounds that give way least, as shares of themselves: the largest share first, then the sum."""

    def distance(evaluation: Evaluation) -> tuple[float, float]:
        excesses = problem.demand.excesses(evaluation.metrics, problem.baseline).values()
        return max(excesses), sum(excesses)

    nearest = min(evaluations, key=distance).metrics
    broken = problem.demand.excesses(nearest, problem.baseline)
    given_way = {name: nearest.cost(name) for name, excess in broken.items() if name != "accuracy" and excess > 0}
    if broken.get("accuracy", 0.0) > _TOLERANCE:
        points = 100 * (problem.baseline.accuracy - nearest.accuracy)
        relative = problem.demand.max_accuracy_drop_points is not None
        # Rounded away from the plan, so that the plan meets what is proposed.
        shown = math.ceil(100 * points) / 100 if relative else math.floor(1e4 * nearest.accuracy) / 1e4
        given_way["max_accuracy_drop_points" if relative else "min_accuracy"] = shown
    return given_way
