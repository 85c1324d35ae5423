"""What a choice at one site alone does to the network's outputs, from a few examples of the site's own."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from .calibration import Calibration
from .choice import KEEP, Choice
from .ranking import ChannelRanking, placement_sites
from .sensitivity import Sensitivity, sensitivities
from .site import Site
from .space import Narrowing, SearchSpace, State

__all__ = ["ChoiceEffects"]

#: Inputs that the network is differentiated at.
_EXAMPLES = 16


class ChoiceEffects:
    """Measures the errors of variants; see `Variant.error`.

    Args:
        model: The network in evaluation mode.
        space: The search space.
        inputs: Calibration inputs of the network; the examples of every calibration are the first of them.
        ranking: Which channels stay.
        calibrations: Gives the calibrations of sites and placements by name.
        narrowed: Gives a site's layer and calibration as a state of its producers leaves them.
    """

    def __init__(
        self,
        model: nn.Module,
        space: SearchSpace,
        inputs: Tensor,
        ranking: ChannelRanking,
        calibrations: Callable[[], Mapping[str, Calibration]],
        narrowed: Callable[[Site, State], tuple[nn.Module, Site, Calibration]],
    ) -> None:
        self._model = model
        self._space = space
        self._inputs = inputs[:_EXAMPLES]
        self._ranking = ranking
        self._calibrations = calibrations
        self._narrowed = narrowed
        self._changes: dict[tuple[str, Narrowing], float] = {}

    @cached_property
    def _sensitivities(self) -> dict[str, Sensitivity]:
        sites = [site for site in self._space.sites if site.layers]
        return sensitivities(self._model, (*sites, *placement_sites(self._space)), self._inputs)

    @torch.no_grad()
    def error(
        self, module: nn.Module, layer: nn.Module, site: Site, state: State, choice: Choice, calibration: Calibration
    ) -> float:
        """How far a choice moves the network's scores; of a narrowing one, what its readers lose counts, too.

        Args:
            module: What the choice puts in the site's place.
            layer: The layer in that state without the choice.
            site: The site in that state.
            state: What other sites' choices did to its channels.
            choice: Any of the site's.
            calibration: Of the site in that state.
        """
        if choice == KEEP:
            return 0.0
        narrowing = self._space.narrowing(site.name, choice)
        lost = self._readers_change(site.name, narrowing) if narrowing else 0.0
        if not site.layers:
            return lost
        sensitivity, channels = self._sensitivities[site.name], self._written(site, state, narrowing)
        assert calibration.examples is not None
        expected = _outputs(layer, calibration.examples) if site.is_layer else calibration.example_outputs
        assert expected is not None
        if narrowing and channels is not None:
            expected = expected.index_select(sensitivity.channel_axis, channels)
        own = sensitivity.change(_outputs(module, calibration.examples) - expected, channels)
        return math.hypot(own, lost)

    def _written(self, site: Site, state: State, narrowing: Narrowing | None) -> Tensor | None:
        """The output channels that are left of a site; None where all are."""
        original = self._space.sites[self._space.positions[site.name]]
        if original.groups > 1:
            return self._ranking.kept_inputs(original, state)  # a depthwise convolution gives what it gets
        source = (site.name, narrowing) if narrowing else self._space.output_narrowing(site, state)
        return self._ranking.kept(*source) if source else None

    def _readers_change(self, name: str, narrowing: Narrowing) -> float:
        """What it does to the scores that the readers of a site get fewer channels, as if each did so alone."""
        if (name, narrowing) not in self._changes:
            readers = [self._reader_change(reader, name, narrowing) for reader in self._space.groups[name].consumers]
            placed = [placed.path for placed in self._space.placements if placed.source == name]
            changes = readers + [self._placement_change(path, name, narrowing) for path in placed]
            self._changes[name, narrowing] = math.hypot(*changes)
        return self._changes[name, narrowing]

    def _reader_change(self, reader: str, name: str, narrowing: Narrowing) -> float:
        site = self._space.sites[self._space.positions[reader]]
        producers = self._space.producers[reader]
        # What a width does to this reader's own outputs is another reader's change.
        states: tuple[State, State] = (
            (None,) * len(producers),
            tuple(narrowing if producer == name else None for producer in producers),
        )
        (before, _), (after, channels) = (self._outputs_in(site, state) for state in states)
        if channels is not None:
            before = before.index_select(self._sensitivities[reader].channel_axis, channels)
        return self._sensitivities[reader].change(after - before, channels)

    def _outputs_in(self, site: Site, state: State) -> tuple[Tensor, Tensor | None]:
        """What the site's layer gives in a state, and which of its channels are left."""
        layer, _, calibration = self._narrowed(site, state)
        assert calibration.examples is not None
        return _outputs(layer, calibration.examples), self._written(site, state, None)

    def _placement_change(self, path: str, name: str, narrowing: Narrowing) -> float:
        """A shortcut gives zeros where its channels are gone."""
        examples = self._calibrations()[path].examples
        assert examples is not None
        gone = torch.ones(examples.shape[1], dtype=torch.bool)
        gone[self._ranking.kept(name, narrowing)] = False
        lost = self._model.get_submodule(path)(examples * gone[:, None, None])
        return self._sensitivities[path].change(-lost)


def _outputs(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer gives, of a recurrent one without its last state."""
    outputs: Tensor | tuple[Tensor, object] = layer(inputs)
    return outputs if isinstance(outputs, Tensor) else outputs[0]
