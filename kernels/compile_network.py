"""A PyTorch network in, a folder with its C source, header, library and weights out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..files import write_bytes, write_text
from .compiler.emit.network import emit_network
from .compiler.emit.tiles import Tile
from .compiler.lower import lower
from .instruction_set import InstructionSet
from .toolchain import Toolchain
from .weight_types import FLOAT32

__all__ = ["CompiledFiles", "compile_network"]


@dataclass(frozen=True)
class CompiledFiles:
    """What was written.

    Attributes:
        source: C.
        header: C.
        library: The shared library.
        weights: What the library loads.
    """

    source: Path
    header: Path
    library: Path
    weights: Path


def compile_network(
    module: nn.Module,
    example_input: Tensor,
    folder: Path,
    instruction_set: InstructionSet,
    toolchain: Toolchain,
    tiles: Mapping[str, Tile] | None = None,
    prefix: str = "espalier",
    version: str = "",
    *,
    weight_type: str = FLOAT32,
) -> CompiledFiles:
    """Compile a network in evaluation mode.

    Args:
        module: Takes one tensor and returns one.
        example_input: Batch size 1.
        folder: Is made; files of the same names are replaced.
        instruction_set: What the code may use.
        toolchain: Makes the library.
        tiles: A tuner's choices by layer.
        prefix: Of the files' and the functions' names.
        version: Of Espalier, written into the library.
        weight_type: That the weights are rounded to, and stored as.

    Raises:
        ModelError: The network holds something that is not compiled.
        EspalierError: The C compiler fails.
    """
    network = lower(module, example_input, weight_type)
    source = emit_network(network, instruction_set, tiles, prefix, version)
    folder.mkdir(parents=True, exist_ok=True)
    files = CompiledFiles(*(folder / f"{prefix}.{suffix}" for suffix in ("c", "h", "so", "weights")))
    write_text(files.source, source.c)
    write_text(files.header, source.header)
    write_bytes(files.weights, source.weights)
    toolchain.library(files.source, files.library, instruction_set)
    return files
