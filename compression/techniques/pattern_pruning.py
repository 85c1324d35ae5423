"""Pattern pruning: every 3x3 kernel keeps four weights, in one of a few arrangements."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ..choice import Choice
from ..layers import Codec, SparseCodec
from ..site import Site
from .magnitude_pruning import pruned, salience
from .ranges import at_least_one, shares_or_all
from .storing import StoringTechnique, Weight

__all__ = ["PatternPruning"]

_POSITIONS, _CENTRE, _KEPT = 9, 4, 4


class PatternPruning(StoringTechnique):
    """Patterns of four weights around the centre, and whole kernels that go.

    Niu et al. 2020, PatDNN (arXiv 2001.00138). A kernel's natural pattern is its centre and its three most salient
    other weights. The most frequent natural patterns of the layer are its dictionary; each kernel takes the one that
    keeps most salience. Of the kernels the least salient go altogether (connectivity pruning).

    Args:
        patterns: Size of the dictionary, at most 56.
        kept_kernels: Shares of kernels that stay, each in (0, 1].
    """

    name = "pattern_pruning"

    def __init__(self, patterns: int = 8, kept_kernels: Sequence[float] = (1.0, 0.5)) -> None:
        (self._patterns,) = at_least_one("pattern_pruning.patterns", patterns)
        self._kept_kernels = shares_or_all("pattern_pruning.kept_kernels", *kept_kernels)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.geometry is None or site.geometry.kernel != (3, 3):
            return ()
        return tuple(Choice.of(self.name, kept_kernels=share) for share in self._kept_kernels)

    @override
    def encode(self, weight: Weight, choice: Choice) -> tuple[Codec, Tensor]:
        energies = salience(weight).square().view(-1, _POSITIONS)
        patterns = dictionary(energies, self._patterns)
        kept_energies = energies @ patterns.double().T
        best = kept_energies.max(1)
        count = max(1, round(len(energies) * float(choice["kept_kernels"])))
        stays = torch.zeros(len(energies), dtype=torch.bool)
        stays[best.values.topk(count).indices] = True
        mask = (patterns[best.indices] & stays[:, None]).view_as(weight.matrix)
        matrix = pruned(weight, mask)
        codec = SparseCodec.store(matrix.view(weight.shape).float(), mask.view(weight.shape), _POSITIONS)
        return codec, matrix


def dictionary(energies: Tensor, size: int) -> Tensor:
    """The most frequent natural patterns.

    Args:
        energies: Of the weights of each kernel, shape (kernels, 9).
        size: How many patterns.

    Returns:
        bool, shape (at most `size`, 9), the most frequent first.
    """
    others = energies.clone()
    others[:, _CENTRE] = torch.inf
    natural = torch.zeros_like(energies, dtype=torch.bool)
    natural.scatter_(1, others.topk(_KEPT, 1).indices, True)  # the value to scatter
    found, counts = torch.unique(natural, dim=0, return_counts=True)
    frequent: Tensor = found[counts.argsort(descending=True, stable=True)[:size]]
    return frequent
