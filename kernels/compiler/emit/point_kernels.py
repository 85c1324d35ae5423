"""Register tiles over rows: several vectors of output rows times several points.

Each kept column is one vector load of weights for all points; the inputs are broadcast. For vectors, sequences and
images smaller than a vector.
"""

from dataclasses import dataclass

from ...weight_types import FLOAT32
from .decoding import C_TYPES, loaded, prefetched
from .prelude import activated

__all__ = ["PointKernel"]


@dataclass(frozen=True)
class PointKernel:
    """A function for one number of row vectors and some points.

    Attributes:
        vectors: Vectors of rows.
        inputs: Of each point the floats from the first point's inputs to its own.
        outputs: The same of its outputs.
        row_stride: Floats from one row's output to the next; 1 where rows are stored as vectors.
        index_type: C type of the columns' offsets.
        activation: Computed at the end.
        has_residual: Whether a tensor is added before it.
        accumulates: Whether it adds to what is there, and does nothing else.
        unrolled: Columns that a pass of its loop computes, each with sums of its own.
        prefetches: Whether it fetches weights ahead.
        weight_type: Of the weights; all but floats have a scale for each row.
    """

    vectors: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    row_stride: int
    index_type: str
    activation: str
    has_residual: bool
    accumulates: bool
    unrolled: int
    prefetches: bool = True
    weight_type: str = FLOAT32

    def text(self, name: str) -> str:
        """The C function of that name.

        It computes `count` rows; where those of each vector are adjacent they are stored as vectors.
        """
        unrolled = self.unrolled
        sums = [(vector, point) for vector in range(self.vectors) for point in range(len(self.inputs))]
        out = "float *restrict out"
        residual = "residual, const float *restrict scale" if self._is_scaled else "residual"
        lines = [
            f"static void {name}(const float *restrict x, const {self.index_type} *restrict offsets,",
            f"    const {C_TYPES[self.weight_type]} *restrict w, int columns, const float *restrict bias, {out},",
            f"    const int32_t *restrict rows, int count, int is_adjacent, const float *restrict {residual}) {{",
            "  (void)residual; (void)is_adjacent;",
        ]
        for copy in range(unrolled):
            lines += [f"  v a{vector}_{point}_{copy} = splat(0.0f);" for vector, point in sums]
        lines += ["  int c = 0;", f"  for (; c + {unrolled} <= columns; c += {unrolled}) {{"]
        if self.prefetches:
            lines.append(f"    {prefetched(self.weight_type, 'w', f'{unrolled * self.vectors} * L')}")
        for copy in range(unrolled):
            lines += self._column(copy, copy)
        lines += [f"    w += {unrolled * self.vectors} * L;", "  }"]
        if unrolled > 1:
            lines += ["  for (; c < columns; c++) {", *self._column(0, 0), f"    w += {self.vectors} * L;", "  }"]
        for vector, point in sums:
            total = " + ".join(f"a{vector}_{point}_{copy}" for copy in range(unrolled))
            scaled = f"({total}) * LOAD(scale + {vector} * L)" if self._is_scaled else total
            lines.append(f"  v s{vector}_{point} = {scaled};")
        return "\n".join([*lines, *self._ending(sums), "}\n"])

    @property
    def _is_scaled(self) -> bool:
        return self.weight_type != FLOAT32

    def _column(self, place: int, copy: int) -> list[str]:
        lines = [f"    {{ const float *p = x + offsets[c + {place}];"]
        for vector in range(self.vectors):
            address = f"w + {(place * self.vectors + vector)} * L"
            lines.append(f"      v w{vector} = {loaded(self.weight_type, address)};")
        for point, offset in enumerate(self.inputs):
            lines.append(f"      v x{point} = splat(p[{offset}]);")
            lines += [f"      a{vector}_{point}_{copy} += w{vector} * x{point};" for vector in range(self.vectors)]
        return [*lines, "    }"]

    def _ending(self, sums: list[tuple[int, int]]) -> list[str]:
        """Adjacent rows as vectors, others number by number."""
        lines = []
        if self.row_stride == 1:
            lines = ["  if (is_adjacent) {", *(f"    {self._stored(vector, point)}" for vector, point in sums)]
            lines += ["    return;", "  }"]
        lines += [f"  float buffer[{len(sums)} * L] __attribute__((aligned({64})));"]
        for place, (vector, point) in enumerate(sums):
            value = f"s{vector}_{point}" if self.accumulates else f"s{vector}_{point} + LOAD(bias + {vector} * L)"
            lines.append(f"  STORE(buffer + {place} * L, {value});")
        places = ", ".join(map(str, self.outputs))
        lines += [f"  static const int32_t places[{len(self.outputs)}] = {{{places}}};"]
        lines += ["  for (int row = 0; row < count; row++)", f"    for (int k = 0; k < {len(self.outputs)}; k++) {{"]
        lines += [f"      float y = buffer[((row / L) * {len(self.outputs)} + k) * L + row % L];"]
        lines += ["      float *o = out + rows[row] + places[k];"]
        if self.accumulates:
            lines += ["      *o += y;"]
        else:
            if self.has_residual:
                lines += ["      y += residual[rows[row] + places[k]];"]
            lines += [
                f"      *o = {activated('splat(y)', self.activation)}[0];" if self.activation else "      *o = y;"
            ]
        return [*lines, "    }"]

    def _stored(self, vector: int, point: int) -> str:
        place = f"rows[{vector} * L] + {self.outputs[point]}"
        if self.accumulates:
            return f"STORE(out + {place}, s{vector}_{point} + LOAD(out + {place}));"
        value = f"s{vector}_{point} + LOAD(bias + {vector} * L)"
        if self.has_residual:
            value += f" + LOAD(residual + {place})"
        return f"STORE(out + {place}, {activated(value, self.activation)});"
