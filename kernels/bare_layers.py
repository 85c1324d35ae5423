"""A network's source whose `run` computes its layers and copies neither inputs nor outputs, to time them alone."""

import re
from dataclasses import replace

from .compiler.emit.network import Source

__all__ = ["bare_layers"]

#: The function that calls one layer after the other: the first copies the input, the last the output.
_WORK = re.compile(
    r"(static void work\(const struct network \*n, int t\) \{\n)"
    r"  layer_0\(n, t\);\n  wait_for_all\(n, t\);\n"
    r"((?:  layer_\d+\(n, t\);\n  wait_for_all\(n, t\);\n)*?)"
    r"  layer_\d+\(n, t\);\n  wait_for_all\(n, t\);\n\}"
)


def bare_layers(source: Source) -> Source:
    """The same network on what its memory holds: zeros as inputs, and outputs that stay inside.

    In a whole network the copies happen once and not at each layer.
    """
    text, count = _WORK.subn(r"\1\2}", source.c)
    assert count == 1, "the emitted source has another shape"
    return replace(source, c=text)
