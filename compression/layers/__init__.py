"""Layers that compressed networks are made of."""

from .absorption import absorb, absorber, parameter_count
from .block_codec import BlockSparseCodec
from .codecs import Codec, SharedCodec, SparseCodec, SparseSharedCodec, UniformCodec
from .constant import Constant
from .fire import FireConv2d
from .geometry import ConvGeometry
from .layer import CompressedLayer, register_layer
from .ordinary import layer_specs
from .over_signals import OverSignals, as_image_layer, as_image_shape
from .pooled_head import PooledHead
from .quantized import QuantizedConv2d, QuantizedLinear
from .stored import StoredLayer
from .structure import build_module, describe_module
from .training import trainable

__all__ = [
    "BlockSparseCodec",
    "Codec",
    "CompressedLayer",
    "Constant",
    "ConvGeometry",
    "FireConv2d",
    "OverSignals",
    "PooledHead",
    "QuantizedConv2d",
    "QuantizedLinear",
    "SharedCodec",
    "SparseCodec",
    "SparseSharedCodec",
    "StoredLayer",
    "UniformCodec",
    "absorb",
    "absorber",
    "as_image_layer",
    "as_image_shape",
    "build_module",
    "describe_module",
    "layer_specs",
    "parameter_count",
    "register_layer",
    "trainable",
]
