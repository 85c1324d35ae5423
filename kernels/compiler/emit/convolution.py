"""Convolutions and linear maps, pruned or dense: over pixels where an image fills vectors, over rows where not."""

from ..ir import Convolution
from .over_pixels import emit_over_pixels
from .over_rows import emit_over_rows
from .program import Program

__all__ = ["emit_convolution"]


def emit_convolution(program: Program, layer: Convolution) -> None:
    """Add a convolution to a program.

    Args:
        program: Is changed.
        layer: After all passes.
    """
    if program.layouts[layer.name].is_planar:
        emit_over_pixels(program, layer)
    else:
        emit_over_rows(program, layer)
