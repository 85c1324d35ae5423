"""AlexNet (Krizhevsky 2014, arXiv 1404.5997, "One weird trick"), for ImageNet or for small images."""

from torch import Tensor, nn

from ...errors import ModelError

__all__ = ["AlexNet"]

_FEATURES = 256


class AlexNet(nn.Module):
    """Five convolutions, three max-pools of 3x3, three fully connected layers.

    With the defaults the published network of 61,100,840 weights, with the parameter names of torchvision. For 32x32
    images: `image_size=32, stem_kernel=3, stem_stride=1, stem_padding=1, hidden=1024`.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images.
        stem_kernel: Height and width of the first convolution.
        stem_stride: Of the first convolution.
        stem_padding: Zeros around its inputs.
        hidden: Features of both hidden fully connected layers.
        dropout: Share of features dropped in training before each hidden layer.
        n_classes: Outputs.

    Raises:
        ModelError: The pools leave nothing of an image.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 224,
        stem_kernel: int = 11,
        stem_stride: int = 4,
        stem_padding: int = 2,
        hidden: int = 4096,
        dropout: float = 0.5,
        n_classes: int = 1000,
    ) -> None:
        super().__init__()
        side = (image_size + 2 * stem_padding - stem_kernel) // stem_stride + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        if side < 1:
            raise ModelError(f"the pools of AlexNet leave nothing of an image of {image_size}x{image_size}")
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, stem_kernel, stem_stride, stem_padding),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, _FEATURES, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(_FEATURES * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_classes),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, in_channels, image_size, image_size) to scores (N, n_classes)."""
        scores: Tensor = self.classifier(self.flatten(self.features(inputs)))
        return scores
