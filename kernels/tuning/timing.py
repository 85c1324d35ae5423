"""Measuring a network's layers in libraries that differ by their tiles."""

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...files import write_bytes, write_text
from ..compiler.emit.network import emit_network
from ..compiler.emit.tiles import Tile
from ..compiler.ir import Network
from ..engine import CompiledNetwork
from ..instruction_set import InstructionSet
from ..toolchain import Toolchain

__all__ = ["TimedNetwork", "layer_times_us"]

#: Runs whose times are not kept: the first of each turn finds the caches full of others' data.
_WARM_UPS = 1


class TimedNetwork:
    """A network compiled so that it keeps the time of each layer.

    Args:
        network: After all passes.
        instruction_set: What the code may use.
        toolchain: Makes the library.
        tiles: By layer.
        folder: Is made.
        threads: That run it.
    """

    def __init__(
        self,
        network: Network,
        instruction_set: InstructionSet,
        toolchain: Toolchain,
        tiles: Mapping[str, Tile],
        folder: Path,
        threads: int,
    ) -> None:
        source = emit_network(network, instruction_set, tiles, is_timed=True)
        folder.mkdir(parents=True)
        write_text(folder / "espalier.c", source.c)
        write_text(folder / "espalier.h", source.header)
        write_bytes(folder / "espalier.weights", source.weights)
        library = folder / "espalier.so"
        toolchain.library(folder / "espalier.c", library, instruction_set)
        self.network = CompiledNetwork(library, folder / "espalier.weights", threads)
        self._owners = source.owners
        times = ctypes.CDLL(str(library)).espalier_times
        times.restype = ctypes.POINTER(ctypes.c_double)
        self._times_us = times()
        self._inputs = np.random.default_rng(0).standard_normal((1, *network.input_shape)).astype(np.float32)

    def run(self) -> dict[str, float]:
        """Microseconds of each layer in one inference."""
        for _ in range(_WARM_UPS + 1):
            self.network(self._inputs)
        total: dict[str, float] = {}
        for place, owner in enumerate(self._owners):
            total[owner] = total.get(owner, 0.0) + self._times_us[place]
        return total


def layer_times_us(networks: Sequence[TimedNetwork], rounds: int) -> list[dict[str, float]]:
    """Of each network the median time of each layer; the networks take turns, so that a slow moment strikes all.

    Args:
        networks: Of the same layers.
        rounds: Turns.
    """
    samples = [[network.run() for network in networks] for _ in range(rounds)]
    return [
        {layer: float(np.median([turn[place][layer] for turn in samples])) for layer in samples[0][place]}
        for place in range(len(networks))
    ]
