"""What an inference engine merges: batch-norm into the layer before it, an activation into the same pass."""

from dataclasses import dataclass, field

from .graph import Graph, Operator
from .opspec import OpSpec

__all__ = ["FUSABLE_ACTIVATIONS", "Fusion", "fuse", "with_activation"]

FUSABLE_ACTIVATIONS = ("relu", "relu6")
_HOSTS = ("conv2d", "linear")


@dataclass(frozen=True)
class Fusion:
    """Which operators disappear into which.

    Attributes:
        batch_norm: Operator name of a convolution or linear layer -> name of the batch-norm folded into it.
        activation: Operator name of such a layer -> name of the activation computed in the same pass.
        owner: Name of a merged operator -> name of the layer it disappeared into.
    """

    batch_norm: dict[str, str] = field(default_factory=dict)
    activation: dict[str, str] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)


def fuse(graph: Graph) -> Fusion:
    """Find the chains layer -> batch-norm -> activation in which nobody else reads what lies between."""
    fusion = Fusion()
    for operator in graph.operators:
        if operator.kind not in _HOSTS:
            continue
        last = operator
        follower = _only_consumer(graph, last)
        if follower is not None and follower.kind == "batch_norm":
            fusion.batch_norm[operator.name] = follower.name
            fusion.owner[follower.name] = operator.name
            last = follower
            follower = _only_consumer(graph, last)
        if follower is not None and follower.kind == "activation" and follower.spec.activation in FUSABLE_ACTIVATIONS:
            fusion.activation[operator.name] = follower.name
            fusion.owner[follower.name] = operator.name
    return fusion


def _only_consumer(graph: Graph, operator: Operator) -> Operator | None:
    consumers = graph.consumers(operator.name)
    return consumers[0] if len(consumers) == 1 and operator.name != graph.output else None


def with_activation(specs: tuple[OpSpec, ...], activation: str) -> tuple[OpSpec, ...]:
    """Append an activation to operators: merged into the last where it can be, else as one more operator.

    Args:
        specs: At least one descriptor.
        activation: A name such as "relu"; "" appends nothing.
    """
    if not activation:
        return specs
    last = specs[-1]
    if last.kind in _HOSTS and not last.activation and activation in FUSABLE_ACTIVATIONS:
        return (*specs[:-1], last.replace(activation=activation))
    return (*specs, OpSpec("activation", last.output_shape, last.output_shape, activation=activation))
