"""What reads each number once: sums, activations, copies from layout to layout, softmax."""

from ..ir import Activation, Add, BatchNorm, Concat, Place, Rounding, Softmax, Step, View
from ..layout import Layout
from .prelude import activated
from .program import Program, numbers

__all__ = ["emit_by_element", "emit_concat", "emit_place", "emit_softmax", "emit_step", "emit_view", "loops"]


def at(layout: Layout, channel: str = "c", y: str = "y", x: str = "x") -> str:
    """C for a number's offset in a tensor."""
    return (
        f"((ptrdiff_t)({channel}) * {layout.channel_stride} + "
        f"(({y}) * {layout.row_stride} + ({x})) * {layout.point_stride})"
    )


def loops(layout: Layout, body: str) -> str:
    """C that runs over a tensor's numbers, adjacent ones innermost; threads share the channels.

    Args:
        layout: Of the tensor that is written.
        body: Of c, y and x.
    """
    channels, height, width = layout.shape
    share = f"  int first, last; share({channels}, t, threads, &first, &last);\n"
    over = {
        "c": "for (int c = first; c < last; c++)",
        "y": f"for (int y = 0; y < {height}; y++)",
        "x": f"for (int x = 0; x < {width}; x++)",
    }
    order = "cyx" if layout.is_planar else "yxc"
    return share + "".join(f"  {over[axis]}\n" for axis in order) + f"  {{ {body} }}\n"


def emit_by_element(program: Program, layer: Activation | Add | BatchNorm | Rounding) -> None:
    """Add a layer that gives each number from those at its place."""
    out = program.layouts[layer.name]
    values = [f"i{place}[{at(program.layouts[name])}]" for place, name in enumerate(layer.inputs)]
    text = "".join(f"  const float *i{place} = {program.tensor(name)};\n" for place, name in enumerate(layer.inputs))
    text += f"  float *o = {program.tensor(layer.name)};\n"
    if isinstance(layer, BatchNorm):
        scale, shift = program.floats(layer.scale), program.floats(layer.shift)
        text += f"  const float *scale = {scale}, *shift = {shift};\n"
        value = f"{values[0]} * scale[c] + shift[c]"
    elif isinstance(layer, Rounding):
        grid = f"{_float(layer.scale)}, {layer.zero_point}.0f, {layer.lowest}.0f, {layer.highest}.0f"
        value = f"rounded({values[0]}, {grid})"
    else:
        value = " + ".join(values)
    function = layer.function if isinstance(layer, Activation) else layer.activation if isinstance(layer, Add) else ""
    value = _scalar(value, function)
    program.layer(f"{layer.name}: {type(layer).__name__.lower()}", text + loops(out, f"o[{at(out)}] = {value};"))


def _scalar(value: str, activation: str) -> str:
    """C for an activation of one number; the common ones without vectors, so that compilers make vectors of them."""
    if activation == "relu":
        return f"({value}) < 0.0f ? 0.0f : ({value})"
    if activation == "relu6":
        return f"({value}) < 0.0f ? 0.0f : ({value}) > 6.0f ? 6.0f : ({value})"
    return f"{activated(f'splat({value})', activation)}[0]" if activation else value


def _float(value: float) -> str:
    return f"{value!r}f" if "." in repr(value) or "e" in repr(value) else f"{value!r}.0f"


def emit_concat(program: Program, layer: Concat) -> None:
    """Add copies of several tensors' channels after each other."""
    out, first = program.layouts[layer.name], 0
    for name in layer.inputs:
        source = program.layouts[name]
        body = f"o[{at(out, f'c + {first}')}] = i[{at(source)}];"
        text = f"  const float *i = {program.tensor(name)};\n  float *o = {program.tensor(layer.name)};\n"
        program.layer(f"{layer.name}: channels of {name}", text + loops(source, body))
        first += source.shape[0]


def emit_place(program: Program, layer: Place) -> None:
    """Add a choice of channels and pixels."""
    source, out = program.layouts[layer.inputs[0]], program.layouts[layer.name]
    y = f"y * {layer.stride[0]} + {layer.offset[0]}"
    x = f"x * {layer.stride[1]} + {layer.offset[1]}"
    height, width = source.shape[1:]
    body = (
        f"const int s = sources[c], iy = {y}, ix = {x}; "
        f"o[{at(out)}] = s >= 0 && iy >= 0 && iy < {height} && ix >= 0 && ix < {width} "
        f"? i[{at(source, 's', 'iy', 'ix')}] : 0.0f;"
    )
    text = f"  const float *i = {program.tensor(layer.inputs[0])};\n  float *o = {program.tensor(layer.name)};\n"
    program.layer(f"{layer.name}: channels and pixels", numbers("sources", layer.sources) + text + loops(out, body))


def emit_step(program: Program, layer: Step) -> None:
    """Add a copy of one step of a sequence."""
    source, out = program.layouts[layer.inputs[0]], program.layouts[layer.name]
    text = f"  const float *i = {program.tensor(layer.inputs[0])};\n  float *o = {program.tensor(layer.name)};\n"
    program.layer(
        f"{layer.name}: step {layer.step}",
        text + loops(out, f"o[{at(out)}] = i[{at(source, 'c', '0', str(layer.step))}];"),
    )


def emit_view(program: Program, layer: View) -> None:
    """Add a copy in another shape."""
    source, out = program.layouts[layer.inputs[0]], program.layouts[layer.name]
    _, height, width = layer.shape
    _, from_height, from_width = source.shape
    body = (
        f"const int k = (c * {height} + y) * {width} + x; o[{at(out)}] = "
        f"i[{at(source, f'k / {from_height * from_width}', f'k / {from_width} % {from_height}', f'k % {from_width}')}];"
    )
    text = f"  const float *i = {program.tensor(layer.inputs[0])};\n  float *o = {program.tensor(layer.name)};\n"
    program.layer(f"{layer.name}: another shape", text + loops(out, body))


def emit_softmax(program: Program, layer: Softmax) -> None:
    """Add a softmax over a vector."""
    source, out = program.layouts[layer.inputs[0]], program.layouts[layer.name]
    count = layer.shape[0]
    result = "(z - top) - logarithm(sum)" if layer.is_log else "exponential(splat(z - top))[0] / sum"
    step, out_step = source.channel_stride, out.channel_stride
    program.layer(
        f"{layer.name}: softmax",
        f"  if (t) return;\n  const float *i = {program.tensor(layer.inputs[0])};\n"
        f"  float *o = {program.tensor(layer.name)};\n  float top = i[0], sum = 0.0f;\n"
        f"  for (int c = 1; c < {count}; c++) if (i[c * {step}] > top) top = i[c * {step}];\n"
        f"  for (int c = 0; c < {count}; c++) sum += exponential(splat(i[c * {step}] - top))[0];\n"
        f"  for (int c = 0; c < {count}; c++) {{ const float z = i[c * {step}]; o[c * {out_step}] = {result}; }}\n",
    )
