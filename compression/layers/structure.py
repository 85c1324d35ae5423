"""Modules as JSON: which classes with which arguments, from a closed list, so that a file can never run code."""

from collections.abc import Callable
from typing import Any

from torch import nn

from ...errors import FormatError
from ...graph.placement import ChannelPlacement
from .geometry import ConvGeometry
from .layer import CompressedLayer

__all__ = ["Description", "build_module", "describe_module"]

Description = dict[str, Any]


def describe_module(module: nn.Module) -> Description:
    """The JSON form of a module made of known layers.

    Raises:
        FormatError: A layer is of a class that files cannot name.
    """
    if isinstance(module, CompressedLayer):
        return {"layer": type(module).__name__, **module.config()}
    for name, (layer_type, describe, _) in _KNOWN.items():
        if type(module) is layer_type:
            return {"layer": name, **describe(module)}
    known = ", ".join([*_KNOWN, *CompressedLayer.known])
    raise FormatError(f"a {type(module).__name__} cannot be written to a model file; known layers: {known}")


def build_module(description: Any) -> nn.Module:
    """A module of that structure with weights still to be loaded.

    Raises:
        FormatError: The description is malformed or names an unknown layer.
    """
    if not isinstance(description, dict) or not isinstance(description.get("layer"), str):
        raise FormatError(f"a layer's description must be an object with a name, got {description!r}")
    arguments = {name: value for name, value in description.items() if name != "layer"}
    name = description["layer"]
    try:
        if name in _KNOWN:
            return _KNOWN[name][2](arguments)
        if name in CompressedLayer.known:
            return CompressedLayer.known[name](**arguments)
    except (TypeError, LookupError, ArithmeticError, ValueError, RuntimeError, AttributeError) as error:
        raise FormatError(f"bad description of a {name} layer: {error}") from error
    raise FormatError(f"unknown layer {name!r} in a model file; known: {', '.join([*_KNOWN, *CompressedLayer.known])}")


def _describe_conv(module: Any) -> Description:
    return {
        "in_channels": module.in_channels,
        "out_channels": module.out_channels,
        "geometry": ConvGeometry.of(module).to_dict(),
        "bias": module.bias is not None,
    }


def _build_conv(arguments: Description) -> nn.Module:
    geometry = ConvGeometry.from_dict(arguments["geometry"])
    return geometry.layer(arguments["in_channels"], arguments["out_channels"], arguments["bias"])


def _describe_linear(module: Any) -> Description:
    return {
        "in_features": module.in_features,
        "out_features": module.out_features,
        "bias": module.bias is not None,
    }


def _describe_recurrent(module: Any) -> Description:
    return {
        "input_size": module.input_size,
        "hidden_size": module.hidden_size,
        "num_layers": module.num_layers,
        "bias": module.bias,
        "batch_first": module.batch_first,
        "bidirectional": module.bidirectional,
    }


def _describe_batch_norm(module: Any) -> Description:
    return {"num_features": module.num_features, "eps": module.eps, "affine": module.affine}


def _describe_sequence(module: Any) -> Description:
    return {"modules": [describe_module(child) for child in module]}


def _build_sequence(arguments: Description) -> nn.Module:
    return nn.Sequential(*(build_module(child) for child in arguments["modules"]))


def _nothing(_: Any) -> Description:
    return {}


_KNOWN: dict[str, tuple[type[nn.Module], Callable[[Any], Description], Callable[[Description], nn.Module]]] = {
    "Conv2d": (nn.Conv2d, _describe_conv, _build_conv),
    "Linear": (nn.Linear, _describe_linear, lambda arguments: nn.Linear(**arguments)),
    "GRU": (nn.GRU, _describe_recurrent, lambda arguments: nn.GRU(**arguments)),
    "LSTM": (nn.LSTM, _describe_recurrent, lambda arguments: nn.LSTM(**arguments)),
    "BatchNorm2d": (nn.BatchNorm2d, _describe_batch_norm, lambda arguments: nn.BatchNorm2d(**arguments)),
    "BatchNorm1d": (nn.BatchNorm1d, _describe_batch_norm, lambda arguments: nn.BatchNorm1d(**arguments)),
    "Sequential": (nn.Sequential, _describe_sequence, _build_sequence),
    "Identity": (nn.Identity, _nothing, lambda _: nn.Identity()),
    "ChannelPlacement": (ChannelPlacement, ChannelPlacement.config, lambda arguments: ChannelPlacement(**arguments)),
    "ReLU": (nn.ReLU, _nothing, lambda _: nn.ReLU()),
}
