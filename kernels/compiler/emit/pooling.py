"""Maxima and means of windows."""

from ..ir import GlobalPool, Pool
from ..layout import Layout
from .elementwise import at, loops
from .program import Program
from .strips import rows_of_strip

__all__ = ["emit_global_pool", "emit_pool"]

#: Rows of an image whose pixels threads share, so that each finds in its cache what it has written there.
_MANY_ROWS = 8


def emit_pool(program: Program, layer: Pool) -> None:
    """Add a pool to a program."""
    source, out = program.layouts[layer.inputs[0]], program.layouts[layer.name]
    text = f"  const float *i = {program.tensor(layer.inputs[0])};\n  float *o = {program.tensor(layer.name)};\n"
    strip = program.strips.get(layer.name)
    # Vectors reach beyond a tensor's end, which the user's may not have.
    are_rows = source.is_planar and out.is_planar and not program.is_given(layer.inputs[0])
    if are_rows and (layer.is_maximum or _is_inside(layer, source)):
        rows = rows_of_strip(strip, out.shape[1]) if strip else f"  const int y0 = 0, y1 = {out.shape[1]};\n"
        text += rows + _by_rows(program, layer, source, out)
    else:
        text += _by_windows(layer, source, out)
    program.layer(f"{layer.name}: pool", text, strip is not None)


