"""What is done to a network before code is emitted for it, in order."""

from ...weight_types import FLOAT32
from ..ir import Network
from .dead_channels import without_dead_channels
from .fold import with_folded_norms, with_fused_activations, with_fused_sums
from .views import without_views
from .weights import with_weight_type

__all__ = ["simplified"]


def simplified(network: Network, weight_type: str = FLOAT32) -> Network:
    """Batch-norms folded, activations and residual sums fused, views absorbed, unread channels marked.

    Args:
        network: As it was read.
        weight_type: That weights are rounded to before anything else.

    Raises:
        ModelError: A weight that is to be rounded is no finite number.
    """
    network = with_weight_type(network, weight_type)
    for a_pass in (without_views, with_folded_norms, with_fused_activations, with_fused_sums, with_fused_activations):
        network = a_pass(network)
    return without_dead_channels(network)
