"""GRU and LSTM: the inputs' products of all steps at once, then step by step the states'."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...weight_types import BYTES, FLOAT32
from ..ir import Convolution, Floats, Recurrent
from ..layout import pointwise
from .convolution import emit_convolution
from .decoding import C_TYPES, loaded, prefetched
from .panels import Panel, pack
from .program import Program, numbers, table

__all__ = ["emit_recurrent"]

#: Bytes of a state's weights that do not stay in the second cache from step to step. Nearer ones need no prefetching,
#: which cost a tenth of the steps of a GRU of 1,024 units at a rate of 20.
_FAR_BYTES = 1 << 20


def emit_recurrent(program: Program, layer: Recurrent) -> None:
    """Add one direction of a recurrent layer to a program."""
    gates = len(layer.input_weight)
    steps = layer.shape[2]
    products = f"{layer.name}_inputs"
    layout = pointwise((gates, 1, steps), (0, 0), program.lanes)
    program.layouts[products] = layout
    program.places[products] = program.arena_floats
    program.arena_floats += layout.length
    # The state's biases are added here but for that of the GRU's new gate, which the reset gate multiplies.
    hidden = layer.shape[0]
    own = layer.input_bias.copy()
    added = gates if layer.kind == "lstm" else 2 * hidden
    own[:added] += layer.state_bias[:added]
    emit_convolution(
        program,
        Convolution(
            products,
            layer.inputs,
            (gates, 1, steps),
            layer.input_weight[:, :, None, None],
            own,
            blocks=layer.input_blocks,
            weight_type=layer.weight_type,
            scale=layer.input_scale,
        ),
    )
    _emit_steps(program, layer, products)


def _emit_steps(program: Program, layer: Recurrent, products: str) -> None:
    """Block by block of state units: the products of all gates in registers, then the gates, then the next state."""
    hidden, _, steps = layer.shape
    gates, lanes = len(layer.input_weight) // hidden, program.lanes
    out = program.layouts[layer.name]
    bands = [band for unit in range(0, hidden, lanes) for band in _bands(layer, unit, gates, lanes)]
    packed = pack(bands, np.zeros(gates * hidden, np.float32), int, lanes, layer.state_scale)
    index_type, columns = program.indices(packed.offsets)
    is_far = packed.costs[-1] * BYTES[layer.weight_type] > _FAR_BYTES
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
        "    for (int i = first; i < last; i++) {\n      const int j = i * L;\n",
        f"      const int lanes = j + L <= {hidden} ? L : {hidden} - j;\n",
        f"      const int32_t (*q)[3] = panels + i * {gates};\n      v h0 = splat(0.0f), old = h0",
        *(f", p{gate} = h0" for gate in range(gates)),
        ";\n      if (s) {\n",
        _products(program, bands, gates, _Kind(index_type, layer.weight_type, is_far)),
        *([] if layer.weight_type == FLOAT32 else _scaled(gates)),
        "      }\n",
        _cell(layer.kind, hidden),
        "      if (lanes == L) STORE(next + j, y);\n",
        "      else for (int e = 0; e < lanes; e++) next[j + e] = y[e];\n    }\n",
        "    wait_for_all(n, t);\n  }\n",
    ]
    kept = sum(int(np.count_nonzero(band.weights)) for band in bands)
    title = f"{layer.name}: {layer.kind}, {kept} of {layer.state_weight.size} weights of the state"
    program.layer(title, "".join(body))


def _bands(layer: Recurrent, unit: int, gates: int, lanes: int) -> list[Panel]:
    """The rows of each gate of a vector of state units, with the columns that any of them keeps."""
    hidden = layer.shape[0]
    bands = []
    for gate in range(gates):
        rows = np.arange(gate * hidden + unit, gate * hidden + min(hidden, unit + lanes))
        weights = layer.state_weight[rows]
        columns = np.flatnonzero(np.logical_or.reduce(np.asarray(weights, bool)))
        bands.append(Panel(rows, columns, weights[:, columns]))
    return bands


def _state_bias(layer: Recurrent, gates: int, lanes: int) -> Floats:
    """The bias of the GRU's new gate, filled up to whole vectors."""
    own = layer.state_bias[(gates - 1) * layer.shape[0] :]
    return np.concatenate([own, np.zeros(lanes, np.float32)])


