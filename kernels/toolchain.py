"""C compilers: the system's, or the one in the ziglang wheel."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import EspalierError
from .instruction_set import InstructionSet

__all__ = ["Toolchain", "find_toolchain"]

#: Nothing that depends on time, folder or chance.
_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden", "-pthread", "-Wno-psabi")


@dataclass(frozen=True)
class Toolchain:
    """A C compiler for one target.

    Attributes:
        command: The compiler and the target's flags.
    """

    command: tuple[str, ...]

    def library(self, source: Path, library: Path, instruction_set: InstructionSet, extra: Sequence[str] = ()) -> None:
        """Make a shared library.

        Args:
            source: C.
            library: Is written.
            instruction_set: What the code may use.
            extra: More flags, such as those of a sanitizer.

        Raises:
            EspalierError: The compiler fails.
        """
        flags = [*_FLAGS, *instruction_set.flags, *extra, "-shared", "-fPIC", "-o", str(library.name), str(source.name)]
        result = subprocess.run([*self.command, *flags], cwd=source.parent, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            lines = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
            reason = lines[0] if lines else f"exit status {result.returncode}"
            raise EspalierError(f"the C compiler {self.command[0]} fails: {reason}")


def find_toolchain(triple: str = "", compiler: str = "") -> Toolchain:
    """The compiler for a target.

    Args:
        triple: Zig's name of the target, such as "aarch64-linux-gnu"; "" for this machine.
        compiler: "cc" or another command, "zig"; "" takes the system's for this machine if there is one.

    Raises:
        EspalierError: There is none.
    """
    if not triple and compiler != "zig":
        for name in (compiler,) if compiler else ("cc", "gcc", "clang"):
            if (found := shutil.which(name)) is not None:
                return Toolchain((found,))
        if compiler:
            raise EspalierError(f"there is no C compiler {compiler!r}; install it or leave compiler= away")
    if importlib.util.find_spec("ziglang") is None:
        what = f"for the target {triple}" if triple else "on this machine"
        raise EspalierError(f"there is no C compiler {what}: pip install 'espalier[compile]', which brings one")
    target = ("-target", triple) if triple else ()
    return Toolchain((sys.executable, "-m", "ziglang", "cc", *target))
