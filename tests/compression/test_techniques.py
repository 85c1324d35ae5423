"""Every technique: it saves what it says, it fits as its closed form promises."""

import math

import pytest
import torch
from espalier.compression.calibration import Calibration, calibrate
from espalier.compression.choice import Choice
from espalier.compression.layers import QuantizedConv2d, QuantizedLinear
from espalier.compression.layers.bits import pack_bits, packed_length, unpack_bits
from espalier.compression.site import Site, find_sites
from espalier.compression.technique import Technique, weight_matrix
from espalier.compression.techniques import (
    DepthwiseSeparable,
    Fire,
    GlobalAveragePooling,
    Int8,
    MagnitudePruning,
    SpatialSvd,
    TruncatedSvd,
    Tucker2,
    WeightSharing,
)
from espalier.compression.variant import layer_specs, parameter_count, state_bytes
from espalier.graph.trace import trace
from torch import Tensor, nn
from torch.nn import functional

_CONV_TECHNIQUES = [SpatialSvd(), Tucker2(), DepthwiseSeparable(), Fire(), Int8()]
_LINEAR_TECHNIQUES = [TruncatedSvd(), MagnitudePruning(), WeightSharing(), Int8()]


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.conv = nn.Conv2d(32, 48, 3, padding=1)
        self.point = nn.Conv2d(48, 64, 1)
        self.linear = nn.Linear(64 * 4 * 4, 80)
        self.last = nn.Linear(80, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        features = functional.max_pool2d(functional.relu(self.conv(functional.relu(self.stem(inputs)))), 2)
        features = functional.relu(self.point(features))
        return self.last(functional.relu(self.linear(torch.flatten(features, 1))))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return _Net().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def sites(net: nn.Module) -> dict[str, Site]:
    found, _ = find_sites(net, trace(net, torch.rand(1, 3, 8, 8)))
    return {site.name: site for site in found}


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    smooth = torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return functional.interpolate(smooth, (8, 8), mode="bilinear") * 3 - 1


@pytest.fixture(scope="module")
def calibrations(net: nn.Module, sites: dict[str, Site], inputs: Tensor) -> dict[str, Calibration]:
    return calibrate(net, list(sites.values()), inputs.split(50))


@torch.no_grad()
def _error(module: nn.Module, layer: nn.Module, calibration: Calibration) -> float:
    assert calibration.examples is not None
    expected = layer(calibration.examples)
    return float((module(calibration.examples) - expected).norm() / (expected - expected.mean(0)).norm())


_CASES = [("conv", technique) for technique in _CONV_TECHNIQUES] + [
    ("linear", technique) for technique in _LINEAR_TECHNIQUES
]


@pytest.mark.parametrize(("name", "technique"), _CASES, ids=[f"{n}-{t.name}" for n, t in _CASES])
def test_choices_save_and_say_so(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration], name: str, technique: Technique
) -> None:
    layer, site, calibration = net.get_submodule(name), sites[name], calibrations[name]
    choices = technique.choices(site)
    assert choices
    errors = []
    for choice in choices:
        module = technique.build(layer, site, choice, calibration)
        assert calibration.examples is not None
        outputs = module(calibration.examples).detach()
        assert outputs.shape == layer(calibration.examples).shape
        macs = sum(spec.macs for spec in layer_specs(module, site.input_shape))
        is_faster = macs < site.macs or any(spec.bits == 8 for spec in layer_specs(module, site.input_shape))
        assert is_faster or state_bytes(module) < state_bytes(layer)
        assert state_bytes(module) < state_bytes(layer)
        assert parameter_count(module) <= parameter_count(layer)
        errors.append(_error(module, layer, calibration))
        # The bias makes up for the mean of what was lost.
        assert float((outputs - layer(calibration.examples)).mean()) == pytest.approx(0, abs=0.05)
    assert max(errors) < 1
    if len(errors) > 1:
        assert errors == sorted(errors) or technique.name in ("weight_sharing", "depthwise_separable")


