"""A convolutional network for signals in time, such as the accelerations of a phone."""

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError

__all__ = ["Conv1dNetwork"]


class Conv1dNetwork(nn.Module):
    """Convolutions in time with batch-norm, a max-pool of 2 after each, a global average pool, a linear layer.

    Args:
        in_channels: Channels of the signals.
        widths: Output channels of each convolution.
        kernel: Steps that a convolution sees, odd.
        n_classes: Outputs.

    Raises:
        ModelError: The kernel is even.
    """

    def __init__(
        self, in_channels: int = 9, widths: Sequence[int] = (64, 128, 128), kernel: int = 5, n_classes: int = 6
    ) -> None:
        super().__init__()
        if kernel % 2 != 1:
            raise ModelError(f"the kernel of a Conv1dNetwork must be odd, got {kernel}")
        layers: list[nn.Module] = []
        channels = in_channels
        for width in widths:
            layers += [nn.Conv1d(channels, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm1d(width)]
            layers += [nn.ReLU(), nn.MaxPool1d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, n_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Signals (N, in_channels, T) to scores (N, n_classes)."""
        scores: Tensor = self.classifier(self.flatten(self.pool(self.features(inputs))))
        return scores
