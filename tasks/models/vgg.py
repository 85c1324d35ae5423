"""A small network in the style of VGG (Simonyan and Zisserman 2014) for images of 16x16 to 32x32."""

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["VggSmall"]


class VggSmall(nn.Module):
    """Pairs of 3x3 convolutions with batch-norm, a max-pool after each pair, two fully connected layers.

    Args:
        widths: Output channels of each pair of convolutions.
        hidden: Features of the hidden fully connected layer.
        in_channels: Channels of the images.
        image_size: Height and width of the images.
        n_classes: Outputs.
    """

    def __init__(
        self,
        widths: Sequence[int] = (96, 192, 256),
        hidden: int = 256,
        in_channels: int = 1,
        image_size: int = 16,
        n_classes: int = 10,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for width in widths:
            layers += [*_block(channels, width), *_block(width, width), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        side = image_size // 2 ** len(widths)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Linear(hidden, n_classes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, in_channels, image_size, image_size) to scores (N, n_classes)."""
        scores: Tensor = self.classifier(self.flatten(self.features(inputs)))
        return scores


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
