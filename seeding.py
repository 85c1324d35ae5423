"""One seed for a run, and independent seeds for its parts."""

import random

import numpy as np
import torch

__all__ = ["derived_seed", "seed_everything"]


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators, and let PyTorch add up in the same order every time."""
    # Gradients of an indexed tensor are added up by several threads in any order, which gradient steps blow up.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # what nobody reads
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def derived_seed(seed: int, *keys: int | str) -> int:
    """A seed in [0, 2^31) for one part of a run, independent of the seeds of its other parts.

    Args:
        seed: The run's seed, at least 0.
        keys: What tells this part from the others.
    """
    words = [key if isinstance(key, int) else int.from_bytes(key.encode()[:64], "little") for key in keys]
    sequence = np.random.SeedSequence([seed, *words])
    return int(sequence.generate_state(1)[0]) & 0x7FFFFFFF