@pytest.mark.parametrize("technique", [SpatialSvd(), Tucker2(), DepthwiseSeparable(), Fire()], ids=lambda t: t.name)
def test_fitting_to_data_beats_fitting_to_weights(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration], technique: Technique
) -> None:
    """The ablation: with a white covariance the same code fits the weights alone, and must do worse on the data."""
    site, calibration = sites["conv"], calibrations["conv"]
    size = len(calibration.mean)
    white = Calibration(torch.eye(size, dtype=torch.float64), calibration.mean, calibration.low, calibration.high)
    for choice in technique.choices(site):
        aware = technique.build(net.get_submodule("conv"), site, choice, calibration)
        blind = technique.build(net.get_submodule("conv"), site, choice, white)
        layer = net.get_submodule("conv")
        assert _error(aware, layer, calibration) < _error(blind, layer, calibration)


def test_truncated_svd_reaches_the_eckart_young_bound(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    technique, site, layer = TruncatedSvd(), sites["linear"], net.get_submodule("linear")
    size = site.in_channels
    white = Calibration(torch.eye(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64), 0, 1)
    for choice in technique.choices(site):
        first, second = technique.build(layer, site, choice, white)  # type: ignore[misc]
        rank = technique.rank(site, choice)
        assert first.weight.shape[0] == rank
        product = second.weight @ first.weight
        best = torch.linalg.svdvals(layer.weight)[rank:].norm()
        assert float((layer.weight - product).detach().norm()) == pytest.approx(float(best), rel=1e-4)


def test_full_spatial_svd_is_exact_and_tucker_recovers_a_tucker_layer(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    """With so many components that nothing is left out, the decomposition is the layer."""
    layer, site, calibration = net.get_submodule("conv"), sites["conv"], calibrations["conv"]
    technique = SpatialSvd(speedups=(1e-3,), rank_multiple=1)
    assert (
        _error(technique.build(layer, site, Choice.of("spatial_svd", speedup=1e-3), calibration), layer, calibration)
        < 1e-3
    )
    torch.manual_seed(5)
    core, left, right = torch.randn(6, 5, 3, 3), torch.randn(48, 6), torch.randn(5, 32)
    made = nn.Conv2d(32, 48, 3, padding=1)
    with torch.no_grad():
        made.weight.copy_(torch.einsum("or,rshw,si->oihw", left, core, right))
    tucker = Tucker2(speedups=(4,))
    assert _error(tucker.build(made, site, tucker.choices(site)[0], calibration), made, calibration) < 1e-3


def test_depthwise_separable_recovers_a_separable_layer(sites: dict[str, Site]) -> None:
    torch.manual_seed(3)
    site = sites["conv"]
    kernels, mixing = torch.randn(32, 3, 3), torch.randn(48, 32)
    layer = nn.Conv2d(32, 48, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(mixing[:, :, None, None] * kernels)
    size = 32 * 9
    white = Calibration(torch.eye(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64), 0, 1)
    module = DepthwiseSeparable().build(layer, site, Choice.of("depthwise_separable", multiplier=1), white)
    examples = torch.randn(2, 32, 8, 8)
    assert torch.allclose(module(examples), layer(examples), atol=1e-3)


def test_pruning_keeps_the_stated_share_and_is_stored_sparse(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    technique, site, layer = MagnitudePruning(), sites["linear"], net.get_submodule("linear")
    for choice in technique.choices(site):
        module = technique.build(layer, site, choice, calibrations["linear"])
        kept = int((module.weight != 0).sum())  # type: ignore[operator]
        assert kept == pytest.approx((1 - choice["sparsity"]) * site.weights, abs=site.out_channels)
        expected = 4 * kept + site.weights / 8 + 4 * site.out_channels
        assert state_bytes(module) == pytest.approx(expected, abs=64)
        assert torch.equal(module.dense().weight, module.weight)  # type: ignore[operator, union-attr]


def test_sharing_stores_indices_of_few_bits(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    technique, site = WeightSharing(), sites["linear"]
    for choice in technique.choices(site):
        module = technique.build(net.get_submodule("linear"), site, choice, calibrations["linear"])
        assert len(module.weight.unique()) <= 2 ** choice["bits"]  # type: ignore[operator]
        expected = site.weights * choice["bits"] / 8 + 4 * 2 ** choice["bits"] + 4 * site.out_channels
        assert state_bytes(module) == pytest.approx(expected, abs=8)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 33])
def test_bits_round_trip(bits: int, count: int) -> None:
    numbers = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(count))
    packed = pack_bits(numbers, bits)
    assert len(packed) == packed_length(count, bits) == math.ceil(count * bits / 8)
    assert torch.equal(unpack_bits(packed, bits, count).long(), numbers)


@pytest.mark.parametrize("name", ["conv", "linear"])
def test_int8_equals_explicit_rounding(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration], name: str
) -> None:
    layer, calibration = net.get_submodule(name), calibrations[name]
    module = Int8().build(layer, sites[name], Choice.of("int8"), calibration)
    assert isinstance(module, QuantizedConv2d | QuantizedLinear)
    assert calibration.examples is not None
    scale, zero = module.input_grid
    rounded = ((calibration.examples / scale + zero).round().clamp(0, 255) - zero) * scale
    steps = weight_matrix(layer).abs().amax(1) / 127
    codes = (weight_matrix(layer) / steps[:, None]).round()
    weight = (codes * steps[:, None]).float().view_as(layer.weight)
    if name == "conv":
        expected = functional.conv2d(rounded, weight, layer.bias, padding=1)
    else:
        expected = functional.linear(rounded, weight, layer.bias)
    assert torch.allclose(module(calibration.examples), expected, atol=1e-3)
    # What PyTorch executes in integers is the same function.
    assert torch.allclose(module.realised()(calibration.examples), expected, atol=1e-2)


def test_an_output_grid_rounds_and_clips() -> None:
    layer = QuantizedLinear.from_layer(nn.Linear(4, 3))
    layer.set_input_grid(0, 1)
    layer.set_output_grid(0, 0.5)
    outputs = layer(torch.rand(50, 4))
    assert outputs.min() >= 0
    assert outputs.max() <= 0.5
    step = 0.5 / 255
    assert torch.allclose(outputs / step, (outputs / step).round(), atol=1e-2)


def test_global_average_pooling_is_the_best_linear_map_of_the_means(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration], inputs: Tensor
) -> None:
    site, calibration = sites["head"], calibrations["head"]
    (choice,) = GlobalAveragePooling().choices(site)
    module = GlobalAveragePooling().build(net.get_submodule("last"), site, choice, calibration)
    body = nn.Sequential(net.stem, nn.ReLU(), net.conv, nn.ReLU(), nn.MaxPool2d(2), net.point, nn.ReLU())
    features = body(inputs)
    means = features.mean((2, 3))
    design = torch.cat([means, torch.ones(len(means), 1)], 1).double()
    best = design @ torch.linalg.lstsq(design, net(inputs).double(), driver="gelsd").solution
    ours = module(features.flatten(1)).detach()
    error, least = (float((outputs - net(inputs)).norm()) for outputs in (ours, best))
    assert least <= error < 1.1 * least


def test_techniques_leave_foreign_sites_alone(sites: dict[str, Site]) -> None:
    for technique in (SpatialSvd(), Tucker2(), DepthwiseSeparable(), Fire()):
        assert not technique.choices(sites["linear"])
        assert not technique.choices(sites["point"])
    for technique in (MagnitudePruning(), WeightSharing(), GlobalAveragePooling()):
        assert not technique.choices(sites["conv"])
    assert TruncatedSvd().choices(sites["point"])
    assert not TruncatedSvd().choices(sites["conv"])
    assert not Int8().choices(sites["head"])
