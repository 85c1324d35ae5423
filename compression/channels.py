"""Which layers lose channels together when one convolution is narrowed."""

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch_pruning
from torch import Tensor, nn

from ..graph.graph import Graph, Operator
from ..graph.opspec import GATES
from ..graph.placement import ChannelPlacement
from .site import Site

__all__ = ["ChannelGroup", "PlacedChannels", "channel_groups", "recurrent_groups"]

#: Operators that read hidden units and mix them, and such as keep them apart.
_MIXING = ("linear", *GATES)
_PASSING = ("gather", "reshape", "activation")


@dataclass(frozen=True)
class ChannelGroup:
    """A site whose output channels can go, and everything that goes with them.

    Attributes:
        site: Dotted path of the convolution or recurrent layer, or name of a width.
        followers: Batch-norms and depthwise convolutions that carry the same channels.
        consumers: Layer that reads the channels -> for each channel the indices of its inputs at that layer, shape
            (channels, inputs per channel); more than one per channel where a feature map was flattened.
        members: Of a width: sites whose outputs are added to the channels, convolutions and blocks; () elsewhere.
    """

    site: str
    followers: tuple[str, ...]
    consumers: dict[str, Tensor]
    members: tuple[str, ...] = ()

    def is_read_by(self, site: Site) -> bool:
        """Whether a site has fewer inputs when channels go; a block has none of its own."""
        return site.kind not in ("block", "width") and (
            site.layers[0] in self.consumers or site.layers[0] in self.followers
        )

    def reaches(self, site: Site) -> bool:
        """Whether a site changes when channels go, by what it reads or by what it writes."""
        return site.name in self.members or self.is_read_by(site)


@dataclass(frozen=True, slots=True)
class PlacedChannels:
    """A shortcut that puts the channels of one width into those of another.

    Attributes:
        path: Dotted path of the shortcut.
        layer: The shortcut in the original network.
        source: Name of the width that it reads; "" where that cannot be narrowed.
        target: Name of the width that it is added to; "" where that cannot be narrowed.
    """

    path: str
    layer: ChannelPlacement
    source: str
    target: str


def channel_groups(
    model: nn.Module, example_input: Tensor, candidates: tuple[str, ...]
) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """The groups of those candidates whose channels can be pruned alone, by torch-pruning's dependency graph.

    A convolution is refused when its channels are tied to another convolution's (residual additions), reach the
    network's output, or pass through a layer that is not understood.

    Args:
        model: The network; it is copied.
        example_input: An input of batch size 1.
        candidates: Dotted paths of convolutions.

    Returns:
        The groups by convolution, and a mapping from refused convolution to reason.
    """
    if not candidates:
        return {}, {}
    twin = copy.deepcopy(model).eval().requires_grad_(True)
    names = {module: name for name, module in twin.named_modules()}
    groups: dict[str, ChannelGroup] = {}
    refused: dict[str, str] = {}
    try:
        with _traceable():
            graph = torch_pruning.DependencyGraph().build_dependency(twin, example_input, verbose=False)
    except Exception as error:  # a third-party tracer fails in its own ways
        reason = f"the dependency graph cannot be built: {_first_line(error)}"
        return {}, dict.fromkeys(candidates, reason)
    for site in candidates:
        group = _read_group(graph, twin.get_submodule(site), site, names)
        if isinstance(group, str):
            refused[site] = group
        else:
            groups[site] = group
    return groups, refused


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else repr(error)


@contextlib.contextmanager
def _traceable() -> Iterator[None]:
    # torch-pruning follows the graph of gradients.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield


def _read_group(
    graph: "torch_pruning.DependencyGraph", layer: nn.Module, site: str, names: dict[nn.Module, str]
) -> ChannelGroup | str:
    """The group of one convolution, or why there is none."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    prune = torch_pruning.prune_conv_out_channels
    try:
        with _traceable():
            members = graph.get_pruning_group(layer, prune, idxs=list(range(layer.out_channels)))
    except Exception as error:
        return f"its dependencies cannot be followed: {_first_line(error)}"
    followers: list[str] = []
    consumers: dict[str, Tensor] = {}
    for member in members:
        module, name = member.dep.target.module, names.get(member.dep.target.module, "")
        is_input = member.dep.handler.__name__ in ("prune_in_channels", "prune_conv_in_channels")
        if module is layer or not name:
            continue
        reason = _member_problem(module, name, is_input)
        if reason:
            return reason
        if is_input and not _is_depthwise(module):
            consumers[name] = _inputs_by_channel(member, layer.out_channels)
        elif name not in followers:
            followers.append(name)
    if not consumers:
        return "its channels reach the network's output"
    return ChannelGroup(site, tuple(followers), consumers)


def recurrent_groups(graph: Graph, candidates: tuple[str, ...]) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """The groups of those recurrent layers whose hidden units can go: only linear and recurrent layers read them.

    Args:
        graph: The network's trace.
        candidates: Dotted paths of recurrent layers of one cell.

    Returns:
        The groups by layer, and a mapping from refused layer to reason.
    """
    groups: dict[str, ChannelGroup] = {}
    refused: dict[str, str] = {}
    for name in candidates:
        operator = graph.calls(name)[0]
        readers = _readers(graph, operator, operator.output_shape[-1])
        if isinstance(readers, str):
            refused[name] = readers
        else:
            units = torch.arange(operator.output_shape[-1])[:, None]
            groups[name] = ChannelGroup(name, (), dict.fromkeys(readers, units))
    return groups, refused


def _readers(graph: Graph, operator: Operator, units: int) -> list[str] | str:
    """The layers that read the units, past what only picks steps; or why that cannot be told."""
    if operator.name == graph.output:
        return "its hidden units reach the network's output"
    found: list[str] = []
    for consumer in graph.consumers(operator.name):
        if consumer.kind in _MIXING and consumer.module:
            found.append(consumer.module)
            continue
        if consumer.kind not in _PASSING or consumer.output_shape[-1] != units:
            return f"its hidden units pass through {consumer.name}, a {consumer.kind}"
        behind = _readers(graph, consumer, units)
        if isinstance(behind, str):
            return behind
        found.extend(behind)
    return found


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


def _member_problem(module: nn.Module, name: str, is_input: bool) -> str:
    """Why channels cannot go through this member; "" when they can."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or _is_depthwise(module):
        return ""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        if not is_input:
            return f"its channels are tied to those of {name}"
        return "" if getattr(module, "groups", 1) == 1 else f"{name} is a grouped convolution"
    if any(True for _ in module.parameters()):
        return f"its channels pass through {name}, a {type(module).__name__}"
    return ""


def _inputs_by_channel(member: "torch_pruning.dependency.GroupItem", channels: int) -> Tensor:
    """Shape (channels, inputs per channel)."""
    order = sorted(zip(member.root_idxs, member.idxs, strict=True))
    return torch.tensor([position for _, position in order]).view(channels, -1)
