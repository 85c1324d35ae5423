"""Convolutions whose vectors are adjacent pixels."""

import math

from ...bcrc import Bcrc
from ...weight_types import FLOAT32
from ..ir import Convolution
from ..layout import Layout
from ..strips import Strip
from .panels import Packed, dense_matrix, live_rows, pack, panels_of, split_columns, stored_matrix
from .pixel_kernels import PixelKernel
from .prelude import activated
from .program import Program, numbers, table
from .reading import Reading, gathered, in_place
from .strips import heights, rows_of_strip
from .tiles import PixelTile, default_pixel_tile

__all__ = ["emit_over_pixels"]


def emit_over_pixels(program: Program, layer: Convolution) -> None:
    """Add a convolution to a program whose output is laid out plane by plane."""
    out = program.layouts[layer.name]
    vectors = -(-out.points // program.lanes)
    tile = program.tile(layer.name, PixelTile) or default_pixel_tile(program.instruction_set, vectors)
    reading = None if program.is_given(layer.inputs[0]) else in_place(program, layer)
    if reading is None or (reading.down, reading.across) != (out.row_stride, 1):
        reading = gathered(program, layer, out.row_stride)
    stored = dense_matrix(layer) if tile.is_dense else stored_matrix(layer, tile.rows)
    panels, is_added = panels_of(stored, tile.rows, live_rows(layer))
    parts = [panels] if is_added else split_columns(panels, tile.columns)
    packed = pack([panel for part in parts for panel in part], layer.bias, reading.offset, scale=layer.scale)
    body = _Body(program, layer, out, tile, packed, len(parts), is_added)
    program.layer(title(layer, stored), body.text(reading), layer.name in program.strips)


def title(layer: Convolution, stored: Bcrc) -> str:
    """A comment on a layer."""
    groups = len(stored.occurrence) - 1
    return f"{layer.name}: {stored.kept} of {layer.matrix.size} weights in {groups} groups of rows"


class _Body:
    """The loops of one layer: pixels, then panels, so that the inputs of some pixels serve all rows."""

    def __init__(
        self,
        program: Program,
        layer: Convolution,
        out: Layout,
        tile: PixelTile,
        packed: Packed,
        parts: int,
        is_added: bool,
    ) -> None:
        self._program = program
        self._layer = layer
        self._out = out
        self._tile = tile
        self._packed = packed
        self._parts = parts
        self._is_added = is_added
        self._has_mask = out.padding != (0, 0)
        self._strip: Strip | None = program.strips.get(layer.name)
        rows = [out.shape[1]] if self._strip is None else heights(self._strip, out.shape[1])
        self._vectors = sorted({-(-count * out.row_stride // program.lanes) for count in rows})
        self._index_type, self._offsets = program.indices(packed.offsets)

    def text(self, reading: Reading) -> str:
        panels = len(self._packed.lines) // self._parts
        share = "  share(tiles, t, threads, &first, &last);\n"
        if not self._is_added:
            costs = f"share_costs(costs, {panels}, t, threads, &from, &to)"
            # Where the inputs are more than the weights, threads that share pixels have less to get from each other.
            inputs = self._program.layouts[self._layer.inputs[0]].shape
            is_even = " || tiles % threads == 0" if sum(map(len, self._packed.weights)) < math.prod(inputs) else ""
            share = (
                f"  if (tiles >= 4 * threads{is_even}) share(tiles, t, threads, &first, &last);\n"
                f"  else {{ first = 0; last = tiles; {costs}; }}\n"
            )
        block = self._tile.block
        return "".join(
            [
                self._declarations(reading),
                f"  int first, last, from = 0, to = {panels};\n",
                share,
                f"  const int blocks = last - first < {block} ? 1 : (last - first + {block // 2}) / {block};\n",
                "  const int block = (last - first + blocks - 1) / blocks;\n",
                "  for (int b = first; b < last; b += block) {\n",
                "    const int e = b + block < last ? b + block : last;\n",
                self._before() if self._is_added else "",
                *(self._part(place, panels) for place in range(self._parts)),
                self._after() if self._is_added else "",
                "  }\n",
            ]
        )

    def _extent(self, reading: Reading) -> str:
        """C that says how many vectors there are, and where they begin."""
        across = self._tile.vectors
        if self._strip is None:
            vectors = self._vectors[0]
            return (
                f"  const int vectors = {vectors}, whole = {vectors // across}, tiles = {-(-vectors // across)};\n"
                "  (void)whole; (void)vectors;\n"
            )
        stride, lanes = self._out.row_stride, self._program.lanes
        moved = [f"o += y0 * {stride};", f"x += y0 * {reading.down};"]
        moved += [f"m += y0 * {stride};"] if self._has_mask else []
        moved += [f"r += y0 * {stride};"] if self._layer.residual else []
        return (
            f"{rows_of_strip(self._strip, self._out.shape[1])}  {' '.join(moved)}\n"
            f"  const int vectors = ((y1 - y0) * {stride} + {lanes - 1}) / {lanes}, whole = vectors / {across};\n"
            f"  const int tiles = (vectors + {across - 1}) / {across};\n  (void)whole;\n"
        )

    def _declarations(self, reading: Reading) -> str:
        program, layer, packed = self._program, self._layer, self._packed
        costs = "" if self._is_added else numbers("costs", packed.costs[: len(packed.lines) // self._parts + 1])
        return (
            f"{table('panels', packed.lines)}"
            f"{numbers('rows', [row * self._out.channel_stride for row in packed.rows])}{costs}"
            f"  const float *x = {reading.base};\n"
            f"{program.weights(packed.all_weights(), packed.all_scales(), layer.weight_type)}"
            f"  const float *bias = {program.floats(packed.all_biases())};\n"
            f"  const {self._index_type} *offsets = {self._offsets};\n"
            f"  float *o = {program.tensor(layer.name)};\n"
            f"  const float *r = {program.tensor(layer.residual) if layer.residual else 'NULL'};\n"
            f"  const int32_t *m = {program.mask(self._out) if self._has_mask else 'NULL'};\n"
            f"{reading.before}{self._extent(reading)}"
        )

    def _part(self, place: int, panels: int) -> str:
        """The panels of some columns."""
        return (
            f"    for (int p = from; p < to; p++) {{\n      const int32_t *q = panels[p + {place * panels}];\n"
            f"      for (int i = b; i < e; i++) {{ {self._calls(place)} }}\n    }}\n"
        )

    def _calls(self, place: int) -> str:
        """A call of the kernel for the panel's rows, whole tiles of pixels first."""
        across = self._tile.vectors
        rests = sorted({vectors % across for vectors in self._vectors} - {0})
        calls = []
        if self._vectors[-1] >= across:
            whole = "i < whole" if rests else "1"
            calls.append(f"if ({whole}) {self._switch(place, across)}")
        calls += [f"if (vectors % {across} == {rest}) {self._switch(place, rest)}" for rest in rests[:-1]]
        calls += [self._switch(place, rest) for rest in rests[-1:]]
        return " else ".join(calls)

    def _switch(self, place: int, width: int) -> str:
        step = f"i * {self._tile.vectors} * L"
        arguments = (
            f"x + {step}, offsets + q[2], w + q[3], q[1], bias + q[5], o + {step}, rows + q[4], "
            f"r ? r + {step} : r, m ? m + {step} : m"
        ) + ("" if self._layer.weight_type == FLOAT32 else ", scale + q[5]")
        cases = (
            f"case {height}: {self._kernel(place, height, width)}({arguments}); break;"
            for height in self._packed.heights
        )
        return f"switch (q[0]) {{ {' '.join(cases)} }}"

    def _kernel(self, place: int, height: int, width: int) -> str:
        layer = self._layer
        kernel = PixelKernel(
            height,
            width,
            self._index_type,
            layer.activation,
            bool(layer.residual),
            self._has_mask,
            continues=self._is_added or place > 0,
            finishes=not self._is_added and place == self._parts - 1,
            unroll=self._tile.unroll,
            weight_type=layer.weight_type,
        )
        return self._program.kernel(kernel.name, kernel.text())

    def _before(self) -> str:
        """Sums begin with bias and residual where a row is in several panels."""
        live, width = live_rows(self._layer), self._tile.vectors
        start = "splat(first_bias[k])" + (" + LOAD(r + live[k] + i * L)" if self._layer.residual else "")
        return (
            f"  {numbers('live', [int(row) * self._out.channel_stride for row in live])}"
            f"    const float *first_bias = {self._program.floats(self._layer.bias[live])};\n"
            f"    const int v0 = b * {width}, v1 = e * {width} < vectors ? e * {width} : vectors;\n"
            f"    for (int k = 0; k < {len(live)}; k++)\n"
            f"      for (int i = v0; i < v1; i++) STORE(o + live[k] + i * L, {start});\n"
        )

    def _after(self) -> str:
        """Activation and zeros where a row is in several panels."""
        value = activated("LOAD(o + live[k] + i * L)", self._layer.activation)
        value = f"masked({value}, LOADI(m + i * L))" if self._has_mask else value
        return (
            f"    for (int k = 0; k < {len(live_rows(self._layer))}; k++)\n"
            f"      for (int i = v0; i < v1; i++) STORE(o + live[k] + i * L, {value});\n"
        )
