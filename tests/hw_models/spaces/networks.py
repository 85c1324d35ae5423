"""The networks of two measured spaces as PyTorch modules, written from their papers: an oracle for the operators."""

import torch
from torch import nn


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class FbnetBlock(nn.Module):
    def __init__(self, name: str, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        if name == "skip":
            self.body = nn.Identity() if self.residual else conv_bn_relu(inputs, outputs, 1, stride)
            self.residual = False
            return
        kernel, expansion, groups = int(name[1]), int(name[4]), 2 if name.endswith("g2") else 1
        inner = inputs * expansion
        self.body = nn.Sequential(
            conv_bn_relu(inputs, inner, 1, groups=groups),
            *([nn.ChannelShuffle(groups)] if groups > 1 else []),
            conv_bn_relu(inner, inner, kernel, stride, groups=inner),
            conv_bn_relu(inner, outputs, 1, groups=groups, relu=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + x if self.residual else self.body(x)


def fbnet(blocks: list[str]) -> nn.Module:
    layers, channels, position = [conv_bn_relu(3, 16, 3)], 16, 0
    stages = ((1, 16, 1), (4, 24, 1), (4, 32, 2), (4, 64, 2), (4, 112, 1), (4, 184, 2), (1, 352, 1))
    for count, width, stride in stages:
        for index in range(count):
            layers.append(FbnetBlock(blocks[position], channels, width, stride if index == 0 else 1))
            channels, position = width, position + 1
    layers += [conv_bn_relu(352, 1504, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1504, 100)]
    return nn.Sequential(*layers)


def relu_conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Cell(nn.Module):
    """Three nodes; `edges[(start, end)]` names an operation, absent ones are "none"."""

    def __init__(self, edges: dict[tuple[int, int], str], channels: int) -> None:
        super().__init__()
        made = {
            "skip_connect": nn.Identity,
            "nor_conv_1x1": lambda: relu_conv_bn(channels, channels, 1),
            "nor_conv_3x3": lambda: relu_conv_bn(channels, channels, 3),
            "avg_pool_3x3": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        }
        self.pairs = list(edges)
        self.operations = nn.ModuleList(made[edges[pair]]() for pair in self.pairs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = {0: x}
        for end in (1, 2, 3):
            arriving = [op(nodes[a]) for (a, b), op in zip(self.pairs, self.operations, strict=True) if b == end]
            total = arriving[0]
            for other in arriving[1:]:
                total = total + other
            nodes[end] = total
        return nodes[3]


class Reduction(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(relu_conv_bn(inputs, outputs, 3, 2), relu_conv_bn(outputs, outputs, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.body(x)


def nasbench201(edges: dict[tuple[int, int], str]) -> nn.Module:
    layers: list[nn.Module] = [conv_bn_relu(3, 16, 3, relu=False)]
    for stage, channels in enumerate((16, 32, 64)):
        if stage:
            layers.append(Reduction(channels // 2, channels))
        layers += [Cell(edges, channels) for _ in range(5)]
    layers += [nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


def counted_macs(network: nn.Module) -> int:
    """Multiply-accumulates of convolutions and linear layers, counted while one image passes."""
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        total += output[0].numel() * weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return total
