"""Distillation of features: values by hand, the choice of layers, losses that fall, names that are wrong."""

import copy
import math

import pytest
import torch
from espalier.errors import ModelError
from espalier.finish.recipe import FinishRecipe
from espalier.tasks.data.digits import digits
from espalier.tasks.data.split import Splits
from espalier.tasks.distillation import DistillationRecipe, distil
from espalier.tasks.feature_matching import attention_map, feature_distance, feature_matching
from espalier.tasks.models.recurrent import RecurrentClassifier
from espalier.tasks.models.resnet import CifarResNet
from espalier.tasks.models.vgg import VggSmall
from espalier.tasks.training import TrainingRecipe, train
from torch import Tensor, nn


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits(size=8, calibrate=64, search=200, test=600)


@pytest.fixture(scope="module")
def teacher(splits: Splits) -> VggSmall:
    torch.manual_seed(0)
    model = VggSmall([8, 8], hidden=16, in_channels=1, image_size=8, n_classes=10)
    train(model, splits.fit, TrainingRecipe(epochs=4), seed=0)
    return model.requires_grad_(False)


def _disturbed(teacher: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter) if parameter.numel() > 1 else 0)
    return student.requires_grad_(True)


def test_attention_sums_squares_over_channels() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])  # two channels of 1x2
    assert attention_map(features, 1).tolist() == [[10.0, 4.0]]
    assert attention_map(features[:, :, 0].transpose(1, 2), 2).tolist() == [[10.0, 4.0]]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([[3.0, 4.0]], [[6.0, 8.0]], 0.0),  # length does not matter
        ([[1.0, 0.0]], [[0.0, 5.0]], 2.0),  # orthogonal
        ([[1.0, 0.0]], [[-1.0, 0.0]], 4.0),  # opposite
        ([[1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]], (2 - 2 / math.sqrt(2)) / 2),  # mean over the batch
    ],
)
def test_distances_of_small_maps(student: list[list[float]], teacher: list[list[float]], expected: float) -> None:
    assert feature_distance(torch.tensor(student), torch.tensor(teacher)).item() == pytest.approx(expected, abs=1e-6)


class _Scaled(nn.Module):
    """A feature map that is written down, then scores."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.given = nn.Parameter(features)
        self.body = nn.Identity()
        self.head = nn.Flatten()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(self.given.expand(len(inputs), *self.given.shape[1:])))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Attention: (1, 4) against (4, 1), both of length sqrt(17): 2 - 2 * 8 / 17.
        ("attention", 2 - 16 / 17),
        # Values: (1, 2) against (2, 1), both of length sqrt(5): 2 - 2 * 4 / 5.
        ("channels", 2 - 8 / 5),
    ],
)
def test_the_loss_of_two_networks_by_hand(kind: str, expected: float) -> None:
    student, teacher = _Scaled(torch.tensor([[[1.0, 2.0]]])), _Scaled(torch.tensor([[[2.0, 1.0]]]))
    inputs = torch.zeros(3, 1)
    with feature_matching(student, teacher, inputs, ["body"], kind) as features:  # type: ignore[arg-type]
        student(inputs)
        teacher(inputs)
        loss = features.loss()
        loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert student.given.grad.abs().sum() > 0


def test_other_channels_have_the_same_attention() -> None:
    """The student has half the teacher's channels; only where it looks is compared."""
    narrow = _Scaled(torch.tensor([[[1.0, 2.0]]]))
    wide = _Scaled(torch.tensor([[[1.0, 2.0], [1.0, 2.0]]]))
    inputs = torch.zeros(1, 1)
    with feature_matching(narrow, wide, inputs, [], "attention") as features:
        narrow(inputs)
        wide(inputs)
        assert features.loss().item() == pytest.approx(0, abs=1e-12)
    with (
        pytest.raises(ModelError, match=r"the channels features of layer 'body' .* other shapes .*compared: none"),
        feature_matching(narrow, wide, inputs, ["body"], "channels"),
    ):
        pass


def test_the_last_layer_of_each_resolution_is_taken_and_hooks_go() -> None:
    model = CifarResNet(8).eval()
    with feature_matching(copy.deepcopy(model), model, torch.zeros(1, 3, 32, 32), [], "attention") as features:
        assert features.layers == ("layer1", "layer2", "layer3")
        assert model.layer1._forward_hooks
    assert not any(layer._forward_hooks for layer in model.modules())


