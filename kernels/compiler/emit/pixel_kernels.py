"""Register tiles over pixels: several output rows times several vectors of adjacent pixels.

Each kept column is one shifted load of the input that serves all rows of the tile (register load redundancy
elimination, GRIM sec. 5; the shift takes the place of im2col).
"""

from dataclasses import dataclass

from ...weight_types import FLOAT32
from .decoding import C_TYPES, loaded, prefetched
from .prelude import activated

__all__ = ["PixelKernel"]

#: Columns whose weights are decoded at once, into memory from which single ones can be broadcast.
_DECODED = 16


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
        weight_type: Of the weights; all but floats have a scale for each row.
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
    weight_type: str = FLOAT32

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
        if self._is_scaled:
            end += f"_{self.weight_type}"
        return f"pixels_{self.rows}x{self.vectors}_{self.index_type.removesuffix('_t')}_{end}"

    @property
    def _is_scaled(self) -> bool:
        return self.weight_type != FLOAT32

    def text(self) -> str:
        """The C function."""
        tile = [(row, vector) for row in range(self.rows) for vector in range(self.vectors)]
        given, mask = ("codes", "mask, const float *restrict scale") if self._is_scaled else ("w", "mask")
        bias = "const float *restrict bias"
        lines = [
            f"static void {self.name}(const float *restrict x, const {self.index_type} *restrict offsets,",
            f"    const {C_TYPES[self.weight_type]} *restrict {given}, int columns, {bias}, float *restrict out,",
            f"    const int32_t *restrict rows, const float *restrict residual, const int32_t *restrict {mask}) {{",
            "  (void)bias; (void)residual; (void)mask;",
            *(f"  v a{row}_{vector} = {self._start(row, vector)};" for row, vector in tile),
            *(self._decoded_columns() if self._is_scaled else self._columns("columns")),
        ]
        if self.is_masked and self.finishes:
            lines += [f"  vi m{vector} = LOADI(mask + {vector} * L);" for vector in range(self.vectors)]
        lines += [f"  STORE(out + rows[{row}] + {vector} * L, {self._end(row, vector)});" for row, vector in tile]
        return "\n".join([*lines, "}\n"])

    def _columns(self, count: str) -> list[str]:
        """The sums of so many columns."""
        lines = [
            *([f"#pragma GCC unroll {self.unroll}"] if self.unroll > 1 else []),
            f"  for (int c = 0; c < {count}; c++) {{",
            "    const float *p = x + offsets[c];",
            *([] if self._is_scaled else ["    PREFETCH(w);"]),
            *(f"    v x{vector} = LOAD(p + {vector} * L);" for vector in range(self.vectors)),
        ]
        for row in range(self.rows):
            lines.append(f"    v w{row} = splat(w[{row}]);")
            lines += [f"    a{row}_{vector} += w{row} * x{vector};" for vector in range(self.vectors)]
        return [*lines, f"    w += {self.rows};", "  }"]

    def _decoded_columns(self) -> list[str]:
        """The same, some columns at a time, after their weights were decoded."""
        floats = self.rows * _DECODED
        return [
            f"  float decoded[{floats} + L] __attribute__((aligned(64)));",
            f"  for (; columns > 0; columns -= {_DECODED}, offsets += {_DECODED}, codes += {floats}) {{",
            f"    const int count = columns < {_DECODED} ? columns : {_DECODED};",
            "    const float *w = decoded;",
            f"    {prefetched(self.weight_type, 'codes', str(floats))}",
            f"    for (int i = 0; i < count * {self.rows}; i += L)",
            f"      STORE(decoded + i, {loaded(self.weight_type, 'codes + i')});",
            *self._columns("count"),
            "  }",
        ]

    def _start(self, row: int, vector: int) -> str:
        if self._is_scaled:
            return "splat(0.0f)"
        return f"LOAD(out + rows[{row}] + {vector} * L)" if self.continues else f"splat(bias[{row}])"

    def _end(self, row: int, vector: int) -> str:
        value = f"a{row}_{vector}"
        if self._is_scaled:
            start = f"LOAD(out + rows[{row}] + {vector} * L)" if self.continues else f"splat(bias[{row}])"
            value = f"({value} * splat(scale[{row}]) + {start})"
        if not self.finishes:
            return value
        if self.has_residual:
            value = f"{value} + LOAD(residual + rows[{row}] + {vector} * L)"
        value = activated(value, self.activation)
        return f"masked({value}, m{vector})" if self.is_masked else value
