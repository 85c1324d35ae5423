"""How a convolution finds its inputs: in place, or in a copy made for it."""

from dataclasses import dataclass, replace

from ..ir import Convolution
from ..layout import Layout, pointwise
from .program import Program

__all__ = ["Copies", "Reading", "gathered", "in_place", "padded_copy"]

#: Floats in a cache line.
_LINE = 16

#: Copies that each thread makes for itself: to get a line that another core has written takes longer than to write it.
_PRIVATE_BYTES = 1 << 20


@dataclass(frozen=True)
class Reading:
    """Offsets of a convolution's inputs.

    Attributes:
        base: C for the address of the input of the first point's first position.
        channel: Floats from a channel to the next.
        rows: Of each row of the kernel the offset.
        columns: Of each column of the kernel the offset.
        down: Floats from an output's inputs to those of the output below.
        across: The same of the output to the right.
        before: C that each thread runs before it reads.
    """

    base: str
    channel: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    down: int
    across: int
    before: str = ""

    def offset(self, column: int) -> int:
        """Of a column of the weight matrix: channel by channel, then row by row of the kernel."""
        channel, position = divmod(column, len(self.rows) * len(self.columns))
        y, x = divmod(position, len(self.columns))
        return channel * self.channel + self.rows[y] + self.columns[x]


def in_place(program: Program, layer: Convolution) -> Reading | None:
    """Reading the input where it lies; None where zeros that are needed are not there."""
    layout = program.layouts[layer.inputs[0]]
    if not _has_zeros(layer, layout):
        return None
    return _reading(program.tensor(layer.inputs[0]), layer, layout)


def _reading(base: str, layer: Convolution, layout: Layout) -> Reading:
    (height, width), (gap_y, gap_x), (top, left) = layer.kernel, layer.dilation, layer.padding
    line, point = layout.row_stride * layout.point_stride, layout.point_stride
    return Reading(
        base,
        layout.channel_stride,
        tuple((y * gap_y - top) * line for y in range(height)),
        tuple((x * gap_x - left) * point for x in range(width)),
        layer.stride[0] * line,
        layer.stride[1] * point,
    )


def _has_zeros(layer: Convolution, layout: Layout) -> bool:
    pairs = zip(
        layout.shape[1:],
        layer.shape[1:],
        layer.kernel,
        layer.stride,
        layer.padding,
        layer.dilation,
        layout.padding,
        strict=True,
    )
    return all(max(p, (out - 1) * s + (k - 1) * d - p - (n - 1)) <= zeros for n, out, k, s, p, d, zeros in pairs)


def padded_copy(program: Program, layer: Convolution) -> Reading:
    """A copy of the input, point by point, with zeros around."""
    source = program.layouts[layer.inputs[0]]
    height, width = source.shape[1:]
    pairs = zip(
        source.shape[1:], layer.shape[1:], layer.kernel, layer.stride, layer.padding, layer.dilation, strict=True
    )
    around = [max(p, (out - 1) * s + (k - 1) * d - p - (n - 1), 0) for n, out, k, s, p, d in pairs]
    layout = pointwise(source.shape, (around[0], around[1]), program.lanes)
    scratch = program.scratch(layout.length)
    program.layer(
        f"{layer.name}: a copy of its input with zeros around",
        f"  if (t) return;\n  memset({scratch}, 0, {4 * layout.length});\n"
        f"  float *to = {scratch} + {layout.lead};\n  const float *from = {program.tensor(layer.inputs[0])};\n"
        f"  for (int y = 0; y < {height}; y++)\n    for (int x = 0; x < {width}; x++)\n"
        f"      for (int c = 0; c < {source.shape[0]}; c++)\n"
        f"        to[(y * {layout.row_stride} + x) * {layout.point_stride} + c] = "
        f"from[c * {source.channel_stride} + (y * {source.row_stride} + x) * {source.point_stride}];\n",
    )
    return _reading(f"({scratch} + {layout.lead})", layer, layout)


