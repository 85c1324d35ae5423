"""The latency and energy table of the BitFusion accelerator that APQ was searched with (Wang et al., CVPR 2020)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....errors import FormatError
from ....graph.opspec import OpSpec
from ..document import read_strict_json
from ..entry import read_number
from ..table import Entry, LookupTable
from .foreign import Imported, read_bytes

__all__ = ["can_read", "read"]

_KEY = re.compile(r"\((\d{1,6}(?:, \d{1,6}){6})\)-W(\d{1,2})A(\d{1,2})")

#: The number format that `OpSpec.bits` can state.
_BYTES = ("8", "8")


def can_read(head: bytes) -> bool:
    """Whether the first bytes of an unpacked file look like such a table."""
    return head.lstrip().startswith(b"{") and re.search(rb'\)-W\d+A\d+"', head) is not None


def read(path: Path) -> Imported:
    """Read `bitfusion_latency_energy.json.gz` of mit-han-lab/apq: `latency` and `energy` of convolutions.

    A key is (input channels, output channels, height and width, kernel, stride, padding, groups) and the bits of
    weights and activations. The file says in what unit neither latency nor energy is: both stay relative. Entries of 8
    and 8 bits are 8-bit operators; the others keep a key of their own, such as `...@w4a8`. `head` and `tail` stand for
    several operators that the file does not name: they are left out.

    Raises:
        FormatError: The file is damaged or in another syntax.
    """
    values = read_strict_json(read_bytes(path), f"{path} is not a table of BitFusion")
    if not isinstance(values, Mapping):
        raise FormatError(f"{path} is not a table of BitFusion: expected an object")
    table = LookupTable(
        "bitfusion",
        "BitFusion accelerator, simulated",
        {},
        "BitFusion (Sharma et al., ISCA 2018)",
        created="not stated in the file",
        unit="relative",
        energy_unit="relative",
        source="Wang et al.: APQ, CVPR 2020; table from mit-han-lab/apq (BSD style); its units are not documented",
    )
    left_out = []
    for key, figures in values.items():
        entry = _entry(str(key), figures, f"{path}, entry {str(key)[:80]}")
        if entry is None:
            left_out.append(f"{key}: its operators are not named")
        else:
            table.add(entry)
    return Imported(table, tuple(left_out))


def _entry(key: str, figures: Any, where: str) -> Entry | None:
    if not isinstance(figures, Mapping) or set(figures) != {"latency", "energy"}:
        raise FormatError(f"{where}: expected an object with latency and energy")
    latency, energy = (read_number(figures[name], name, where) for name in ("latency", "energy"))
    if key in ("head", "tail"):
        return None
    found = _KEY.fullmatch(key)
    if not found:
        raise FormatError(f"{where}: expected (in, out, size, kernel, stride, padding, groups)-W8A8")
    spec = _convolution([int(number) for number in found[1].split(", ")], where)
    number_format = "" if found.group(2, 3) == _BYTES else f"w{found[2]}a{found[3]}"
    return Entry(spec, latency, 0.0, 1, energy, number_format)


def _convolution(numbers: list[int], where: str) -> OpSpec:
    in_channels, out_channels, size, kernel, stride, padding, groups = numbers
    if 0 in (in_channels, out_channels, size, kernel, stride, groups) or in_channels % groups or out_channels % groups:
        raise FormatError(f"{where}: no convolution has such numbers")
    out_size = (size + 2 * padding - kernel) // stride + 1
    if out_size < 1:
        raise FormatError(f"{where}: the kernel is larger than the image")
    return OpSpec(
        "conv2d",
        (in_channels, size, size),
        (out_channels, out_size, out_size),
        (kernel, kernel),
        (stride, stride),
        (padding, padding),
        groups=groups,
        bits=8,
    )
