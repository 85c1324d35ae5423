"""What is done to a network before code is emitted for it, in order."""

from ..ir import Network
from .dead_channels import without_dead_channels
from .fold import with_folded_norms, with_fused_activations, with_fused_sums
from .views import without_views

__all__ = ["simplified"]


def simplified(network: Network) -> Network:
    """Batch-norms folded, activations and residual sums fused, views absorbed, unread channels marked."""
    for a_pass in (without_views, with_folded_norms, with_fused_activations, with_fused_sums, with_fused_activations):
        network = a_pass(network)
    return without_dead_channels(network)
