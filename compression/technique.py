"""What a compression technique must offer; an author of a new one writes one module and one YAML file."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .calibration import Calibration
from .choice import Choice
from .layers import StoredLayer
from .site import Site

__all__ = ["ChannelTechnique", "Technique", "corrected_bias", "settings", "weight_matrix"]


@runtime_checkable
class Technique(Protocol):
    """One way to compress a site."""

    #: Name in plans, reports and configurations.
    name: str

    def choices(self, site: Site) -> Sequence[Choice]:
        """The choices of this technique that fit `site` and really save storage or arithmetic there."""

    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        """The compressed layer, fitted to the layer's own outputs.

        Args:
            layer: The layer to replace (of a head: its last linear layer); it is not changed.
            site: Its place; the layer may read fewer channels than the original did.
            choice: One of `choices(site)`.
            calibration: Statistics of the layer's inputs.

        Returns:
            A module of PyTorch's own layers or of `CompressedLayer`s, with the layer's input and output shapes.
        """


@runtime_checkable
class ChannelTechnique(Technique, Protocol):
    """A technique that can take output channels away, so that the layers after it become narrower too."""

    #: By what the channels that stay are picked: one of `importance.CRITERIA`.
    criterion: str

    def kept_channels(self, site: Site, choice: Choice) -> int:
        """How many output channels are left; all where the choice takes none away."""


def settings(technique: object) -> str:
    """A technique's class and attributes, those of techniques inside it included: equal where they do the same."""
    if isinstance(technique, tuple | list):
        return f"[{', '.join(map(settings, technique))}]"
    if not isinstance(technique, Technique):
        return repr(technique)
    inside = (f"{name}={settings(value)}" for name, value in sorted(vars(technique).items()))
    return f"{type(technique).__qualname__}({', '.join(inside)})"


def weight_matrix(layer: nn.Module) -> Tensor:
    """The layer's weight as a float64 matrix (outputs, inputs)."""
    weight = layer.tensors()["weight"] if isinstance(layer, StoredLayer) else layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach().flatten(1).double()


@torch.no_grad()
def corrected_bias(layer: nn.Module, effective: Tensor, calibration: Calibration) -> Tensor:
    """The bias that keeps every output's mean when the weights become `effective`.

    Args:
        layer: The original layer.
        effective: The weights that the compressed layer amounts to, float64 (outputs, inputs).
        calibration: Statistics of the inputs.

    Returns:
        float32, shape (outputs,).
    """
    original = weight_matrix(layer)
    shift = (original - effective) @ calibration.mean
    bias = layer.plain["bias"] if isinstance(layer, StoredLayer) else layer.bias
    if isinstance(bias, Tensor):
        shift = shift + bias.detach().double()
    return shift.float()
