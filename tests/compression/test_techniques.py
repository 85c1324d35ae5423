"""Every technique: it saves what it says, it fits as its closed form promises."""

import dataclasses
import math

import pytest
import torch
from espalier.compression.calibration import Calibration, calibrate
from espalier.compression.choice import Choice
from espalier.compression.layers import QuantizedConv2d, QuantizedLinear, layer_specs, parameter_count
from espalier.compression.layers.symbols import pack_bits, packed_length, unpack_bits
from espalier.compression.site import Site, find_sites
from espalier.compression.technique import Technique, weight_matrix
from espalier.compression.techniques import (
    BcrPruning,
    CanonicalPolyadic,
    ChannelPruning,
    Composition,
    DepthwiseSeparable,
    Fire,
    GlobalAveragePooling,
    Int8,
    LowBits,
    MagnitudePruning,
    MlpConv,
    NMSparsity,
    PatternPruning,
    SparseCoding,
    SparseKernels,
    SparseRandom,
    SpatialSvd,
    TruncatedSvd,
    Tucker2,
    WeightSharing,
)
from espalier.compression.variant import state_bytes
from espalier.errors import EspalierError
from espalier.graph.trace import trace
from torch import Tensor, nn
from torch.nn import functional

from tests.compression.conftest import white_inputs

_DECOMPOSITIONS = [SpatialSvd(), Tucker2(), DepthwiseSeparable(), Fire(), CanonicalPolyadic(), SparseKernels()]
_STORING = [MagnitudePruning(), NMSparsity(), BcrPruning(), LowBits(), WeightSharing()]
_COMPOSED = [
    Composition([MagnitudePruning(), WeightSharing(bits=(4,))]),
    Composition([MagnitudePruning(sparsities=(0.5,)), LowBits(bits=(4,))]),
]
_CONV_TECHNIQUES = [
    *_DECOMPOSITIONS,
    *_STORING,
    *_COMPOSED,
    Composition([SpatialSvd(), Int8()]),
    MlpConv(),
    PatternPruning(),
    SparseRandom(),
    Int8(),
]
_LINEAR_TECHNIQUES = [
    TruncatedSvd(),
    SparseCoding(),
    *_STORING,
    *_COMPOSED,
    Composition([TruncatedSvd(), MagnitudePruning(sparsities=(0.5,)), WeightSharing(bits=(4,))]),
    Int8(),
]


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
    rising = ("weight_sharing", "depthwise_separable", "sparse_kernels")
    assert errors == sorted(errors, reverse=technique.name in rising)


@pytest.mark.parametrize("technique", _DECOMPOSITIONS, ids=lambda t: t.name)
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
    technique = SpatialSvd(rank_multiple=1)
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
        weight = module.tensors()["weight"]
        kept = int((weight != 0).sum())
        assert kept == pytest.approx((1 - choice["sparsity"]) * site.weights, abs=site.out_channels)
        most = 4 * kept + site.weights / 8 + 4 * site.out_channels + 8
        assert 4 * kept < state_bytes(module) <= most
        assert torch.equal(module.dense().weight, weight)


