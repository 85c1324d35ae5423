"""GRU and LSTM: the inputs' products of all steps at once, then step by step the states'."""

import numpy as np

from ...bcrc import Bcrc
from ..ir import Convolution, Recurrent
from ..layout import pointwise
from .convolution import emit_convolution
from .panels import Packed, pack, panels_of
from .point_kernels import PointKernel
from .program import Program, numbers, table

__all__ = ["emit_recurrent"]


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
        ),
    )
    _emit_steps(program, layer, products)


def _emit_steps(program: Program, layer: Recurrent, products: str) -> None:
    hidden, _, steps = layer.shape
    gates, lanes = len(layer.input_weight), program.lanes
    out = program.layouts[layer.name]
    stored = Bcrc.of_matrix(layer.state_weight, layer.state_blocks, lanes)
    panels, is_added = panels_of(stored, 2 * lanes, np.zeros(0, np.int64))
    packed = pack(panels, np.zeros(gates, np.float32), int, lanes)
    index_type, columns = program.indices(packed.offsets)
    state_bias = np.zeros(gates, np.float32)
    if layer.kind == "gru":
        state_bias[2 * hidden :] = layer.state_bias[2 * hidden :]
    scratch = program.scratch(gates + (hidden if layer.kind == "lstm" else 0) + 8 * lanes)
    order = f"{steps - 1} - s" if layer.is_reversed else "s"
    before = "k + 1" if layer.is_reversed else "k - 1"
    body = [
        table("panels", packed.lines or [(0,) * 8]) + numbers("rows", packed.rows) + numbers("costs", packed.costs),
        f"  const float *w = {program.floats(packed.all_weights())}, *state_bias = {program.floats(state_bias)};\n",
        f"  const {index_type} *columns = {columns};\n",
        f"  const float *products = {program.tensor(products)};\n  float *o = {program.tensor(layer.name)};\n",
        f"  float *sums = {scratch}, *cell = sums + {-(-gates // lanes) * lanes + lanes};\n  (void)cell;\n",
        "  int from, to, first, last;\n",
        f"  share_costs(costs, {len(packed.lines)}, t, threads, &from, &to);\n",
        # Two threads must not add to one sum.
        f"  from = 0; to = t ? 0 : {len(packed.lines)};\n" if is_added else "",
        f"  share({-(-hidden // lanes)}, t, threads, &first, &last);\n",
        f"  for (int s = 0; s < {steps}; s++) {{\n    const int k = {order};\n",
        f"    if (!t) memcpy(sums, state_bias, {4 * gates});\n    wait_for_all(n, t);\n",
        f"    const float *h = s ? o + ({before}) * {out.point_stride} : o;\n",
        "    if (s) for (int p = from; p < to; p++) {\n      const int32_t *q = panels[p];\n",
        f"      switch (q[0]) {{ {_products(program, packed, index_type)} }}\n    }}\n",
        "    wait_for_all(n, t);\n",
        f"    const float *g = products + (ptrdiff_t)k * {gates};\n",
        f"    float *next = o + (ptrdiff_t)k * {out.point_stride};\n",
        "    for (int i = first; i < last; i++) {\n      const int j = i * L;\n",
        f"      const int lanes = j + L <= {hidden} ? L : {hidden} - j;\n",
        _cell(layer.kind, hidden),
        "      if (lanes == L) STORE(next + j, y);\n",
        "      else for (int e = 0; e < lanes; e++) next[j + e] = y[e];\n    }\n",
        "    wait_for_all(n, t);\n  }\n",
    ]
    title = f"{layer.name}: {layer.kind}, {stored.kept} of {layer.state_weight.size} weights of the state"
    program.layer(title, "".join(body))


def _products(program: Program, packed: Packed, index_type: str) -> str:
    """C for the state's products of a panel, added to the sums."""
    cases = []
    for vectors in packed.heights:
        name = program.kernel_for(PointKernel(vectors, (0,), (0,), 1, index_type, "", False, True))
        arguments = "h, columns + q[2], w + q[3], q[1], w, sums, rows + q[4], q[6], q[7], sums"
        cases.append(f"case {vectors}: {name}({arguments}); break;")
    return " ".join(cases)


def _cell(kind: str, hidden: int) -> str:
    """C for a vector of the next state, y."""

    def gate(name: str, at: int) -> str:
        return f"v {name} = LOAD(g + {at * hidden} + j) + LOAD(sums + {at * hidden} + j);"

    if kind == "gru":
        return (
            f"      {gate('r', 0)} {gate('z', 1)}\n      r = act_sigmoid(r); z = act_sigmoid(z);\n"
            f"      v c = act_tanh(LOAD(g + {2 * hidden} + j) + r * LOAD(sums + {2 * hidden} + j));\n"
            "      v old = splat(0.0f);\n"
            "      if (s && lanes == L) old = LOAD(h + j);\n"
            "      else if (s) for (int e = 0; e < lanes; e++) old[e] = h[j + e];\n"
            "      v y = (1.0f - z) * c + z * old;\n"
        )
    return (
        f"      {gate('p', 0)} {gate('f', 1)} {gate('c', 2)} {gate('q', 3)}\n"
        "      v old = s ? LOAD(cell + j) : splat(0.0f);\n"
        "      v kept = act_sigmoid(f) * old + act_sigmoid(p) * act_tanh(c);\n"
        "      STORE(cell + j, kept);\n      v y = act_sigmoid(q) * act_tanh(kept);\n"
    )
