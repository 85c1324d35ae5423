"""Larger and other networks: published numbers of weights and operations, published names, closed forms."""

import math

import pytest
import torch
from espalier.errors import ModelError
from espalier.tasks.models.alexnet import AlexNet
from espalier.tasks.models.conv1d import Conv1dNetwork
from espalier.tasks.models.imagenet_resnet import ImageNetResNet
from espalier.tasks.models.mobilenet import MobileNetV2
from espalier.tasks.models.recurrent import RecurrentClassifier
from espalier.tasks.models.resnet import CifarResNet
from espalier.tasks.models.small_cnn import SmallCnn
from espalier.tasks.models.vgg import Vgg16
from torch import Tensor, nn


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _made(name: str) -> nn.Module:
    """A published network without memory for its weights."""
    with torch.device("meta"):
        return {
            "alexnet": AlexNet,
            "vgg16": lambda: Vgg16(batch_norm=False),
            "vgg16_bn": Vgg16,
            "resnet18": ImageNetResNet,
            "resnet34": lambda: ImageNetResNet((3, 4, 6, 3)),
            "mobilenet_v2": MobileNetV2,
        }[name]()


@pytest.mark.parametrize(
    ("name", "weights", "tensors", "gigamacs"),
    [
        ("alexnet", 61_100_840, 16, 0.71),
        ("vgg16", 138_357_544, 32, 15.47),
        ("vgg16_bn", 138_365_992, 97, 15.47),
        ("resnet18", 11_689_512, 122, 1.81),
        ("resnet34", 21_797_672, 218, 3.66),
        ("mobilenet_v2", 3_504_872, 314, 0.30),
    ],
)
def test_networks_are_as_large_as_published(name: str, weights: int, tensors: int, gigamacs: float) -> None:
    """Weights and operations as torchvision's documentation gives them for these networks at 224x224."""
    model = _made(name).eval()
    macs = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        macs += layer.weight[0].numel() * output.numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    assert model(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 1000)
    assert _count(model) == weights
    assert len(model.state_dict()) == tensors
    assert macs / 1e9 == pytest.approx(gigamacs, abs=0.006)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "alexnet",
            {
                "features.0.weight": (64, 3, 11, 11),
                "features.3.weight": (192, 64, 5, 5),
                "features.10.bias": (256,),
                "classifier.1.weight": (4096, 9216),
                "classifier.4.weight": (4096, 4096),
                "classifier.6.weight": (1000, 4096),
            },
        ),
        (
            "vgg16",
            {
                "features.0.weight": (64, 3, 3, 3),
                "features.7.weight": (128, 128, 3, 3),
                "features.28.weight": (512, 512, 3, 3),
                "classifier.0.weight": (4096, 25088),
                "classifier.3.weight": (4096, 4096),
                "classifier.6.bias": (1000,),
            },
        ),
        (
            "vgg16_bn",
            {"features.1.running_var": (64,), "features.40.weight": (512, 512, 3, 3), "features.41.bias": (512,)},
        ),
        (
            "resnet18",
            {
                "conv1.weight": (64, 3, 7, 7),
                "bn1.running_mean": (64,),
                "layer1.0.conv1.weight": (64, 64, 3, 3),
                "layer2.0.downsample.0.weight": (128, 64, 1, 1),
                "layer2.0.downsample.1.running_var": (128,),
                "layer4.1.bn2.bias": (512,),
                "fc.weight": (1000, 512),
            },
        ),
        (
            "mobilenet_v2",
            {
                "features.0.0.weight": (32, 3, 3, 3),
                "features.0.1.running_mean": (32,),
                "features.1.conv.0.0.weight": (32, 1, 3, 3),
                "features.1.conv.1.weight": (16, 32, 1, 1),
                "features.1.conv.2.weight": (16,),
                "features.2.conv.0.0.weight": (96, 16, 1, 1),
                "features.2.conv.1.0.weight": (96, 1, 3, 3),
                "features.2.conv.2.weight": (24, 96, 1, 1),
                "features.17.conv.3.bias": (320,),
                "features.18.0.weight": (1280, 320, 1, 1),
                "classifier.1.weight": (1000, 1280),
            },
        ),
    ],
)
def test_public_checkpoints_find_their_names(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    state = _made(name).state_dict()
    for parameter, shape in shapes.items():
        assert tuple(state[parameter].shape) == shape


@pytest.mark.parametrize(
    "model",
    [
        lambda: AlexNet(image_size=32, stem_kernel=3, stem_stride=1, stem_padding=1, hidden=16, n_classes=7),
        lambda: Vgg16(image_size=32, hidden=16, n_classes=7),
        lambda: ImageNetResNet(stem_kernel=3, stem_stride=1, stem_pool=False, n_classes=7),
        lambda: MobileNetV2(0.25, stem_stride=1, strides=[1, 1, 2, 2, 1, 2, 1], n_classes=7),
    ],
    ids=["alexnet", "vgg16", "resnet18", "mobilenet_v2"],
)
def test_networks_take_small_images(model: object) -> None:
    with torch.device("meta"):
        network = model().eval()  # type: ignore[operator]
    assert network(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 7)


def test_a_resnet_for_small_images_keeps_their_resolution() -> None:
    with torch.device("meta"):
        model = ImageNetResNet(stem_kernel=3, stem_stride=1, stem_pool=False).eval()
    sides: list[int] = []
    for stage in (model.layer1, model.layer4):
        stage.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    model(torch.zeros(1, 3, 32, 32, device="meta"))
    assert sides == [32, 4]


def test_an_inverted_residual_adds_its_input_where_the_shape_stays() -> None:
    model = MobileNetV2(0.25, n_classes=3).eval()
    first, second = model.features[2], model.features[3]
    inputs = torch.randn(1, 8, 8, 8)
    narrow = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        nn.init.zeros_(first.conv[-1].weight)
        nn.init.zeros_(second.conv[-1].weight)
        assert torch.equal(first(inputs), torch.zeros(1, 8, 4, 4)), "no shortcut across a stride"
        assert torch.equal(second(narrow), narrow)


@pytest.mark.parametrize(("width", "last", "weights"), [(1.4, 1792, 6_108_776), (0.5, 1280, 1_968_680)])
def test_widths_round_as_in_the_paper(width: float, last: int, weights: int) -> None:
    """6.11 and 1.97 million weights are what public checkpoints of these widths have."""
    with torch.device("meta"):
        model = MobileNetV2(width)
    assert model.classifier[1].in_features == last
    channels = [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert all(count % 8 == 0 for count in channels)
    assert _count(model) == weights


@pytest.mark.parametrize("depth", [32, 44])
def test_deeper_cifar_resnets(depth: int) -> None:
    """0.46 and 0.66 million weights in table 6 of He et al."""
    published = {32: 0.46e6, 44: 0.66e6}
    assert _count(CifarResNet(depth)) == pytest.approx(published[depth], rel=0.02)


def test_a_small_network_takes_images_of_any_height_and_width() -> None:
    model = SmallCnn((4, 6), hidden=5, in_channels=2, image_size=(10, 13), n_classes=3)
    assert _count(model) == 9 * 2 * 4 + 8 + 9 * 4 * 6 + 12 + (6 * 2 * 3 + 1) * 5 + (5 + 1) * 3
    assert model(torch.zeros(2, 2, 10, 13)).shape == (2, 3)


def test_a_network_for_signals_convolves_in_time() -> None:
    """One convolution, written as a sum over its taps."""
    torch.manual_seed(0)
    model = Conv1dNetwork(2, (3,), kernel=3, n_classes=4).eval()
    signals = torch.randn(5, 2, 8)
    padded = torch.nn.functional.pad(signals, (1, 1))
    weight = model.features[0].weight
    convolved = sum(torch.einsum("nct,oc->not", padded[:, :, k : k + 8], weight[:, :, k]) for k in range(3))
    pooled = (convolved / math.sqrt(1 + 1e-5)).relu().view(5, 3, 4, 2).amax(3).mean(2)
    expected = pooled @ model.classifier.weight.T + model.classifier.bias
    assert torch.allclose(model(signals), expected, atol=1e-5)
    assert Conv1dNetwork()(torch.zeros(2, 9, 128)).shape == (2, 6)


def test_a_gru_follows_its_equations_step_by_step() -> None:
    """Cho et al. 2014 with the reset gate after the product, as cuDNN and PyTorch have it."""
    torch.manual_seed(0)
    model = RecurrentClassifier("gru", n_features=3, hidden=4, n_classes=2).double().eval()
    state = {name: tensor.detach() for name, tensor in model.layers[0].named_parameters()}
    sequence = torch.randn(6, 3, dtype=torch.float64)
    hidden = torch.zeros(4, dtype=torch.float64)
    for step in sequence:
        from_input = (state["weight_ih_l0"] @ step + state["bias_ih_l0"]).chunk(3)
        from_state = (state["weight_hh_l0"] @ hidden + state["bias_hh_l0"]).chunk(3)
        reset = (from_input[0] + from_state[0]).sigmoid()
        update = (from_input[1] + from_state[1]).sigmoid()
        candidate = (from_input[2] + reset * from_state[2]).tanh()
        hidden = (1 - update) * candidate + update * hidden
    expected = model.classifier.weight @ hidden + model.classifier.bias
    assert torch.allclose(model(sequence[None])[0], expected)


@pytest.mark.parametrize(("kind", "gates"), [("gru", 3), ("lstm", 4)])
@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_networks_have_the_weights_of_their_gates(kind: str, gates: int, layers: int) -> None:
    model = RecurrentClassifier(kind, 5, 6, layers, 3)  # type: ignore[arg-type]
    first, second = gates * 6 * (5 + 6 + 2), gates * 6 * (6 + 6 + 2)
    assert _count(model) == first + (layers - 1) * second + 7 * 3
    assert model(torch.zeros(2, 9, 5)).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecurrentClassifier("rnn"), "is gru or lstm, got 'rnn'"),  # type: ignore[arg-type]
        (lambda: RecurrentClassifier(n_layers=3), "has 1 or 2 layers, got 3"),
        (lambda: Conv1dNetwork(kernel=4), "kernel of a Conv1dNetwork must be odd, got 4"),
        (lambda: SmallCnn(image_size=(40, 7)), "3 pools leave nothing of an image of 40 x 7"),
        (lambda: AlexNet(image_size=32), "leave nothing of an image of 32x32"),
        (lambda: Vgg16(image_size=28), "images of at least 32x32, got 28x28"),
        (lambda: ImageNetResNet((2, 2, 2)), r"4 stages of at least 1 block each, got \[2, 2, 2\]"),
        (lambda: ImageNetResNet((2, 0, 2, 2)), r"got \[2, 0, 2, 2\]"),
        (lambda: MobileNetV2(0), r"width above 0 and 7 strides, got 0 and"),
        (lambda: MobileNetV2(strides=[1]), r"got 1 and \[1\]"),
    ],
)
def test_impossible_networks_are_refused(make: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()  # type: ignore[operator]
