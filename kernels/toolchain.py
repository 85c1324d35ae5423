"""C compilers: the system's, or the one in the ziglang wheel."""

import importlib.util
import platform
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
_FLAGS = (
    "-std=gnu11",
    "-O3",
    "-fno-math-errno",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-pthread",
    "-g0",
    "-Wno-psabi",
)

#: Names of the system's C compiler.
_SYSTEM = ("cc", "gcc", "clang")


@dataclass(frozen=True)
class Toolchain:
    """A C compiler for one target.

    Attributes:
        command: The compiler and the target's flags.
    """

    command: tuple[str, ...]

    @property
    def version(self) -> str:
        """What the compiler says of itself in its first line, and its target."""
        words = [*self.command, "--version"]
        said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        return f"{said.partition(chr(10))[0]} {self.command[-1] if '-target' in self.command else ''}".strip()

    @staticmethod
    def flags(instruction_set: InstructionSet) -> tuple[str, ...]:
        """What decides what the compiler makes of a source."""
        return (*_FLAGS, *instruction_set.flags)

    def library(self, source: Path, library: Path, instruction_set: InstructionSet, extra: Sequence[str] = ()) -> None:
        """Make a shared library.

        Args:
            source: C.
            library: Is written, beside the source.
            instruction_set: What the code may use.
            extra: More flags, such as those of a sanitizer.

        Raises:
            EspalierError: The compiler fails.
        """
        self._compile([source], library, instruction_set, [*extra, "-shared", "-fPIC"])

    def static_program(self, sources: Sequence[Path], program: Path, instruction_set: InstructionSet) -> None:
        """Make a program that needs no library where it runs.

        Args:
            sources: C, all in one folder.
            program: Is written, beside the sources.
            instruction_set: What the code may use.

        Raises:
            EspalierError: The compiler fails.
        """
        self._compile(sources, program, instruction_set, ["-static"])

    def _compile(
        self, sources: Sequence[Path], output: Path, instruction_set: InstructionSet, flags: Sequence[str]
    ) -> None:
        # Names without folders, so that none stands in what is made.
        names = [source.name for source in sources]
        words = [*self.command, *self.flags(instruction_set), *flags, "-o", output.name, *names]
        result = subprocess.run(words, cwd=output.parent, capture_output=True, text=True, check=False)
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
    is_native = not triple or triple.split("-", maxsplit=1)[0] == platform.machine()
    if compiler not in ("", "zig"):
        if (found := shutil.which(compiler)) is None:
            raise EspalierError(f"there is no C compiler {compiler!r}; install it or leave target.compiler= away")
        return Toolchain((found,))
    if is_native and not compiler and (commands := [path for name in _SYSTEM if (path := shutil.which(name))]):
        return Toolchain((commands[0],))
    if not importlib.util.find_spec("ziglang"):
        what = "on this machine" if is_native else f"for the target {triple}"
        raise EspalierError(f"there is no C compiler {what}: pip install 'espalier[compile]', which brings one")
    # Without a target zig would use all that this processor can do.
    return Toolchain((sys.executable, "-m", "ziglang", "cc", "-target", triple or f"{platform.machine()}-linux-gnu"))
