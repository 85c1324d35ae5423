"""Seeds."""

import random

import numpy as np
import torch
from espalier.seeding import derived_seed, seed_everything


def _draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_seed_repeats_all_generators() -> None:
    seed_everything(7)
    first = _draw()
    seed_everything(7)
    assert _draw() == first
    seed_everything(8)
    assert all(a != b for a, b in zip(_draw(), first, strict=True))


def test_derived_seeds_differ_by_key_and_stay_the_same() -> None:
    seeds = [derived_seed(0, "bank"), derived_seed(0, "agent"), derived_seed(1, "bank"), derived_seed(0, "bank", 1)]
    assert len(set(seeds)) == 4
    assert derived_seed(0, "bank") == seeds[0]
    assert all(0 <= seed < 2**31 for seed in seeds)
