"""W3: the smallest weights become zeros that are not stored."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ..choice import Choice
from ..fitting import round_in_sequence
from ..layers import Codec, SparseCodec
from ..site import Site
from .ranges import shares
from .storing import FLOAT_BITS, LAYER_KINDS, StoringTechnique, Weight

__all__ = ["MagnitudePruning", "pruned", "salience"]


class MagnitudePruning(StoringTechnique):
    """Keep the weights of largest magnitude, measured in output: |W[o, i]| times the deviation of input i.

    Han et al. 2015 (arXiv 1506.02626) with the inputs' scale as in Sun et al. 2024 (arXiv 2306.11695); the weights that
    stay make up for those that go, column by column.

    Args:
        sparsities: Shares of weights to remove, each in (0, 1).
        kinds: Of the layers it is offered at: "conv2d", "linear", "recurrent".
    """

    name = "magnitude_pruning"

    def __init__(self, sparsities: Sequence[float] = (0.5, 0.75, 0.9), kinds: Sequence[str] = LAYER_KINDS) -> None:
        super().__init__(kinds)
        self._sparsities = shares("magnitude_pruning.sparsities", *sparsities)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if not self.fits(site):
            return ()
        # A stored weight takes 32 bits, and every weight one bit to say whether it is stored.
        saving = [s for s in self._sparsities if (1 - s) * FLOAT_BITS + 1 < FLOAT_BITS]
        return tuple(Choice.of(self.name, sparsity=sparsity) for sparsity in saving)

    @override
    def encode(self, weight: Weight, choice: Choice) -> tuple[Codec, Tensor]:
        kept = max(1, round(weight.matrix.numel() * (1 - float(choice["sparsity"]))))
        mask = torch.zeros(weight.matrix.numel(), dtype=torch.bool)
        mask[salience(weight).flatten().topk(kept).indices] = True
        mask = mask.view_as(weight.matrix)
        matrix = pruned(weight, mask)
        return SparseCodec.store(matrix.view(weight.shape).float(), mask.view(weight.shape)), matrix


def salience(weight: Weight) -> Tensor:
    """|W[o, i]| times the standard deviation of input i, shape (outputs, K)."""
    return weight.matrix.abs() * weight.deviations


def pruned(weight: Weight, mask: Tensor) -> Tensor:
    """The matrix with zeros outside `mask` (outputs, K), in which the weights that stay make up for those that go."""
    kept = mask.T.numpy()
    return round_in_sequence(weight.matrix, weight.factor, lambda column, values: values * kept[column])
