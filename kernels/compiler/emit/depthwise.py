"""Depthwise convolutions: each channel by itself, all positions of the kernel added up in registers."""

import numpy as np

from ..ir import Convolution
from .prelude import activated
from .program import MAX_THREADS, Program
from .reading import Copies, Reading, in_place, padded_copy

__all__ = ["emit_depthwise"]

#: Vectors of pixels that are summed at once.
_VECTORS = 4


def emit_depthwise(program: Program, layer: Convolution) -> None:
    """Add a depthwise convolution to a program."""
    if program.layouts[layer.name].is_planar:
        _emit_over_pixels(program, layer)
    else:
        _emit_over_channels(program, layer)


def _emit_over_pixels(program: Program, layer: Convolution) -> None:
    out = program.layouts[layer.name]
    vectors = -(-out.points // program.lanes)
    copy = ""
    reading = None if program.is_given(layer.inputs[0]) else in_place(program, layer)
    if reading is None or (reading.down, reading.across) != (out.row_stride, 1):
        reading, copy = _copied_plane(program, layer, out.row_stride)
        source = "to"
    else:
        source = f"{reading.base} + (size_t)c * {reading.channel}"
    offsets = [row + column for row in reading.rows for column in reading.columns]
    has_mask = out.padding != (0, 0)
    lines = [
        f"  const float *w = {program.floats(layer.matrix)}, *bias = {program.floats(layer.bias)};\n",
        f"  float *o = {program.tensor(layer.name)};\n",
        f"  const int32_t *m = {program.mask(out) if has_mask else 'NULL'};\n  (void)m;\n",
        f"  int first, last; share({layer.shape[0]}, t, threads, &first, &last);\n",
        "  for (int c = first; c < last; c++) {\n",
        copy,
        f"    const float *x = {source};\n    const float *k = w + c * {len(offsets)};\n",
        f"    float *y = o + (size_t)c * {out.channel_stride};\n",
    ]
    whole = vectors // _VECTORS * _VECTORS
    if whole:
        lines.append(f"    for (int i = 0; i < {whole}; i += {_VECTORS}) {{\n")
        lines.append(_tile(layer, offsets, _VECTORS, has_mask) + "    }\n")
    if vectors > whole:
        lines.append(f"    {{ const int i = {whole};\n")
        lines.append(_tile(layer, offsets, vectors - whole, has_mask) + "    }\n")
    program.layer(f"{layer.name}: depthwise", "".join([*lines, "  }\n"]))


def _tile(layer: Convolution, offsets: list[int], vectors: int, has_mask: bool) -> str:
    lines = [f"      v s{v} = splat(bias[c]);\n" for v in range(vectors)]
    for place, offset in enumerate(offsets):
        lines.append(f"      {{ const v kw = splat(k[{place}]); const float *p = x + i * L + ({offset});\n")
        lines += [f"        s{v} += kw * LOAD(p + {v} * L);\n" for v in range(vectors)]
        lines.append("      }\n")
    for v in range(vectors):
        value = activated(f"s{v}", layer.activation)
        value = f"masked({value}, LOADI(m + (i + {v}) * L))" if has_mask else value
        lines.append(f"      STORE(y + (i + {v}) * L, {value});\n")
    return "".join(lines)


def _copied_plane(program: Program, layer: Convolution, row_stride: int) -> tuple[Reading, str]:
    """A channel at a time, laid out as the output, one copy for each column of the kernel and phase of its rows."""
    source = program.layouts[layer.inputs[0]]
    copies = Copies(layer, source.shape[2], row_stride, program.lanes)
    scratch = program.scratch(MAX_THREADS * copies.floats + 8 * program.lanes)
    text = (
        f"    float *to = {scratch} + t * {copies.floats};\n"
        f"    const float *from = {program.tensor(layer.inputs[0])} + (ptrdiff_t)c * {source.channel_stride};\n"
    )
    return copies.reading("to", 0), text + copies.text(source)


def _emit_over_channels(program: Program, layer: Convolution) -> None:
    """Small images lie point by point: the channels are the vector."""
    out = program.layouts[layer.name]
    reading = in_place(program, layer) or padded_copy(program, layer)
    by_position = np.ascontiguousarray(layer.matrix.T)
    positions = [(y, x) for y in range(layer.kernel[0]) for x in range(layer.kernel[1])]
    channels = layer.shape[0]
    body = [
        f"  const float *w = {program.floats(by_position)}, *bias = {program.floats(layer.bias)};\n",
        f"  float *o = {program.tensor(layer.name)};\n",
        f"  const float *x = {reading.base};\n",
        f"  int first, last; share({channels}, t, threads, &first, &last);\n",
        f"  for (int y = 0; y < {layer.shape[1]}; y++)\n    for (int z = 0; z < {layer.shape[2]}; z++) {{\n",
        f"      const float *p = x + y * {reading.down} + z * {reading.across};\n",
        f"      const int at = (y * {out.row_stride} + z) * {out.point_stride};\n",
        "      for (int c = first; c < last; c++) {\n        float s = bias[c];\n",
    ]
    for place, (y, x) in enumerate(positions):
        offset = reading.rows[y] + reading.columns[x]
        body.append(f"        s += w[{place * channels} + c] * p[(ptrdiff_t)c * {reading.channel} + ({offset})];\n")
    end = f"{activated('splat(s)', layer.activation)}[0]" if layer.activation else "s"
    body.append(f"        o[at + c * {out.channel_stride}] = {end};\n      }}\n    }}\n")
    program.layer(f"{layer.name}: depthwise", "".join(body))
