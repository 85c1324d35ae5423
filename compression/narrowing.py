"""Layers that read fewer channels, refitted to give the outputs they gave, and such that give fewer."""

import math

import torch
from torch import Tensor, nn

from .calibration import Calibration
from .fitting import reduced_weight
from .layers import ConvGeometry, build_module, describe_module
from .site import Site
from .technique import corrected_bias, weight_matrix

__all__ = ["input_indices", "narrowed_batch_norm", "narrowed_layer", "weight_columns", "with_output_channels"]


def input_indices(site: Site, gone: Tensor) -> Tensor:
    """The inputs (channels, or features of a linear layer or head) that are left when `gone` are not.

    Args:
        site: The reading site.
        gone: Indices of inputs.
    """
    count = site.features[0] if site.kind == "head" else site.in_channels
    kept = torch.ones(count, dtype=torch.bool)
    kept[gone] = False
    return kept.nonzero().squeeze(1)


def weight_columns(site: Site, kept: Tensor) -> Tensor:
    """The columns of the site's weight matrix that belong to the inputs `kept`."""
    positions = math.prod(site.geometry.kernel) if site.geometry else 1
    return (kept[:, None] * positions + torch.arange(positions)).flatten()


@torch.no_grad()
def narrowed_layer(layer: nn.Module, site: Site, kept: Tensor, calibration: Calibration) -> nn.Module:
    """The layer on fewer inputs, its weights making up for those that are gone.

    Args:
        layer: The layer of `site`; it is not changed.
        site: The site with all its inputs.
        kept: Input channels or features that are left.
        calibration: Statistics of all inputs.
    """
    if site.groups > 1:
        return _narrowed_depthwise(layer, site, kept)
    if site.kind == "recurrent":
        return _narrowed_recurrent(layer, kept, calibration)
    columns = weight_columns(site, kept)
    reduced = reduced_weight(weight_matrix(layer), calibration.covariance, columns)
    effective = torch.zeros_like(weight_matrix(layer))
    effective[:, columns] = reduced
    narrow: nn.Conv2d | nn.Linear
    if site.geometry:
        narrow = site.geometry.layer(len(kept), site.out_channels, bias=True)
    else:
        narrow = nn.Linear(len(kept), site.out_channels)
    narrow.weight.copy_(reduced.view_as(narrow.weight))
    assert narrow.bias is not None
    narrow.bias.copy_(corrected_bias(layer, effective, calibration))
    return narrow


@torch.no_grad()
def with_output_channels(layer: nn.Conv2d, kept: Tensor) -> nn.Conv2d:
    """The convolution of the output channels `kept`; of one group."""
    narrow = ConvGeometry.of(layer).layer(layer.in_channels, len(kept), bias=layer.bias is not None)
    narrow.load_state_dict({name: tensor[kept] for name, tensor in layer.state_dict().items()})
    return narrow


def _narrowed_depthwise(layer: nn.Module, site: Site, kept: Tensor) -> nn.Conv2d:
    assert isinstance(layer, nn.Conv2d)
    geometry = site.narrowed(len(kept)).geometry
    assert geometry is not None
    narrow = geometry.layer(len(kept), len(kept), bias=layer.bias is not None)
    narrow.load_state_dict({name: tensor[kept] for name, tensor in layer.state_dict().items()})
    return narrow


def _narrowed_recurrent(layer: nn.Module, kept: Tensor, calibration: Calibration) -> nn.Module:
    """The first layer of the stack reads fewer features; the others are as they were."""
    assert isinstance(layer, nn.GRU | nn.LSTM)
    frame = describe_module(layer) | {"input_size": len(kept)}
    narrow = build_module(frame)
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    for name in [name for name in state if name.startswith("weight_ih_l0")]:
        weight = state[name].double()
        reduced = reduced_weight(weight, calibration.covariance, kept)
        state[name] = reduced.float()
        bias = name.replace("weight", "bias")
        if bias in state:
            state[bias] += (weight @ calibration.mean - reduced @ calibration.mean[kept]).float()
    narrow.load_state_dict(state)
    return narrow.eval().requires_grad_(False)


def narrowed_batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, kept: Tensor) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """The batch-norm of the channels `kept`."""
    narrow = type(layer)(len(kept), layer.eps, layer.momentum, layer.affine).eval()
    narrow.load_state_dict({name: t[kept] if t.ndim else t for name, t in layer.state_dict().items()})
    return narrow
