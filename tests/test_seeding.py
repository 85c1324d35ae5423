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


def test_gradients_of_indexed_tensors_are_the_same_every_time() -> None:
    """Two threads that add to the same place in any order would give dozens of different sums."""
    seed_everything(0)
    values = torch.randn(16, requires_grad=True)
    indices, factors = torch.randint(0, 16, (64, 512)), torch.randn(64, 512)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    sums = {tuple(torch.autograd.grad((values[indices] * factors).sum(), values)[0].tolist()) for _ in range(30)}
    torch.set_num_threads(threads)
    assert len(sums) == 1
