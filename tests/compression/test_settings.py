"""Settings of techniques that make no sense are named, with what was expected."""

from typing import Any

import pytest
from espalier.compression import techniques
from espalier.errors import EspalierError

_WRONG: list[tuple[str, dict[str, Any], str]] = [
    (technique, {"speedups": [4, 1]}, "speedups must be above 1, got 1")
    for technique in ("CanonicalPolyadic", "SpatialSvd", "Tucker2", "TruncatedSvd", "RecurrentSvd")
]
_WRONG += [
    ("SpatialSvd", {"rank_multiple": 0}, "rank_multiple must be a whole number of at least 1, got 0"),
    ("DepthwiseSeparable", {"multipliers": [1.5]}, "multipliers must be a whole number of at least 1, got 1.5"),
    ("Fire", {"squeezes": [0.5, 1.5]}, "squeezes must be above 0 and at most 1, got 1.5"),
    ("Fire", {"pointwise_share": 1.0}, "pointwise_share must be above 0 and below 1, got 1.0"),
    ("LowBits", {"bits": [4, 0]}, "bits must be 2 to 8, got 0"),
    ("WeightSharing", {"bits": [9]}, "bits must be 1 to 8, got 9"),
    ("MagnitudePruning", {"sparsities": [1.2]}, "sparsities must be above 0 and below 1, got 1.2"),
    ("MlpConv", {"middles": [0]}, "middles must be above 0 and at most 1, got 0"),
    ("MlpConv", {"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    ("PatternPruning", {"kept_kernels": [-1]}, "kept_kernels must be above 0 and at most 1, got -1"),
    ("SparseCoding", {"atoms": [0.0]}, "atoms must be above 0, got 0.0"),
    ("SparseCoding", {"active": 2}, "active must be above 0 and at most 1, got 2"),
    ("SparseKernels", {"bases": [0]}, "bases must be a whole number of at least 1, got 0"),
    ("SparseRandom", {"kept": [float("nan")]}, "kept must be above 0 and below 1, got nan"),
    ("SparseRandom", {"regrown": 1}, "regrown must be at least 0 and below 1, got 1"),
    ("ChannelPruning", {"kept": [0.5, 0]}, "kept must be above 0 and below 1, got 0"),
    ("ChannelPruning", {"channel_multiple": 0}, "channel_multiple must be a whole number of at least 1, got 0"),
    ("WidthScaling", {"kept": [2]}, "kept must be above 0 and below 1, got 2"),
    ("NMSparsity", {"patterns": [(2, 4), (4, 2)]}, r"patterns must be pairs of N and M with .*, got \(4, 2\)"),
    ("NMSparsity", {"patterns": [(2, 4, 6)]}, r"patterns must be pairs of N and M with .*, got \(2, 4, 6\)"),
]


@pytest.mark.parametrize(("technique", "settings", "message"), _WRONG)
def test_settings_out_of_range_are_named(technique: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        getattr(techniques, technique)(**settings)
