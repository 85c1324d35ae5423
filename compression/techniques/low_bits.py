"""Weights of few bits with one scale per output."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ..choice import Choice
from ..fitting import Floats, round_in_sequence
from ..layers import Codec, UniformCodec
from ..site import Site
from .ranges import checked
from .storing import LAYER_KINDS, StoringTechnique, Weight

__all__ = ["LowBits"]

#: Shares of the largest magnitude that are tried as the end of the grid.
_SHARES = 12


class LowBits(StoringTechnique):
    """Round to a symmetric grid, each rounding error made up for by later weights; entropy-coded in the file.

    Frantar et al. 2023, GPTQ (arXiv 2210.17323). The grid's end is the one of least error under the inputs' variances.
    Eight bits are offered where `int8` has no integer kernels: at recurrent layers.

    Args:
        bits: Each in 2 to 8.
        kinds: Of the layers it is offered at: "conv2d", "linear", "recurrent".
    """

    name = "low_bits"

    def __init__(self, bits: Sequence[int] = (8, 4, 2), kinds: Sequence[str] = LAYER_KINDS) -> None:
        super().__init__(kinds)
        self._bits = checked("low_bits.bits", bits, "2 to 8", lambda bit: bit in range(2, 9))

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if not self.fits(site):
            return ()
        has_kernels = site.kind != "recurrent"
        return tuple(Choice.of(self.name, bits=bits) for bits in self._bits if not (has_kernels and bits == 8))

    @override
    def encode(self, weight: Weight, choice: Choice) -> tuple[Codec, Tensor]:
        bits = int(choice["bits"])
        limit = UniformCodec.limit_of(bits)
        scale = _scale(weight, limit)
        kept = None if weight.mask is None else weight.mask.T.numpy()
        steps = scale.numpy()

        def rounded(column: int, values: Floats) -> Floats:
            multiples: Floats = np.minimum(np.maximum(np.rint(values / steps), -limit), limit) * steps
            return multiples if kept is None else multiples * kept[column]

        matrix = round_in_sequence(weight.matrix, weight.factor, rounded)
        codes = (matrix / scale[:, None]).round().long()
        return UniformCodec.store(codes.view(weight.shape), scale.float(), bits), matrix


def _scale(weight: Weight, limit: int) -> Tensor:
    """Each row's step of least weighted error: float64, shape (outputs,)."""
    matrix, variances = weight.matrix, weight.covariance.diagonal()
    largest = matrix.abs().amax(1).clamp_min(1e-12)
    shares = torch.linspace(1.0, 0.3, _SHARES, dtype=matrix.dtype)
    steps = largest / limit * shares[:, None]
    rounded = [(matrix / step[:, None]).round().clamp(-limit, limit) * step[:, None] for step in steps]
    errors = torch.stack([((matrix - values).square() * variances).sum(1) for values in rounded])
    return steps.gather(0, errors.argmin(0, keepdim=True)).squeeze(0)
