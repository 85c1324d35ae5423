"""Parameters and storage of plans, counted without putting their networks together."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from .bank import Bank
from .layers import CompressedLayer, absorber, parameter_count
from .plan import Plan
from .realised import HEADER_BYTES
from .variant import state_bytes

__all__ = ["SizeCounter"]


@dataclass(frozen=True, slots=True)
class _Size:
    """What one layer holds.

    Attributes:
        parameters: Weights and biases, without pruned ones.
        stored_bytes: Bytes of its state.
        tensors: How many tensors these are.
        absorbs: Whether a batch-norm can be folded into it.
        lacks_bias: Whether a folded batch-norm leaves a bias that was not there.
        norm_features: Channels, where it is a batch-norm; 0 elsewhere.
    """

    parameters: int
    stored_bytes: int
    tensors: int
    absorbs: bool
    lacks_bias: bool
    norm_features: int


class SizeCounter:
    """Counts as `count_parameters` and `count_storage_bytes` do, each layer once in its life.

    Args:
        model: The original network.
        bank: The variants.
        pairs: Dotted paths of the layers and the batch-norms that are folded into them.
    """

    def __init__(self, model: nn.Module, bank: Bank, pairs: Iterable[tuple[str, str]]) -> None:
        self._model = model
        self._bank = bank
        self._pairs = tuple(pairs)
        self._known: dict[int, _Size] = {}
        # Layers that a replacement holds on to stay alive with it, so that an id means one layer.
        self._alive: list[nn.Module] = []
        self._originals = {path: self._size(layer) for path, layer in _layers(model)}

    def count(self, plan: Plan) -> tuple[int, int]:
        """Parameters and bytes of the model file once batch-norms are folded."""
        changed = self._bank.replacements(plan, self._model)
        sizes = self._originals | {path: self._size(layer) for path, layer in changed.items()}
        parameters = sum(size.parameters for size in sizes.values())
        stored = sum(size.stored_bytes + HEADER_BYTES * size.tensors for size in sizes.values())
        for layer_path, norm_path in self._pairs:
            layer, norm = sizes[layer_path], sizes[norm_path]
            if layer.absorbs and norm.norm_features:
                biases = norm.norm_features if layer.lacks_bias else 0
                parameters += biases - norm.parameters
                stored += 4 * biases - norm.stored_bytes - 4 * HEADER_BYTES
        return parameters, stored

    def _size(self, layer: nn.Module) -> _Size:
        if id(layer) not in self._known:
            part = absorber(layer)
            is_norm = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
            lacks_bias = part is not None and not isinstance(part, CompressedLayer) and part.bias is None
            features = int(layer.num_features) if is_norm else 0  # type: ignore[arg-type]
            tensors = len(layer.state_dict())
            found = _Size(parameter_count(layer), state_bytes(layer), tensors, part is not None, lacks_bias, features)
            self._known[id(layer)] = found
            self._alive.append(layer)
        return self._known[id(layer)]


def _layers(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """The layers that hold something of their own, and such as could be replaced."""
    for path, layer in model.named_modules():
        if path and not any(True for _ in layer.children()):
            yield path, layer
