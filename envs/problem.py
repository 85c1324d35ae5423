"""What is to be solved: a space of plans, how they are judged, and how many may be evaluated."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..compression.bank import Bank
from ..compression.plan import Plan
from ..errors import DemandError, EspalierError
from ..evaluation.archive import Archive, Evaluation
from ..evaluation.bounds import CostBounds
from ..evaluation.demand import BUDGETS, Demand
from ..evaluation.evaluator import EvaluatedPlan, Evaluator
from ..evaluation.metrics import Metrics
from ..hw_models.cost import HardwareModel
from .rewards.reward import AdaptiveReward, Reward

__all__ = ["BudgetExhausted", "Callback", "Problem"]

#: Answers without an evaluation, one after the other, after which a search is taken to have run dry.
_PATIENCE = 1000


class BudgetExhausted(Exception):  # noqa: N818  # no error: it ends a search
    """All evaluations of the budget were made."""


class Callback:
    """Told what happens during a search; a subclass overrides what it wants to know."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """A plan was evaluated.

        Args:
            evaluation: In order of `index`.
        """

    def trained(self, metrics: Mapping[str, float]) -> None:
        """An agent learnt.

        Args:
            metrics: What it says of its training, by name.
        """


class Problem:
    """A search problem; the same for every searcher, which all count evaluations through it.

    An evaluation is a plan that was not evaluated before: asking for one again is free. The plan that keeps everything
    is evaluated first and counts like any other.

    Args:
        bank: The variants and their space.
        evaluator: From plans to metrics.
        reward: From metrics to one number.
        demand: What the user wants.
        device: What the observation says of the device.
        bounds: What plans must cost at least; closes choices after which a budget cannot be met any more. None closes
            none.

    Attributes:
        space: The search space.
        archive: Everything evaluated since `begin`.
        baseline: Metrics of the original.
    """

    def __init__(
        self,
        bank: Bank,
        evaluator: Evaluator,
        reward: Reward,
        demand: Demand,
        device: HardwareModel,
        bounds: CostBounds | None = None,
    ) -> None:
        self.bank = bank
        self.space = bank.space
        self.evaluator = evaluator
        self.reward = reward
        self.demand = demand
        self._bounds = bounds if demand.budgets else None
        self.device_features = device.features()
        self.archive = Archive()
        self.budget: int | None = None
        self._callback: Callback | None = None
        self._answers = 0
        self.baseline: Metrics = evaluator.evaluate([self.space.keep_plan])[0].metrics

    def begin(self, budget: int | None = None, callback: Callback | None = None) -> None:
        """Empty the archive and evaluate the plan that keeps everything.

        Args:
            budget: How many plans may be evaluated; None for no limit.
            callback: Told of each evaluation.
        """
        self.archive = Archive()
        self.budget = budget
        self._callback = callback
        if isinstance(self.reward, AdaptiveReward):
            self.reward.reset()
        self.evaluate(self.space.keep_plan)

    @property
    def remaining(self) -> float:
        """Evaluations that are left; infinity without a budget."""
        return float("inf") if self.budget is None else self.budget - len(self.archive)

    def is_known(self, plan: Plan) -> bool:
        """Whether asking for the plan would be free."""
        return plan in self.archive

    def evaluate(self, plan: Plan) -> Evaluation:
        """The evaluation of a plan.

        Raises:
            EspalierError: The reward is infinite or not a number.
            BudgetExhausted: It would be a new one and the budget is spent, or the search goes on proposing plans that
                are known.
        """
        return self.evaluate_all([plan])[0]

    def evaluate_all(self, plans: Sequence[Plan]) -> list[Evaluation]:
        """The evaluations of several plans in their order, which the evaluator may work on side by side.

        Raises:
            EspalierError: The reward is infinite or not a number.
            BudgetExhausted: See `evaluate`; as many as the budget allows were evaluated.
        """
        new = list({plan.hash: plan for plan in plans if plan not in self.archive}.values())
        new = new if self.budget is None else new[: self.budget - len(self.archive)]
        answers = dict(zip((plan.hash for plan in new), self.evaluator.evaluate(new), strict=True)) if new else {}
        return [self._known(plan) or self._add(plan, answers.get(plan.hash)) for plan in plans]

    def _known(self, plan: Plan) -> Evaluation | None:
        known = self.archive.get(plan)
        self._answers = self._answers + 1 if known else 0
        if self.budget is not None and self._answers > _PATIENCE:
            raise BudgetExhausted
        return known

    def _add(self, plan: Plan, answer: EvaluatedPlan | None) -> Evaluation:
        if answer is None:
            raise BudgetExhausted
        metrics = answer.metrics
        reward = self.judge(metrics)
        if not math.isfinite(reward):
            raise EspalierError(
                f"the reward {type(self.reward).__name__} returned {reward} in evaluation {len(self.archive)} "
                f"(accuracy {metrics.accuracy:.4g}); it must return a finite number"
            )
        evaluation = Evaluation(
            index=len(self.archive),
            plan=plan,
            metrics=metrics,
            reward=reward,
            feasible=self.demand.is_met(metrics, self.baseline),
            seconds=answer.seconds,
            repeated=answer.repeated,
        )
        self.archive.add(evaluation)
        if self._callback is not None:
            self._callback.evaluated(evaluation)
        self._adapt(metrics)
        return evaluation

    def _adapt(self, metrics: Metrics) -> None:
        if isinstance(self.reward, AdaptiveReward):
            learnt = self.reward.observe(metrics, self.baseline, self.demand)
            if self._callback is not None:
                self._callback.trained({f"reward/{name}": value for name, value in learnt.items()})

    def evaluate_walk(self, indices: Sequence[int]) -> Evaluation:
        """The evaluation of a walk; see `evaluate`."""
        return self.evaluate(self.space.plan(indices))

    def evaluate_walks(self, walks: Iterable[Sequence[int]]) -> list[Evaluation]:
        """The evaluations of several walks; see `evaluate_all`."""
        return self.evaluate_all([self.space.plan(walk) for walk in walks])

    def judge(self, metrics: Metrics) -> float:
        """The reward of metrics."""
        return self.reward(metrics, self.baseline, self.demand)

    def affordable(self, position: int, walked: Sequence[int]) -> NDArray[np.bool_]:
        """After which choices at a site every budget can still be met, as far as bounds of the costs tell.

        Args:
            position: Index of the site.
            walked: Choice indices of the sites before it.

        Returns:
            Shape (choices of the site,). Where no choice is left, the open one that breaks the budgets least.
        """
        if self._bounds is None:
            return np.ones(len(self.space.choices[position]), bool)
        budgets = self.demand.budgets
        columns = [BUDGETS.index(name) for name in budgets]
        # A closed choice has infinite bounds, so it exceeds every budget.
        excesses = (self._bounds.after(position, walked)[:, columns] / list(budgets.values())).max(1) - 1
        possible: NDArray[np.bool_] = excesses <= 1e-9  # rounding
        return possible if possible.any() else np.arange(len(excesses)) == excesses.argmin()

    def costs(self, indices: Sequence[int]) -> Metrics:
        """Exact costs of a walk, without an evaluation; the accuracy is nan."""
        return self.evaluator.costs(self.space.plan(indices))

    def errors(self, indices: Sequence[int]) -> list[float]:
        """Error of the choice at each site of a walk (see `Variant.error`), 0 for keep."""
        plan = self.space.plan(indices)
        return [self.bank.error(site, self.space.state(site, plan), plan[site.name]) for site in self.space.sites]

    def check_feasible(self, samples: int = 2000, seed: int = 0) -> None:
        """Refuse budgets that no plan can meet.

        Bounds of the costs are asked first. Then for each budget the cheapest plan is looked for: site by site the
        cheapest choice, then random walks.

        Raises:
            DemandError: A budget lies below the bound or below the cheapest plan found.
        """
        budgets = self.demand.budgets
        least = self._bounds.least() if self._bounds else {}
        for name, budget in budgets.items():
            if least.get(name, 0.0) > budget * (1 + 1e-9):
                raise DemandError(
                    f"demand.{name}={budget:g} cannot be met: every plan of this space needs at least "
                    f"{least[name]:.4g} (the original has {self.baseline.cost(name):.4g})"
                )
        lowest = self._lowest_costs(budgets, samples, seed) if budgets else {}
        for name, budget in budgets.items():
            if lowest[name] > budget:
                raise DemandError(
                    f"demand.{name}={budget:g} cannot be met: the least that a plan of this space reaches is "
                    f"{lowest[name]:.4g} (the original has {self.baseline.cost(name):.4g})"
                )

    def _lowest_costs(self, budgets: Mapping[str, float], samples: int, seed: int) -> dict[str, float]:
        lowest = {name: self.baseline.cost(name) for name in budgets}
        rng = np.random.default_rng(seed)
        for name, budget in budgets.items():
            walk = [0] * len(self.space.sites)
            for _ in range(2):  # a site's best choice depends on its neighbours', so go round twice
                for position, choices in enumerate(self.space.choices):
                    tried = [[*walk[:position], i, *walk[position + 1 :]] for i in range(len(choices))]
                    walk = min(tried, key=lambda indices: self.costs(indices).cost(name))
            lowest[name] = min(lowest[name], self.costs(walk).cost(name))
            for _ in range(samples):
                if lowest[name] <= budget:
                    break
                lowest[name] = min(lowest[name], self.costs(self.space.random(rng)).cost(name))
        return lowest
