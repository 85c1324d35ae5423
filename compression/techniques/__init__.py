"""The compression techniques, one file each."""

from .channel_pruning import ChannelPruning
from .depthwise_separable import DepthwiseSeparable
from .fire import Fire
from .global_average_pooling import GlobalAveragePooling
from .int8 import Int8
from .magnitude_pruning import MagnitudePruning
from .spatial_svd import SpatialSvd
from .truncated_svd import TruncatedSvd
from .tucker2 import Tucker2
from .weight_sharing import WeightSharing

__all__ = [
    "ChannelPruning",
    "DepthwiseSeparable",
    "Fire",
    "GlobalAveragePooling",
    "Int8",
    "MagnitudePruning",
    "SpatialSvd",
    "TruncatedSvd",
    "Tucker2",
    "WeightSharing",
]
