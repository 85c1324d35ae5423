"""From simplified layers to C, header and weights."""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...instruction_set import InstructionSet
from ..ir import (
    INPUT,
    Activation,
    Add,
    BatchNorm,
    Concat,
    Convolution,
    GlobalPool,
    Layer,
    Network,
    Place,
    Pool,
    Recurrent,
    Rounding,
    Softmax,
    Step,
    View,
    tensors_read,
)
from ..layout import Layout, choose_layouts
from ..strips import Chain, plan_strips, short_layout
from .convolution import emit_convolution
from .decoding import decoders
from .depthwise import emit_depthwise
from .elementwise import at, emit_by_element, emit_concat, emit_place, emit_softmax, emit_step, emit_view, loops
from .pooling import emit_global_pool, emit_pool
from .prelude import prelude
from .program import Program
from .recurrent import emit_recurrent
from .runtime import FORMAT_VERSION, HEADER_BYTES, MAGIC, Facts, after_layers, before_layers, header
from .strips import emit_preparation
from .tiles import Tile

__all__ = ["Source", "emit_network"]


@dataclass(frozen=True)
class Source:
    """A compiled network before a C compiler saw it.

    Attributes:
        c: The source file.
        header: The header file.
        weights: The weights file.
        facts: What the network says of itself.
        owners: Of each function that is called the layer that it is of.
    """

    c: str
    header: str
    weights: bytes
    facts: Facts
    owners: tuple[str, ...] = ()


def emit_network(
    network: Network,
    instruction_set: InstructionSet,
    tiles: Mapping[str, Tile] | None = None,
    prefix: str = "espalier",
    version: str = "",
    is_timed: bool = False,
    is_bare: bool = False,
) -> Source:
    """Emit a network.

    Args:
        network: After all passes.
        instruction_set: Whose vectors are used.
        tiles: A tuner's choices by layer.
        prefix: Of the functions' names.
        version: Of Espalier, for the network's own account of itself.
        is_timed: Whether the library keeps the time of each function, for a tuner.
        is_bare: Whether `run` computes the layers alone, on zeros that its memory holds, and copies nothing out:
            to time a layer as it is inside a network.
    """
    layouts = choose_layouts(network, instruction_set.lanes, holds_input=is_bare)
    chains = plan_strips(network, layouts)
    strips = {name: strip for chain in chains for name, strip in chain.strips.items()}
    layouts |= {name: short_layout(layouts[name], strip) for name, strip in strips.items() if strip.is_short}
    places, floats = _places(network, layouts, chains)
    program = Program(instruction_set, layouts, places, floats, tiles or {}, strips)
    if not (is_bare or program.is_given(INPUT)):
        _emit_input(program, network)
    ends = {list(chain.strips)[-1]: chain for chain in chains}
    for layer in network.layers:
        _emit(program, layer)
        if layer.name in ends:
            _emit_loop(program, ends[layer.name])
    if not is_bare:
        _emit_output(program, network)
    return _source(program, network, prefix, version, is_timed)


def _emit_loop(program: Program, chain: Chain) -> None:
    """Repeat the layers of a chain, which were added just now."""
    emit_preparation(program, chain)
    program.looped(len(program.calls) - 1 - len(chain.strips), chain.count)


