"""The key syntax of ProxylessNAS and Once-for-all, and the blocks that it names."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ....errors import FormatError
from ....graph.opspec import OpSpec
from ...predictors.measurement import Measurement
from ..table import Entry, LookupTable
from .foreign import Imported, mean_and_error, read_bytes, read_records

__all__ = ["BlockKey", "add_record", "inverted_residual", "parse_key", "read_phone_table", "squeeze_and_excitation"]

Shape = tuple[int, ...]

_SHAPE = re.compile(r"\d{1,5}(x\d{1,5}){0,2}")
_FLAG = re.compile(r"\d{1,5}")
_IMAGE_AXES = 3


@dataclass(frozen=True)
class BlockKey:
    """A key such as `expanded_conv-input:14x14x80-output:14x14x96-expand:3-kernel:5-stride:1-idskip:0`.

    Attributes:
        name: What the block is.
        input_shape: (channels, height, width); the file has the channels last.
        output_shape: The same, or (features,).
        numbers: The other parts of the key.
    """

    name: str
    input_shape: Shape
    output_shape: Shape
    numbers: dict[str, int]


def parse_key(key: str, known: tuple[str, ...], where: str) -> BlockKey:
    """Take a key apart.

    Args:
        key: As the file has it.
        known: Names of numbers that an `expanded_conv` must have; other blocks have none.
        where: File and entry, for error messages.

    Raises:
        FormatError: The key is written differently.
    """
    name, *parts = key.split("-")
    values = dict(part.partition(":")[::2] for part in parts)
    shapes = [values.pop(side, "") for side in ("input", "output")]
    expected = set(known) if name == "expanded_conv" else set()
    is_sound = all(_SHAPE.fullmatch(text) for text in shapes) and all(_FLAG.fullmatch(v) for v in values.values())
    if not is_sound or set(values) != expected or len(values) + len(shapes) != len(parts):
        wanted = "".join(f"-{number}:N" for number in known)
        raise FormatError(f"{where}: expected NAME-input:HxWxC-output:HxWxC, and of an expanded_conv {wanted}")
    read = [_channels_first(tuple(int(size) for size in text.split("x"))) for text in shapes]
    if any(0 in shape for shape in read):
        raise FormatError(f"{where}: a shape of no elements")
    return BlockKey(name, read[0], read[1], {number: int(text) for number, text in values.items()})


def _channels_first(shape: Shape) -> Shape:
    return (shape[-1], *shape[:-1])


def convolution(
    source: Shape, output: Shape, kernel: int = 1, stride: int = 1, groups: int = 1, activation: str = ""
) -> list[OpSpec]:
    """A convolution whose batch-norm is folded, and the activation after it, merged where engines merge it."""
    merged = activation if activation in ("relu", "relu6") else ""
    padding = kernel // 2
    spec = OpSpec(
        "conv2d",
        source,
        output,
        (kernel, kernel),
        (stride, stride),
        (padding, padding),
        groups=groups,
        bias=True,
        activation=merged,
    )
    alone = [OpSpec("activation", output, output, activation=activation)] if activation != merged else []
    return [spec, *alone]


def squeeze_and_excitation(shape: Shape) -> list[OpSpec]:
    """Once-for-all's: a quarter of the channels, as a multiple of 8 that loses no more than a tenth; hard sigmoid."""
    channels = shape[0]
    pooled = (channels, 1, 1)
    quarter = channels // 4
    reduced = max(8, (quarter + 4) // 8 * 8)
    reduced += 8 if reduced < 0.9 * quarter else 0
    return [
        OpSpec("global_avg_pool2d", shape, pooled),
        *convolution(pooled, (reduced, 1, 1), activation="relu"),
        *convolution((reduced, 1, 1), pooled, activation="hardsigmoid"),
        OpSpec("elementwise", shape, shape, n_inputs=2),
    ]


def inverted_residual(key: BlockKey, middle: int, activation: str, where: str) -> list[OpSpec]:
    """Expand 1x1, depthwise k x k, project 1x1 (Sandler et al. 2018); a block of expansion 1 does not expand.

    Args:
        key: Its shapes, kernel and stride, and whether it has a shortcut and squeeze-and-excitation.
        middle: Channels of the depthwise convolution.
        activation: Of the first two convolutions.
        where: File and entry, for error messages.

    Raises:
        FormatError: The shapes contradict the stride or the shortcut.
    """
    source, output, stride = key.input_shape, key.output_shape, key.numbers["stride"]
    inner = (middle, *output[1:])
    is_image = len(source) == len(output) == _IMAGE_AXES
    if not is_image or stride < 1 or [-(-size // stride) for size in source[1:]] != list(output[1:]):
        raise FormatError(f"{where}: stride {stride} does not lead from {source} to {output}")
    if middle < 1 or key.numbers["kernel"] % 2 == 0 or (key.numbers["idskip"] and source != output):
        raise FormatError(f"{where}: no block has such an expansion, kernel or shortcut")
    before = (middle, *source[1:])
    expanding = convolution(source, before, activation=activation) if middle != source[0] else []
    depthwise = convolution(before, inner, key.numbers["kernel"], stride, middle, activation)
    exciting = squeeze_and_excitation(inner) if key.numbers.get("se") else []
    shortcut = [OpSpec("add", output, output, n_inputs=2)] if key.numbers["idskip"] else []
    return [*expanding, *depthwise, *exciting, *convolution(inner, output), *shortcut]


def add_record(table: LookupTable, label: str, ops: list[OpSpec], figures: tuple[float, float, int]) -> None:
    """Put a record into a table: one operator as an entry, several as a block."""
    if len(ops) == 1:
        table.add(Entry(ops[0], *figures))
    else:
        table.add_block(Measurement(tuple(ops), *figures, label))


def read_phone_table(path: Path, source: str, spread: str, operators: Callable[[str, str], list[OpSpec]]) -> Imported:
    """Read a YAML file of blocks that were timed on a phone.

    Args:
        path: The file: `count`, `mean` (ms) and a spread of single runs for each key.
        source: Who published it.
        spread: What the file gives of the spread: "var" or "std".
        operators: Takes a key, and file and entry for error messages; gives the operators of the block.

    Raises:
        FormatError: The file is damaged or in another syntax.
    """
    table = LookupTable(
        path.stem,
        "TensorFlow Lite, float (as the paper says; the file does not)",
        {},
        "not stated in the file",
        created="not stated in the file",
        keeps_integers=False,
        source=source,
    )
    for key, values in read_records(read_bytes(path), str(path), ("count", "mean", spread)).items():
        where = f"{path}, entry {key[:120]}"
        variance = values[spread] if spread == "var" else values[spread] ** 2
        add_record(table, key, operators(key, where), mean_and_error(values, variance, where))
    return Imported(table)
