"""The networks, against closed forms and against the same network written another way."""

import pytest
import torch
from espalier.errors import ModelError
from espalier.tasks.layout import channels_last
from espalier.tasks.models.lenet import LeNet5
from espalier.tasks.models.resnet import CifarResNet
from espalier.tasks.models.vgg import VggSmall
from torch import Tensor, nn
from torch.nn import functional


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_lenet_has_its_published_number_of_weights() -> None:
    by_hand = (25 + 1) * 6 + (25 * 6 + 1) * 16 + (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
    assert _count(LeNet5()) == by_hand == 61_706
    assert LeNet5(3, 32, 7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert LeNet5(1, 28)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("depth", [8, 20, 32])
def test_resnets_have_the_weights_of_the_paper(depth: int) -> None:
    """6 n + 1 convolutions of 3x3 without bias, two numbers per channel of each batch-norm, one linear layer."""
    n, total = (depth - 2) // 6, 27 * 16 + 2 * 16 + 65 * 10
    for source, width in ((16, 16), (16, 32), (32, 64)):
        total += 9 * source * width + (2 * n - 1) * 9 * width * width + 2 * n * 2 * width
    assert _count(CifarResNet(depth)) == total
    convolutions = [layer for layer in CifarResNet(depth).modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) + 1 == depth


@pytest.mark.parametrize("depth", [2, 7, 21])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ModelError, match=rf"6 n \+ 2 .* got {depth}"):
        CifarResNet(depth)


def _resnet_by_state(state: dict[str, Tensor], inputs: Tensor, blocks: int) -> Tensor:
    """The forward pass of He et al. from the state dict alone, the shortcut filled channel by channel."""

    def norm(features: Tensor, name: str) -> Tensor:
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
        shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
        return features * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)

    features = norm(functional.conv2d(inputs, state["conv1.weight"], padding=1), "bn1").relu()
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = functional.conv2d(features, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            inner = functional.conv2d(norm(inner, f"{name}.bn1").relu(), state[f"{name}.conv2.weight"], padding=1)
            shortcut = torch.zeros_like(inner)
            first = (inner.shape[1] - features.shape[1]) // 2
            for channel in range(features.shape[1]):
                shortcut[:, first + channel] = features[:, channel, ::stride, ::stride]
            features = (norm(inner, f"{name}.bn2") + shortcut).relu()
    return features.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


def test_a_resnet_computes_what_the_paper_says() -> None:
    torch.manual_seed(0)
    model = CifarResNet(14)
    with torch.no_grad():
        model(torch.randn(16, 3, 32, 32))  # in training mode: running statistics that are not 0 and 1
        inputs = torch.randn(2, 3, 32, 32)
        scores = model.eval()(inputs)
        expected = _resnet_by_state(model.state_dict(), inputs, 2)
    assert torch.allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize(("widths", "size"), [((4,), 8), ((4, 6, 8), 16)])
def test_a_small_vgg_has_the_weights_of_its_widths(widths: tuple[int, ...], size: int) -> None:
    total, channels = 0, 3
    for width in widths:
        total += 9 * channels * width + 9 * width * width + 4 * width
        channels = width
    side = size // 2 ** len(widths)
    total += (channels * side * side + 1) * 5 + (5 + 1) * 7
    model = VggSmall(widths, hidden=5, in_channels=3, image_size=size, n_classes=7)
    assert _count(model) == total
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_layout_changes_the_order_in_memory_and_nothing_else() -> None:
    model = CifarResNet(8).eval()
    inputs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(inputs)
        assert channels_last(model) is model
        after = model(inputs)
    assert model.layer2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(before, after, atol=1e-4)
