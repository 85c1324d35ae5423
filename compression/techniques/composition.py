"""Several techniques at one site, one after the other: prune, then decompose, then quantise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...errors import EspalierError
from ..calibration import Calibration, calibrate_layer
from ..choice import Choice
from ..layers import CompressedLayer, StoredLayer
from ..site import Site, layer_site
from ..technique import ChannelTechnique, Technique

__all__ = ["Composition"]


class Composition(ChannelTechnique):
    """Each stage treats every layer that the stages before it left behind.

    A later stage is fitted to the inputs that really arrive at each layer: a few examples are sent through the stages
    before. A layer that a stage does not fit stays as it is.

    Args:
        stages: At least two techniques of different names, in order or by any names of their own; one that takes
            channels away comes first.

    Raises:
        EspalierError: There are fewer than two stages, two of one name, or one in the wrong place.
    """

    def __init__(self, stages: Mapping[str, Technique] | Sequence[Technique]) -> None:
        stages = tuple(stages.values() if isinstance(stages, Mapping) else stages)
        names = [stage.name for stage in stages]
        if len(stages) < 2 or len(set(names)) < len(names):
            raise EspalierError(f"a composition needs at least two different techniques, got {names}")
        if late := [stage.name for stage in stages[1:] if isinstance(stage, ChannelTechnique)]:
            raise EspalierError(f"a technique that takes channels away must come first, {late[0]} does not in {names}")
        self._stages = stages
        self.name = "+".join(names)
        first = stages[0]
        self.criterion = first.criterion if isinstance(first, ChannelTechnique) else ""

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if not site.is_layer:
            return ()
        first, *rest = self._stages
        found: list[Choice] = []
        for start in first.choices(site):
            left = self._left_by(start, site)
            options = [_offered(stage, left) for stage in rest]
            found.extend(self._joined((start, *others)) for others in product(*options))
        return tuple(found)

    def _joined(self, parts: Sequence[Choice]) -> Choice:
        named = {f"{part.technique}.{key}": value for part in parts for key, value in part.parameters}
        return Choice.of(self.name, **named)

    def _parts(self, choice: Choice) -> Iterator[tuple[Technique, Choice]]:
        """Each stage with its own choice."""
        for stage in self._stages:
            prefix = f"{stage.name}."
            own = {name.removeprefix(prefix): v for name, v in choice.parameters if name.startswith(prefix)}
            yield stage, Choice.of(stage.name, **own)

    def _left_by(self, start: Choice, site: Site) -> Site:
        first = self._stages[0]
        return site.with_outputs(first.kept_channels(site, start)) if isinstance(first, ChannelTechnique) else site

    @override
    def kept_channels(self, site: Site, choice: Choice) -> int:
        first, own = next(self._parts(choice))
        return first.kept_channels(site, own) if isinstance(first, ChannelTechnique) else site.out_channels

    @override
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        (first, start), *rest = self._parts(choice)
        module = first.build(layer, site, start, calibration)
        for stage, own in rest:
            module = _treated(module, stage, own, calibration)
        return module


def _offered(stage: Technique, site: Site) -> Sequence[Choice]:
    """What a later stage offers, at the whole layer as a stand-in for what earlier stages leave."""
    return stage.choices(replace(site, prunable=False))


@torch.no_grad()
def _treated(module: nn.Module, stage: Technique, choice: Choice, calibration: Calibration) -> nn.Module:
    """The module with each of its layers treated by one stage."""
    assert calibration.examples is not None
    if not isinstance(module, nn.Sequential):
        return _treated_layer(module, stage, choice, calibration.examples, calibration)
    inputs, layers = calibration.examples, []
    for child in module:
        layers.append(_treated_layer(child, stage, choice, inputs, None))
        inputs = child(inputs)
    return nn.Sequential(*layers)


def _treated_layer(
    layer: nn.Module, stage: Technique, choice: Choice, inputs: Tensor, calibration: Calibration | None
) -> nn.Module:
    shape = layer.frame if isinstance(layer, StoredLayer) else layer
    if isinstance(layer, CompressedLayer) and not isinstance(layer, StoredLayer):
        return layer
    if not isinstance(shape, nn.Conv2d | nn.Linear | nn.GRU | nn.LSTM):
        return layer
    site = layer_site("", shape, tuple(inputs.shape[1:]))
    if choice not in stage.choices(site):
        return layer
    known = calibration if calibration is not None and _describes(calibration, site) else None
    return stage.build(layer, site, choice, known or calibrate_layer(site, layer, inputs))


def _describes(calibration: Calibration, site: Site) -> bool:
    """Whether the statistics of the whole layer are those of the one layer that is left of it."""
    size = site.weights // site.out_channels if site.kind == "conv2d" else site.in_channels
    hidden = calibration.hidden_covariance
    return calibration.mean.numel() == size and (hidden is None or len(hidden) == site.out_channels)
