"""The layers of a network that a plan wants to be block column-row (BCR) sparse, while they are still dense."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..compression.choice import KEEP
from ..compression.layers import OverSignals, StoredLayer, as_image_layer
from ..compression.plan import Plan
from ..compression.site import Site
from ..compression.space import SearchSpace
from ..compression.techniques import BcrPruning
from ..compression.techniques.bcr_pruning import KeptBlocks

__all__ = ["BlockSite", "BlockWeight", "block_sites", "dense_plan", "replace_by_stored"]


@dataclass(frozen=True)
class BlockWeight:
    """A dense weight tensor that is to become sparse.

    Attributes:
        parameter: Is trained.
        technique: Knows the blocks.
        rate: How many times fewer weights in the end.
        gates: Of a recurrent layer; 1 for others.
    """

    parameter: nn.Parameter
    technique: BcrPruning
    rate: float
    gates: int = 1

    @torch.no_grad()
    def kept(self, values: Tensor, rate: float | None = None) -> KeptBlocks:
        """What the sparse tensor nearest to `values` keeps.

        Args:
            values: Of the parameter's shape.
            rate: Another than the final one.
        """
        energy = values.detach().flatten(1).double().square()
        return self.technique.keep(energy, self.parameter.shape, rate or self.rate, self.gates)

    @torch.no_grad()
    def mask(self, values: Tensor, rate: float | None = None) -> Tensor:
        """The same as bool of the parameter's shape."""
        return self.kept(values, rate).mask().view_as(self.parameter)

    @torch.no_grad()
    def projected(self, values: Tensor) -> Tensor:
        """The sparse tensor nearest to `values`."""
        return values.detach() * self.mask(values)

    @property
    def square_distance(self) -> float:
        """Sum of squares of what pruning to the final rate would take away now."""
        return float((self.parameter.detach() - self.projected(self.parameter)).square().sum())


@dataclass(frozen=True)
class BlockSite:
    """A layer that is to become sparse.

    Attributes:
        path: Dotted path in the network.
        layer: An ordinary layer; convolutions over signals are over images of one row.
        weights: By parameter name.
        over_signals: Whether the network has it over signals.
    """

    path: str
    layer: nn.Module
    weights: Mapping[str, BlockWeight]
    over_signals: bool

    @torch.no_grad()
    def stored(self) -> nn.Module:
        """The layer pruned to the final rate, as the bank stores it."""
        codecs = {
            name: weight.kept(weight.parameter).codec(weight.parameter.flatten(1), weight.parameter.shape)
            for name, weight in self.weights.items()
        }
        # Batch-norms move into a bias.
        needs_bias = not isinstance(self.layer, nn.RNNBase) and self.layer.bias is None
        plain = {"bias": torch.zeros(self.weights["weight"].parameter.shape[0])} if needs_bias else {}
        stored = StoredLayer.of(self.layer, codecs, plain).eval()
        return OverSignals.of(stored).eval() if self.over_signals else stored


def dense_plan(plan: Plan, space: SearchSpace) -> Plan:
    """The plan without its block column-row pruning."""
    choices = ((name, KEEP if _technique(choice.technique, space) else choice) for name, choice in plan)
    return Plan(tuple(choices))


def block_sites(network: nn.Module, plan: Plan, space: SearchSpace) -> list[BlockSite]:
    """The sites where a plan chooses block column-row pruning.

    Args:
        network: Of the dense plan, with tensors of its own; convolutions over signals are replaced in it.
        plan: The plan.
        space: It belongs to this one.
    """
    walk = space.indices(plan)
    found = []
    for position, site in enumerate(space.sites):
        choice = plan[site.name]
        technique = _technique(choice.technique, space)
        if technique is not None and not space.is_swallowed(position, walk):
            found.append(_block_site(network, site, technique.sized(choice), float(choice["rate"])))
    return found


def replace_by_stored(network: nn.Module, sites: list[BlockSite]) -> None:
    """Prune every site to its final rate; in place."""
    for site in sites:
        network.set_submodule(site.path, site.stored())


def _technique(name: str, space: SearchSpace) -> BcrPruning | None:
    technique = space.techniques.get(name)
    return technique if isinstance(technique, BcrPruning) else None


def _block_site(network: nn.Module, site: Site, technique: BcrPruning, rate: float) -> BlockSite:
    path = site.layers[-1]
    layer = network.get_submodule(path)
    if isinstance(layer, nn.Conv1d):
        network.set_submodule(path, OverSignals.of(as_image_layer(layer)))
        layer = network.get_submodule(path)
    is_over_signals = isinstance(layer, OverSignals)
    inner = layer.inner if isinstance(layer, OverSignals) else layer
    weights = {
        name: BlockWeight(parameter, technique, rate, _gates(inner, parameter))
        for name, parameter in inner.named_parameters()
        if name.startswith("weight")
    }
    return BlockSite(path, inner, weights, is_over_signals)


def _gates(layer: nn.Module, parameter: Tensor) -> int:
    return len(parameter) // layer.hidden_size if isinstance(layer, nn.RNNBase) else 1
