"""One operator's figures in a lookup table, and their form in files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import FormatError
from ...graph.opspec import FLOAT_BITS, GATES, OpSpec
from ..predictors.measurement import Measurement

__all__ = ["Entry", "block_to_dict", "read_block", "read_entry", "read_number", "shown"]

_REQUIRED = frozenset({"mean", "std", "samples"})

#: Figures of an entry that need not be known.
_FIGURES = ("energy", "half_width")
_OPTIONAL = frozenset({"number_format", *_FIGURES})

#: Kinds whose work is computed from their first or last axis.
_SHAPED = ("conv2d", "conv_transpose2d", "linear", "matmul", "batch_norm", *GATES)

#: No figure of a sound table is larger: 10^12 milliseconds are 30 years.
_LARGEST = 1e12

_MAX_TEXT = 64
_MAX_AXES = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One operator's latency, and its energy where somebody measured it.

    Attributes:
        spec: The operator.
        mean: Latency in the table's unit (of what Espalier measures, the median of the samples, which noise pulls less
            than their mean).
        std: Standard deviation of `mean`, in the same unit.
        samples: How many samples were taken.
        energy: Energy in the table's energy unit; None where it is not known.
        number_format: Bits of weights and activations that a descriptor cannot state, such as "w4a8"; "" where
            `spec.bits` states them.
        half_width: Half the width of the 95 % interval of the median, as a share of `mean`; None where it is not known.
    """

    spec: OpSpec
    mean: float
    std: float
    samples: int
    energy: float | None = None
    number_format: str = ""
    half_width: float | None = None

    @property
    def key(self) -> str:
        """The key in a table: the operator's own, and after "@" the number format that it lacks."""
        return f"{self.spec.key}@{self.number_format}" if self.number_format else self.spec.key

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what is not known is left out."""
        values = {"spec": self.spec.to_dict(), "mean": self.mean, "std": self.std, "samples": self.samples}
        values |= {name: value for name in _FIGURES if (value := getattr(self, name)) is not None}
        return values | ({"number_format": self.number_format} if self.number_format else {})


def read_entry(key: str, values: Any, source: str) -> Entry:
    """Rebuild what `Entry.to_dict` wrote.

    Args:
        key: The entry's key in its table.
        values: A JSON object.
        source: The file, for error messages.

    Raises:
        FormatError: An attribute is missing, unknown, or impossible, or the key is another operator's.
    """
    where = f"{source}, entry {key[:80]}"
    if not isinstance(values, Mapping) or not _REQUIRED | {"spec"} <= set(values) <= _REQUIRED | _OPTIONAL | {"spec"}:
        raise FormatError(f"{where}: expected an object with spec, mean, std and samples")
    number_format = values.get("number_format", "")
    if not isinstance(number_format, str) or len(number_format) > _MAX_TEXT:
        raise FormatError(f"{where}: number_format must be a short text, got {shown(number_format)}")
    energy, half_width = (
        None if values.get(name) is None else read_number(values[name], name, where) for name in _FIGURES
    )
    entry = Entry(_read_spec(values["spec"], where), *_figures(values, where), energy, number_format, half_width)
    if entry.key != key:
        raise FormatError(f"{where}: its spec has the key {entry.key[:80]}")
    return entry


def block_to_dict(block: Measurement) -> dict[str, Any]:
    """Operators that were measured together, ready for JSON."""
    ops = [op.to_dict() for op in block.ops]
    return {"ops": ops, "mean": block.latency_ms, "std": block.std_ms, "samples": block.samples}


def read_block(label: str, values: Any, source: str) -> Measurement:
    """Rebuild what `block_to_dict` wrote.

    Args:
        label: What the source of the table calls the block.
        values: A JSON object.
        source: The file, for error messages.

    Raises:
        FormatError: An attribute is missing, unknown or impossible.
    """
    where = f"{source}, block {label[:80]}"
    if not isinstance(values, Mapping) or set(values) != _REQUIRED | {"ops"} or not isinstance(values["ops"], list):
        raise FormatError(f"{where}: expected an object with ops (a list), mean, std and samples")
    if not values["ops"]:
        raise FormatError(f"{where}: expected at least one operator")
    return Measurement(tuple(_read_spec(op, where) for op in values["ops"]), *_figures(values, where), label)


def read_number(value: Any, name: str, where: str) -> float:
    """A finite number from 0 to 10^12.

    Raises:
        FormatError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{where}: {name} must be a number of at least 0, got {shown(value)}")
    # Compared before it is converted: a whole number may have more digits than a float can hold.
    if not 0 <= value <= _LARGEST or not math.isfinite(value):
        limit = f"at most {_LARGEST:.0e}" if value > _LARGEST else "at least 0"
        raise FormatError(f"{where}: {name} must be a number of {limit}, got {shown(value)}")
    return float(value)


def _figures(values: Mapping[str, Any], where: str) -> tuple[float, float, int]:
    samples = values["samples"]
    if type(samples) is not int or not 1 <= samples <= _LARGEST:
        raise FormatError(f"{where}: samples must be a whole number of at least 1, got {shown(samples)}")
    return read_number(values["mean"], "mean", where), read_number(values["std"], "std", where), samples


def _read_spec(values: Any, where: str) -> OpSpec:
    try:
        spec = OpSpec.from_dict(values)
    except (FormatError, RecursionError) as error:  # quoting what is nested too deep fails, too
        raise FormatError(f"{where}: {str(error)[:300]}") from error
    if problem := _impossible(spec):
        raise FormatError(f"{where}: {problem}")
    return spec


def _impossible(spec: OpSpec) -> str:
    """What no operator can be, though its attributes have the right types; "" where nothing is wrong."""
    least: dict[str, tuple[int, ...]] = {"kernel": spec.kernel, "stride": spec.stride, "dilation": spec.dilation}
    least |= {"groups": (spec.groups,), "n_inputs": (spec.n_inputs,)}
    if wrong := [name for name, values in least.items() if not all(1 <= value < 2**31 for value in values)]:
        return f"{wrong[0]} must be from 1 to 2^31, got {shown(getattr(spec, wrong[0]))}"
    if spec.bits not in (8, FLOAT_BITS):
        return f"bits must be 8 or {FLOAT_BITS}, got {shown(spec.bits)}"
    for name in ("input_shape", "output_shape"):
        axes = len(getattr(spec, name))
        if not (spec.kind in _SHAPED) <= axes <= _MAX_AXES:
            return f"{name} of {spec.kind} has {axes} axes"
    if spec.kind == "conv2d" and spec.input_shape[0] % spec.groups:
        return f"{spec.groups} groups do not divide {spec.input_shape[0]} channels"
    if texts := [name for name in ("activation", "sparsity") if len(getattr(spec, name)) > _MAX_TEXT]:
        return f"{texts[0]} must be at most {_MAX_TEXT} letters long"
    return ""


def shown(value: Any) -> str:
    """A value as an error message quotes it: nobody wants a page of it."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, str | int | float | tuple | None) else type(value).__name__
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."
