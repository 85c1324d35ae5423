"""The latency tables of ProxylessNAS (Cai et al., ICLR 2019): blocks of a MobileNetV2 on a phone."""

from pathlib import Path

from ....errors import FormatError
from ....graph.opspec import OpSpec
from .foreign import Imported
from .mobile_blocks import convolution, inverted_residual, parse_key, read_phone_table

__all__ = ["can_read", "read"]

_NUMBERS = ("expand", "kernel", "stride", "idskip")


def can_read(head: bytes) -> bool:
    """Whether the first bytes of a file look like such a table."""
    return b"-input:" in head and b"\n  var: " in head and b"-se:" not in head


def read(path: Path) -> Imported:
    """Read `pixel1_mobile_trim.yaml` of han-cai/files and its like: `count`, `mean` (ms) and `var` for each key.

    `expand` is the ratio of the inner channels to the block's inputs; activations are ReLU6. `Logits` pools before it
    classifies.

    Raises:
        FormatError: The file is damaged or in another syntax.
    """
    source = "Cai, Zhu, Han: ProxylessNAS, ICLR 2019; table from han-cai/files"
    return read_phone_table(path, source, "var", _operators)


def _operators(text: str, where: str) -> list[OpSpec]:
    key = parse_key(text, _NUMBERS, where)
    source, output = key.input_shape, key.output_shape
    if key.name == "expanded_conv":
        return inverted_residual(key, round(source[0] * key.numbers["expand"]), "relu6", where)
    if key.name == "Conv":
        return convolution(source, output, kernel=3, stride=2, activation="relu6")
    if key.name == "Conv_1":
        return convolution(source, output, activation="relu6")
    if key.name == "Logits":
        pooled = (source[0], 1, 1)
        return [OpSpec("global_avg_pool2d", source, pooled), OpSpec("linear", (source[0],), output, bias=True)]
    raise FormatError(f"{where}: unknown block {key.name[:40]!r}; known: Conv, Conv_1, Logits, expanded_conv")
