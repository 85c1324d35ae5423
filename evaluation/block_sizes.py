"""The size of blocks at each layer: the smallest that is nearly as fast there as the fastest.

A small block leaves pruning more freedom, a large one is faster; how much depends on shape and rate and hardly on the
weights (Niu, Li et al. 2021, GRIM, arXiv 2108.11033, sec. 5). So layers with random weights are timed before any
network is searched. They are operators like others: the device's table remembers them by their shapes and blocks.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..compression.site import find_sites
from ..compression.space import is_selected
from ..compression.technique import Technique
from ..compression.techniques import BcrPruning
from ..compression.techniques.bcr_pruning import Block
from ..errors import EspalierError
from ..graph.opspec import OpSpec
from ..graph.sparsity import BlockSparsity
from ..graph.trace import trace
from ..hw_models.cost import HardwareModel
from ..hw_models.profiled_device import ProfiledDevice

__all__ = ["block_times_ms", "check_measures_blocks", "pruned_layer", "smallest_fast_block", "with_measured_blocks"]


def with_measured_blocks(
    techniques: Mapping[str, Technique],
    model: nn.Module,
    example_input: Tensor,
    device: HardwareModel,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, Technique]:
    """The techniques, and in the place of those that want the sizes of their blocks measured, these with their sizes.

    Args:
        techniques: By name.
        model: In evaluation mode.
        example_input: An input of batch size 1.
        device: Times layers.
        include: Patterns of the layers to compress; all where empty.
        exclude: Patterns of the layers to leave alone.

    Raises:
        EspalierError: A technique wants sizes, and the device cannot time layers whose pruned blocks are skipped.
    """
    check_measures_blocks(techniques, device)
    wanting = _wanting(techniques)
    if not wanting or not isinstance(device, ProfiledDevice):
        return dict(techniques)
    graph = trace(model, example_input)
    sites = [site for site in find_sites(model, graph)[0] if is_selected(site.name, include, exclude)]
    layers = {site.name: graph.calls(site.name)[0].specs for site in sites if site.is_layer}
    offers = [
        (name, site.name, rate, blocks)
        for name, technique in wanting.items()
        for site in sites
        for rate, blocks in technique.candidates(site)
    ]
    device.prepare(
        spec for _, site, rate, blocks in offers for block in blocks for spec in pruned_layer(layers[site], rate, block)
    )
    sizes: dict[str, dict[tuple[str, float], Block]] = {name: {} for name in wanting}
    for name, site, rate, blocks in offers:
        if blocks:
            times = block_times_ms(layers[site], rate, blocks, device)
            sizes[name][site, rate] = smallest_fast_block(times, wanting[name].block_tolerance)
    return {**techniques, **{name: technique.with_sizes(sizes[name]) for name, technique in wanting.items()}}


def check_measures_blocks(techniques: Mapping[str, Technique], device: HardwareModel) -> None:
    """Make sure that a device can time what techniques want timed, before a network is trained for nothing.

    Args:
        techniques: By name.
        device: Is asked to.

    Raises:
        EspalierError: Sizes of blocks are to be measured, and the device cannot time layers whose blocks are skipped.
    """
    if _wanting(techniques) and not (isinstance(device, ProfiledDevice) and device.skips_blocks):
        raise EspalierError(
            "bcr_pruning.block=measured times layers on this machine, on an engine that skips pruned blocks: "
            f"add device=host device.runtime=espalier; got the device {device.name!r}"
        )


def _wanting(techniques: Mapping[str, Technique]) -> dict[str, BcrPruning]:
    return {name: one for name, one in techniques.items() if isinstance(one, BcrPruning) and one.wants_sizes}


def pruned_layer(layer: Sequence[OpSpec], rate: float, block: Block) -> tuple[OpSpec, ...]:
    """The operators of a layer when each block keeps all its rows and, of its columns, 1 / rate."""
    sparsity = BlockSparsity(*block, rate, block[0]).text
    return tuple(spec.replace(sparsity=sparsity) for spec in layer)


def block_times_ms(
    layer: Sequence[OpSpec], rate: float, blocks: Sequence[Block], device: ProfiledDevice
) -> dict[Block, float]:
    """Milliseconds of a layer with random weights for each size of blocks; what was never measured is measured now.

    Args:
        layer: Its operators when it is dense.
        rate: How many times fewer weights, at least 1.
        blocks: Rows and columns of each size.
        device: Skips blocks.
    """
    pruned = {block: pruned_layer(layer, rate, block) for block in blocks}
    device.prepare(spec for specs in pruned.values() for spec in specs)
    call_ms = device.cost([]).latency_ms.value
    return {block: device.cost(specs).latency_ms.value - call_ms for block, specs in pruned.items()}


def smallest_fast_block(times: Mapping[Block, float], tolerance: float = 0.1) -> Block:
    """The block of fewest weights among those that are nearly as fast as the fastest.

    Args:
        times: Block -> time, in any unit.
        tolerance: By how much it may be slower, such as .1 for a tenth.

    Raises:
        EspalierError: There is no time.
    """
    if not times:
        raise EspalierError("expected the times of at least one block")
    limit = (1 + tolerance) * min(times.values())
    return min((block for block, time in times.items() if time <= limit), key=lambda block: block[0] * block[1])
