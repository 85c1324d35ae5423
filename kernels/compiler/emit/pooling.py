"""Maxima and means of windows."""

from ..ir import GlobalPool, Pool
from ..layout import Layout
from .elementwise import at, loops
from .program import Program

__all__ = ["emit_global_pool", "emit_pool"]


def emit_pool(program: Program, layer: Pool) -> None:
    """Add a pool to a program."""
    source, out = program.layouts[layer.inputs[0]], program.layouts[layer.name]
    text = f"  const float *i = {program.tensor(layer.inputs[0])};\n  float *o = {program.tensor(layer.name)};\n"
    if source.is_planar and out.is_planar and (layer.is_maximum or _is_inside(layer, source)):
        text += _by_rows(layer, source, out)
    else:
        text += _by_windows(layer, source, out)
    program.layer(f"{layer.name}: pool", text)


def _by_rows(layer: Pool, source: Layout, out: Layout) -> str:
    """First the rows of a window are joined, many columns at once, then columns."""
    height, width = source.shape[1:]
    channels, out_height, out_width = layer.shape
    (down, across), (above, left) = layer.stride, layer.padding
    begin = min(out_width, -(-left // across))
    end = max(begin, min(out_width, (width + left - layer.kernel[1]) // across + 1))
    joined = "s < z ? z : s" if layer.is_maximum else "s + z"
    scale = "" if layer.is_maximum else f" * {1 / (layer.kernel[0] * layer.kernel[1])!r}f"
    window = " ".join(f"{{ const float z = line[k + {x}]; s = {joined}; }}" for x in range(1, layer.kernel[1]))
    at_border = (
        f"{{ float s = -INFINITY; const int b = x * {across} - {left}; for (int k = b; k < b + {layer.kernel[1]}; k++)"
        f" if (k >= 0 && k < {width} && line[k] > s) s = line[k]; to[x] = s; }}\n"
    )
    return (
        f"  int first, last; share({channels}, t, threads, &first, &last);\n"
        f"  for (int c = first; c < last; c++)\n    for (int y = 0; y < {out_height}; y++) {{\n"
        f"      float line[{width}];\n"
        f"      int from = y * {down} - {above}, end = from + {layer.kernel[0]};\n"
        f"      from = from < 0 ? 0 : from; end = end > {height} ? {height} : end;\n"
        f"      const float *p = i + (ptrdiff_t)c * {source.channel_stride} + from * {source.row_stride};\n"
        f"      memcpy(line, p, {4 * width});\n"
        "      for (from++; from < end; from++) {\n"
        f"        p += {source.row_stride};\n"
        f"        for (int x = 0; x < {width}; x++) {{ const float s = line[x], z = p[x]; line[x] = {joined}; }}\n"
        "      }\n"
        f"      float *restrict to = o + (ptrdiff_t)c * {out.channel_stride} + y * {out.row_stride};\n"
        f"      for (int x = 0; x < {begin}; x++) {at_border if begin else ';'}"
        f"      for (int x = {begin}; x < {end}; x++) {{ const int k = x * {across} - {left}; float s = line[k]; "
        f"{window} to[x] = s{scale}; }}\n"
        f"      for (int x = {end}; x < {out_width}; x++) {at_border if end < out_width else ';'}"
        "    }\n"
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