def _places(network: Network, layouts: Mapping[str, Layout], chains: Sequence[Chain]) -> tuple[dict[str, int], int]:
    """Where tensors begin: those of one layout take each other's place once nobody reads them.

    What lies around a tensor must stay zero, so that tensors of different layouts never share memory. What a chain of
    strips reads is read until its end.
    """
    steps = {layer.name: step for step, layer in enumerate(network.layers)}
    ends = {name: max(steps[other] for other in chain.strips) for chain in chains for name in chain.strips}
    last = {INPUT: -1, network.output: len(network.layers)}
    for step, layer in enumerate(network.layers):
        for name in tensors_read(layer):
            last[name] = max(last.get(name, -1), ends.get(layer.name, step))
    free: dict[Layout, list[int]] = {}
    places: dict[str, int] = {}
    end = 0
    for step, name in enumerate((INPUT, *(layer.name for layer in network.layers)), -1):
        known = free.setdefault(layouts[name], [])
        if known:
            places[name] = known.pop()
        else:
            places[name] = end
            end += -(-(layouts[name].length + 64) // 16) * 16
        for other, its_last in last.items():
            if its_last == step and other in places:
                free.setdefault(layouts[other], []).append(places[other])
    return places, end


def _emit_input(program: Program, network: Network) -> None:
    layout = program.layouts[INPUT]
    channels, height, width = layout.shape
    place = f"x * {channels} + c" if network.is_sequence else f"(c * {height} + y) * {width} + x"
    text = f"  const float *i = n->input;\n  float *o = {program.tensor(INPUT)};\n"
    program.layer("input", text + loops(layout, f"o[{at(layout)}] = i[{place}];"))


def _emit_output(program: Program, network: Network) -> None:
    layout = program.layouts[network.output]
    channels, height, width = layout.shape
    place = f"x * {channels} + c" if network.gives_sequence else f"(c * {height} + y) * {width} + x"
    text = f"  const float *i = {program.tensor(network.output)};\n  float *o = n->output;\n"
    program.layer("output", text + loops(layout, f"o[{place}] = i[{at(layout)}];"))


def _emit(program: Program, layer: Layer) -> None:
    if isinstance(layer, Convolution) and not layer.is_depthwise:
        emit_convolution(program, layer)
    else:
        _EMITTERS[type(layer)](program, layer)


#: How the layers are emitted; of the convolutions the depthwise ones.
_EMITTERS: dict[type[Layer], Callable[[Program, Any], None]] = {
    Activation: emit_by_element,
    Add: emit_by_element,
    BatchNorm: emit_by_element,
    Concat: emit_concat,
    Convolution: emit_depthwise,
    GlobalPool: emit_global_pool,
    Place: emit_place,
    Pool: emit_pool,
    Recurrent: emit_recurrent,
    Rounding: emit_by_element,
    Softmax: emit_softmax,
    Step: emit_step,
    View: emit_view,
}


def _source(program: Program, network: Network, prefix: str, version: str, is_timed: bool) -> Source:
    account = {
        "espalier": version,
        "format": FORMAT_VERSION,
        "instruction_set": program.instruction_set.name,
        "input_shape": list(network.input_shape),
        "output_shape": list(network.output_shape),
    }
    layers = "\n".join([*program.kernels.values(), *program.functions])
    structure = int.from_bytes(hashlib.sha256(layers.encode()).digest()[:8], "little")
    facts = Facts(
        prefix, json.dumps(account), structure, math.prod(network.input_shape), math.prod(network.output_shape)
    )
    export = '#define EXPORT __attribute__((visibility("default")))\n'
    parts = [
        "/* A network compiled by Espalier. */\n#define _GNU_SOURCE\n",
        f'#include "{prefix}.h"\n',
        export,
        prelude(program.instruction_set) + decoders(program.weight_types),
        before_layers(program, facts),
        layers,
        after_layers(program, facts, is_timed),
    ]
    return Source("\n".join(parts), header(facts), _weights(program, structure), facts, tuple(program.owners))


def _weights(program: Program, structure: int) -> bytes:
    data = bytearray(program.data_bytes)
    for section in program.sections:
        data[section.offset : section.offset + len(section.data)] = section.data
    head = struct.pack("<8sIIQQQ", MAGIC, FORMAT_VERSION, 0x01020304, structure, len(data), checksum(bytes(data)))
    return head.ljust(HEADER_BYTES, b"\0") + bytes(data)


def checksum(data: bytes) -> int:
    """The sum of all words of 8 bytes, each times an odd number that is its place's own; it sees every changed word."""
    words = np.frombuffer(data, "<u8")
    places = np.arange(len(words), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return int((words * places).sum(dtype=np.uint64))