def test_recurrent_networks_are_compared_over_time() -> None:
    teacher, student = RecurrentClassifier(n_features=3, hidden=8), RecurrentClassifier(n_features=3, hidden=5)
    inputs = torch.randn(2, 7, 3)
    with feature_matching(student, teacher, inputs, [], "attention") as features:
        assert features.layers == ("layers.0",)
        student(inputs)
        teacher(inputs)
        ours, theirs = (net.layers[0](inputs)[0].square().sum(2) for net in (student, teacher))
        ours, theirs = (map_ / map_.norm(dim=1, keepdim=True) for map_ in (ours, theirs))
        assert features.loss().item() == pytest.approx(((ours - theirs) ** 2).sum().item() / 2, rel=1e-4)


@pytest.mark.parametrize("feature_map", ["attention", "channels"])
@pytest.mark.parametrize("loss", ["features", "both"])
def test_losses_fall(splits: Splits, teacher: VggSmall, loss: str, feature_map: str) -> None:
    student = _disturbed(teacher)
    recipe = DistillationRecipe(
        3, learning_rate=2e-3, label_weight=0.1, loss=loss, feature_weight=5.0, feature_map=feature_map
    )
    report = distil(student, teacher, splits.fit, splits.search, recipe, seed=0)
    assert len(report.losses) == 3
    assert report.losses[2] < 0.7 * report.losses[0]
    assert report.accuracy_after > report.accuracy_before
    assert len(report.feature_layers) == 3, "one of each of the sides 8, 4 and 2"
    assert not any(layer._forward_hooks for net in (student, teacher) for layer in net.modules())


def test_features_alone_bring_the_features_closer(splits: Splits, teacher: VggSmall) -> None:
    """Without labels and outputs in the loss: features become the teacher's, more than with outputs alone."""
    distances = {}
    inputs = splits.search.inputs()
    for loss in ("logits", "features"):
        student = _disturbed(teacher)
        recipe = DistillationRecipe(3, learning_rate=2e-3, label_weight=0.0, loss=loss)
        distil(student, teacher, splits.fit, splits.search, recipe, seed=0)
        with torch.no_grad(), feature_matching(student, teacher, inputs, [], "attention") as features:
            student(inputs)
            teacher(inputs)
            distances[loss] = features.loss().item()
    assert distances["features"] < 0.8 * distances["logits"]


def test_outputs_alone_compare_no_features(splits: Splits, teacher: VggSmall) -> None:
    report = distil(_disturbed(teacher), teacher, splits.fit, splits.search, DistillationRecipe(1), seed=0)
    assert report.feature_layers == ()
    assert len(report.losses) == 1


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["features.99"], r"the original has no layer 'features\.99'; layers that can be compared: features\.0, "),
        (["flatten"], r"the attention features of layer 'flatten' have no positions"),
        (["classifier.0"], r"the attention features of layer 'classifier\.0' have no positions"),
    ],
)
def test_names_of_layers_that_do_not_serve_are_refused(
    splits: Splits, teacher: VggSmall, layers: list[str], message: str
) -> None:
    recipe = DistillationRecipe(1, loss="features", feature_layers=layers)
    with pytest.raises(ModelError, match=f"distillation.feature_layers: {message}"):
        distil(_disturbed(teacher), teacher, splits.fit, splits.search, recipe, seed=0)


def test_layers_that_only_the_original_has_are_named(splits: Splits, teacher: VggSmall) -> None:
    student = VggSmall([8], hidden=16, in_channels=1, image_size=8, n_classes=10).eval()
    recipe = DistillationRecipe(1, loss="both", feature_layers=["features.8"])
    with pytest.raises(ModelError, match=r"the compressed network has no layer 'features\.8'"):
        distil(student, teacher, splits.fit, splits.search, recipe, seed=0)


def test_networks_without_feature_maps_are_told_to_use_logits(splits: Splits) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    with pytest.raises(
        ModelError, match=r"finds no layer whose attention can be compared; use distillation\.loss=logits"
    ):
        distil(copy.deepcopy(flat), flat, splits.fit, splits.search, DistillationRecipe(1, loss="features"), seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "feature"}, "loss must be logits or features or both, got 'feature'"),
        ({"feature_map": "fsp"}, "feature_map must be attention or channels, got 'fsp'"),
        ({"label_weight": 1.5}, "label_weight must be 0 to 1.*got 1.5"),
        ({"temperature": 0.0}, "temperature and feature_weight above 0; got 0.3, 0.0 and 1.0"),
        ({"feature_weight": 0.0}, "got 0.3, 2.0 and 0.0"),
    ],
)
def test_unknown_losses_and_weights_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        FinishRecipe(distillation=DistillationRecipe(**settings))  # type: ignore[arg-type]
