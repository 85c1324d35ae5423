"""Networks of a space that exists only here, and what they take by formulas that are known."""

import numpy as np
from espalier.graph.opspec import OpSpec
from espalier.hw_models.spaces.architecture import Architecture, convolution

WORDS = ("none", "narrow", "wide", "deep")
POSITIONS = 6


def network(words: list[str]) -> Architecture:
    ops: list[OpSpec] = [convolution(16, 3, 8, 3)]
    for word in words:
        ops += {
            "none": [],
            "narrow": [convolution(16, 8, 8, 1)],
            "wide": [convolution(16, 8, 8, 3), OpSpec("add", (8, 16, 16), (8, 16, 16), n_inputs=2)],
            "deep": [convolution(16, 8, 8, 5), convolution(16, 8, 8, 3, groups=8)],
        }[word]
    return Architecture(" ".join(words), {f"slot {i}": word for i, word in enumerate(words)}, tuple(ops))


def networks(count: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [network(list(rng.choice(WORDS, POSITIONS))) for _ in range(count)]


def words(some: list[Architecture]) -> np.ndarray:
    """Index of the word at each position, shape (networks, positions)."""
    return np.array([[WORDS.index(word) for word in one.decisions.values()] for one in some])


def additive_ms(some: list[Architecture], seed: int = 0) -> np.ndarray:
    """A sum over positions of a table that only the seed knows."""
    table = np.random.default_rng(seed + 1000).uniform(0.1, 2.0, (POSITIONS, len(WORDS)))
    return 1.0 + table[np.arange(POSITIONS), words(some)].sum(1)


def interacting_ms(some: list[Architecture]) -> np.ndarray:
    """What no sum over positions can give: a product of two of them."""
    index = words(some)
    return 2.0 + 3.0 * ((index[:, 0] == 3) ^ (index[:, 1] == 3)) + 0.3 * index[:, 2]
