"""Layers that compressed networks are made of."""

from .fire import FireConv2d
from .geometry import ConvGeometry
from .layer import CompressedLayer, register_layer
from .pooled_head import PooledHead
from .quantized import QuantizedConv2d, QuantizedLinear
from .stored import SharedLinear, SparseLinear

__all__ = [
    "CompressedLayer",
    "ConvGeometry",
    "FireConv2d",
    "PooledHead",
    "QuantizedConv2d",
    "QuantizedLinear",
    "SharedLinear",
    "SparseLinear",
    "register_layer",
]
