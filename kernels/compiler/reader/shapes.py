"""What changes shapes, or takes parts of tensors."""

from collections.abc import Sequence

from torch import fx

from ....errors import ModelError
from ..ir import Concat, Place, Step, View
from .graph import IMAGE, KINDS, SEQUENCE, SIGNAL, VECTOR, Graph, Known, Readers, image_shape
from .nodes import argument, shape_of, source_of

__all__ = ["READERS"]


def _cat(graph: Graph, node: fx.Node) -> None:
    sources: Sequence[fx.Node] = node.args[0]  # type: ignore[assignment]  # the tensors
    if any(source not in graph.known for source in sources):
        raise ModelError("a concatenation with a constant cannot be compiled")
    known = graph.known[sources[0]]
    if any(graph.known[source].kind != known.kind for source in sources):
        raise ModelError("a concatenation of signals with sequences cannot be compiled")
    axis = argument(node, 1, "dim", 0) % len(node.meta["val"].shape)
    if axis != (2 if known.kind == SEQUENCE else 1):
        raise ModelError(f"a concatenation along axis {axis} of {known.kind}s cannot be compiled")
    graph.add(node, Concat, *sources)


def _reshape(graph: Graph, node: fx.Node) -> None:
    """Numbers stay in order, so only the names of the axes change; steps of a sequence cannot be mixed so."""
    source = source_of(node)
    known, shape = graph.known[source], tuple(node.meta["val"].shape)
    if shape == tuple(source.meta["val"].shape):
        graph.known[node] = known
        return
    if known.kind == SEQUENCE or shape[0] != 1 or len(shape) not in KINDS:
        raise ModelError(f"a reshape of {known.kind} {known.shape} to {shape} cannot be compiled")
    graph.add(node, View, source, kind=KINDS[len(shape)])


def _unsqueeze(graph: Graph, node: fx.Node) -> None:
    source = source_of(node)
    if graph.known[source].kind != SIGNAL or node.args[1] not in (2, -2):
        raise ModelError("an unsqueeze is compiled only where it makes a signal an image of one row")
    graph.known[node] = Known(graph.known[source].name, IMAGE, graph.known[source].shape)


def _squeeze(graph: Graph, node: fx.Node) -> None:
    source = source_of(node)
    known = graph.known[source]
    shape = shape_of(node)
    kind = known.kind if shape == shape_of(source) else KINDS.get(len(shape), "")
    if not kind or image_shape(shape[1:], kind) != known.shape:
        raise ModelError(f"a squeeze of {known.kind} {known.shape} cannot be compiled")
    graph.known[node] = Known(known.name, kind, known.shape)


def _transpose(graph: Graph, node: fx.Node) -> None:
    source = source_of(node)
    known = graph.known[source]
    other = {SIGNAL: SEQUENCE, SEQUENCE: SIGNAL}.get(known.kind)
    if other is None or sorted(axis % 3 for axis in node.args[1:3]) != [1, 2]:  # type: ignore[operator]
        raise ModelError(f"a transpose of {known.kind} {known.shape} cannot be compiled")
    graph.known[node] = Known(known.name, other, known.shape)


def _select(graph: Graph, node: fx.Node) -> None:
    source = source_of(node)
    known = graph.known[source]
    axis, step = argument(node, 1, "dim"), argument(node, 2, "index")
    if (known.kind, axis % 3) not in ((SEQUENCE, 1), (SIGNAL, 2)):
        raise ModelError(f"taking index {step} of axis {axis} of {known.kind} {known.shape} cannot be compiled")
    graph.add(node, Step, source, kind=VECTOR, step=step % known.shape[2])


def _slice(graph: Graph, node: fx.Node) -> None:
    """Of an image rows and columns, of any tensor everything."""
    source = source_of(node)
    known = graph.known[source]
    axis, start = argument(node, 1, "dim", 0), argument(node, 2, "start", 0) or 0
    start += shape_of(source)[axis] if start < 0 else 0
    if node.meta["val"].shape == source.meta["val"].shape:
        graph.known[node] = known
        return
    if known.kind != IMAGE or axis not in (2, 3):
        raise ModelError(f"a slice along axis {axis} of {known.kind} {known.shape} cannot be compiled")
    gap = argument(node, 4, "step", 1)
    stride = (gap, 1) if axis == 2 else (1, gap)
    offset = (start, 0) if axis == 2 else (0, start)
    graph.add(node, Place, source, sources=tuple(range(known.shape[0])), stride=stride, offset=offset)


def _pad(graph: Graph, node: fx.Node) -> None:
    """Zeros around images and before or after channels."""
    source = source_of(node)
    known = graph.known[source]
    widths: list[int] = [*argument(node, 1, "pad"), *[0] * 6]
    mode, value = argument(node, 2, "mode", "constant"), argument(node, 3, "value", 0)
    if known.kind != IMAGE or mode not in ("constant", 0, 0.0) or value or min(widths) < 0 or any(widths[6:]):
        raise ModelError("a padding is compiled for images and zeros only")
    left, _, top, _, before, after = widths[:6]
    sources = (*[-1] * before, *range(known.shape[0]), *[-1] * after)
    graph.add(node, Place, source, sources=sources, offset=(-top, -left))


def _index_select(graph: Graph, node: fx.Node) -> None:
    source = source_of(node)
    if argument(node, 1, "dim") != 1 or graph.known[source].kind == SEQUENCE:
        raise ModelError("an index_select is compiled along channels only")
    index = graph.given(argument(node, 2, "index"))
    graph.add(node, Place, source, sources=tuple(index.tolist()))


READERS: Readers = {
    "cat": _cat,
    **dict.fromkeys(("_unsafe_view", "flatten", "reshape", "unflatten", "view"), _reshape),
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "select": _select,
    "slice": _slice,
    "constant_pad_nd": _pad,
    "pad": _pad,
    "index_select": _index_select,
}
