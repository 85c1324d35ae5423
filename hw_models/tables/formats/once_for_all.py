"""The latency tables of Once-for-all (Cai et al., ICLR 2020): blocks of a MobileNetV3 on a phone."""

from pathlib import Path

from ....errors import FormatError
from ....graph.opspec import OpSpec
from .foreign import Imported
from .mobile_blocks import convolution, inverted_residual, parse_key, read_phone_table

__all__ = ["can_read", "read"]

_NUMBERS = ("expand", "kernel", "stride", "idskip", "se", "hs")


def can_read(head: bytes) -> bool:
    """Whether the first bytes of a file look like such a table."""
    return b"-input:" in head and b"\n  std: " in head


def read(path: Path) -> Imported:
    """Read `note10_224.yaml` of han-cai/files and its like: `count`, `mean` (ms) and `std` for each key.

    Here `expand` is the number of inner channels itself. `se:1` puts a squeeze-and-excitation after the depthwise
    convolution; `hs:1` makes the activations hard swishes, `hs:0` ReLUs.

    Raises:
        FormatError: The file is damaged or in another syntax.
    """
    source = "Cai, Gan, Wang, Zhang, Han: Once-for-All, ICLR 2020; table from han-cai/files"
    return read_phone_table(path, source, "std", _operators)


def _operators(text: str, where: str) -> list[OpSpec]:
    key = parse_key(text, _NUMBERS, where)
    source, output = key.input_shape, key.output_shape
    if key.name == "expanded_conv":
        return inverted_residual(key, key.numbers["expand"], "hardswish" if key.numbers["hs"] else "relu", where)
    if key.name == "Conv":
        return convolution(source, output, kernel=3, stride=2, activation="hardswish")
    if key.name in ("Conv_1", "Conv_2"):
        return convolution(source, output, activation="hardswish")
    if key.name == "AvgPool2D":
        return [OpSpec("global_avg_pool2d", source, output)]
    if key.name == "Logits":
        return [OpSpec("linear", (source[0],), output, bias=True)]
    known = "AvgPool2D, Conv, Conv_1, Conv_2, Logits, expanded_conv"
    raise FormatError(f"{where}: unknown block {key.name[:40]!r}; known: {known}")
