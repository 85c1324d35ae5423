"""GRU and LSTM: the inputs' products of all steps at once, then step by step the states'."""

from collections.abc import Sequence

import numpy as np

from ...weight_types import BYTES, FLOAT32
from ..ir import Convolution, Floats, Recurrent
from ..layout import pointwise
from .convolution import emit_convolution
from .panels import Panel, pack
from .program import Program, numbers, table
from .state_kernels import StateKernel
from .tiles import StateTile, default_state_tile

__all__ = ["emit_recurrent", "input_products", "share_columns", "state_bands"]


def emit_recurrent(program: Program, layer: Recurrent) -> None:
    """Add one direction of a recurrent layer to a program."""
    products = input_products(layer)
    layout = pointwise(products.shape, (0, 0), program.lanes)
    program.layouts[products.name] = layout
    program.places[products.name] = program.arena_floats
    program.arena_floats += layout.length
    emit_convolution(program, products)
    _emit_steps(program, layer, products.name)


def input_products(layer: Recurrent) -> Convolution:
    """The part of a recurrent layer that does not wait for states: the inputs' products of all gates and steps."""
    rows = len(layer.input_weight)
    # The state's biases are added here but for that of the GRU's new gate, which the reset gate multiplies.
    bias = layer.input_bias.copy()
    added = rows if layer.kind == "lstm" else 2 * layer.shape[0]
    bias[:added] += layer.state_bias[:added]
    return Convolution(
        f"{layer.name}_inputs",
        layer.inputs,
        (rows, 1, layer.shape[2]),
        layer.input_weight[:, :, None, None],
        bias,
        blocks=layer.input_blocks,
        weight_type=layer.weight_type,
        scale=layer.input_scale,
    )


