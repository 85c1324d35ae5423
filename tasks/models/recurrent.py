"""A recurrent network that reads a sequence and classifies it by its last state."""

from typing import Literal

from torch import Tensor, nn

from ...errors import ModelError

__all__ = ["RecurrentClassifier"]

_KINDS = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentClassifier(nn.Module):
    """One or two layers of GRU (Cho et al. 2014) or LSTM (Hochreiter and Schmidhuber 1997), and a linear layer.

    The layers are modules of their own, so that each can be compressed in its own way.

    Args:
        kind: "gru" or "lstm".
        n_features: Numbers in each step of the sequence.
        hidden: Size of the state.
        n_layers: 1 or 2.
        n_classes: Outputs.

    Raises:
        ModelError: Another kind or number of layers.
    """

    def __init__(
        self,
        kind: Literal["gru", "lstm"] = "gru",
        n_features: int = 40,
        hidden: int = 192,
        n_layers: int = 1,
        n_classes: int = 10,
    ) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ModelError(f"the kind of a recurrent network is gru or lstm, got {kind!r}")
        if n_layers not in (1, 2):
            raise ModelError(f"a recurrent network has 1 or 2 layers, got {n_layers}")
        sizes = [n_features, *[hidden] * (n_layers - 1)]
        self.layers = nn.ModuleList(_KINDS[kind](size, hidden, batch_first=True) for size in sizes)
        self.classifier = nn.Linear(hidden, n_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Sequences (N, T, n_features) to scores (N, n_classes)."""
        features = inputs
        for layer in self.layers:
            features, _ = layer(features)
        scores: Tensor = self.classifier(features[:, -1])
        return scores
