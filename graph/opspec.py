"""The operator descriptor: what tables, techniques and kernels agree to call one operator."""

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..errors import FormatError
from .sparsity import BlockSparsity

__all__ = ["CONVERSIONS", "FLOAT_BITS", "FREE_KINDS", "GATES", "KINDS", "OpSpec"]

FLOAT_BITS = 32

#: What an operator can be. "elementwise" stands for any arithmetic without weights that keeps its shape.
KINDS = (
    "conv2d",
    "conv_transpose2d",
    "linear",
    "matmul",
    "gru",
    "lstm",
    "batch_norm",
    "activation",
    "elementwise",
    "add",
    "concat",
    "gather",
    "max_pool2d",
    "avg_pool2d",
    "global_avg_pool2d",
    "softmax",
    "reshape",
    "quantize",
    "dequantize",
    "other",
)

#: Gates of a recurrent layer by kind.
GATES = {"gru": 3, "lstm": 4}

#: Kinds that no engine spends time on: they only rename or re-shape.
FREE_KINDS = ("reshape",)

#: Operators between floats and integers; a device without a choice of number formats never executes them.
CONVERSIONS = ("quantize", "dequantize")

Shape = tuple[int, ...]


class _Keyed:
    """Room for a descriptor's key beside its attributes: a lookup reads it far more often than it is made."""

    __slots__ = ("_made_key",)

    _made_key: str


