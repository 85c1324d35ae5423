"""Which output channels of a narrowing site stay."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .calibration import Calibration
from .importance import Consumer, channel_order
from .layers import ConvGeometry
from .narrowing import input_indices, weight_columns
from .site import Site
from .space import Narrowing, SearchSpace, State
from .technique import weight_matrix

__all__ = ["ChannelRanking", "placement_sites"]


def placement_sites(space: SearchSpace) -> tuple[Site, ...]:
    """The shortcuts between widths as 1x1 convolutions, so that statistics of what they read are collected."""
    found = []
    for placed in space.placements:
        if placed.source:
            shape = space.sites[space.positions[placed.source]].output_shape
            geometry = ConvGeometry((1, 1), (placed.layer.stride, placed.layer.stride))
            found.append(Site(placed.path, "conv2d", shape, shape, (placed.path,), geometry=geometry))
    return tuple(found)


class ChannelRanking:
    """Ranks the channels of narrowing sites, each by each criterion once.

    Args:
        model: The network.
        space: The search space.
        calibrations: Gives statistics of the inputs of every layer and of the placements, by name.
        taylor: Gives Taylor scores of every layer that narrows alone.
    """

    def __init__(
        self,
        model: nn.Module,
        space: SearchSpace,
        calibrations: Callable[[], Mapping[str, Calibration]],
        taylor: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        self._model = model
        self._space = space
        self._calibrations = calibrations
        self._taylor = taylor
        self._orders: dict[tuple[str, str], Tensor] = {}

    def remember(self, name: str, criterion: str, order: Tensor) -> None:
        """Take an order that was found before."""
        self._orders[name, criterion] = order

    def order(self, name: str, criterion: str) -> Tensor:
        """The output channels of a narrowing site, the most important first."""
        if (name, criterion) not in self._orders:
            if criterion == "taylor":
                order = self._taylor()[name].argsort(descending=True)
            else:
                order = channel_order(criterion, self._layers(name), self._consumers(name))
            self._orders[name, criterion] = order
        return self._orders[name, criterion]

    def kept(self, name: str, narrowing: Narrowing) -> Tensor:
        """Indices of the channels that stay, in order."""
        return self.order(name, narrowing.criterion)[: narrowing.kept].sort().values

    def kept_inputs(self, site: Site, state: State) -> Tensor | None:
        """The inputs that producers leave to a site; None where all stay."""
        gone: list[Tensor] = []
        for producer, narrowing in zip(self._space.producers[site.name], state, strict=True):
            group = self._space.groups[producer]
            if narrowing is not None and group.is_read_by(site):
                channels = self._space.sites[self._space.positions[producer]].out_channels
                removed = torch.ones(channels, dtype=torch.bool)
                removed[self.kept(producer, narrowing)] = False
                inputs = group.consumers.get(site.layers[0], torch.arange(channels)[:, None])
                gone.append(inputs[removed].flatten())
        return input_indices(site, torch.cat(gone)) if gone else None

    def _layers(self, name: str) -> list[nn.Module]:
        """Whose filters make the channels."""
        members = self._space.groups[name].members or (name,)
        sites = (self._space.sites[self._space.positions[member]] for member in members)
        return [self._model.get_submodule(site.name) for site in sites if site.is_layer]

    def _consumers(self, name: str) -> list[Consumer]:
        """Who reads the channels; a recurrent layer reads its own hidden state."""
        found = [self._consumer(reader, inputs) for reader, inputs in self._space.groups[name].consumers.items()]
        if self._space.sites[self._space.positions[name]].kind == "recurrent":
            hidden = self._calibrations()[name].hidden_covariance
            assert hidden is not None
            weight = self._model.get_submodule(name).get_parameter("weight_hh_l0")
            found.append(Consumer(weight.detach().double(), hidden, torch.arange(len(hidden))[:, None]))
        placed = [placed.path for placed in self._space.placements if placed.source == name]
        return found + [self._placement(path) for path in placed]

    def _consumer(self, reader: str, inputs: Tensor) -> Consumer:
        site = self._space.sites[self._space.positions[reader]]
        layer = self._model.get_submodule(reader)
        is_recurrent = site.kind == "recurrent"
        weight = layer.get_parameter("weight_ih_l0").detach().double() if is_recurrent else weight_matrix(layer)
        columns = weight_columns(site, inputs.flatten()).view(inputs.shape[0], -1)
        return Consumer(weight, self._calibrations()[reader].covariance, columns)

    def _placement(self, path: str) -> Consumer:
        """A shortcut passes channels on as they are; without correlations no channel makes up for another."""
        covariance = self._calibrations()[path].covariance
        channels = torch.arange(len(covariance))
        return Consumer(torch.eye(len(covariance), dtype=torch.float64), covariance.diag().diag(), channels[:, None])
