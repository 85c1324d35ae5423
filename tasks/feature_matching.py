"""How far a student's feature maps are from its teacher's: the part of distillation that looks inside."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import ModelError

__all__ = ["FeatureMap", "FeatureMatching", "attention_map", "feature_distance", "feature_matching"]

FeatureMap = Literal["attention", "channels"]

#: Layers whose outputs have their channels last; all others have them on axis 1.
_CHANNELS_LAST = (nn.RNNBase, nn.Linear, nn.LayerNorm)
_NAMES_SHOWN = 8


def attention_map(features: Tensor, channel_axis: int) -> Tensor:
    """Where a network looks: squares summed over the channels (Zagoruyko and Komodakis 2017, arXiv 1612.03928).

    Args:
        features: Shape (N, C, ...) or (N, ..., C).
        channel_axis: Where the channels are.

    Returns:
        Shape (N, positions), whatever the number of channels.
    """
    return features.square().sum(channel_axis).flatten(1)


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the batch of the squared distance between maps of length one, 0 to 4 (after eq. 2 of the same paper).

    Args:
        student: Shape (N, values).
        teacher: Shape (N, values).
    """
    normalised = (nn.functional.normalize(values, dim=1) for values in (student, teacher))
    first, second = normalised
    return (first - second).square().sum(1).mean()


class FeatureMatching:
    """The distance between the features that two networks gave last; made by `feature_matching`.

    Args:
        axes: Dotted path of a layer -> where its channels are.
        kind: What is compared.
    """

    def __init__(self, axes: Mapping[str, int], kind: FeatureMap) -> None:
        self.axes = axes
        self.kind = kind
        self._student: dict[str, Tensor] = {}
        self._teacher: dict[str, Tensor] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """Dotted paths of the layers that are compared."""
        return tuple(self.axes)

    def loss(self) -> Tensor:
        """Mean distance over the layers, for the inputs that both networks saw last."""
        distances = [feature_distance(*self._compared(path, axis)) for path, axis in self.axes.items()]
        return torch.stack(distances).mean()

    def _compared(self, path: str, axis: int) -> tuple[Tensor, Tensor]:
        student, teacher = self._student[path], self._teacher[path]
        if self.kind == "attention":
            return attention_map(student, axis), attention_map(teacher, axis)
        return student.flatten(1), teacher.flatten(1)

    def watch(self, student: nn.Module, teacher: nn.Module) -> list[RemovableHandle]:
        """Record what the layers give from now on."""
        handles = []
        for network, seen in ((student, self._student), (teacher, self._teacher)):
            handles += [_recorded(network.get_submodule(path), path, seen) for path in self.axes]
        return handles


@contextmanager
def feature_matching(
    student: nn.Module, teacher: nn.Module, example: Tensor, layers: Sequence[str], kind: FeatureMap
) -> Iterator[FeatureMatching]:
    """Compare features while the block lasts.

    Args:
        student: The compressed network.
        teacher: The original, with layers of the same names.
        example: An input of both.
        layers: Dotted paths; where empty, the last layer of each resolution is taken.
        kind: "attention" compares where the networks look and needs no equal numbers of channels; "channels" compares
            all values (Romero et al. 2015, arXiv 1412.6550, without its regressor) of layers with equal shapes.

    Yields:
        What gives the loss after both networks have seen a batch.

    Raises:
        ModelError: A layer is not in both networks or its features cannot be compared, or there is no layer at all.
    """
    comparable = _comparable(student, teacher, example, kind)
    if unknown := [path for path in layers if path not in comparable]:
        raise ModelError(_explanation(unknown[0], student, teacher, list(comparable), kind))
    chosen = layers or _last_of_each_shape(comparable)
    if not chosen:
        raise ModelError(f"distillation finds no layer whose {kind} can be compared; use distillation.loss=logits")
    matching = FeatureMatching({path: comparable[path].channel_axis for path in chosen}, kind)
    handles = matching.watch(student, teacher)
    try:
        yield matching
    finally:
        for handle in handles:
            handle.remove()


class _Comparable(NamedTuple):
    channel_axis: int
    has_positions: bool
    shape: tuple[int, ...]  # of what is compared, with the batch axis


def _comparable(student: nn.Module, teacher: nn.Module, example: Tensor, kind: FeatureMap) -> dict[str, _Comparable]:
    """Layers whose features mean the same in both networks, in the order in which they finish."""
    ours, theirs = _shapes(student, example), _shapes(teacher, example)
    layers = dict(teacher.named_modules())
    found = {}
    for path, shape in theirs.items():
        axis = len(shape) - 1 if isinstance(layers[path], _CHANNELS_LAST) else 1
        both = [shape, ours.get(path, ())]
        if kind == "attention":
            both = [(*s[:axis], *s[axis + 1 :]) for s in both]
        if both[0] == both[1] and max(both[0][1:], default=0) > 1:
            found[path] = _Comparable(axis, len(shape) > 2, both[0])
    return found


@torch.no_grad()
def _shapes(network: nn.Module, example: Tensor) -> dict[str, tuple[int, ...]]:
    """Shapes of what the layers inside a network give, in the order in which they finish."""
    seen: dict[str, Tensor] = {}
    handles = [_recorded(layer, path, seen) for path, layer in network.named_modules() if path]
    try:
        network(example)
    finally:
        for handle in handles:
            handle.remove()
    return {path: tuple(features.shape) for path, features in seen.items()}


def _recorded(layer: nn.Module, path: str, seen: dict[str, Tensor]) -> RemovableHandle:
    def record(_: nn.Module, __: object, output: object) -> None:
        # Recurrent layers give their outputs and their last state.
        features = output[0] if isinstance(output, tuple) and output else output
        if isinstance(features, Tensor):
            seen.pop(path, None)
            seen[path] = features

    return layer.register_forward_hook(record)


def _last_of_each_shape(comparable: Mapping[str, _Comparable]) -> list[str]:
    """The paper's choice, one layer at the end of each group with the same resolution; never the scores."""
    shapes = {layer.shape: path for path, layer in comparable.items() if layer.has_positions}
    return list(shapes.values())


def _explanation(path: str, student: nn.Module, teacher: nn.Module, known: Sequence[str], kind: FeatureMap) -> str:
    for name, network in (("original", teacher), ("compressed network", student)):
        if path not in dict(network.named_modules()):
            reason = f"the {name} has no layer {path!r}"
            break
    else:
        reason = f"the {kind} features of layer {path!r} have no positions or other shapes in the two networks"
    shown = ", ".join(known[:_NAMES_SHOWN]) + (", ..." if len(known) > _NAMES_SHOWN else "")
    return f"distillation.feature_layers: {reason}; layers that can be compared: {shown or 'none'}"
