"""The compression techniques, one file each."""

from .bcr_pruning import BcrPruning
from .channel_pruning import ChannelPruning
from .composition import Composition
from .cp import CanonicalPolyadic
from .depth_skip import DepthSkip
from .depthwise_separable import DepthwiseSeparable
from .fire import Fire
from .global_average_pooling import GlobalAveragePooling
from .int8 import Int8
from .low_bits import LowBits
from .magnitude_pruning import MagnitudePruning
from .mlpconv import MlpConv
from .n_m_sparsity import NMSparsity
from .pattern_pruning import PatternPruning
from .recurrent_svd import RecurrentSvd
from .sparse_coding import SparseCoding
from .sparse_kernels import SparseKernels
from .sparse_random import SparseRandom
from .spatial_svd import SpatialSvd
from .truncated_svd import TruncatedSvd
from .tucker2 import Tucker2
from .weight_sharing import WeightSharing
from .width_scaling import WidthScaling

__all__ = [
    "BcrPruning",
    "CanonicalPolyadic",
    "ChannelPruning",
    "Composition",
    "DepthSkip",
    "DepthwiseSeparable",
    "Fire",
    "GlobalAveragePooling",
    "Int8",
    "LowBits",
    "MagnitudePruning",
    "MlpConv",
    "NMSparsity",
    "PatternPruning",
    "RecurrentSvd",
    "SparseCoding",
    "SparseKernels",
    "SparseRandom",
    "SpatialSvd",
    "TruncatedSvd",
    "Tucker2",
    "WeightSharing",
    "WidthScaling",
]
