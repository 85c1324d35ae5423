"""What a network is compiled for."""

import importlib.util
import platform
import re
import shutil
from dataclasses import dataclass

from .instruction_set import InstructionSet, host_instruction_set, instruction_set
from .toolchain import Toolchain, find_toolchain

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """A processor, its operating system, and who compiles for it.

    Attributes:
        name: As in its configuration.
        instructions: Name of an instruction set; "host" for the widest that this machine executes.
        triple: Zig's name of processor and system, such as "aarch64-linux-gnu"; "" for this machine's.
        compiler: "zig" or a command; "" for the system's compiler where it makes code for the target, else zig.

    Raises:
        EspalierError: There is no such instruction set.
    """

    name: str
    instructions: str
    triple: str = ""
    compiler: str = ""

    def __post_init__(self) -> None:
        if self.instructions != "host":
            instruction_set(self.instructions)

    @property
    def instruction_set(self) -> InstructionSet:
        """What the code may use."""
        return host_instruction_set() if self.instructions == "host" else instruction_set(self.instructions)

    @property
    def machine(self) -> str:
        """The processor family, as `uname -m` calls it."""
        return self.triple.split("-")[0] or platform.machine()

    @property
    def is_native(self) -> bool:
        """Whether it is the processor family of this machine."""
        return self.machine == platform.machine()

    @property
    def runs_here(self) -> bool:
        """Whether this machine executes what is compiled for it."""
        return self.is_native and self.instruction_set.runs_here

    @property
    def emulator(self) -> str:
        """The command that executes it on another machine's processor; "" where there is none, or no zig."""
        if not importlib.util.find_spec("ziglang"):
            return ""
        names = (f"qemu-{self.machine}", f"qemu-{self.machine}-static")
        return next((found for name in names if (found := shutil.which(name))), "")

    def toolchain(self) -> Toolchain:
        """Its C compiler.

        Raises:
            EspalierError: There is none.
        """
        return find_toolchain(self.triple, self.compiler)

    def static_toolchain(self) -> Toolchain:
        """Its C compiler for programs without shared libraries: zig with the C library musl.

        Raises:
            EspalierError: There is none.
        """
        return find_toolchain(re.sub(r"gnu(\w*).*", r"musl\1", self.triple), "zig")
