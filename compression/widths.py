"""Widths: sites that stand for the channels of a residual stream, which can only be narrowed as a whole."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from ..graph.graph import Graph
from ..graph.placement import ChannelPlacement
from .blocks import Block, common_path, find_blocks
from .channels import ChannelGroup, PlacedChannels
from .site import Site
from .streams import Stream
from .technique import Technique

__all__ = ["Widths", "find_widths", "with_widths"]


@dataclass(frozen=True)
class Widths:
    """What can be narrowed as a whole.

    Attributes:
        sites: In order of execution of their first convolutions.
        groups: By name of the site.
        placements: Shortcuts between two of them, or between one and channels that cannot go.
        refused: Name of a width that cannot be narrowed -> why.
    """

    sites: tuple[Site, ...] = ()
    groups: dict[str, ChannelGroup] = field(default_factory=dict)
    placements: tuple[PlacedChannels, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)


def find_widths(
    streams: Iterable[Stream],
    graph: Graph,
    model: nn.Module,
    techniques: Collection[Technique],
    alone: Container[str],
) -> Widths:
    """The widths of a network that a technique has a choice for.

    Args:
        streams: Of the network.
        graph: Its trace.
        model: The network.
        techniques: Of the search space.
        alone: Layers whose channels can go without any other's.
    """
    blocks = find_blocks(graph)
    coupled = [s for s in streams if s.is_coupled and not any(writer in alone for writer in s.writers)]
    names = _names(coupled, blocks, {name for name, _ in model.named_modules()})
    sites: list[Site] = []
    groups: dict[str, ChannelGroup] = {}
    open_streams: dict[str, Stream] = {}
    refused: dict[str, str] = {}
    for name, stream in zip(names, coupled, strict=True):
        site = Site(name, "width", stream.shape, stream.shape, ())
        if not any(technique.choices(site) for technique in techniques):
            continue
        if stream.problem:
            refused[name] = stream.problem
            continue
        sites.append(site)
        groups[name] = _group(name, stream, blocks)
        open_streams[name] = stream
    return Widths(tuple(sites), groups, _placements(open_streams, model), refused)


def _group(name: str, stream: Stream, blocks: Iterable[Block]) -> ChannelGroup:
    skippable = (block.name for block in blocks if block.addition in stream.operators)
    return ChannelGroup(name, tuple(stream.followers), stream.inputs, (*stream.writers, *skippable))


def _placements(streams: Mapping[str, Stream], model: nn.Module) -> tuple[PlacedChannels, ...]:
    sources = {path: name for name, stream in streams.items() for path in stream.placed_from}
    targets = {path: name for name, stream in streams.items() for path in stream.placed_in}
    layers = {path: model.get_submodule(path) for path in dict.fromkeys((*sources, *targets))}
    return tuple(
        PlacedChannels(path, layer, sources.get(path, ""), targets.get(path, ""))
        for path, layer in layers.items()
        if isinstance(layer, ChannelPlacement)
    )


def _names(streams: Sequence[Stream], blocks: Sequence[Block], taken: Container[str]) -> list[str]:
    """What a stream's blocks have in common, such as layer1.width; where others have the same, its first block's."""
    inside = [[block for block in blocks if block.addition in stream.operators] for stream in streams]
    wide = [common_path([block.name for block in own]) for own in inside]
    names: list[str] = []
    for stream, own, path in zip(streams, inside, wide, strict=True):
        first = own[0].name if own else stream.writers[0]
        name = f"{path if path and wide.count(path) == 1 else first}.width"
        names.append(f"{name}_" if name in taken else name)
    return names


def with_widths(sites: Sequence[Site], widths: Widths) -> tuple[Site, ...]:
    """All sites in order, each width before the first site that it can narrow."""
    ordered = list(sites)
    for width in widths.sites:
        group = widths.groups[width.name]
        first = next(i for i, site in enumerate(ordered) if group.reaches(site))
        ordered.insert(first, width)
    return tuple(ordered)