def gathered(program: Program, layer: Convolution, out_row_stride: int) -> Reading:
    """Copies of the input as the output's pixels lie, one for each column of the kernel and each phase of its rows.

    What a position of the kernel reads for all pixels is then one run of adjacent numbers, whatever the stride,
    dilation and padding.

    Args:
        program: Gets a layer that makes the copies.
        layer: The convolution.
        out_row_stride: Points from a row of the output to the next.
    """
    source = program.layouts[layer.inputs[0]]
    channels = source.shape[0]
    copies = Copies(layer, source.shape[2], out_row_stride, program.lanes)
    floats = channels * copies.floats + 8 * program.lanes
    is_private = 4 * floats <= _PRIVATE_BYTES and copies.is_flat(source)
    memory = program.private(floats) if is_private else program.scratch(floats)
    share = f"const int first = 0, last = {channels};"
    if not is_private:
        share = f"int first, last; share({channels}, t, threads, &first, &last);"
    body = [
        f"  {{\n  {share}\n  for (int c = first; c < last; c++) {{\n",
        f"    const float *from = {program.tensor(layer.inputs[0])} + (ptrdiff_t)c * {source.channel_stride};\n",
        f"    float *to = {memory} + (size_t)c * {copies.floats};\n",
        copies.text(source),
        "  }\n  }\n",
    ]
    if not is_private:
        program.layer(f"{layer.name}: copies of its input", "".join(body))
    return replace(copies.reading(memory, copies.floats), before="".join(body) if is_private else "")


