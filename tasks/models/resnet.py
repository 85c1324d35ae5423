"""The residual networks of He et al. 2015 (sec. 4.2) for CIFAR: three stages of 16, 32 and 64 channels."""

from torch import Tensor, nn

from ...errors import ModelError
from ...graph.placement import ChannelPlacement

__all__ = ["CifarResNet"]


class CifarResNet(nn.Module):
    """6 n + 2 layers; shortcuts without weights (option A).

    Args:
        depth: 20, 32, 44, 56, 110: 6 n + 2.
        n_classes: Outputs.

    Raises:
        ModelError: The depth is not of the form 6 n + 2.
    """

    def __init__(self, depth: int = 20, n_classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ModelError(f"the depth of a CIFAR ResNet is 6 n + 2 (20, 32, 44, 56, 110), got {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, n_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to scores (N, n_classes)."""
        features = self.relu(self.bn1(self.conv1(inputs)))
        features = self.layer3(self.layer2(self.layer1(features)))
        scores: Tensor = self.linear(self.flatten(self.pool(features)))
        return scores


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = _BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(_BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        widens = inputs != outputs
        self.shortcut = ChannelPlacement.centred(inputs, outputs, stride) if widens else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(inputs)))))
        result: Tensor = self.relu2(outputs + self.shortcut(inputs))
        return result
