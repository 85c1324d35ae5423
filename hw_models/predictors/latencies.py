"""Latencies that something is fitted to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import EspalierError

__all__ = ["paired_latencies", "positive_latencies"]

Floats = NDArray[np.float64]


def paired_latencies(
    networks: Sequence[object], latency_ms: Sequence[float] | Floats, fewest: int, needs: str
) -> Floats:
    """Latencies of networks as an array, shape (networks,).

    Args:
        networks: What was measured.
        latency_ms: What each took.
        fewest: How many there must be.
        needs: What needs them and the verb, for error messages, such as "fitting a predictor needs".

    Raises:
        EspalierError: There are too few, not one for each network, or one is not above 0.
    """
    if len(networks) < fewest or len(networks) != len(latency_ms):
        raise EspalierError(
            f"{needs} at least {fewest} networks with a latency each, got {len(networks)} networks and "
            f"{len(latency_ms)} latencies"
        )
    return positive_latencies(latency_ms, needs)


def positive_latencies(latency_ms: Sequence[float] | Floats, needs: str) -> Floats:
    """Latencies as an array.

    Args:
        latency_ms: At least one.
        needs: As for `paired_latencies`.

    Raises:
        EspalierError: One is not a finite number above 0.
    """
    latency = np.asarray(latency_ms, dtype=float)
    if not np.isfinite(latency).all() or latency.min() <= 0:
        raise EspalierError(f"{needs} latencies above 0 ms")
    return latency
