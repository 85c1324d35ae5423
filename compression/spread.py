"""A sample of plans that stands for a whole search space."""

import numpy as np

from .plan import Plan
from .space import SearchSpace

__all__ = ["spread_plans"]

#: Draws for each plan that is wanted; a small space has fewer plans than that.
_TRIES = 10


def spread_plans(space: SearchSpace, count: int, seed: int) -> list[Plan]:
    """Different random plans, the share of changed sites rising from few to all; fewer where the space has fewer.

    Uniform walks would nearly all change most of the sites, as no plan that somebody wants does.

    Args:
        space: The space.
        count: How many plans.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    chosen: dict[str, Plan] = {}
    for number in range(_TRIES * count):
        share = (number % count + 1) / count
        plan = space.plan([index if rng.random() < share else 0 for index in space.random(rng)])
        if plan != space.keep_plan:
            chosen.setdefault(plan.hash, plan)
        if len(chosen) == count:
            break
    return list(chosen.values())
