"""Which part of a layer can take up a scale and a shift of its outputs, as a folded batch-norm asks."""

import torch
from torch import Tensor, nn

from .layer import CompressedLayer

__all__ = ["absorb", "absorber", "parameter_count"]


def absorber(layer: nn.Module) -> nn.Conv1d | nn.Conv2d | nn.Linear | CompressedLayer | None:
    """The part of a layer that takes up a scale and a shift of its outputs; None where no part can."""
    if isinstance(layer, nn.Sequential):
        return absorber(layer[-1])
    return layer if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear | CompressedLayer) else None


@torch.no_grad()
def absorb(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Change a layer in place so that its output becomes scale * output + shift, channel by channel.

    Args:
        layer: It has an `absorber`.
        scale: Shape (channels,).
        shift: Shape (channels,).
    """
    part = absorber(layer)
    assert part is not None
    if isinstance(part, CompressedLayer):
        part.absorb(scale, shift)
        return
    part.weight.mul_(scale.view(-1, *[1] * (part.weight.ndim - 1)))
    bias = shift if part.bias is None else part.bias * scale + shift
    part.bias = nn.Parameter(bias, requires_grad=part.weight.requires_grad)


def parameter_count(module: nn.Module) -> int:
    """Weights and biases, without those that were pruned."""
    if isinstance(module, CompressedLayer):
        return module.n_parameters
    own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    return own + sum(parameter_count(child) for child in module.children())
