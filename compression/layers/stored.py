"""Layers that are stored small and executed as ordinary ones.

An engine without kernels for them runs the dense layer they decode to, so they save storage and no time. What there is
to skip for engines that skip zeros stands in the descriptors of their operators.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...graph.opspec import GATES, OpSpec, Shape
from ...graph.sparsity import BlockSparsity
from ...kernels.blocks import Blocks
from .bands import FEWEST_ZEROS, band_sparsity
from .block_codec import BlockSparseCodec, joint_sparsity
from .codecs import Codec
from .layer import CompressedLayer, register_layer
from .ordinary import compute, layer_specs
from .structure import Description, build_module, describe_module

__all__ = ["StoredLayer"]


@register_layer
class StoredLayer(CompressedLayer):
    """A convolution, linear or recurrent layer some of whose weights are held by codecs.

    The weights are decoded once, and again whenever what is stored changes.

    Args:
        frame: The ordinary layer that it is executed as, described.
        codecs: Name of a parameter -> its codec, described; the other parameters are stored as they are.
    """

    def __init__(self, frame: Description, codecs: Mapping[str, Description]) -> None:
        super().__init__()
        self._frame_description = frame
        with torch.device("meta"):
            skeleton = build_module(frame)
        # In a tuple, so that its parameters do not count as stored.
        self._skeleton = (skeleton,)
        self.codecs = nn.ModuleDict({name: Codec.build(description) for name, description in codecs.items()})
        shapes = {name: parameter.shape for name, parameter in skeleton.named_parameters()}
        if wrong := [name for name, codec in self.codecs.items() if shapes.get(name) != codec.shape]:
            raise ValueError(f"the codec of {wrong[0]!r} does not fit a {frame['layer']} layer")
        plain = {name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items() if name not in self.codecs}
        self.plain = nn.ParameterDict(plain)
        self._decoded: tuple[list[Tensor], list[object], dict[str, Tensor]] | None = None

    @classmethod
    def of(cls, layer: nn.Module, codecs: Mapping[str, Codec], plain: Mapping[str, Tensor]) -> "StoredLayer":
        """An ordinary layer with some parameters held by codecs.

        Args:
            layer: A convolution, linear or recurrent layer; it is not changed.
            codecs: By parameter name.
            plain: Other parameters whose values are not the layer's; a bias may be new.
        """
        frame = describe_module(layer)
        if "bias" in plain:
            frame["bias"] = True
        state = {name: tensor.detach() for name, tensor in layer.named_parameters() if name not in codecs} | {**plain}
        stored = cls(frame, {name: codec.describe() for name, codec in codecs.items()})
        for name, codec in codecs.items():
            stored.codecs[name].load_state_dict(codec.state_dict())
        with torch.no_grad():
            for name, tensor in state.items():
                stored.plain[name].copy_(tensor)
        return stored

    def __getstate__(self) -> dict[str, Any]:
        # A copy has values of its own, whose version counter starts anew.
        return {**self.__dict__, "_decoded": None}

    @property
    def frame(self) -> nn.Module:
        """The ordinary layer without values, on the meta device."""
        return self._skeleton[0]

    def tensors(self) -> dict[str, Tensor]:
        """All parameters of the ordinary layer, decoded."""
        trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.codecs.parameters())
        return self._decode() if trained else {**self._remembered(), **dict(self.plain.items())}

    def _decode(self) -> dict[str, Tensor]:
        decoded: dict[str, Tensor] = {}
        for name, codec in self.codecs.items():
            assert isinstance(codec, Codec)
            decoded[name] = codec.decode()
        return {**decoded, **dict(self.plain.items())}

    def _remembered(self) -> dict[str, Tensor]:
        stored = [*self.codecs.parameters(), *self.codecs.buffers()]
        # Conversions and assignments put other values in place without counting up the version.
        state: list[object] = [(id(value), value._version, value.dtype, value.device) for value in stored]
        if self._decoded is None or self._decoded[1] != state:
            decoded = {name: tensor.detach() for name, tensor in self._decode().items() if name in self.codecs}
            # Holding on to the values keeps their ids from being given to others.
            self._decoded = (stored, state, decoded)
        return self._decoded[2]

    def forward(self, inputs: Tensor) -> Any:
        """What the ordinary layer gives."""
        return compute(self.frame, self.tensors(), inputs)

    @torch.no_grad()
    def dense(self) -> nn.Module:
        """The ordinary layer that engines execute."""
        layer = build_module(self._frame_description)
        layer.load_state_dict(self.tensors())
        return layer.eval().requires_grad_(False)

    def kept_blocks(self) -> dict[str, Blocks]:
        """The weights that are block-pruned, by parameter name."""
        return {name: codec.blocks() for name, codec in self.codecs.items() if isinstance(codec, BlockSparseCodec)}

    @property
    @override
    def n_parameters(self) -> int:
        coded = [codec.n_parameters for codec in self.codecs.values() if isinstance(codec, Codec)]
        plain: list[int] = [parameter.numel() for parameter in self.plain.values()]
        return sum(coded) + sum(plain)

    @override
    def config(self) -> dict[str, Any]:
        codecs = {name: codec.describe() for name, codec in self.codecs.items() if isinstance(codec, Codec)}
        return {"frame": self._frame_description, "codecs": codecs}

    @override
    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        specs = layer_specs(self.frame, input_shape)
        return tuple(spec.replace(sparsity=self._sparsity(spec)) for spec in specs)

    def _sparsity(self, spec: OpSpec) -> str:
        """What an engine can skip of an operator whose weights are all pruned; else ""."""
        names = [name for name, parameter in self.frame.named_parameters() if parameter.ndim > 1]
        codecs = [codec for name, codec in self.codecs.items() if name in names and isinstance(codec, Codec)]
        if len(codecs) < len(names):
            return ""
        blocks = [codec for codec in codecs if isinstance(codec, BlockSparseCodec)]
        if len(blocks) == len(codecs):
            sparsity = joint_sparsity(blocks, GATES.get(spec.kind, 1))
        elif spec.kind in GATES or spec.groups == 1:
            sparsity = self._band_sparsity(codecs, spec)
        else:
            sparsity = None
        return sparsity.text if sparsity else ""

    @torch.no_grad()
    def _band_sparsity(self, codecs: Sequence[Codec], spec: OpSpec) -> BlockSparsity | None:
        if any(codec.n_parameters > (1 - FEWEST_ZEROS) * codec.shape.numel() for codec in codecs):
            return None
        return band_sparsity([codec.decode().flatten(1) for codec in codecs], spec)

    @torch.no_grad()
    @override
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        codec = self.codecs["weight"]
        assert isinstance(codec, Codec)
        codec.scale_rows(scale)
        self.plain["bias"].mul_(scale).add_(shift)
