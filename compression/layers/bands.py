"""What zeros without blocks are worth to an engine that takes several rows of a matrix at once.

Of every few rows such an engine leaves out the columns that none of them keeps. Where pruning follows the inputs'
scale, as by salience, whole inputs are nearly unused, and that is a half or two thirds of a linear layer at 90 % of
zeros.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...graph.opspec import OpSpec
from ...graph.sparsity import BlockSparsity

__all__ = ["FEWEST_ZEROS", "band_sparsity"]

#: Share of zeros up to which hardly a column of several rows is empty.
FEWEST_ZEROS = 0.5

#: Rows that the compiled engine takes at once where vectors are rows, and where they are pixels.
_ROWS, _ROWS_OVER_PIXELS = 16, 8

#: Images with more pixels than this have vectors of pixels.
_FEW_PIXELS = 9

#: Rates this near to each other count as one, so that few have to be timed.
_STEP = 1.1


def band_sparsity(matrices: Sequence[Tensor], spec: OpSpec) -> BlockSparsity | None:
    """The block sparsity that has as many weights left as an engine multiplies by; None where that is all of them.

    Args:
        matrices: That one operator multiplies by, each (rows, columns).
        spec: The operator.
    """
    is_image = spec.kind == "conv2d" and math.prod(spec.output_shape[1:]) > _FEW_PIXELS
    height = _ROWS_OVER_PIXELS if is_image else _ROWS
    bands = [band for matrix in matrices for band in torch.split(matrix != 0, height)]
    kept = sum(len(band) * int(band.any(0).count_nonzero()) for band in bands)
    if not kept:
        return None
    rate = _STEP ** round(math.log(sum(matrix.numel() for matrix in matrices) / kept, _STEP))
    columns = max(matrix.shape[1] for matrix in matrices)
    return BlockSparsity(height, columns, round(rate, 1), height) if rate > 1 else None
