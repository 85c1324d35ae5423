"""In which order output channels can go."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .fitting import output_energy

__all__ = ["CRITERIA", "STREAM_CRITERIA", "Consumer", "channel_order", "taylor_scores"]

#: By what channels can be ranked.
CRITERIA = ("consumers", "l1", "geometric_median", "taylor")

#: By what channels that several layers write into can be ranked.
STREAM_CRITERIA = ("consumers", "l1", "geometric_median")

#: The channels are removed in about this many rounds; the losses are computed anew before each.
_ROUNDS = 16


@dataclass
class Consumer:
    """A layer that reads the channels.

    Attributes:
        weight: Its weights, float64, shape (outputs, K).
        covariance: Of its inputs, float64, shape (K, K), positive definite.
        inputs: For each channel the indices of its inputs, shape (channels, inputs per channel).
    """

    weight: Tensor
    covariance: Tensor
    inputs: Tensor


def channel_order(criterion: str, layers: Sequence[nn.Module], consumers: list[Consumer]) -> Tensor:
    """The channels in order of importance, the most important first.

    Args:
        criterion: One of `CRITERIA` but "taylor", which needs gradients; see `taylor_scores`.
        layers: Whose output channels they are: a convolution, a recurrent layer with its hidden units, or all
            convolutions that write into a residual stream.
        consumers: Who reads them; at least one.

    Returns:
        int64, shape (channels,).
    """
    if criterion == "consumers":
        return _consumers_order(consumers)
    filters = torch.cat([_filters(layer) for layer in layers], 1)
    # Li et al. 2017, Pruning filters for efficient ConvNets (arXiv 1608.08710), sec. 3.1.
    scores = filters.abs().sum(1)
    if criterion == "geometric_median":
        # He et al. 2019 (arXiv 1811.00250), eq. 4: the filter that is closest to all others is the one they replace.
        scores = torch.cdist(filters, filters).sum(1)
    return scores.argsort(descending=True, stable=True)


def _filters(layer: nn.Module) -> Tensor:
    """All weights that make one output channel, a channel a row."""
    if isinstance(layer, nn.GRU | nn.LSTM):
        matrices = [parameter for name, parameter in layer.named_parameters() if name.startswith("weight")]
        rows = [matrix.detach().double().view(-1, layer.hidden_size, matrix.shape[1]) for matrix in matrices]
        return torch.cat([part.transpose(0, 1).flatten(1) for part in rows], 1)
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach().double().flatten(1)


def taylor_scores(
    model: nn.Module, names: Sequence[str], batches: Iterable[Tensor], advance: Callable[[], object] = lambda: None
) -> dict[str, Tensor]:
    """How much the loss would change without each output channel, to first order.

    Molchanov et al. 2019 (arXiv 1906.10771, eq. 8 with gates): the mean over examples of (sum over positions of
    activation times gradient)^2. The loss is the cross-entropy with the network's own answers, so no labels are needed.

    Args:
        model: In evaluation mode.
        names: Dotted paths of convolutions or recurrent layers.
        batches: Inputs of the network.
        advance: Called after each batch.

    Returns:
        Path -> scores, float64, shape (channels,).
    """
    outputs: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, object, Tensor | tuple[Tensor, ...]], None]:
        def see(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
            outputs[name] = output if isinstance(output, Tensor) else output[0]

        return see

    scores: dict[str, Tensor] = {}
    hooks = [model.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        for batch in batches:
            with torch.enable_grad():
                answers = model(batch.clone().requires_grad_(True))
                loss = functional.cross_entropy(answers, answers.detach().argmax(1), reduction="sum")
                gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
            for name, gradient in zip(names, gradients, strict=True):
                is_recurrent = isinstance(model.get_submodule(name), nn.RNNBase)
                products = (outputs[name].detach() * gradient).movedim(-1 if is_recurrent else 1, 1).flatten(2).sum(2)
                scores[name] = scores.get(name, torch.zeros(())) + products.double().square().sum(0)
            advance()
    finally:
        for hook in hooks:
            hook.remove()
    return scores


def _consumers_order(consumers: list[Consumer]) -> Tensor:
    """The channels in order of importance to the consumers' outputs, the most important first.

    In rounds, the channels are removed whose loss is least when every consumer makes up for them by its other inputs:
    tr(W_c (P_cc)^-1 W_c^T) with P the inverse covariance (Hassibi and Stork 1993, for groups of weights).
    """
    alive = torch.arange(consumers[0].inputs.shape[0])
    states = [_Elimination(consumer) for consumer in consumers]
    step = math.ceil(len(alive) / _ROUNDS)
    removed: list[Tensor] = []
    while len(alive) > step:
        losses = sum((state.losses() for state in states), torch.zeros(len(alive), dtype=torch.float64))
        order = losses.argsort()
        gone, kept = order[:step], order[step:].sort().values
        for state in states:
            state.remove(gone, kept)
        removed.append(alive[gone])
        alive = alive[kept]
    losses = sum((state.losses() for state in states), torch.zeros(len(alive), dtype=torch.float64))
    removed.append(alive[losses.argsort()])
    return torch.cat(removed).flip(0)


class _Elimination:
    """One consumer's weights and inverse covariance while channels disappear."""

    def __init__(self, consumer: Consumer) -> None:
        self._weight = consumer.weight
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(consumer.covariance))
        self._inputs = consumer.inputs
        self._energy = output_energy(consumer.weight, consumer.covariance) or 1.0

    def losses(self) -> Tensor:
        """Loss of each remaining channel as a share of the output energy."""
        blocks = self._inverse[self._inputs[:, :, None], self._inputs[:, None, :]]
        weights = self._weight[:, self._inputs].permute(1, 2, 0)
        carried: Tensor = torch.linalg.solve(blocks, weights)
        return (weights * carried).sum((1, 2)) / self._energy

    def remove(self, gone: Tensor, kept: Tensor) -> None:
        """Remove channels and let the others make up for them.

        Args:
            gone: Positions among the remaining channels.
            kept: All other positions, in order.
        """
        out, stay = self._inputs[gone].flatten(), self._inputs[kept].flatten()
        block = torch.linalg.cholesky(self._inverse[out][:, out])
        carried = torch.cholesky_solve(self._inverse[out][:, stay], block)
        self._weight = self._weight[:, stay] - self._weight[:, out] @ carried
        self._inverse = self._inverse[stay][:, stay] - self._inverse[stay][:, out] @ carried
        self._inputs = torch.arange(len(stay)).view(len(kept), -1)