def _by_rows(program: Program, layer: Pool, source: Layout, out: Layout) -> str:
    """Row by row; many windows at once where these reach over no border."""
    height, width = source.shape[1:]
    channels, _, out_width = layer.shape
    (down, across), (above, left) = layer.stride, layer.padding
    begin = min(out_width, -(-left // across))
    end = max(begin, min(out_width, (width + left - layer.kernel[1]) // across + 1))
    at_border = (
        f"{{ float s = -INFINITY; const int b = x * {across} - {left}; for (int k = b; k < b + {layer.kernel[1]}; k++)"
        f" if (k >= 0 && k < {width}) for (int j = 0; j < rows; j++) "
        f"{{ const float z = p[j * {source.row_stride} + k]; "
        "s = s < z ? z : s; } to[x] = s; }\n"
    )
    if across > 1:
        _add_every(program, across)
    return (
        f"{_shares(channels, out, end - begin >= program.lanes)}"
        "  for (int c = first; c < last; c++)\n    for (int y = y0 + top; y < y0 + bottom; y++) {\n"
        f"      int from = y * {down} - {above}, end = from + {layer.kernel[0]};\n"
        f"      from = from < 0 ? 0 : from; end = end > {height} ? {height} : end;\n"
        "      const int rows = end - from; (void)rows;\n"
        f"      const float *p = i + (ptrdiff_t)c * {source.channel_stride} + from * {source.row_stride};\n"
        f"      float *restrict to = o + (ptrdiff_t)c * {out.channel_stride} + y * {out.row_stride};\n"
        f"      for (int x = 0; x < {begin}; x++) {at_border if begin else ';'}"
        f"{_inner_columns(layer, source, begin, end, program.lanes)}"
        f"      for (int x = {end}; x < {out_width}; x++) {at_border if end < out_width else ';'}"
        "    }\n"
    )


def _shares(channels: int, out: Layout, is_wide: bool) -> str:
    """C for the channels and rows of a thread: rows as convolutions share pixels, where there are many.

    Narrow rows reach into those that follow, which must come from the same thread.
    """
    by_rows, by_channels = ("y1 - y0", "top", "bottom"), (str(channels), "first", "last")
    shared, whole = (by_rows, by_channels) if is_wide and out.shape[1] >= _MANY_ROWS else (by_channels, by_rows)
    return (
        f"  const int {whole[1]} = 0, {whole[2]} = {whole[0]};\n"
        f"  int {shared[1]}, {shared[2]}; share({shared[0]}, t, threads, &{shared[1]}, &{shared[2]});\n"
    )


def _add_every(program: Program, stride: int) -> None:
    """Add a function that takes every so many-th number of adjacent vectors."""
    places = range(0, program.lanes * stride, stride)
    vectors = [f"x{place}" for place in range(stride)]
    head = f"INLINE v every_{stride}({', '.join(f'v {name}' for name in vectors)})"
    numbers = ", ".join(f"x{place // program.lanes}[{place % program.lanes}]" for place in places)
    text = f"{head} {{ return (v){{{numbers}}}; }}\n"
    if stride == 2:  # one instruction
        shuffled = f"__builtin_shufflevector(x0, x1, {', '.join(map(str, places))})"
        text = (
            "#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)\n"
            f"{head} {{ return {shuffled}; }}\n#else\n{text}#endif\n"
        )
    program.kernel(f"every_{stride}", text)


def _inner_columns(layer: Pool, source: Layout, begin: int, end: int, lanes: int) -> str:
    """C for the windows that reach over no border: their rows are joined first, then columns.

    The last vector begins earlier; one that is longer than a row writes zeros, into rows that come later.
    """
    if begin >= end:
        return ""
    (height, width), across = layer.kernel, layer.stride[1]
    places = [(column, part) for column in range(width) for part in range(across)]
    offsets = sorted({column + part * lanes for column, part in places})
    joined = "largest({0}, {1})" if layer.is_maximum else "{0} + {1}"
    columns = [", ".join(f"s{column + part * lanes}" for part in range(across)) for column in range(width)]
    value = f"every_{across}({columns[0]})" if across > 1 else columns[0]
    for column in columns[1:]:
        value = joined.format(value, f"every_{across}({column})" if across > 1 else column)
    if not layer.is_maximum:
        value = f"({value}) * {1 / (height * width)!r}f"
    count = end - begin
    if count < lanes:
        mask = ", ".join("-1" if lane < count else "0" for lane in range(lanes))
        value, last = f"masked({value}, (vi){{{mask}}})", f"{begin}"
    else:
        last = f"{end - lanes}"
    return (
        f"      for (int x = {begin}; x < {end}; x += L) {{\n        if (x > {last}) x = {last};\n"
        f"        const float *q = p + x * {across} - {layer.padding[1]};\n"
        + "".join(f"        v s{offset} = LOAD(q + {offset});\n" for offset in offsets)
        + f"        for (int j = 1; j < rows; j++) {{\n          q += {source.row_stride};\n"
        + "".join(f"          s{o} = {joined.format(f's{o}', f'LOAD(q + {o})')};\n" for o in offsets)
        + f"        }}\n        STORE(to + x, {value});\n      }}\n"
    )


def _by_windows(layer: Pool, source: Layout, out: Layout) -> str:
    """Window by window, with questions where one may reach over the image's border."""
    height, width = source.shape[1:]
    if _is_inside(layer, source):
        body = _inner(layer, at(source, "c", f"y * {layer.stride[0]} + %d", f"x * {layer.stride[1]} + %d"))
    else:
        body = _at_border(layer, at(source, "c", "iy", "ix"), height, width)
    return loops(out, f"{body} o[{at(out)}] = s;")


def _is_inside(layer: Pool, source: Layout) -> bool:
    """Whether no window reaches over the image's border."""
    sizes = zip(layer.shape[1:], layer.stride, layer.kernel, source.shape[1:], strict=True)
    return layer.padding == (0, 0) and all((out - 1) * step + kernel <= size for out, step, kernel, size in sizes)


def _inner(layer: Pool, place: str) -> str:
    values = [f"i[{place % (y, x)}]" for y in range(layer.kernel[0]) for x in range(layer.kernel[1])]
    lines = [f"float s = {values[0]};"]
    if layer.is_maximum:
        lines += [f"{{ const float z = {value}; s = s < z ? z : s; }}" for value in values[1:]]
    else:
        lines += [f"s += {value};" for value in values[1:]]
        lines.append(f"s *= {1 / len(values)!r}f;")
    return " ".join(lines)


def _at_border(layer: Pool, place: str, height: int, width: int) -> str:
    start = "-INFINITY" if layer.is_maximum else "0.0f"
    step = "if (s < z) s = z;" if layer.is_maximum else "s += z; inside++;"
    # What lies beyond the padding below and right, where the last window may end, counts for nothing.
    counted = f"iy < {height + layer.padding[0]} && ix < {width + layer.padding[1]}"
    count = f"padded += {counted};" if not layer.is_maximum else ""
    end = "" if layer.is_maximum else f"s /= (float){'padded' if layer.counts_padding else 'inside'};"
    return (
        f"float s = {start}; int inside = 0, padded = 0; (void)inside; (void)padded; "
        f"for (int ky = 0; ky < {layer.kernel[0]}; ky++) for (int kx = 0; kx < {layer.kernel[1]}; kx++) {{ "
        f"const int iy = y * {layer.stride[0]} + ky - {layer.padding[0]}, "
        f"ix = x * {layer.stride[1]} + kx - {layer.padding[1]}; {count} "
        f"if (iy >= 0 && iy < {height} && ix >= 0 && ix < {width}) {{ const float z = i[{place}]; {step} }} }} {end}"
    )


def emit_global_pool(program: Program, layer: GlobalPool) -> None:
    """Add the mean or maximum of each channel to a program."""
    source, out = program.layouts[layer.inputs[0]], program.layouts[layer.name]
    _, height, width = source.shape
    step = "if (s < z) s = z;" if layer.is_maximum else "s += z;"
    end = "" if layer.is_maximum else f"s *= {1 / (height * width)!r}f;"
    body = (
        f"float s = {'-INFINITY' if layer.is_maximum else '0.0f'}; "
        f"for (int iy = 0; iy < {height}; iy++) for (int ix = 0; ix < {width}; ix++) "
        f"{{ const float z = i[{at(source, 'c', 'iy', 'ix')}]; {step} }} {end} o[{at(out)}] = s;"
    )
    text = f"  const float *i = {program.tensor(layer.inputs[0])};\n  float *o = {program.tensor(layer.name)};\n"
    program.layer(f"{layer.name}: pool of whole channels", text + loops(out, body))
