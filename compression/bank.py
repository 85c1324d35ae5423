"""The bank: every variant of every site, ready to be put together."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..graph.placement import ChannelPlacement
from .channels import PlacedChannels
from .choice import Choice
from .narrowing import narrowed_batch_norm
from .plan import Plan
from .site import Site
from .space import Narrowing, SearchSpace, State
from .variant import Variant

__all__ = ["Bank", "VariantKey"]

#: Site name, what its producers did to its channels, what is chosen at it.
VariantKey = tuple[str, State, Choice]


class Bank:
    """Prepared variants; choosing among them takes no computation.

    Args:
        space: The search space they belong to.
        variants: All of them. A site kept with all its inputs has none: it is the original layer.
        kept: Site name and narrowing -> indices of the output channels that stay, in order.
    """

    def __init__(
        self, space: SearchSpace, variants: Mapping[VariantKey, Variant], kept: Mapping[tuple[str, Narrowing], Tensor]
    ) -> None:
        self.space = space
        self.variants = dict(variants)
        self.kept = dict(kept)
        self._norms: dict[tuple[str, Narrowing], nn.Module] = {}
        self._placements: dict[tuple[object, ...], ChannelPlacement] = {}

    def variant(self, site: Site, plan: Plan) -> Variant | None:
        """What a plan puts in the place of a site; None where the original stays."""
        return self.variants.get((site.name, self.space.state(site, plan), plan[site.name]))

    def error(self, site: Site, state: State, choice: Choice) -> float:
        """How far a choice alone moves the network's outputs (see `Variant.error`); 0 for keep."""
        variant = self.variants.get((site.name, state, choice))
        return variant.error if variant else 0.0

    def replacements(self, plan: Plan, model: nn.Module) -> dict[str, nn.Module]:
        """Every layer that a plan changes and what takes its place.

        Args:
            plan: A plan of the bank's space.
            model: The original network.
        """
        changed: dict[str, nn.Module] = self._narrowed_batch_norms(plan, model) | self._narrowed_placements(plan)
        # Backwards, so that a head or block that is replaced as a whole overrules the layers inside it.
        for site in reversed(self.space.sites):
            variant = self.variant(site, plan)
            if variant is not None and site.layers:
                # What replaces a head or block takes the place of its last layer; those before let everything through.
                changed |= {layer: nn.Identity() for layer in site.layers[:-1]}
                changed[site.layers[-1]] = variant.module
        return changed

    def _narrowed_batch_norms(self, plan: Plan, model: nn.Module) -> dict[str, nn.Module]:
        narrowed: dict[str, nn.Module] = {}
        for name, group in self.space.groups.items():
            narrowing = self.space.narrowing(name, plan[name])
            for follower in group.followers if narrowing else ():
                layer = model.get_submodule(follower)
                if narrowing and isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                    if (follower, narrowing) not in self._norms:
                        self._norms[follower, narrowing] = narrowed_batch_norm(layer, self.kept[name, narrowing])
                    narrowed[follower] = self._norms[follower, narrowing]
        return narrowed

    def _narrowed_placements(self, plan: Plan) -> dict[str, nn.Module]:
        layers = {placed.path: (placed.layer, self.placement(placed, plan)) for placed in self.space.placements}
        return {path: layer for path, (original, layer) in layers.items() if layer is not original}

    def placement(self, placed: PlacedChannels, plan: Plan) -> ChannelPlacement:
        """The shortcut between two widths as a plan leaves it."""
        source, target = (self._kept_of(width, plan) for width in (placed.source, placed.target))
        if source is None and target is None:
            return placed.layer
        key = (placed.path, source and source[0], target and target[0])
        if key not in self._placements:
            inputs = source[1] if source else range(placed.layer.in_channels)
            outputs = target[1] if target else range(len(placed.layer.sources))
            self._placements[key] = placed.layer.narrowed(inputs, outputs).eval()
        return self._placements[key]

    def _kept_of(self, width: str, plan: Plan) -> tuple[Narrowing, list[int]] | None:
        narrowing = self.space.narrowing(width, plan[width]) if width else None
        return None if narrowing is None else (narrowing, self.kept[width, narrowing].tolist())

    def kept_outputs(self, site: Site, state: State) -> Tensor | None:
        """The output channels that a width's choice leaves to a site that writes into it; None where all stay."""
        written = self.space.output_narrowing(site, state)
        return self.kept[written] if written else None

    def kept_channels(self, plan: Plan) -> dict[str, Tensor]:
        """Path of each batch-norm or depthwise convolution that a plan narrows -> the channels that it still has."""
        kept: dict[str, Tensor] = {}
        for name, group in self.space.groups.items():
            narrowing = self.space.narrowing(name, plan[name])
            if narrowing is not None:
                kept |= dict.fromkeys(group.followers, self.kept[name, narrowing])
        return kept

    @property
    def storage_bytes(self) -> int:
        """Bytes of all variants together."""
        return sum(variant.storage_bytes for variant in self.variants.values())
