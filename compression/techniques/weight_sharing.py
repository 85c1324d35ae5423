"""k-means weight sharing: the weights of a linear layer take few values, stored as indices of a few bits."""

from collections.abc import Sequence

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import round_in_sequence
from ..layers import SharedLinear
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix

__all__ = ["WeightSharing"]

#: Weights that the clusters are found from; more change the centres by less than a step of the codebook.
_SAMPLE = 20_000


class WeightSharing(Technique):
    """Cluster the weights, then choose each weight's centre so that later ones make up for the errors of earlier ones.

    Han et al. 2016 (arXiv 1510.00149, sec. 3); the clusters weigh each weight by the variance of its input.

    Args:
        bits: Bits of an index, each in 1 to 8.
    """

    name = "weight_sharing"

    def __init__(self, bits: Sequence[int] = (2, 4)) -> None:
        self._bits = tuple(bits)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.kind != "linear":
            return ()
        saving = [bits for bits in self._bits if bits * site.weights + 32 * 2**bits < 32 * site.weights]
        return tuple(Choice.of(self.name, bits=bits) for bits in saving)

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        weight, bits = weight_matrix(layer), int(choice["bits"])
        codebook = self._codebook(weight, calibration.covariance.diagonal(), 2**bits)
        middles = (codebook[1:] + codebook[:-1]) / 2
        shared = round_in_sequence(
            weight, calibration.covariance, lambda _, values: codebook[torch.bucketize(values.contiguous(), middles)]
        )
        module = SharedLinear(site.in_channels, site.out_channels, bits)
        bias = corrected_bias(layer, shared, calibration)
        module.store(torch.bucketize(shared, middles), codebook.float(), bias)
        return module

    def _codebook(self, weight: Tensor, variances: Tensor, size: int) -> Tensor:
        """Cluster centres in rising order, shape (size,)."""
        values = weight.flatten()
        importance = variances.expand_as(weight).flatten()
        chosen = torch.arange(0, values.numel(), max(1, values.numel() // _SAMPLE))
        start = torch.quantile(values[chosen], torch.linspace(0, 1, size, dtype=values.dtype))
        means = KMeans(size, init=start.view(-1, 1).numpy(), n_init=1, max_iter=30)
        means.fit(values[chosen].view(-1, 1).numpy(), sample_weight=importance[chosen].numpy())
        return torch.from_numpy(means.cluster_centers_).flatten().double().sort().values