def test_sharing_stores_indices_of_few_bits(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    technique, site = WeightSharing(), sites["linear"]
    for choice in technique.choices(site):
        module = technique.build(net.get_submodule("linear"), site, choice, calibrations["linear"])
        codec = module.codecs["weight"]
        rows = module.tensors()["weight"] / codec.scale[:, None]
        assert len(rows.mul(1e4).round().unique()) <= 2 ** choice["bits"]
        most = site.weights * choice["bits"] / 8 + 4 * 2 ** choice["bits"] + 8 * site.out_channels + 8
        assert 0.5 * most < state_bytes(module) <= most


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
    for technique in (SparseCoding(), GlobalAveragePooling()):
        assert not technique.choices(sites["conv"])
    for technique in (PatternPruning(), SparseRandom(), MlpConv(), SparseKernels(), CanonicalPolyadic()):
        assert not technique.choices(sites["linear"])
    assert TruncatedSvd().choices(sites["point"])
    assert not TruncatedSvd().choices(sites["conv"])
    assert not Int8().choices(sites["head"])


def test_cp_recovers_a_layer_of_low_rank(sites: dict[str, Site]) -> None:
    torch.manual_seed(2)
    outputs, inputs, rows, columns = (torch.randn(size, 8) for size in (48, 32, 3, 3))
    layer = nn.Conv2d(32, 48, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("or,ir,hr,wr->oihw", outputs, inputs, rows, columns))
    technique = CanonicalPolyadic(speedups=(6,))
    (choice,) = technique.choices(sites["conv"])
    module = technique.build(layer, sites["conv"], choice, white_inputs(32 * 9))
    examples = torch.randn(2, 32, 8, 8)
    expected = layer(examples).detach()
    assert float((module(examples).detach() - expected).norm() / expected.norm()) < 0.02


def test_pruned_matrices_solve_the_least_squares_problem_of_brute_force() -> None:
    """With white inputs what stays is what it was; with two equal inputs the one that stays takes over the other."""
    matrix = torch.tensor([[4.0, 1.0, 3.0, -2.0]], dtype=torch.float64)
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(matrix)
    site = Site("x", "linear", (4,), (1,), ("x",))
    module = MagnitudePruning().build(layer, site, Choice.of("magnitude_pruning", sparsity=0.5), white_inputs(4))
    assert torch.allclose(module.tensors()["weight"], torch.tensor([[4.0, 0.0, 3.0, 0.0]]))
    twins = torch.eye(4, dtype=torch.float64)
    twins[1, 2] = twins[2, 1] = 1 - 1e-9
    calibration = Calibration(twins, torch.zeros(4, dtype=torch.float64), 0, 1)
    module = MagnitudePruning().build(layer, site, Choice.of("magnitude_pruning", sparsity=0.5), calibration)
    assert torch.allclose(module.tensors()["weight"], torch.tensor([[4.0, 0.0, 4.0, 0.0]]), atol=1e-4)


def test_n_of_m_weights_are_kept_and_they_are_the_most_salient(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    layer, site, calibration = net.get_submodule("linear"), sites["linear"], calibrations["linear"]
    for choice in NMSparsity(((2, 4), (1, 4))).choices(site):
        weight = NMSparsity().build(layer, site, choice, calibration).tensors()["weight"]
        kept = (weight != 0).view(80, -1, 4)
        assert (kept.sum(2) == choice["kept"]).all()
        salience = (layer.weight.abs() * calibration.covariance.diagonal().sqrt()).view(80, -1, 4)
        threshold = salience.sort(2, descending=True).values[:, :, choice["kept"] - 1 : choice["kept"]]
        assert torch.equal(kept, salience >= threshold)
    assert not NMSparsity(((2, 7),)).choices(site)


def test_kernels_keep_four_weights_in_few_patterns(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    technique = PatternPruning(patterns=6)
    full, half = technique.choices(sites["conv"])
    weight = technique.build(net.get_submodule("conv"), sites["conv"], full, calibrations["conv"]).tensors()["weight"]
    kernels = (weight != 0).view(-1, 9)
    assert (kernels.sum(1) == 4).all()
    assert kernels[:, 4].all()
    assert len(kernels.unique(dim=0)) == 6
    weight = technique.build(net.get_submodule("conv"), sites["conv"], half, calibrations["conv"]).tensors()["weight"]
    assert ((weight != 0).view(-1, 9).sum(1) > 0).sum() == 48 * 32 // 2
    assert not technique.choices(sites["point"])


def test_random_connections_are_reproducible_and_regrow_by_salience(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    layer, site, calibration = net.get_submodule("conv"), sites["conv"], calibrations["conv"]
    choice = Choice.of("sparse_random", kept=0.5)

    def connections(technique: SparseRandom) -> Tensor:
        return (technique.build(layer, site, choice, calibration).tensors()["weight"] != 0).flatten(2).any(2)

    random, regrown = connections(SparseRandom(regrown=0.0)), connections(SparseRandom(regrown=0.4))
    assert random.sum() == regrown.sum() == 48 * 32 // 2
    assert torch.equal(random, connections(SparseRandom(regrown=0.0)))
    assert not torch.equal(random, connections(SparseRandom(regrown=0.0, seed=1)))
    variances = calibration.covariance.diagonal().view(32, 9)
    energy = (layer.weight.flatten(2).square() * variances).sum(2)
    assert energy[regrown].sum() > energy[random].sum()


def test_sparse_coding_recovers_sparse_combinations_of_atoms(sites: dict[str, Site]) -> None:
    generator = torch.Generator().manual_seed(4)
    atoms = torch.randn(20, 1024, generator=generator)
    codes = torch.randn(80, 20, generator=generator) * (torch.rand(80, 20, generator=generator) < 0.2)
    layer = nn.Linear(1024, 80)
    with torch.no_grad():
        layer.weight.copy_(codes @ atoms)
    technique = SparseCoding(atoms=(0.25,), active=1.0, atom_multiple=1)
    (choice,) = technique.choices(sites["linear"])
    first, second = technique.build(layer, sites["linear"], choice, white_inputs(1024))
    product = second.tensors()["weight"] @ first.weight
    assert float((product - layer.weight).detach().norm() / layer.weight.detach().norm()) < 0.01
    sparser = SparseCoding(atoms=(0.25,), active=0.25, atom_multiple=1)
    _, second = sparser.build(layer, sites["linear"], choice, white_inputs(1024))
    assert ((second.tensors()["weight"] != 0).sum(1) <= 5).all()


def test_low_bits_equal_explicit_rounding_for_white_inputs(sites: dict[str, Site], net: nn.Module) -> None:
    layer, site = net.get_submodule("linear"), sites["linear"]
    for bits in (4, 2):
        module = LowBits().build(layer, site, Choice.of("low_bits", bits=bits), white_inputs(1024))
        weight, scale = module.tensors()["weight"], module.codecs["weight"].scale
        limit = 2 ** (bits - 1) - 1
        codes = (layer.weight / scale[:, None]).round().clamp(-limit, limit)
        assert torch.allclose(weight, codes * scale[:, None], atol=1e-6)
    assert [choice["bits"] for choice in LowBits().choices(site)] == [4, 2]


def test_all_stages_of_deep_compression_are_stored(
    net: nn.Module, sites: dict[str, Site], calibrations: dict[str, Calibration]
) -> None:
    technique = Composition([MagnitudePruning(sparsities=(0.9,)), WeightSharing(bits=(4,))])
    (choice,) = technique.choices(sites["linear"])
    assert dict(choice.parameters) == {"magnitude_pruning.sparsity": 0.9, "weight_sharing.bits": 4}
    module = technique.build(net.get_submodule("linear"), sites["linear"], choice, calibrations["linear"])
    kept = sites["linear"].weights // 10
    assert int((module.tensors()["weight"] != 0).sum()) == pytest.approx(kept, abs=2)
    assert state_bytes(module) < kept * 0.5 + sites["linear"].weights / 8 + 64 + 8 * 80
    assert state_bytes(module) < state_bytes(net.get_submodule("linear")) / 15


def test_compositions_prune_then_decompose_then_quantise() -> None:
    network = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)).eval()
    inputs = torch.rand(16, 3, 8, 8)
    found, _ = find_sites(network, trace(network, inputs[:1]))
    site = dataclasses.replace(found[0], prunable=True, input_shape=(3, 8, 8))
    calibration = dataclasses.replace(calibrate(network, found, [inputs])["0"], channel_order=torch.arange(32))
    technique = Composition([ChannelPruning(kept=(0.5,)), SpatialSvd(speedups=(2,), rank_multiple=1), Int8()])
    (choice,) = technique.choices(site)
    assert technique.kept_channels(site, choice) == 16
    module = technique.build(network[0], site, choice, calibration)
    assert [type(part) for part in module] == [QuantizedConv2d, QuantizedConv2d]
    unquantised = Composition([ChannelPruning(kept=(0.5,)), SpatialSvd(speedups=(2,), rank_multiple=1)])
    (choice,) = unquantised.choices(site)
    expected = unquantised.build(network[0], site, choice, calibration)(inputs).detach()
    outputs = module(inputs).detach()
    assert outputs.shape == (16, 16, 8, 8)
    assert float((outputs - expected).norm() / (expected - expected.mean(0)).norm()) < 0.05
    kept = network[0](inputs).detach()[:, :16]
    assert float((expected - kept).norm() / (kept - kept.mean(0)).norm()) < 0.9


def test_compositions_refuse_what_makes_no_sense() -> None:
    with pytest.raises(EspalierError, match="needs at least two different techniques, got"):
        Composition([Int8()])
    with pytest.raises(EspalierError, match="must come first, channel_pruning does not"):
        Composition([Int8(), ChannelPruning()])
    with pytest.raises(EspalierError, match="criterion must be one of consumers, l1"):
        ChannelPruning(criterion="size")
