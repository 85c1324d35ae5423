"""Layers strip by strip: which rows a strip has, and what is kept from one to the next."""

from ..strips import Chain, Strip
from .program import Program

__all__ = ["emit_preparation", "heights", "rows_of_strip"]


def heights(strip: Strip, height: int) -> list[int]:
    """How many rows of an image its strips may have, each once."""
    starts = range(strip.rows - strip.lag, height, strip.rows)
    found = {min(height, start + strip.rows) - max(0, start) for start in starts}
    # The first begins with the image whatever its lag.
    found.add(min(height, strip.rows - strip.lag))
    return sorted(rows for rows in found if rows > 0)


def rows_of_strip(strip: Strip, height: int) -> str:
    """C for the rows of the image from y0 to y1 that are in strip s; where there are none, the function ends."""
    first = f"s * {strip.rows} - {strip.lag}" if strip.lag >= 0 else f"s * {strip.rows} + {-strip.lag}"
    return (
        f"  const int y0 = s && {first} > 0 ? {first} : 0;\n"
        f"  const int y1 = {first} + {strip.rows} < {height} ? {first} + {strip.rows} : {height};\n"
        "  if (y0 >= y1) return;\n"
    )


def emit_preparation(program: Program, chain: Chain) -> None:
    """Add what comes before each strip: the last rows of the one before move up, rows beyond the image become zero."""
    parts = [_moved(program, name, strip) for name, strip in chain.strips.items() if strip.is_short]
    program.layer(f"strips: {', '.join(chain.strips)}", "".join(parts), of_strips=True)


def _moved(program: Program, name: str, strip: Strip) -> str:
    layout = program.layouts[name]
    row, height = layout.row_stride, layout.shape[1]
    new = strip.rows * row
    kept = ""
    if strip.halo:
        size = 4 * strip.halo * row
        kept = f"      if (s) memmove(to, to + {new}, {size});\n      else memset(to, 0, {size});\n"
    return (
        f"  {{\n    int first, last; share({layout.shape[0]}, t, threads, &first, &last);\n"
        f"    const int y = s * {strip.rows} - ({strip.lag}), end = {height} - y;\n"
        "    for (int c = first; c < last; c++) {\n"
        f"      float *to = a + {program.places[name] + layout.lead} + c * {layout.channel_stride};\n"
        f"{kept}      to += {strip.halo * row};\n"
        f"      if (y < 0) memset(to, 0, (size_t)(-y < {strip.rows} ? -y : {strip.rows}) * {4 * row});\n"
        f"      if (end < {strip.rows}) memset(to + (end < 0 ? 0 : end) * {row}, 0, "
        f"(size_t)({strip.rows} - (end < 0 ? 0 : end)) * {4 * row});\n"
        "    }\n  }\n"
    )
