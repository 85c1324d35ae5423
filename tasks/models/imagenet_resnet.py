"""The residual networks of He et al. 2015 (arXiv 1512.03385, table 1) for ImageNet: ResNet-18 and ResNet-34."""

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError

__all__ = ["ImageNetResNet"]

_WIDTHS = (64, 128, 256, 512)


class ImageNetResNet(nn.Module):
    """Four stages of two 3x3 convolutions around shortcuts; a 1x1 convolution where the shape changes (option B).

    With the defaults ResNet-18, the published network of 11,689,512 weights. The parameter names are those of
    torchvision. For 32x32 images: `stem_kernel=3, stem_stride=1, stem_pool=False`.

    Args:
        blocks: Blocks of each of the four stages: (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) ResNet-34.
        in_channels: Channels of the images.
        stem_kernel: Height and width of the first convolution, odd.
        stem_stride: Of the first convolution.
        stem_pool: Whether a 3x3 max-pool of stride 2 follows it.
        n_classes: Outputs.

    Raises:
        ModelError: There are not four stages of at least one block.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2, 2),
        in_channels: int = 3,
        stem_kernel: int = 7,
        stem_stride: int = 2,
        stem_pool: bool = True,
        n_classes: int = 1000,
    ) -> None:
        super().__init__()
        if len(blocks) != len(_WIDTHS) or min(blocks) < 1:
            raise ModelError(f"an ImageNet ResNet has 4 stages of at least 1 block each, got {list(blocks)}")
        self.conv1 = nn.Conv2d(in_channels, 64, stem_kernel, stem_stride, stem_kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem_pool else nn.Identity()
        self.layer1 = _stage(64, 64, blocks[0], stride=1)
        self.layer2 = _stage(64, 128, blocks[1], stride=2)
        self.layer3 = _stage(128, 256, blocks[2], stride=2)
        self.layer4 = _stage(256, 512, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512, n_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to scores (N, n_classes)."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(inputs))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        scores: Tensor = self.fc(self.flatten(self.avgpool(features)))
        return scores


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_Block(inputs, outputs, stride), *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)))


class _Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(inputs)))))
        result: Tensor = self.relu2(outputs + self.downsample(inputs))
        return result
