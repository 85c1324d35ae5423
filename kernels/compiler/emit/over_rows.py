"""Convolutions and linear maps whose vectors are adjacent rows of the matrix: few pixels, or points of a sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...weight_types import FLOAT32
from ..ir import Convolution
from ..layout import Layout
from .over_pixels import title
from .panels import Packed, dense_matrix, live_rows, pack, panels_of, stored_matrix
from .point_kernels import PointKernel
from .prelude import activated
from .program import Program, numbers, table
from .reading import Reading, in_place, padded_copy
from .tiles import PointTile, default_point_tile

__all__ = ["emit_over_rows"]


@dataclass(frozen=True)
class _Points:
    """Points that one kernel computes at once, and again further on.

    Attributes:
        repeats: How often.
        inputs: Offsets of their inputs.
        outputs: Offsets of their outputs.
        input_step: From one repetition's inputs to the next's.
        output_step: The same of outputs.
    """

    repeats: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_step: int = 0
    output_step: int = 0


def emit_over_rows(program: Program, layer: Convolution) -> None:
    """Add a convolution to a program whose output is laid out point by point."""
    out, lanes = program.layouts[layer.name], program.lanes
    reading = in_place(program, layer) or padded_copy(program, layer)
    tile = program.tile(layer.name, PointTile)
    stored = dense_matrix(layer) if tile is not None and tile.is_dense else stored_matrix(layer, lanes)
    if tile is None:
        points = layer.shape[1] * layer.shape[2]
        tile = default_point_tile(program.instruction_set, np.diff(stored.occurrence).tolist(), points)
    panels, is_added = panels_of(stored, tile.vectors * lanes, live_rows(layer))
    packed = pack(panels, layer.bias, reading.offset, lanes, layer.scale)
    body = _body(program, layer, out, reading, packed, tile, is_added)
    program.layer(title(layer, stored), body)


def _parts(layer: Convolution, reading: Reading, out: Layout, at_once: int) -> list[_Points]:
    """Points at even distances, those of a sequence, need one kernel for all whole tiles and one for the rest."""
    points = [(y, x) for y in range(layer.shape[1]) for x in range(layer.shape[2])]
    inputs = [y * reading.down + x * reading.across for y, x in points]
    outputs = [out.offset(0, y, x) for y, x in points]
    steps = {(b - a, d - c) for a, b, c, d in zip(inputs, inputs[1:], outputs, outputs[1:], strict=False)}
    if len(points) <= at_once or len(steps) > 1:
        starts = range(0, len(points), at_once)
        return [_Points(1, tuple(inputs[i : i + at_once]), tuple(outputs[i : i + at_once])) for i in starts]
    step, out_step = steps.pop()
    width = -(-len(points) // -(-len(points) // at_once))
    whole, rest = divmod(len(points), width)
    parts = [_Points(whole, tuple(inputs[:width]), tuple(outputs[:width]), step * width, out_step * width)]
    if rest:
        parts.append(_Points(1, tuple(inputs[whole * width :]), tuple(outputs[whole * width :])))
    return parts


def _body(
    program: Program,
    layer: Convolution,
    out: Layout,
    reading: Reading,
    packed: Packed,
    tile: PointTile,
    is_added: bool,
) -> str:
    parts = _parts(layer, reading, out, tile.points)
    index_type, offsets = program.indices(packed.offsets)
    panels = len(packed.lines)
    share = f"  share_costs(costs, {panels}, t, threads, &from, &to);\n"
    before = after = ""
    if is_added:
        share = f"  (void)costs; if (t) return;\n  from = 0; to = {panels};\n"
        before, after = _around_sums(program, layer, out, parts)
    lines = [
        table("panels", packed.lines),
        numbers("rows", [row * out.channel_stride for row in packed.rows]) + numbers("costs", packed.costs),
        f"  const float *x = {reading.base};\n",
        program.weights(packed.all_weights(), packed.all_scales(), layer.weight_type),
        f"  const float *bias = {program.floats(packed.all_biases())};\n",
        f"  const {index_type} *offsets = {offsets};\n",
        f"  float *o = {program.tensor(layer.name)};\n",
        f"  const float *r = {program.tensor(layer.residual) if layer.residual else 'o'};\n",
        f"  int from, to;\n{share}{before}",
        "  for (int p = from; p < to; p++) {\n    const int32_t *q = panels[p];\n",
    ]
    for part in parts:
        lines.append(f"    for (int i = 0; i < {part.repeats}; i++)\n      switch (q[0]) {{\n")
        for vectors in packed.heights:
            kernel = PointKernel(
                vectors,
                part.inputs,
                part.outputs,
                out.channel_stride,
                index_type,
                layer.activation,
                bool(layer.residual),
                is_added,
                tile.unrolled(vectors * len(part.inputs)),
                tile.prefetches,
                layer.weight_type,
            )
            scale = "" if layer.weight_type == FLOAT32 else ", scale + q[5]"
            lines.append(
                f"      case {vectors}: {program.kernel_for(kernel)}(x + i * {part.input_step}, offsets + q[2], "
                f"w + q[3], q[1], bias + q[5], o + i * {part.output_step}, rows + q[4], q[6], q[7], "
                f"r + i * {part.output_step}{scale}); break;\n"
            )
        lines.append("      }\n")
    return "".join([*lines, "  }\n", after])


def _around_sums(program: Program, layer: Convolution, out: Layout, parts: Sequence[_Points]) -> tuple[str, str]:
    """Where a row is in several panels: sums begin with bias and residual, the activation comes at the end."""
    live = live_rows(layer)
    places = [
        place + repeat * part.output_step for part in parts for repeat in range(part.repeats) for place in part.outputs
    ]
    over = f"  for (int k = 0; k < {len(live)}; k++)\n    for (int i = 0; i < {len(places)}; i++) "
    residual = " + r[live[k] + places[i]]" if layer.residual else ""
    before = (
        numbers("live", [int(row) * out.channel_stride for row in live])
        + numbers("places", places)
        + f"  const float *first_bias = {program.floats(layer.bias[live])};\n"
        + f"{over}o[live[k] + places[i]] = first_bias[k]{residual};\n"
    )
    if not layer.activation:
        return before, ""
    value = activated("splat(o[live[k] + places[i]])", layer.activation)
    return before, f"{over}o[live[k] + places[i]] = {value}[0];\n"
