"""Compiled libraries by the content of their source, kept in the cache folder: a C compiler takes a second for each."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from ..files import cache_folder, content_hash, write_text
from .compiler.emit.network import Source
from .instruction_set import InstructionSet
from .toolchain import Toolchain

__all__ = ["LibraryCache"]


class LibraryCache:
    """Shared libraries for one processor, made by one compiler.

    Args:
        instruction_set: What the code may use.
        toolchain: The compiler.
    """

    def __init__(self, instruction_set: InstructionSet, toolchain: Toolchain) -> None:
        self._instruction_set = instruction_set
        self._toolchain = toolchain

    @cached_property
    def _maker(self) -> str:
        """Everything beside the source that decides what is made."""
        return repr((self._toolchain.version, self._toolchain.flags(self._instruction_set)))

    def path(self, source: Source) -> Path:
        """Where the library of a source lies, or will lie."""
        return cache_folder() / "compiled" / f"{content_hash(self._maker, source.c, source.header)}.so"

    def library(self, source: Source) -> Path:
        """The library of a source, compiled unless it is known.

        Raises:
            EspalierError: The compiler fails.
        """
        path = self.path(source)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=path.parent) as folder:
                self._compile(source, Path(folder)).replace(path)
        return path

    def compile_ahead(self, sources: Iterable[Source]) -> Iterator[None]:
        """Compile those that are not known, on all processors.

        Yields:
            Whenever one more is ready.

        Raises:
            EspalierError: The compiler fails.
        """
        pending: deque[Future[Path]] = deque()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for source in sources:
                # Without the weights, which may be large.
                pending.append(pool.submit(self.library, replace(source, weights=b"")))
                while pending and pending[0].done():
                    pending.popleft().result()
                    yield
            for library in pending:
                library.result()
                yield

    def _compile(self, source: Source, folder: Path) -> Path:
        prefix = source.facts.prefix
        write_text(folder / f"{prefix}.c", source.c)
        write_text(folder / f"{prefix}.h", source.header)
        library = folder / f"{prefix}.so"
        self._toolchain.library(folder / f"{prefix}.c", library, self._instruction_set)
        return library
