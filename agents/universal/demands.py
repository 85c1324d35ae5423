"""Demands to learn from."""

from dataclasses import dataclass

import numpy as np

from ...errors import EspalierError
from ...evaluation.demand import Demand, Weights
from ...evaluation.metrics import Metrics

__all__ = ["DemandRecipe"]

#: Costs that are weighed, in the order of the concentrations.
_WEIGHED = ("accuracy", "latency", "energy", "storage")

#: Costs that may get a budget.
_BOUNDED = ("latency_ms", "energy_mj", "storage_bytes", "macs")


@dataclass(frozen=True)
class DemandRecipe:
    """How demands are drawn.

    Attributes:
        concentrations: Of the Dirichlet distribution of the weights of accuracy, latency, energy and storage.
        budget_share: How often each of latency, energy, storage and multiply-accumulates gets a budget, 0 to 1.
        tightest: The smallest budget, as a share of the original's cost; the largest is the whole.
        floor_share: How often accuracy gets a floor, 0 to 1.
        drop_points: The smallest and the largest number of points that it then may lose.
    """

    concentrations: tuple[float, float, float, float] = (3.0, 1.0, 1.0, 1.0)
    budget_share: float = 0.25
    tightest: float = 1 / 3
    floor_share: float = 0.5
    drop_points: tuple[float, float] = (0.5, 5.0)

    def __post_init__(self) -> None:
        if len(self.concentrations) != len(_WEIGHED) or min(self.concentrations) <= 0:
            raise EspalierError(f"demands.concentrations needs 4 numbers above 0, got {list(self.concentrations)}")
        if not 0 < self.tightest <= 1:
            raise EspalierError(f"demands.tightest is a share above 0 and up to 1, got {self.tightest}")

    def draw(self, rng: np.random.Generator, original: Metrics) -> Demand:
        """A demand.

        Args:
            rng: Draws it.
            original: What budgets and floors are relative to.
        """
        weights = rng.dirichlet(self.concentrations).tolist()
        has_floor = rng.random() < self.floor_share
        drop = float(rng.uniform(*self.drop_points))
        shares = rng.uniform(self.tightest, 1.0, len(_BOUNDED))
        is_bounded = rng.random(len(_BOUNDED)) < self.budget_share
        budgets = {
            name: float(share * original.cost(name))
            for name, share, bounded in zip(_BOUNDED, shares, is_bounded, strict=True)
            if bounded
        }
        weighed = Weights(**{**dict.fromkeys(vars(Weights()), 0.0), **dict(zip(_WEIGHED, weights, strict=True))})
        return Demand(weighed, drop if has_floor else None, **budgets)
