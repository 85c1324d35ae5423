"""k-means weight sharing: the weights take few values, stored as entropy-coded indices of a few bits."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from typing_extensions import override

from ..choice import Choice
from ..fitting import Floats, round_in_sequence
from ..layers import Codec, SharedCodec, SparseSharedCodec
from ..site import Site
from .ranges import checked
from .storing import FLOAT_BITS, LAYER_KINDS, StoringTechnique, Weight

__all__ = ["WeightSharing"]

#: Weights that the clusters are found from; more change the centres by less than a step of the codebook.
_SAMPLE = 20_000


class WeightSharing(StoringTechnique):
    """Cluster the weights, then choose each weight's centre so that later ones make up for the errors of earlier ones.

    Han et al. 2016 (arXiv 1510.00149, secs. 3 and 4). Rows are brought to one scale first; the clusters weigh each
    weight by the variance of its input. Behind a pruning technique only the weights that are left take part.

    Args:
        bits: Bits of an index, each in 1 to 8.
        kinds: Of the layers it is offered at: "conv2d", "linear", "recurrent".
    """

    name = "weight_sharing"

    def __init__(self, bits: Sequence[int] = (2, 4), kinds: Sequence[str] = LAYER_KINDS) -> None:
        super().__init__(kinds)
        self._bits = checked("weight_sharing.bits", bits, "1 to 8", lambda bit: bit in range(1, 9))

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if not self.fits(site):
            return ()
        overhead = FLOAT_BITS * site.out_channels
        saving = [
            bits
            for bits in self._bits
            if bits * site.weights + FLOAT_BITS * 2**bits + overhead < FLOAT_BITS * site.weights
        ]
        return tuple(Choice.of(self.name, bits=bits) for bits in saving)

    @override
    def encode(self, weight: Weight, choice: Choice) -> tuple[Codec, Tensor]:
        mask = weight.mask
        kept = torch.ones_like(weight.matrix, dtype=torch.bool) if mask is None else mask
        energy = (weight.matrix.square() * kept).sum(1) / kept.sum(1).clamp_min(1)
        scale = energy.sqrt().clamp_min(1e-12)
        codebook = _codebook(weight, kept, scale, 2 ** int(choice["bits"]))
        middles = (codebook[1:] + codebook[:-1]) / 2

        values_of, bounds, sizes, left = (t.numpy() for t in (codebook, middles, scale, kept.T))

        def rounded(column: int, values: Floats) -> Floats:
            nearest: Floats = values_of[np.searchsorted(bounds, values / sizes)] * sizes * left[column]
            return nearest

        matrix = round_in_sequence(weight.matrix, weight.factor, rounded)
        indices = torch.bucketize(matrix / scale[:, None], middles)
        if weight.sparse is None:
            codec: Codec = SharedCodec.store(indices.view(weight.shape), codebook.float(), scale.float())
        else:
            codec = SparseSharedCodec.store_shared(weight.sparse, indices[kept], codebook.float(), scale.float())
        return codec, matrix


def _codebook(weight: Weight, kept: Tensor, scale: Tensor, size: int) -> Tensor:
    """Cluster centres of the weights in units of their rows' scales, in rising order, shape (size,)."""
    values = (weight.matrix / scale[:, None])[kept]
    variances = weight.covariance.diagonal() * scale.square()[:, None]
    importance = variances.expand_as(weight.matrix)[kept].clamp_min(1e-30)
    chosen = torch.arange(0, values.numel(), max(1, values.numel() // _SAMPLE))
    if len(chosen) <= size:
        return torch.cat([values.sort().values, values.max().expand(size - len(chosen))])
    start = torch.quantile(values[chosen], torch.linspace(0, 1, size, dtype=values.dtype))
    means = KMeans(size, init=start.view(-1, 1).numpy(), n_init=1, max_iter=30)
    weights = (importance[chosen] / importance[chosen].mean()).numpy()
    means.fit(values[chosen].view(-1, 1).numpy(), sample_weight=weights)
    return torch.from_numpy(means.cluster_centers_).flatten().double().sort().values
