"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2)."""

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError

__all__ = ["MobileNetV2"]

#: Of each stage: expansion, output channels, blocks.
_STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))


class MobileNetV2(nn.Module):
    """Inverted residuals: a 1x1 convolution widens, a depthwise 3x3 mixes pixels, a 1x1 narrows without a rectifier.

    With the defaults the published network of 3,504,872 weights, with the parameter names of torchvision. For 32x32
    images: `stem_stride=1, strides=[1, 1, 2, 2, 1, 2, 1]`.

    Args:
        width: Multiplies all channels, which are then rounded to multiples of 8.
        in_channels: Channels of the images.
        stem_stride: Of the first convolution.
        strides: Of the first block of each of the seven stages.
        dropout: Share of features dropped in training before the linear layer.
        n_classes: Outputs.

    Raises:
        ModelError: The width is not positive, or there are not seven strides.
    """

    def __init__(
        self,
        width: float = 1.0,
        in_channels: int = 3,
        stem_stride: int = 2,
        strides: Sequence[int] = (1, 2, 2, 2, 1, 2, 1),
        dropout: float = 0.2,
        n_classes: int = 1000,
    ) -> None:
        super().__init__()
        if not width > 0 or len(strides) != len(_STAGES):
            raise ModelError(f"MobileNetV2 has a width above 0 and 7 strides, got {width:g} and {list(strides)}")
        channels, last = _rounded(32 * width), _rounded(1280 * max(1.0, width))
        layers: list[nn.Module] = [_unit(in_channels, channels, 3, stem_stride)]
        for (expansion, outputs, blocks), stride in zip(_STAGES, strides, strict=True):
            width_out = _rounded(outputs * width)
            for block in range(blocks):
                layers.append(_InvertedResidual(channels, width_out, stride if block == 0 else 1, expansion))
                channels = width_out
        self.features = nn.Sequential(*layers, _unit(channels, last, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, n_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to scores (N, n_classes)."""
        scores: Tensor = self.classifier(self.flatten(self.pool(self.features(inputs))))
        return scores


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8 and not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


class _InvertedResidual(nn.Module):
    """Around it a shortcut, where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widening = [_unit(inputs, hidden, 1)] if expansion != 1 else []
        narrowing = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*widening, _unit(hidden, hidden, 3, stride, groups=hidden), *narrowing)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.conv(inputs)
        return inputs + outputs if self.has_shortcut else outputs