def _scaled(gates: int) -> list[str]:
    """C that multiplies the products of all gates by the scales of their rows."""
    return [f"        p{gate} *= LOAD(scale + (i * {gates} + {gate}) * L);\n" for gate in range(gates)]


class _Kind(NamedTuple):
    """What kernels of a state's products differ in, beside their number of gates.

    Attributes:
        index_type: C type of the columns' offsets.
        weight_type: Of the weights.
        is_far: Whether the weights are fetched ahead.
    """

    index_type: str
    weight_type: str
    is_far: bool


def _products(program: Program, bands: Sequence[Panel], gates: int, kind: _Kind) -> str:
    """C for the products of all gates; together where these keep the same columns."""
    units = [bands[first : first + gates] for first in range(0, len(bands), gates)]
    if all(np.array_equal(unit[0].columns, band.columns) for unit in units for band in unit[1:]):
        name, text = _joint_kernel(gates, kind)
        weights = ", ".join(f"w + q[{gate}][2]" for gate in range(gates))
        sums = ", ".join(f"&p{gate}" for gate in range(gates))
        return f"        {program.kernel(name, text)}(h, columns + q[0][1], {weights}, q[0][0], {sums});\n"
    name, text = _joint_kernel(1, kind)
    program.kernel(name, text)
    arguments = "h, columns + q[{0}][1], w + q[{0}][2], q[{0}][0], &p{0}"
    return "".join(f"        {name}({arguments.format(gate)});\n" for gate in range(gates))


def _joint_kernel(gates: int, kind: _Kind) -> tuple[str, str]:
    """Name and C: vectors of rows that share columns times the state, the state's numbers loaded once.

    Several sums are open for each, so that no multiplication waits for another.
    """
    index_type, weight_type, is_far = kind
    name = f"state_products_{gates}_{index_type.removesuffix('_t')}_{weight_type}{'_far' if is_far else ''}"
    copies = 4 if gates == 1 else 2
    sums = [(gate, copy) for gate in range(gates) for copy in range(copies)]
    weights = ", ".join(f"const {C_TYPES[weight_type]} *w{gate}" for gate in range(gates))
    results = ", ".join(f"v *restrict p{gate}" for gate in range(gates))
    lines = [
        f"INLINE void {name}(const float *h, const {index_type} *columns, {weights}, int count, {results}) {{",
        *(f"  v a{gate}_{copy} = splat(0.0f);" for gate, copy in sums),
        "  int c = 0;",
        f"  for (; c + {copies} <= count; c += {copies}) {{",
        *(f"    const v x{copy} = splat(h[columns[c + {copy}]]);" for copy in range(copies)),
        *(
            f"    {prefetched(weight_type, f'w{gate} + c * L', f'{copies} * L')}"
            for gate in range(gates if is_far else 0)
        ),
        *(
            f"    a{gate}_{copy} += {loaded(weight_type, f'w{gate} + (c + {copy}) * L')} * x{copy};"
            for gate, copy in sums
        ),
        "  }",
        "  for (; c < count; c++) {",
        "    const v x0 = splat(h[columns[c]]);",
        *(f"    a{gate}_0 += {loaded(weight_type, f'w{gate} + c * L')} * x0;" for gate in range(gates)),
        "  }",
        *(f"  *p{gate} = {' + '.join(f'a{gate}_{copy}' for copy in range(copies))};" for gate in range(gates)),
        "}\n",
    ]
    return name, "\n".join(lines)


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
