"""What is gathered while layers are emitted: functions, their order, weights, memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...instruction_set import InstructionSet
from ...weight_types import FLOAT32, stored
from ..ir import INPUT, Floats
from ..layout import Layout
from ..strips import Strip
from .decoding import C_TYPES
from .point_kernels import PointKernel
from .tiles import Tile

__all__ = ["MAX_THREADS", "Loop", "Program", "Section"]

_TileT = TypeVar("_TileT", bound=Tile)

#: Of one network.
MAX_THREADS = 16

#: Of sections, in bytes.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Section:
    """A piece of the weights file.

    Attributes:
        offset: Bytes from the start of the data.
        data: Its bytes.
        index_bytes: 2 or 4 where it holds indices, else 0.
        smallest: Of its indices.
        largest: Of its indices.
    """

    offset: int
    data: bytes
    index_bytes: int = 0
    smallest: int = 0
    largest: int = 0


@dataclass(frozen=True)
class Loop:
    """Functions that are called strip by strip.

    Attributes:
        first: Place of the first among all calls.
        end: Place after the last.
        count: Strips.
    """

    first: int
    end: int
    count: int


@dataclass
class Program:
    """A network on its way to C.

    Attributes:
        instruction_set: Whose vectors are used.
        layouts: Of every tensor by name.
        places: Where every tensor begins in the arena, in floats.
        tiles: A tuner's choices by layer.
        strips: Of the tensors that are made strip by strip.
        owners: Of each function of `calls` the layer that it is of.
        loops: Which of `calls` are repeated, strip by strip.
        weight_types: Of the weights that are no floats.
    """

    instruction_set: InstructionSet
    layouts: dict[str, Layout]
    places: dict[str, int]
    arena_floats: int = 0
    tiles: Mapping[str, Tile] = field(default_factory=dict)
    strips: dict[str, Strip] = field(default_factory=dict)
    scratch_floats: int = 0
    private_floats: int = 0
    sections: list[Section] = field(default_factory=list)
    data_bytes: int = 0
    kernels: dict[str, str] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    masks: dict[Layout, int] = field(default_factory=dict)
    weight_types: set[str] = field(default_factory=set)
    _point_kernels: dict[str, str] = field(default_factory=dict)

    @property
    def lanes(self) -> int:
        """Floats of a vector."""
        return self.instruction_set.lanes

    def tensor(self, name: str) -> str:
        """C for the address of a tensor's first number; where only a strip exists, of where it would be in strip s."""
        if self.is_given(name):
            return "(n->input)"
        layout, strip = self.layouts[name], self.strips.get(name)
        place = self.places[name] + layout.lead
        if strip is None or not strip.is_short:
            return f"(a + {place})"
        begin = place + (strip.halo + strip.lag) * layout.row_stride
        return f"(a + ({begin} - s * {strip.rows * layout.row_stride}))"

    def is_given(self, name: str) -> bool:
        """Whether a tensor is the user's, beyond whose end nothing may be read."""
        return name == INPUT and self.layouts[name].length == 0

    def tile(self, name: str, kind: type[_TileT]) -> _TileT | None:
        """A tuner's choice for a layer; None where it made none.

        Raises:
            ValueError: It is for another kind of kernel.
        """
        tile = self.tiles.get(name)
        if tile is not None and not isinstance(tile, kind):
            raise ValueError(f"layer {name!r} is computed over {kind.kind}: expected a {kind.__name__}, got {tile}")
        return tile

    def scratch(self, floats: int) -> str:
        """C for the address of memory that a layer may use while it runs."""
        self.scratch_floats = max(self.scratch_floats, floats)
        return "(a + SCRATCH)"

    def private(self, floats: int) -> str:
        """The same of memory that thread t has for itself."""
        self.private_floats = max(self.private_floats, -(-floats // 16) * 16)
        return "(a + PRIVATE + t * PRIVATE_FLOATS)"

    def mask(self, layout: Layout) -> str:
        """C for the address of a plane's mask: all bits set where a point is a pixel."""
        layout = replace(layout, channel_stride=0, lead=0, length=0)
        if layout not in self.masks:
            self.masks[layout] = self.arena_floats
            self.arena_floats += (-(-layout.points // self.lanes) + 4) * self.lanes
        return f"((const int32_t *)(a + {self.masks[layout]}))"

    def floats(self, values: Floats) -> str:
        """Store floats; C for their address."""
        offset = self._store(np.ascontiguousarray(values, np.float32).tobytes())
        return f"((const float *)(n->data + {offset}))"

    def weights(self, values: Floats, scales: Floats, weight_type: str) -> str:
        """Store weights that are rounded to a type; C for `w`, and for `scale` where they are no floats."""
        if weight_type == FLOAT32:
            return f"  const float *w = {self.floats(values)};\n"
        self.weight_types.add(weight_type)
        # Who decodes whole vectors may read beyond the last weight.
        padded = np.concatenate([values, np.zeros(self.lanes, np.float32)])
        kind, offset = C_TYPES[weight_type], self._store(stored(padded, weight_type).tobytes())
        return (
            f"  const {kind} *w = (const {kind} *)(n->data + {offset});\n"
            f"  const float *scale = {self.floats(scales)};\n"
        )

    def indices(self, values: Sequence[int] | NDArray[np.int64]) -> tuple[str, str]:
        """Store offsets into a tensor; C for their type and their address."""
        array = np.asarray(values, np.int64)
        smallest, largest = (int(array.min()), int(array.max())) if len(array) else (0, 0)
        is_short = smallest >= 0 and largest < 2**16
        data = array.astype(np.uint16 if is_short else np.int32).tobytes()
        offset = self._store(data, 2 if is_short else 4, smallest, largest)
        kind = "uint16_t" if is_short else "int32_t"
        return kind, f"((const {kind} *)(n->data + {offset}))"

    def _store(self, data: bytes, *index: int) -> int:
        offset = self.data_bytes
        self.sections.append(Section(offset, data, *index))
        self.data_bytes = -(-(offset + len(data)) // _ALIGNMENT) * _ALIGNMENT
        return offset

    def kernel(self, name: str, text: str) -> str:
        """Add a kernel unless it is there; its name."""
        self.kernels.setdefault(name, text)
        return name

    def kernel_for(self, kernel: PointKernel) -> str:
        """Add a kernel over rows unless the same is there; its name."""
        text = kernel.text("NAME")
        known = {body: name for name, body in self._point_kernels.items()}
        name = known.get(text) or f"rows_{len(self._point_kernels)}"
        self._point_kernels[name] = text
        return self.kernel(name, text.replace("NAME", name))

    def layer(self, title: str, body: str, of_strips: bool = False, is_apart: bool = False) -> None:
        """Add a layer: the body of a function of `n`, the network, and `t`, the thread; of strips of `s`, too.

        Args:
            title: A comment.
            body: C.
            of_strips: Whether it is computed strip by strip.
            is_apart: Whether it stays a function of its own when the C compiler would merge it into its caller.
        """
        name = f"layer_{len(self.functions)}"
        apart = "__attribute__((noinline)) " if is_apart else ""
        arguments = f"const struct network *n, int t{', int s' if of_strips else ''}"
        self.functions.append(
            f"/* {title} */\n{apart}static void {name}({arguments}) {{\n"
            f"  float *restrict a = n->arena;\n  const int threads = n->threads;\n"
            f"  (void)a; (void)threads; (void)t;{' (void)s;' if of_strips else ''}\n{body}}}\n"
        )
        self.calls.append(name)
        self.owners.append(title.partition(":")[0])

    def looped(self, first: int, count: int) -> None:
        """Repeat the calls from that place on, strip by strip; the one that was added last becomes their first."""
        for calls in (self.calls, self.owners):
            calls.insert(first, calls.pop())
        self.loops.append(Loop(first, len(self.calls), count))


def table(name: str, rows: Sequence[Sequence[Any]]) -> str:
    """C for a constant table of integers; one row of zeros where there are none."""
    rows = rows or [(0,)]
    width = len(rows[0])
    lines = ",\n    ".join("{" + ", ".join(str(int(value)) for value in row) + "}" for row in rows)
    return f"  static const int32_t {name}[{len(rows)}][{width}] = {{\n    {lines}}};\n"


def numbers(name: str, values: Sequence[int]) -> str:
    """C for a constant list of integers."""
    text = ", ".join(str(int(value)) for value in values)
    return f"  static const int32_t {name}[{max(1, len(values))}] = {{{text or 0}}};\n"