@dataclass(frozen=True, slots=True)
class OpSpec(_Keyed):
    """One operator as a device executes it, at batch size 1.

    Attributes:
        kind: One of `KINDS`.
        input_shape: Shape of the first input without the batch axis, such as (channels, height, width); of a recurrent
            layer (steps, features).
        output_shape: Shape of the output without the batch axis.
        kernel: Kernel height and width; (1, 1) where there is no kernel.
        stride: Stride over height and width.
        padding: Padding of height and width.
        dilation: Dilation of height and width.
        groups: Groups of a convolution; directions of a recurrent layer.
        bias: Whether a bias is added.
        bits: Bits of weights and inputs in the arithmetic that is executed: 32 (float) or 8 (integer).
        activation: Activation computed in the same pass, such as "relu"; "" for none.
        n_inputs: How many tensors go in (add, concat).
        sparsity: Structure of the zeros that the engine skips (see `BlockSparsity`); "" where it skips none.
    """

    kind: str
    input_shape: Shape
    output_shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False
    bits: int = FLOAT_BITS
    activation: str = ""
    n_inputs: int = 1
    sparsity: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown operator kind {self.kind!r}; known: {', '.join(KINDS)}")
        pairs = {"kernel": self.kernel, "stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        for name, pair in pairs.items():
            if len(pair) != 2:
                raise ValueError(f"{name} must be (height, width), got {pair}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates: K_h K_w C_in/groups C_out H_out W_out for a convolution, n m for a linear layer.

        Of a recurrent layer its matrix products over all steps. Zeros that the engine skips do not count.
        """
        return round(self._dense_macs / self._rate)

    @property
    def _dense_macs(self) -> int:
        if self.kind in GATES:
            return self.input_shape[0] * self.weights
        if self.kind == "conv2d":
            return math.prod(self.output_shape) * self.input_shape[0] // self.groups * math.prod(self.kernel)
        if self.kind == "conv_transpose2d":
            return math.prod(self.input_shape) * self.output_shape[0] // self.groups * math.prod(self.kernel)
        if self.kind in ("linear", "matmul"):
            return math.prod(self.output_shape) * self.input_shape[-1]
        return 0

    @property
    def _rate(self) -> float:
        """How many times fewer weights than all the engine reads and multiplies."""
        sparsity = BlockSparsity.parse(self.sparsity) if self.sparsity else None
        return sparsity.rate if sparsity else 1

    @property
    def dense(self) -> "OpSpec":
        """The operator on an engine that skips no zeros."""
        return self.replace(sparsity="") if self.sparsity else self

    @property
    def weights(self) -> int:
        """Elements of the weight tensor, without bias; zeros count."""
        if self.kind in ("conv2d", "conv_transpose2d"):
            return self.output_shape[0] * self.input_shape[0] // self.groups * math.prod(self.kernel)
        if self.kind == "linear":
            return self.output_shape[-1] * self.input_shape[-1]
        if self.kind in GATES:
            hidden = self.output_shape[-1] // self.groups
            return self.groups * GATES[self.kind] * hidden * (self.input_shape[-1] + hidden)
        if self.kind == "batch_norm":
            return self.output_shape[0]
        return 0

    @property
    def parameters(self) -> int:
        """Elements of weight and bias together."""
        if not self.bias:
            return self.weights
        if self.kind in GATES:  # one bias beside the inputs' weights and one beside the hidden state's
            return self.weights + 2 * GATES[self.kind] * self.output_shape[-1]
        return self.weights + (self.output_shape[-1] if self.kind == "linear" else self.output_shape[0])

    @property
    def weight_bytes(self) -> int:
        """Bytes of weight and bias as the engine holds them (a bias stays 32-bit), without zeros that it skips."""
        return round(self.weights / self._rate) * self.bits // 8 + (self.parameters - self.weights) * 4

    @property
    def input_bytes(self) -> int:
        """Bytes of all inputs: 8-bit codes where the operator computes with integers or reads them, else floats."""
        if self.kind == "concat":
            return self.output_bytes
        reads_codes = self.bits != FLOAT_BITS or self.kind == "dequantize"
        return self.n_inputs * math.prod(self.input_shape) * (1 if reads_codes else 4)

    @property
    def output_bytes(self) -> int:
        """Bytes of the output: 8-bit codes where the operator computes with integers or makes them, else floats."""
        gives_codes = self.bits != FLOAT_BITS or self.kind == "quantize"
        return math.prod(self.output_shape) * (1 if gives_codes else 4)

    def replace(self, **changes: Any) -> "OpSpec":
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    def narrowed(self, in_channels: int, out_channels: int) -> "OpSpec":
        """The same operator on fewer channels.

        Args:
            in_channels: Length of the first input axis afterwards.
            out_channels: Length of the first output axis afterwards.
        """
        groups = out_channels if self.groups > 1 and self.groups == self.input_shape[0] else self.groups
        return self.replace(
            input_shape=(in_channels, *self.input_shape[1:]),
            output_shape=(out_channels, *self.output_shape[1:]),
            groups=groups,
        )

    @property
    def key(self) -> str:
        """The canonical text form, unique and stable: the key of every lookup table."""
        try:
            return self._made_key
        except AttributeError:
            object.__setattr__(self, "_made_key", _key(self))
            return self._made_key

    def to_dict(self) -> dict[str, Any]:
        """The attributes that differ from their defaults, ready for JSON."""
        fields = ((field.name, getattr(self, field.name), field.default) for field in dataclasses.fields(self))
        return {name: list(v) if isinstance(v, tuple) else v for name, v, default in fields if v != default}

    @classmethod
    def from_dict(cls, values: Any) -> "OpSpec":
        """Rebuild a descriptor written by `to_dict`.

        Raises:
            FormatError: An attribute is unknown, missing or of the wrong type.
        """
        if not isinstance(values, dict):
            raise FormatError(f"an operator descriptor must be an object, got {type(values).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise FormatError(f"operator descriptor has unknown attributes {unknown}; known: {sorted(known)}")
        try:
            return cls(**{name: _checked(name, value) for name, value in values.items()})
        except (TypeError, ValueError) as error:
            raise FormatError(f"bad operator descriptor {values}: {error}") from error


_SHAPES = {"input_shape", "output_shape", "kernel", "stride", "padding", "dilation"}
_NUMBERS = {"groups", "bits", "n_inputs"}


def _checked(name: str, value: Any) -> Any:
    if name in _SHAPES:
        if not isinstance(value, list) or not all(type(size) is int and 0 <= size < 2**31 for size in value):
            raise ValueError(f"{name} must be a list of whole numbers, got {value!r}")
        return tuple(value)
    expected: type = int if name in _NUMBERS else bool if name == "bias" else str
    if type(value) is not expected:
        raise ValueError(f"{name} must be of type {expected.__name__}, got {value!r}")
    return value


@lru_cache(maxsize=65536)
def _key(spec: OpSpec) -> str:
    parts = (
        spec.kind,
        f"i{_dims(spec.input_shape)}",
        f"o{_dims(spec.output_shape)}",
        f"k{_dims(spec.kernel)}" if spec.kernel != (1, 1) else "",
        f"s{_dims(spec.stride)}" if spec.stride != (1, 1) else "",
        f"p{_dims(spec.padding)}" if spec.padding != (0, 0) else "",
        f"d{_dims(spec.dilation)}" if spec.dilation != (1, 1) else "",
        f"g{spec.groups}" if spec.groups != 1 else "",
        "bias" if spec.bias else "",
        f"b{spec.bits}" if spec.bits != FLOAT_BITS else "",
        f"n{spec.n_inputs}" if spec.n_inputs != 1 else "",
        f"z-{spec.sparsity}" if spec.sparsity else "",
        spec.activation,
    )
    return ":".join(part for part in parts if part)


def _dims(shape: Shape) -> str:
    return "x".join(str(size) for size in shape)
