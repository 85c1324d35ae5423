"""N:M sparsity: of every M consecutive weights of a row N are kept."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ..choice import Choice
from ..layers import Codec, SparseCodec
from ..site import Site
from .magnitude_pruning import pruned, salience
from .ranges import checked
from .storing import LAYER_KINDS, StoringTechnique, Weight

__all__ = ["NMSparsity"]

_LONGEST_GROUP = 8


class NMSparsity(StoringTechnique):
    """Keep the N most salient of M weights in a row (Mishra et al. 2021, arXiv 2104.08378; 2:4 on tensor cores).

    A row holds the weights of one output in the order of the layer's parameter. The others make up for what goes.

    Args:
        patterns: Pairs of N and M, 1 <= N < M <= 8.
        kinds: Of the layers it is offered at: "conv2d", "linear", "recurrent".
    """

    name = "n_m_sparsity"

    def __init__(
        self, patterns: Sequence[tuple[int, int]] = ((2, 4), (1, 4)), kinds: Sequence[str] = LAYER_KINDS
    ) -> None:
        super().__init__(kinds)
        pairs = checked("n_m_sparsity.patterns", patterns, "pairs of N and M with 1 <= N < M <= 8", _is_pattern)
        self._patterns = tuple((int(kept), int(group)) for kept, group in pairs)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if not self.fits(site):
            return ()
        fitting = [(n, m) for n, m in self._patterns if all(length % m == 0 for length in _row_lengths(site))]
        return tuple(Choice.of(self.name, kept=n, group=m) for n, m in fitting)

    @override
    def encode(self, weight: Weight, choice: Choice) -> tuple[Codec, Tensor]:
        kept, group = int(choice["kept"]), int(choice["group"])
        scores = salience(weight).view(weight.matrix.shape[0], -1, group)
        mask = torch.zeros_like(scores, dtype=torch.bool)
        mask.scatter_(2, scores.topk(kept, 2).indices, True)  # the value to scatter
        mask = mask.view_as(weight.matrix)
        matrix = pruned(weight, mask)
        return SparseCodec.store(matrix.view(weight.shape).float(), mask.view(weight.shape), group), matrix


def _row_lengths(site: Site) -> tuple[int, ...]:
    """Lengths of the rows of the site's weight tensors."""
    if site.kind == "recurrent":
        return site.in_channels, site.out_channels
    return (site.weights // site.out_channels,)


def _is_pattern(pair: Sequence[int]) -> bool:
    return len(pair) == 2 and 1 <= pair[0] < pair[1] <= _LONGEST_GROUP