def _emit_steps(program: Program, layer: Recurrent, products: str) -> None:
    """Block by block of state units: the products of all gates in registers, then the gates, then the next state."""
    hidden, _, steps = layer.shape
    gates, lanes = len(layer.input_weight) // hidden, program.lanes
    out = program.layouts[layer.name]
    bands = state_bands(layer, lanes)
    packed = pack(bands, np.zeros(gates * hidden, np.float32), int, lanes, layer.state_scale)
    index_type, columns = program.indices(packed.offsets)
    is_shared = share_columns(bands, gates)
    default = default_state_tile(gates, is_shared, packed.costs[-1] * BYTES[layer.weight_type])
    tile = program.tile(layer.name, StateTile) or default
    together = gates if is_shared and tile.is_joint else 1
    kernel = StateKernel(together, tile.copies, tile.prefetches, index_type, layer.weight_type)
    scratch = program.scratch(hidden + 8 * lanes)
    blocks = -(-hidden // lanes)
    # Where a band is dense or not decides how long a block takes.
    costs = [packed.costs[gates * block] for block in range(blocks + 1)]
    order = f"{steps - 1} - s" if layer.is_reversed else "s"
    before = "k + 1" if layer.is_reversed else "k - 1"
    body = [
        table("panels", [line[1:4] for line in packed.lines]) + numbers("costs", costs),
        program.weights(packed.all_weights(), packed.all_scales(), layer.weight_type),
        f"  const float *state_bias = {program.floats(_state_bias(layer, gates, lanes))};\n  (void)state_bias;\n",
        f"  const {index_type} *columns = {columns};\n",
        f"  const float *products = {program.tensor(products)};\n  float *o = {program.tensor(layer.name)};\n",
        f"  float *cell = {scratch};\n  (void)cell;\n",
        f"  int first, last;\n  share_costs(costs, {blocks}, t, threads, &first, &last);\n",
        f"  for (int s = 0; s < {steps}; s++) {{\n    const int k = {order};\n",
        f"    const float *h = s ? o + ({before}) * {out.point_stride} : o;\n",
        f"    const float *g = products + (ptrdiff_t)k * {program.layouts[products].point_stride};\n",
        f"    float *next = o + (ptrdiff_t)k * {out.point_stride};\n",
        # There and back again: the weights that a step ends with are still in the second cache when the next begins.
        "    for (int turn = first; turn < last; turn++) {\n",
        "      const int i = s & 1 ? first + last - 1 - turn : turn;\n      const int j = i * L;\n",
        f"      const int lanes = j + L <= {hidden} ? L : {hidden} - j;\n",
        f"      const int32_t (*q)[3] = panels + i * {gates};\n      v h0 = splat(0.0f), old = h0",
        *(f", p{gate} = h0" for gate in range(gates)),
        ";\n      if (s) {\n",
        _products(program, gates, kernel),
        *([] if layer.weight_type == FLOAT32 else _scaled(gates)),
        "      }\n",
        _cell(layer.kind, hidden),
        "      if (lanes == L) STORE(next + j, y);\n",
        "      else for (int e = 0; e < lanes; e++) next[j + e] = y[e];\n    }\n",
        "    wait_for_all(n, t);\n  }\n",
    ]
    kept = sum(int(np.count_nonzero(band.weights)) for band in bands)
    title = f"{layer.name}: {layer.kind}, {kept} of {layer.state_weight.size} weights of the state"
    # Merged with the other layers the steps would share their registers, and the sums would go to memory.
    program.layer(title, "".join(body), is_apart=True)


def state_bands(layer: Recurrent, lanes: int) -> list[Panel]:
    """For each vector of state units and each gate its rows, with the columns that any of them keeps."""
    hidden = layer.shape[0]
    bands = []
    for unit in range(0, hidden, lanes):
        for first in range(unit, len(layer.state_weight), hidden):
            rows = np.arange(first, first + min(lanes, hidden - unit))
            weights = layer.state_weight[rows]
            columns = np.flatnonzero(np.logical_or.reduce(np.asarray(weights, bool)))
            bands.append(Panel(rows, columns, weights[:, columns]))
    return bands


def share_columns(bands: Sequence[Panel], gates: int) -> bool:
    """Whether the gates of each vector of state units keep the same columns."""
    units = [bands[first : first + gates] for first in range(0, len(bands), gates)]
    return all(np.array_equal(unit[0].columns, band.columns) for unit in units for band in unit[1:])


def _state_bias(layer: Recurrent, gates: int, lanes: int) -> Floats:
    """The bias of the GRU's new gate, filled up to whole vectors."""
    own = layer.state_bias[(gates - 1) * layer.shape[0] :]
    return np.concatenate([own, np.zeros(lanes, np.float32)])


def _scaled(gates: int) -> list[str]:
    """C that multiplies the products of all gates by the scales of their rows."""
    return [f"        p{gate} *= LOAD(scale + (i * {gates} + {gate}) * L);\n" for gate in range(gates)]


def _products(program: Program, gates: int, kernel: StateKernel) -> str:
    """C for the products of all gates: one call for all of them, or a call for each."""
    name = program.kernel(kernel.name, kernel.text())
    calls = []
    for first in range(0, gates, kernel.gates):
        some = range(first, first + kernel.gates)
        weights = ", ".join(f"w + q[{gate}][2]" for gate in some)
        sums = ", ".join(f"&p{gate}" for gate in some)
        calls.append(f"        {name}(h, columns + q[{first}][1], {weights}, q[{first}][0], {sums});\n")
    return "".join(calls)


def _cell(kind: str, hidden: int) -> str:
    """C for a vector of the next state, y."""

    def gate(name: str, at: int) -> str:
        return f"v {name} = LOAD(g + {at * hidden} + j) + p{at};"

    if kind == "gru":
        return (
            f"      {gate('r', 0)} {gate('z', 1)}\n      r = act_sigmoid(r); z = act_sigmoid(z);\n"
            f"      v c = quick_tanh(LOAD(g + {2 * hidden} + j) + r * (p2 + LOAD(state_bias + j)));\n"
            "      if (s && lanes == L) old = LOAD(h + j);\n"
            "      else if (s) for (int e = 0; e < lanes; e++) old[e] = h[j + e];\n"
            "      v y = (1.0f - z) * c + z * old;\n"
        )
    return (
        f"      {gate('b', 0)} {gate('f', 1)} {gate('c', 2)} {gate('d', 3)}\n"
        "      if (s) old = LOAD(cell + j);\n"
        "      v kept = act_sigmoid(f) * old + act_sigmoid(b) * quick_tanh(c);\n"
        "      STORE(cell + j, kept);\n      v y = act_sigmoid(d) * quick_tanh(kept);\n"
    )
