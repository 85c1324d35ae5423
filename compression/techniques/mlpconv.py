"""L2: a narrow convolution and a small perceptron at every pixel in the place of a convolution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import output_basis, shrunk_covariance, solve_right
from ..layers import ConvGeometry
from ..site import Site
from ..technique import Technique, weight_matrix
from .ranges import at_least_one, shares_or_all
from .ranks import aligned, distinct

__all__ = ["MlpConv"]

_LEARNING_RATE = 3e-3
_BATCH = 16


class MlpConv(Technique):
    """Kernel to m channels, ReLU, 1x1 to m channels, ReLU, 1x1 to the outputs.

    Lin et al. 2013 (arXiv 1312.4400, sec. 3). No closed form gives all three. The start are the first m principal
    components of the outputs, shifted so far that the ReLUs let nearly everything through, and the last layer by least
    squares on what arrives at it; then a short distillation of the layer's own outputs trains all three.

    Args:
        middles: m as shares of the outputs, each in (0, 1).
        steps: Gradient steps of the distillation.
        width_multiple: m is rounded down to a multiple of this.
        seed: Of the order of the examples.
    """

    name = "mlpconv"

    def __init__(
        self, middles: Sequence[float] = (0.5, 0.25), steps: int = 60, width_multiple: int = 8, seed: int = 0
    ) -> None:
        self._middles = shares_or_all("mlpconv.middles", *middles)
        (self._steps,) = at_least_one("mlpconv.steps", steps)
        (self._width_multiple,) = at_least_one("mlpconv.width_multiple", width_multiple)
        self._seed = seed

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.geometry is None or site.groups != 1 or max(site.geometry.kernel) < 2:
            return ()

        def saves(middle: int) -> bool:
            return middle * (site.weights // site.out_channels + middle + site.out_channels) < site.weights

        offered = (Choice.of(self.name, middle=value) for value in self._middles)
        return distinct(offered, lambda choice: self.middle(site, choice), saves)

    def middle(self, site: Site, choice: Choice) -> int:
        """Channels of the two hidden layers."""
        return aligned(site.out_channels * float(choice["middle"]), self._width_multiple)

    @override
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        assert calibration.examples is not None
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network = self._started(layer, site, self.middle(site, choice), calibration)
            targets = layer(calibration.examples)
            _solve_last(network, calibration.examples, targets)
        with torch.enable_grad():
            self._distil(network, calibration.examples, targets)
        return network

    def _started(self, layer: nn.Module, site: Site, middle: int, calibration: Calibration) -> nn.Sequential:
        geometry = site.geometry
        assert geometry is not None
        weight = weight_matrix(layer)
        inner = output_basis(weight, calibration.covariance)[:, :middle].T @ weight
        deviations = ((inner @ calibration.covariance) * inner).sum(1).clamp_min(1e-20).sqrt()
        inner = inner / deviations[:, None]
        first = geometry.layer(site.in_channels, middle, bias=True)
        between = ConvGeometry((1, 1)).layer(middle, middle, bias=True)
        last = ConvGeometry((1, 1)).layer(middle, site.out_channels, bias=True)
        assert first.bias is not None
        assert between.bias is not None
        first.weight.copy_(inner.view_as(first.weight))
        # Standardised components that are raised by two deviations are seldom cut off.
        first.bias.copy_(2.0 - inner @ calibration.mean)
        between.weight.copy_(torch.eye(middle).view_as(between.weight))
        between.bias.zero_()
        return nn.Sequential(first, nn.ReLU(), between, nn.ReLU(), last)

    def _distil(self, network: nn.Sequential, examples: Tensor, targets: Tensor) -> None:
        network.requires_grad_(True)
        optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)
        generator = torch.Generator().manual_seed(self._seed)
        for _ in range(self._steps):
            batch = torch.randperm(len(examples), generator=generator)[:_BATCH]
            loss = functional.mse_loss(network(examples[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            _solve_last(network, examples, targets)
        network.requires_grad_(False)


def _solve_last(network: nn.Sequential, examples: Tensor, targets: Tensor) -> None:
    """Make the last layer the least-squares solution for what arrives at it."""
    last = network[-1]
    assert isinstance(last, nn.Conv2d)
    hidden = network[:-1](examples).transpose(0, 1).flatten(1).double()
    outputs = targets.transpose(0, 1).flatten(1).double()
    means = hidden.mean(1), outputs.mean(1)
    centred = hidden - means[0][:, None]
    covariance = shrunk_covariance(centred @ centred.T / hidden.shape[1], hidden.shape[1])
    cross = (outputs - means[1][:, None]) @ centred.T / hidden.shape[1]
    weight = solve_right(cross, covariance)
    last.weight.copy_(weight.view_as(last.weight))
    assert last.bias is not None
    last.bias.copy_(means[1] - weight @ means[0])
