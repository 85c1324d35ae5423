"""What the emitted code has to know of a processor."""

import platform
from dataclasses import dataclass
from pathlib import Path

from ..errors import EspalierError

__all__ = ["INSTRUCTION_SETS", "InstructionSet", "host_instruction_set", "instruction_set"]


@dataclass(frozen=True)
class InstructionSet:
    """Vectors and registers.

    Attributes:
        name: As in a target's configuration.
        lanes: Floats of a vector.
        registers: Vector registers.
        flags: What C compilers need to be told.
        machine: The processor family, as `uname -m` calls it; "" for any.
        needed: Names of /proc/cpuinfo without which the code cannot run.
    """

    name: str
    lanes: int
    registers: int
    flags: tuple[str, ...]
    machine: str
    needed: tuple[str, ...] = ()

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector."""
        return 4 * self.lanes

    @property
    def runs_here(self) -> bool:
        """Whether this machine executes it."""
        return self.machine in ("", platform.machine()) and set(self.needed) <= _cpu_flags()


_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512")

#: By name, the widest first.
INSTRUCTION_SETS = {
    one.name: one
    for one in (
        InstructionSet(
            "avx512", 16, 32, _AVX512, "x86_64", ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma")
        ),
        InstructionSet("avx2", 8, 16, ("-mavx2", "-mfma"), "x86_64", ("avx2", "fma")),
        InstructionSet("neon", 4, 32, (), "aarch64"),
        InstructionSet("plain", 4, 16, (), ""),
    )
}


def host_instruction_set() -> InstructionSet:
    """The widest that this machine executes."""
    return next(one for one in INSTRUCTION_SETS.values() if one.runs_here)


def instruction_set(name: str) -> InstructionSet:
    """The instruction set of that name.

    Raises:
        EspalierError: There is none.
    """
    if name not in INSTRUCTION_SETS:
        raise EspalierError(f"unknown instruction set {name!r}; known: {', '.join(INSTRUCTION_SETS)}")
    return INSTRUCTION_SETS[name]


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())
