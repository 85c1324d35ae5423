"""A small convolutional network for images of any height and width, such as spectrograms."""

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError

__all__ = ["SmallCnn"]


class SmallCnn(nn.Module):
    """3x3 convolutions with batch-norm, a max-pool after each, one hidden fully connected layer.

    Args:
        widths: Output channels of each convolution.
        hidden: Features of the hidden fully connected layer.
        in_channels: Channels of the images.
        image_size: Height and width of the images; for spectrograms bands and frames.
        n_classes: Outputs.

    Raises:
        ModelError: The pools leave nothing of an image.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        hidden: int = 128,
        in_channels: int = 1,
        image_size: Sequence[int] = (40, 48),
        n_classes: int = 10,
    ) -> None:
        super().__init__()
        height, width = (side // 2 ** len(widths) for side in image_size)
        if height * width == 0:
            raise ModelError(f"{len(widths)} pools leave nothing of an image of {' x '.join(map(str, image_size))}")
        layers: list[nn.Module] = []
        channels = in_channels
        for outputs in widths:
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(channels * height * width, hidden), nn.ReLU(), nn.Linear(hidden, n_classes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, in_channels, *image_size) to scores (N, n_classes)."""
        scores: Tensor = self.classifier(self.flatten(self.features(inputs)))
        return scores
