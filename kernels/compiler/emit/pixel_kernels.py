"""Register tiles over pixels: several output rows times several vectors of adjacent pixels.

Each kept column is one shifted load of the input that serves all rows of the tile (register load redundancy
elimination, GRIM sec. 5; the shift takes the place of im2col).
"""

from dataclasses import dataclass

from .prelude import activated

__all__ = ["PixelKernel"]


@dataclass(frozen=True)
class PixelKernel:
    """A function for one size of tile.

    Attributes:
        rows: Output rows.
        vectors: Vectors of pixels.
        index_type: C type of the columns' offsets.
        activation: Computed at the end.
        has_residual: Whether a tensor is added before it.
        is_masked: Whether points that are no pixels become zero.
        continues: Whether its sums begin with what is in the output's place.
        finishes: Whether it ends with residual, activation and zeros.
        unroll: Columns that a pass of its loop computes.
    """

    rows: int
    vectors: int
    index_type: str
    activation: str
    has_residual: bool
    is_masked: bool
    continues: bool = False
    finishes: bool = True
    unroll: int = 1

    @property
    def name(self) -> str:
        """Of the C function."""
        parts = ["added"] if self.continues else []
        if self.finishes:
            parts += [self.activation, "sum" if self.has_residual else "", "masked" if self.is_masked else ""]
        else:
            parts.append("open")
        end = "_".join(part for part in parts if part) or "plain"
        if self.unroll > 1:
            end += f"_by_{self.unroll}"
        return f"pixels_{self.rows}x{self.vectors}_{self.index_type.removesuffix('_t')}_{end}"

    def text(self) -> str:
        """The C function."""
        tile = [(row, vector) for row in range(self.rows) for vector in range(self.vectors)]
        lines = [
            f"static void {self.name}(const float *restrict x, const {self.index_type} *restrict offsets,",
            "    const float *restrict w, int columns, const float *restrict bias, float *restrict out,",
            "    const int32_t *restrict rows, const float *restrict residual, const int32_t *restrict mask) {",
            "  (void)bias; (void)residual; (void)mask;",
            *(f"  v a{row}_{vector} = {self._start(row, vector)};" for row, vector in tile),
            *([f"#pragma GCC unroll {self.unroll}"] if self.unroll > 1 else []),
            "  for (int c = 0; c < columns; c++) {",
            "    const float *p = x + offsets[c];",
            "    PREFETCH(w);",
            *(f"    v x{vector} = LOAD(p + {vector} * L);" for vector in range(self.vectors)),
        ]
        for row in range(self.rows):
            lines.append(f"    v w{row} = splat(w[{row}]);")
            lines += [f"    a{row}_{vector} += w{row} * x{vector};" for vector in range(self.vectors)]
        lines += [f"    w += {self.rows};", "  }"]
        if self.is_masked and self.finishes:
            lines += [f"  vi m{vector} = LOADI(mask + {vector} * L);" for vector in range(self.vectors)]
        lines += [f"  STORE(out + rows[{row}] + {vector} * L, {self._end(row, vector)});" for row, vector in tile]
        return "\n".join([*lines, "}\n"])

    def _start(self, row: int, vector: int) -> str:
        return f"LOAD(out + rows[{row}] + {vector} * L)" if self.continues else f"splat(bias[{row}])"

    def _end(self, row: int, vector: int) -> str:
        value = f"a{row}_{vector}"
        if not self.finishes:
            return value
        if self.has_residual:
            value = f"{value} + LOAD(residual + rows[{row}] + {vector} * L)"
        value = activated(value, self.activation)
        return f"masked({value}, m{vector})" if self.is_masked else value
