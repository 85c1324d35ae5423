"""Maxima and means of windows."""

from ..ir import GlobalPool, Pool
from .elementwise import at, loops
from .program import Program

__all__ = ["emit_global_pool", "emit_pool"]


def emit_pool(program: Program, layer: Pool) -> None:
    """Add a pool to a program: windows inside the image without questions, those at its border with them."""
    source, out = program.layouts[layer.inputs[0]], program.layouts[layer.name]
    height, width = source.shape[1:]
    text = f"  const float *i = {program.tensor(layer.inputs[0])};\n  float *o = {program.tensor(layer.name)};\n"
    reach = [
        (size - 1) * stride + kernel - padding
        for size, stride, kernel, padding in zip(
            layer.shape[1:], layer.stride, layer.kernel, layer.padding, strict=True
        )
    ]
    if layer.padding == (0, 0) and reach[0] <= height and reach[1] <= width:
        body = _inner(layer, at(source, "c", f"y * {layer.stride[0]} + %d", f"x * {layer.stride[1]} + %d"))
    else:
        body = _at_border(layer, at(source, "c", "iy", "ix"), height, width)
    program.layer(f"{layer.name}: pool", text + loops(out, f"{body} o[{at(out)}] = s;"))


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
