"""From a network to everything that can be chosen in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ..errors import ModelError
from ..graph.fusion import Fusion, fuse
from ..graph.graph import Graph
from ..graph.trace import trace
from .assembly import batch_norm_pairs
from .channels import ChannelGroup, channel_groups, recurrent_groups
from .site import Site, find_sites
from .space import SearchSpace
from .streams import Stream, find_streams
from .technique import Technique
from .widths import find_widths, with_widths

__all__ = ["Survey", "survey"]


@dataclass(frozen=True)
class Survey:
    """A network seen as a search space.

    Attributes:
        graph: The trace.
        fusion: What inference engines merge in it.
        space: The sites and their choices.
        unprunable: Convolutions and widths whose channels cannot go, and why.
    """

    graph: Graph
    fusion: Fusion
    space: SearchSpace
    unprunable: dict[str, str]

    @property
    def batch_norm_pairs(self) -> tuple[tuple[str, str], ...]:
        """Dotted paths of the layers and the batch-norms that can be folded into them."""
        return batch_norm_pairs(self.graph, self.fusion)


def survey(
    model: nn.Module,
    example_input: Tensor,
    techniques: Mapping[str, Technique],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Survey:
    """Trace a network and open its search space.

    Args:
        model: In evaluation mode.
        example_input: An input of batch size 1.
        techniques: By name.
        include: Patterns of the layers to compress; all where empty.
        exclude: Patterns of the layers to leave alone.

    Raises:
        ModelError: The network cannot be traced, or no layer of it can be compressed.
        EspalierError: A pattern matches no layer, or no technique saves anything.
    """
    graph = trace(model, example_input)
    sites, skipped = find_sites(model, graph)
    if not sites:
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in skipped.items()) or "no convolution, no linear"
        raise ModelError(f"{type(model).__name__} has no layer that can be compressed ({reasons})")
    streams = find_streams(graph, model, sites)
    groups, unprunable = _prunable(model, graph, example_input, sites, streams)
    sites = tuple(replace(site, prunable=site.name in groups) for site in sites)
    widths = find_widths(streams, graph, model, techniques.values(), groups)
    sites, groups = with_widths(sites, widths), groups | widths.groups
    space = SearchSpace(sites, techniques, groups, include, exclude, skipped, widths.placements)
    return Survey(graph, fuse(graph), space, unprunable | widths.refused)


def _prunable(
    model: nn.Module, graph: Graph, example_input: Tensor, sites: Sequence[Site], streams: Sequence[Stream]
) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """Channel groups in which every member is a site that can be rebuilt with fewer channels."""
    by_name = {site.name: site for site in sites}
    convolutions = tuple(site.name for site in sites if site.kind == "conv2d" and site.groups == 1)
    groups, refused = channel_groups(model, example_input, convolutions)
    single_cells = tuple(site.name for site in sites if site.kind == "recurrent" and site.cells == 1)
    recurrent, refused_recurrent = recurrent_groups(graph, single_cells)
    groups |= recurrent
    refused |= refused_recurrent
    for name, group in list(groups.items()):
        members = [*group.consumers, *(f for f in group.followers if _is_convolution(model, f))]
        if foreign := [member for member in members if member not in by_name]:
            refused[name] = f"its channels are read by {foreign[0]}, which is no site"
            del groups[name]
    for stream in streams:
        for name in stream.writers if stream.placements else ():
            if groups.pop(name, None):
                refused[name] = f"its channels are put among others by {stream.placements[0]}"
    return groups, refused


def _is_convolution(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.Conv1d | nn.Conv2d)
