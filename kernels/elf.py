"""What a shared library says of itself, read before the system loads it."""

import platform
import struct
from pathlib import Path

from ..errors import FormatError

__all__ = ["check_library"]

#: Codes of processor families (System V ABI, e_machine), as `uname -m` calls them.
_MACHINES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}

#: Of a file for processors of 64 bits, little-endian: how it begins, and its header.
_MAGIC = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")


def check_library(path: Path) -> None:
    """Refuse what would end the process, or fail with the system's words: loading a file that was cut is a bus error.

    Args:
        path: Of the library.

    Raises:
        FormatError: It is no whole library for this machine's processor family.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise FormatError(f"{path} is no shared library; expected the one that `espalier compile` wrote")
    fields = _HEADER.unpack(header)
    machine, sections, section_bytes, n_sections = fields[2], fields[6], fields[11], fields[12]
    # The table of sections stands at the end of the file.
    if size < sections + section_bytes * n_sections:
        raise FormatError(f"{path} is cut short: {size} bytes, it should have {sections + section_bytes * n_sections}")
    if _MACHINES.get(machine) != platform.machine():
        name = _MACHINES.get(machine, f"processor family {machine}")
        raise FormatError(f"{path} is compiled for {name}, this machine is {platform.machine()}; use target=host")
