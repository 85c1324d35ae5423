"""VGG-16 (Simonyan and Zisserman 2014, arXiv 1409.1556), and a small network in its style for 16x16 to 32x32."""

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError

__all__ = ["Vgg16", "VggSmall"]

#: Output channels of the convolutions between two max-pools (configuration D of the paper).
_STAGES_OF_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


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


class Vgg16(nn.Module):
    """Thirteen 3x3 convolutions in five stages, three fully connected layers.

    With `batch_norm=False` and else the defaults the published network of 138,357,544 weights. The parameter names are
    those of torchvision. For 32x32 images: `image_size=32, hidden=512`.

    Args:
        batch_norm: Whether a batch-norm follows each convolution.
        in_channels: Channels of the images.
        image_size: Height and width of the images, at least 32.
        hidden: Features of both hidden fully connected layers.
        dropout: Share of features dropped in training after each hidden layer.
        n_classes: Outputs.

    Raises:
        ModelError: The pools leave nothing of an image.
    """

    def __init__(
        self,
        batch_norm: bool = True,
        in_channels: int = 3,
        image_size: int = 224,
        hidden: int = 4096,
        dropout: float = 0.5,
        n_classes: int = 1000,
    ) -> None:
        super().__init__()
        side = image_size // 2 ** len(_STAGES_OF_16)
        if side < 1:
            raise ModelError(f"the pools of VGG-16 need images of at least 32x32, got {image_size}x{image_size}")
        layers: list[nn.Module] = []
        channels = in_channels
        for widths in _STAGES_OF_16:
            for width in widths:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_classes),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, in_channels, image_size, image_size) to scores (N, n_classes)."""
        scores: Tensor = self.classifier(self.flatten(self.features(inputs)))
        return scores


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
