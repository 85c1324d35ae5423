"""How large an operator is to an engine: as a product of matrices, in tiles, and beside others."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ...graph.opspec import OpSpec
from ..predictors.work import operator_class

__all__ = ["SizeRange", "matrix_product", "passes"]

#: Numbers of channels or pixels that engines and arrays compute at once.
_TILES = (8, 16, 32, 64, 128, 256, 512)


def matrix_product(spec: OpSpec) -> OpSpec:
    """A dense operator as the product of matrices that it is, written as a 1x1 convolution; others as they are.

    A K x K convolution of C channels is one of K^2 C channels without a kernel (im2col), a linear layer one of a single
    pixel, so that all of them can be compared.
    """
    if operator_class(spec) != "dense" or not spec.macs:
        return spec
    is_image = spec.kind in ("conv2d", "conv_transpose2d")
    width = spec.output_shape[0] if is_image else spec.output_shape[-1]
    pixels = max(1, math.prod(spec.output_shape) // max(1, width))
    depth = max(1, spec.macs // max(1, width * pixels))
    return OpSpec("conv2d", (depth, 1, pixels), (width, 1, pixels), bits=spec.bits, sparsity=spec.sparsity)


def passes(spec: OpSpec) -> list[float]:
    """Bytes that are moved again for every tile that does not fit.

    An engine that computes T channels at once reads its inputs once per T output channels, writes its outputs once per
    T channels that it adds up, and reads its weights once per T pixels. Rounding up makes steps, which tables show.

    Returns:
        Three figures per tile size, each at least 0 and growing with every axis of the operator.
    """
    read, written, weights = spec.input_bytes / 1e6, spec.output_bytes / 1e6, spec.weight_bytes / 1e6
    depth = spec.input_shape[0] // spec.groups if spec.input_shape else 1
    width = spec.output_shape[0] if spec.output_shape else 1
    pixels = math.prod(spec.output_shape[1:])
    counts = ([-(-size // tile) for size in (width, depth, pixels)] for tile in _TILES)
    return [bytes_ * count for each in counts for bytes_, count in zip((read, written, weights), each, strict=True)]


class SizeRange:
    """How large the known operators of a class are.

    Args:
        specs: The known operators, at least one.
    """

    def __init__(self, specs: Iterable[OpSpec]) -> None:
        sizes = np.array([_sizes(spec) for spec in specs])
        self._low, self._high = sizes.min(axis=0), sizes.max(axis=0)

    def octaves_outside(self, spec: OpSpec) -> float:
        """By how many doublings an operator's channels, pixels or work lie outside of the range; 0 inside."""
        sizes = _sizes(spec)
        return float(max(0.0, (sizes - self._high).max(), (self._low - sizes).max()))


def _sizes(spec: OpSpec) -> NDArray[np.float64]:
    """Binary logarithms of channels in and out, pixels and work."""
    product = matrix_product(spec)
    sizes = (*product.input_shape[:1], *product.output_shape[:1], math.prod(product.output_shape[1:]), product.macs)
    logs: NDArray[np.float64] = np.log2(np.maximum(sizes, 1))
    return logs
