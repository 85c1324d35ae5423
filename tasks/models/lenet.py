"""LeNet-5 (LeCun et al. 1998) with the rectifiers and max-pools of today's re-implementations."""

from torch import Tensor, nn

__all__ = ["LeNet5"]


class LeNet5(nn.Module):
    """Two 5x5 convolutions, three fully connected layers, about 62,000 weights.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images, 28 (padded to 32) or 32.
        n_classes: Outputs.
    """

    def __init__(self, in_channels: int = 1, image_size: int = 28, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=(32 - image_size) // 2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(400, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, n_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, in_channels, image_size, image_size) to scores (N, n_classes)."""
        features = self.pool1(self.relu1(self.conv1(inputs)))
        features = self.pool2(self.relu2(self.conv2(features)))
        hidden = self.relu3(self.fc1(self.flatten(features)))
        scores: Tensor = self.fc3(self.relu4(self.fc2(hidden)))
        return scores