@dataclass(frozen=True)
class Copies:
    """Of one channel copies in which what a position of the kernel reads for all pixels is one run of numbers.

    Where the output's rows have zeros enough between them, a copy for each phase of the rows and columns is shared by
    all positions of that phase; else each column of the kernel has copies of its own.

    Attributes:
        layer: The convolution.
        width: Of the input.
        row_stride: Points from a row of the output to the next.
        lanes: Floats of a vector.
    """

    layer: Convolution
    width: int
    row_stride: int
    lanes: int

    @property
    def _down(self) -> list[int]:
        """Of each row of the kernel how far down it reads."""
        return [y * self.layer.dilation[0] for y in range(self.layer.kernel[0])]

    @property
    def _row_phases(self) -> list[int]:
        return sorted({y % self.layer.stride[0] for y in self._down})

    @property
    def _shifts(self) -> list[int]:
        """Of each column of the kernel the first pixel's column that it reads."""
        return [x * self.layer.dilation[1] - self.layer.padding[1] for x in range(self.layer.kernel[1])]

    @property
    def _is_shared(self) -> bool:
        """Whether zeros between two rows of a copy can stand right of the one and left of the other."""
        stride = self.layer.stride[1]
        steps = [shift // stride for shift in self._shifts]
        end = self.layer.shape[2] + max(0, *steps)
        pixels = max(-(-(self.width - shift % stride) // stride) for shift in self._shifts)
        return max(end, min(end, pixels) - min(0, *steps)) <= self.row_stride

    @property
    def _starts(self) -> list[int]:
        """Of each copy the column that it begins with."""
        return sorted({shift % self.layer.stride[1] for shift in self._shifts}) if self._is_shared else self._shifts

    @property
    def _lines(self) -> int:
        return self.layer.shape[1] + max(self._down) // self.layer.stride[0]

    @property
    def _lead(self) -> int:
        """Zeros before the first row of a copy."""
        return _LINE * -(-max(0, -min(self._shifts)) // _LINE) if self._is_shared else 0

    @property
    def _piece(self) -> int:
        """Floats of one copy: an odd number of cache lines, so that copies do not compete for places of the cache."""
        lines = -(-(self._lead + self._lines * self.row_stride + self.lanes) // _LINE)
        return (lines + 1 - lines % 2) * _LINE

    @property
    def floats(self) -> int:
        """Of all copies of a channel."""
        return self._piece * len(self._row_phases) * len(self._starts)

    def is_flat(self, source: Layout) -> bool:
        """Whether each copy is the input's plane, moved by some pixels, with zeros where these leave the image."""
        before = self.layer.padding[0] * self.row_stride - min(self._shifts)
        has_room = source.length > 0 and before <= source.lead
        is_alike = source.is_planar and source.row_stride == self.row_stride and self.layer.stride == (1, 1)
        return has_room and is_alike and not self._is_shared

    def _flat(self, source: Layout) -> str:
        """C that makes the copies by whole vectors, which reach over the plane's ends into what a mask hides."""
        height, width = source.shape[1:]
        vectors = -(-self._lines * self.row_stride // self.lanes)
        lines = []
        for place, start in enumerate(self._starts):
            kept = [
                0 <= point // self.row_stride - self.layer.padding[0] < height
                and 0 <= point % self.row_stride + start < width
                and point % self.row_stride < self.layer.shape[2]
                for point in range(vectors * self.lanes)
            ]
            shift = start - self.layer.padding[0] * self.row_stride
            lines.append(
                f"    {{ static const int32_t kept[{len(kept)}] __attribute__((aligned(64))) = "
                f"{{{', '.join('-1' if one else '0' for one in kept)}}};\n"
                f"      for (int k = 0; k < {len(kept)}; k += L) "
                f"STORE(to + {place * self._piece} + k, masked(LOAD(from + k + ({shift})), LOADI(kept + k))); }}\n"
            )
        return "".join(lines)

    def text(self, source: Layout) -> str:
        """C that fills `to` from the channel `from`."""
        if self.is_flat(source):
            return self._flat(source)
        leads = (self._piece * place for place in range(len(self._starts) * len(self._row_phases) if self._lead else 0))
        zeros = "".join(f"    memset(to + {lead}, 0, {4 * self._lead});\n" for lead in leads)
        return zeros + "".join(
            self._copy(source, start, place * len(self._row_phases) + row, phase)
            for place, start in enumerate(self._starts)
            for row, phase in enumerate(self._row_phases)
        )

    def _copy(self, source: Layout, start: int, place: int, phase: int) -> str:
        height, width = source.shape[1:]
        stride = self.layer.stride
        # Columns right of those that are read are zeros: they stand for those left of the next row.
        read = self.layer.shape[2] + (max(0, *(shift // stride[1] for shift in self._shifts)) if self._is_shared else 0)
        begin = min(read, max(0, -(start // stride[1])))
        end = min(read, max(begin, (width - 1 - start) // stride[1] + 1))
        line, step = source.row_stride * source.point_stride, stride[1] * source.point_stride
        return (
            f"    for (int j = 0; j < {self._lines}; j++) {{\n"
            f"      float *restrict line = to + {place * self._piece + self._lead} + j * {self.row_stride};\n"
            f"      const int y = j * {stride[0]} + {phase - self.layer.padding[0]};\n"
            f"      if (y < 0 || y >= {height}) {{ memset(line, 0, {4 * self.row_stride}); continue; }}\n"
            f"      const float *restrict p = from + y * {line} + ({start * source.point_stride});\n"
            f"      for (int i = 0; i < {begin}; i++) line[i] = 0.0f;\n"
            f"      for (int i = {begin}; i < {end}; i++) line[i] = p[i * {step}];\n"
            f"      for (int i = {end}; i < {self.row_stride}; i++) line[i] = 0.0f;\n    }}\n"
        )

    def reading(self, base: str, channel: int) -> Reading:
        """Offsets in the copies, whose channels are `channel` floats from each other."""
        phases, starts, stride = self._row_phases, self._starts, self.layer.stride
        rows = tuple(phases.index(y % stride[0]) * self._piece + y // stride[0] * self.row_stride for y in self._down)
        columns = tuple(
            starts.index(shift % stride[1] if self._is_shared else shift) * len(phases) * self._piece
            + self._lead
            + (shift // stride[1] if self._is_shared else 0)
            for shift in self._shifts
        )
        return Reading(base, channel, rows, columns, self.row_stride, 1)
