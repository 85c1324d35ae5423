"""A sample of plans that stands for a whole space."""

import numpy as np
from espalier.compression.choice import KEEP
from espalier.compression.spread import spread_plans

from tests.conftest import Small


def test_plans_differ_and_change_from_few_to_all_sites(small: Small) -> None:
    space = small.survey.space
    plans = spread_plans(space, 30, seed=1)
    assert len({plan.hash for plan in plans}) == 30
    assert space.keep_plan not in plans
    changed = [sum(choice != KEEP for _, choice in plan) for plan in plans]
    assert np.mean(changed[:10]) < np.mean(changed[10:20]) < np.mean(changed[20:])
    assert plans == spread_plans(space, 30, seed=1)
    assert plans != spread_plans(space, 30, seed=2)
