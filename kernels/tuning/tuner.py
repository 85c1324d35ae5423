"""Tuning a network: all its layers at once, each with a genetic search of its own."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..compiler.emit.tiles import Tile
from ..compiler.ir import Network
from ..instruction_set import InstructionSet
from ..toolchain import Toolchain
from .cache import TileCache
from .evolution import Evolution
from .layers import tunable_layers
from .timing import TimedNetwork, layer_times_us

__all__ = ["Tuning", "tune"]


@dataclass(frozen=True)
class Tuning:
    """How long to search.

    Attributes:
        generations: How often new tiles are proposed.
        population: Libraries of a generation, each with another tile for every layer.
        rounds: Turns in which they are timed.
        seed: Of chance.
    """

    generations: int = 3
    population: int = 6
    rounds: int = 9
    seed: int = 0


def tune(
    network: Network,
    instruction_set: InstructionSet,
    toolchain: Toolchain,
    machine: str,
    tuning: Tuning | None = None,
    threads: int = 1,
    cache: TileCache | None = None,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Tile]:
    """The fastest tile of each layer that was measured; layers that the cache knows are not measured again.

    Layers run one after the other, so the layers of one library are measured independently of each other, and a
    library serves the searches of all layers at once.

    Args:
        network: After all passes.
        instruction_set: Of this machine.
        toolchain: Of this machine.
        machine: Where is measured, such as the processor's model; the cache tells machines apart by it.
        tuning: How long.
        threads: That run the network.
        cache: Of tiles; the user's when None.
        report: Told generations done and all.
    """
    tuning, cache = tuning or Tuning(), cache or TileCache()
    layers = tunable_layers(network, instruction_set)
    names = {layer: work.signature(f"{machine}, {threads} threads") for layer, work in layers.items()}
    known = {layer: tile for layer, name in names.items() if (tile := cache.get(name)) is not None}
    searches = {layer: Evolution(work, tuning.seed) for layer, work in layers.items() if layer not in known}
    for generation in range(tuning.generations if searches else 0):
        _generation(network, instruction_set, toolchain, searches, known, tuning, threads)
        if report is not None:
            report(generation + 1, tuning.generations)
    for layer, search in searches.items():
        cache.put(names[layer], search.best)
    cache.save()
    return {**known, **{layer: search.best for layer, search in searches.items()}}


def _generation(
    network: Network,
    instruction_set: InstructionSet,
    toolchain: Toolchain,
    searches: dict[str, Evolution[Any]],
    known: dict[str, Tile],
    tuning: Tuning,
    threads: int,
) -> None:
    proposals = {layer: search.propose(tuning.population) for layer, search in searches.items()}
    with tempfile.TemporaryDirectory() as folder:
        plans = []
        for place in range(max(map(len, proposals.values()))):
            own = {layer: tiles[place] for layer, tiles in proposals.items() if place < len(tiles)}
            plans.append({**known, **{layer: search.best for layer, search in searches.items()}, **own})
        made = [
            TimedNetwork(network, instruction_set, toolchain, plan, Path(folder) / str(place), threads)
            for place, plan in enumerate(plans)
        ]
        for place, times in enumerate(layer_times_us(made, tuning.rounds)):
            for layer, tiles in proposals.items():
                if place < len(tiles):
                    searches[layer].tell(tiles[place], times[layer])
