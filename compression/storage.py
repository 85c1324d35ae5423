"""Model files: a compressed network as safetensors, with the structure of its changed layers as JSON inside."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import FormatError
from ..files import write_bytes
from ..graph.placement import ChannelPlacement
from .assembly import with_layers
from .layers import build_module, describe_module

__all__ = ["load_network", "save_network", "serialise_network"]

MODEL_VERSION = 1
_FORMAT = "espalier-model"

#: Of the fingerprint, for each parameter.
_DIGITS = 4


def serialise_network(network: nn.Module, model: nn.Module) -> bytes:
    """The bytes of a model file.

    Args:
        network: The compressed network.
        model: The original, of which `network` differs by some layers.

    Raises:
        FormatError: A changed layer is of a class that files cannot name.
    """
    layers = {path: describe_module(layer) for path, layer in _changed_layers(network, model).items()}
    # One entry: safetensors writes several in random order, and equal networks should be equal files.
    header = {"version": MODEL_VERSION, "original": _fingerprint(model), "layers": layers}
    return save(_stored_state(network), {_FORMAT: json.dumps(header, separators=(",", ":"))})


def save_network(path: Path, network: nn.Module, model: nn.Module) -> int:
    """Write a model file and return its size in bytes."""
    data = serialise_network(network, model)
    write_bytes(path, data)
    return len(data)


def _fingerprint(model: nn.Module) -> str:
    """Four digits for the name and shape of each parameter: short, because it counts in the size of every file."""
    named = (f"{name}{tuple(parameter.shape)}" for name, parameter in model.named_parameters())
    return "".join(sha256(text.encode()).hexdigest()[:_DIGITS] for text in named)


def _stored_state(network: nn.Module) -> dict[str, Tensor]:
    """Everything but the counters of batch-norm, which evaluation never reads."""
    state = network.state_dict()
    return {name: t.contiguous() for name, t in state.items() if not name.endswith("num_batches_tracked")}


def _changed_layers(network: nn.Module, model: nn.Module) -> dict[str, nn.Module]:
    """Dotted path -> layer of the network that the original has not; outermost only."""
    changed: dict[str, nn.Module] = {}
    originals = dict(model.named_modules())
    for path, layer in network.named_modules():
        is_inside = any(path.startswith(f"{outer}.") for outer in changed)
        if not is_inside and path and not _same_layer(layer, originals.get(path)):
            changed[path] = layer
    return changed


def _same_layer(layer: nn.Module, original: nn.Module | None) -> bool:
    if original is None or type(layer) is not type(original):
        return False
    if any(True for _ in layer.children()):
        return [name for name, _ in layer.named_children()] == [name for name, _ in original.named_children()]
    if isinstance(layer, ChannelPlacement) and isinstance(original, ChannelPlacement):
        return layer.config() == original.config()
    shapes = [(name, tensor.shape) for name, tensor in layer.state_dict().items()]
    return shapes == [(name, tensor.shape) for name, tensor in original.state_dict().items()]


def load_network(path: Path, model: nn.Module) -> nn.Module:
    """Read a model file.

    Args:
        path: The file.
        model: A network of the original's architecture; it is not changed.

    Returns:
        The compressed network in evaluation mode.

    Raises:
        FormatError: The file is missing, damaged, of another format or version, or does not fit `model`.
    """
    metadata, tensors = _read(path)
    header = _header(metadata, path)
    if header.get("version") != MODEL_VERSION:
        raise FormatError(f"{path} has version {header.get('version')!r}, expected {MODEL_VERSION}")
    _check_original(header, model, path)
    network = with_layers(model, _layers(header, model, path))
    return _filled(network, tensors, path).eval()


def _read(path: Path) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FormatError(f"cannot read the model file {path}: {error}") from error


def _header(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    if _FORMAT not in metadata:
        raise FormatError(f"{path} is not a model file of Espalier: its header has no {_FORMAT!r}")
    try:
        header: Any = json.loads(metadata[_FORMAT])
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"{path} does not describe its layers: {error}") from error
    if not isinstance(header, dict):
        raise FormatError(f"{path} does not describe its layers: expected an object")
    return header


def _check_original(header: Mapping[str, Any], model: nn.Module, path: Path) -> None:
    """Refuse a model that is not of the original's shapes; files of old do not say which those were.

    Layers that were changed come from the file whole, so that filling them would not notice.
    """
    expected, got = header.get("original"), _fingerprint(model)
    if expected is None or expected == got:
        return
    known = str(expected)
    parameters = [f"{name} of shape {tuple(parameter.shape)}" for name, parameter in model.named_parameters()]
    parts = [slice(_DIGITS * place, _DIGITS * (place + 1)) for place in range(len(parameters))]
    different = (text for text, part in zip(parameters, parts, strict=True) if known[part] != got[part])
    differs = next(different, f"the one after the last of {len(parameters)}")
    raise FormatError(
        f"{path} does not fit the network: its original had other parameters, the first that differs is {differs}; "
        "build the network with the arguments that the run had"
    )


def _layers(header: Mapping[str, Any], model: nn.Module, path: Path) -> dict[str, nn.Module]:
    descriptions = header.get("layers")
    if not isinstance(descriptions, dict):
        raise FormatError(f"{path} does not describe its layers")
    known = {name for name, _ in model.named_modules() if name}
    if unknown := [name for name in descriptions if name not in known]:
        raise FormatError(f"{path} does not fit the network, which has no layers {unknown[:3]}")
    return {name: build_module(description) for name, description in descriptions.items()}


def _filled(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    # Layers that were not changed are still the original's own: they must not be written into.
    own = {name: tensor.clone() for name, tensor in tensors.items()}
    try:
        missing, unexpected = network.load_state_dict(own, strict=False, assign=True)
    except RuntimeError as error:
        raise FormatError(f"{path} does not fit the network: {str(error).splitlines()[-1].strip()}") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise FormatError(f"{path} does not fit the network: missing {missing[:3]}, unexpected {unexpected[:3]}")
    return network
