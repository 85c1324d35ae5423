"""The C around the layers: the network's memory, its threads, its weights file, and the functions that a user calls."""

from dataclasses import dataclass
from importlib.resources import files

from .calls import all_calls
from .program import MAX_THREADS, Program

__all__ = ["ERRORS", "FORMAT_VERSION", "HEADER_BYTES", "MAGIC", "Facts", "after_layers", "before_layers", "header"]

MAGIC = b"ESPALIER"
FORMAT_VERSION = 1
HEADER_BYTES = 64

#: How often a thread looks for the next inference before it sleeps: some 0.2 ms.
_SPINS = 10_000

#: Where the processor says that it has some instructions: in the words of its leaves 1 and 7.
_CPUID = {
    "avx2": "seventh >> 5",
    "avx512bw": "seventh >> 30",
    "avx512dq": "seventh >> 17",
    "avx512f": "seventh >> 16",
    "avx512vl": "seventh >> 31",
    "fma": "first >> 12",
}

#: What the functions return -> what it means.
ERRORS = {
    1: "the weights file cannot be opened",
    2: "the file is no weights file of Espalier, or of another version of its format",
    3: "the weights file belongs to another network",
    4: "the weights file is damaged",
    5: "there is not enough memory",
    6: "this processor lacks instructions that the network was compiled for",
    7: "an argument is out of range",
    8: "a thread cannot be started",
}


@dataclass(frozen=True)
class Facts:
    """What a compiled network says of itself.

    Attributes:
        prefix: Of its functions.
        json: What its function `version` returns.
        structure: 64 bits that say which weights file fits.
        input_floats: Of one input.
        output_floats: Of one output.
    """

    prefix: str
    json: str
    structure: int
    input_floats: int
    output_floats: int


def _filled(template: str, **values: object) -> str:
    """A template of the folder beside this file, with what stands between two @ replaced."""
    text = files(__package__).joinpath("templates", template).read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def before_layers(program: Program, facts: Facts) -> str:
    """What layers need: the network's structure, and waiting for other threads."""
    return "\n" + _filled(
        "before_layers.c",
        PREFIX=facts.prefix,
        MAX_THREADS=MAX_THREADS,
        SCRATCH=program.arena_floats,
        PRIVATE=program.arena_floats + program.scratch_floats,
        PRIVATE_FLOATS=program.private_floats,
    )


def after_layers(program: Program, facts: Facts, is_timed: bool = False) -> str:
    """What calls the layers.

    Args:
        program: With all layers.
        facts: Of the network.
        is_timed: Whether the time of each call is kept, for a tuner.
    """
    calls, before = all_calls(program, is_timed), ""
    if is_timed:
        before = "\n" + _filled("times.c", CALLS=max(1, len(program.calls)), PREFIX=facts.prefix)
    indices = [section for section in program.sections if section.index_bytes]
    lines = ", ".join(
        f"{{{s.offset}, {len(s.data) // s.index_bytes}, {s.smallest}, {s.largest}, {s.index_bytes}}}" for s in indices
    )
    arena_bytes = 4 * (program.arena_floats + program.scratch_floats + 16 * program.lanes)
    needed = program.instruction_set.needed
    return (
        before
        + "\n"
        + _filled(
            "after_layers.c",
            CALLS=calls,
            PREFIX=facts.prefix,
            INDICES=lines or "{0, 0, 0, 0, 4}",
            HEADER=HEADER_BYTES,
            MAGIC=MAGIC.decode(),
            FORMAT=FORMAT_VERSION,
            STRUCTURE=facts.structure,
            DATA=program.data_bytes,
            ARENA=arena_bytes,
            PRIVATE=4 * program.private_floats,
            MASKS=_masks(program),
            MAX_THREADS=MAX_THREADS,
            SPINS=_SPINS,
            HAS_NEEDS=int(bool(needed)),
            STATE="0xe6" if "avx512f" in needed else "0x6",
            NEEDS=" && ".join(f"({_CPUID[name]} & 1)" for name in needed) or "1",
            INPUT=facts.input_floats,
            OUTPUT=facts.output_floats,
            JSON='"' + facts.json.replace("\\", "\\\\").replace('"', '\\"') + '"',
        )
    )


def _masks(program: Program) -> str:
    """All bits set where a point of a plane is a pixel."""
    lines = []
    for layout, place in program.masks.items():
        _, height, width = layout.shape
        lines.append(
            f"    for (int y = 0; y < {height}; y++)\n"
            f"      memset(a + {place} + y * {layout.row_stride}, 0xff, {4 * width});"
        )
    return "\n".join(lines)


def header(facts: Facts) -> str:
    """The header file."""
    errors = "\n".join(f"   {code}: {meaning}" for code, meaning in ERRORS.items())
    return _filled(
        "interface.h",
        TITLE="A network compiled by Espalier.",
        GUARD=facts.prefix.upper(),
        ERRORS=errors,
        PREFIX=facts.prefix,
        MAX_THREADS=MAX_THREADS,
        INPUT=facts.input_floats,
        OUTPUT=facts.output_floats,
    )
