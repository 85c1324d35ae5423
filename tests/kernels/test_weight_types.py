"""Weights of fewer bits: how they are rounded, and every kernel that decodes them against PyTorch."""

import importlib.util
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.errors import FormatError, ModelError
from espalier.kernels.compiler.emit.network import emit_network
from espalier.kernels.compiler.ir import Convolution
from espalier.kernels.compiler.lower import lower
from espalier.kernels.compiler.passes import simplified
from espalier.kernels.compiler.reader.network import read_network
from espalier.kernels.engine import CompiledNetwork
from espalier.kernels.instruction_set import INSTRUCTION_SETS
from espalier.kernels.rounded_weights import RoundedWeights
from espalier.kernels.toolchain import find_toolchain
from espalier.kernels.weight_types import BYTES, checked_weight_type, rounded, stored
from torch import Tensor, nn

from tests.kernels.driver import Driver
from tests.kernels.programs import (
    HOST_SETS,
    TOLERANCE,
    Branches,
    Compiler,
    OverPixels,
    Residual,
    error,
    errors,
    on_each_instruction_set,
    randomised,
    rounded_weight,
    with_rounded_weights,
)
from tests.kernels.pruned import PrunedConv2d, PrunedLinear, PrunedRecurrent, prune
from tests.kernels.test_damaged_weights import SANITIZED, needs_sanitizers, with_checksum

_FEW_BITS = ("bfloat16", "int8")

of_few_bits = pytest.mark.parametrize("weight_type", _FEW_BITS)


def _numbers(*shape: int) -> np.ndarray:
    chance = np.random.default_rng(0)
    return (chance.standard_normal(shape) * 10.0 ** chance.integers(-9, 9, (shape[0], 1))).astype(np.float32)


def test_bfloat16_rounds_as_pytorch_does() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (64, 4096), np.uint32).view(np.float32)
    # Numbers that lie half-way between two, after an even one and after an odd one, of both signs; zeros; subnormals.
    ties = np.array([0x3F808000, 0x3F818000, 0xBF808000, 0xBF818000, 0, 1 << 31, 1, 0x8001], np.uint32).view(np.float32)
    values = np.concatenate([bits[np.isfinite(bits) & (np.abs(bits) < 3e38)], ties])[None]
    found, scale = rounded(values, "bfloat16")
    assert np.array_equal(found, torch.from_numpy(values).bfloat16().float().numpy())
    assert np.array_equal(scale, [1])
    assert np.array_equal(rounded(found, "bfloat16")[0], found)


def test_int8_is_the_closed_form() -> None:
    matrix = _numbers(40, 300)
    codes, scale = rounded(matrix, "int8")
    steps = np.abs(matrix.astype(np.float64)).max(1) / 127
    assert np.allclose(scale, steps, rtol=1e-6)
    assert np.array_equal(stored(codes, "int8"), np.rint(matrix / scale[:, None]))
    assert np.abs(stored(codes, "int8")).max(1).tolist() == [127] * 40
    assert (np.abs(codes * scale[:, None] - matrix) <= 0.5001 * steps[:, None]).all()


def test_int8_keeps_what_lies_on_a_grid() -> None:
    """Codes that do not reach to 127, as the step of least error leaves them, come back; also those of fewer bits."""
    chance = np.random.default_rng(0)
    for limit in (1, 7, 100, 127):
        codes = chance.integers(-limit, limit + 1, (30, 200))
        matrix = (codes * chance.uniform(1e-3, 1, (30, 1))).astype(np.float32)
        found, scale = rounded(matrix, "int8")
        assert np.allclose(found * scale[:, None], matrix, rtol=1e-6, atol=0), limit


def test_what_is_kept_and_what_is_pruned_stays_so() -> None:
    matrix = np.array([[1.0, 1e-4, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0], [1e-40, 0.0, 0.0, 1e-45]], np.float32)
    for weight_type in _FEW_BITS:
        values, scale = rounded(matrix, weight_type)
        assert np.isfinite(scale).all()
        assert np.array_equal(values[:2] != 0, matrix[:2] != 0)
    assert np.array_equal(stored(rounded(matrix, "int8")[0], "int8")[:2], [[127, 0, 0, -127], [0, 0, 0, 0]])


def test_unknown_types_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown type of weights 'int4'; known: float32, bfloat16, int8"):
        checked_weight_type("int4")
    with pytest.raises(ValueError, match="unknown type of weights 'int4'"):
        lower(nn.Linear(3, 2), torch.zeros(1, 3), "int4")


@of_few_bits
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(weight_type: str, value: float) -> None:
    for layer in (nn.Linear(3, 2), OverPixels(nn.GRU(3, 2, batch_first=True))):
        for parameter in layer.parameters():
            nn.init.constant_(parameter, value)
        network = read_network(layer, torch.zeros(1, 3) if isinstance(layer, nn.Linear) else torch.zeros(1, 3, 2, 2))
        with pytest.raises(ModelError, match=f"no finite numbers, which cannot be stored as {weight_type}"):
            simplified(network, weight_type)


def _kernels() -> nn.Module:
    """Over pixels and over points, whole rows and added ones, ragged sizes, norms, sums, recurrent layers."""
    torch.manual_seed(0)
    few = nn.AdaptiveAvgPool2d((2, 3))
    module = Branches(
        [
            nn.Sequential(nn.Conv2d(6, 21, 3, padding=1), nn.BatchNorm2d(21), nn.ReLU()),
            nn.Sequential(nn.Conv2d(6, 9, 3, 2, 1, groups=3), nn.SiLU()),
            nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1, groups=6), nn.Conv2d(6, 5, 1)),
            nn.Sequential(PrunedConv2d(6, 40, 3, 1, 1), nn.BatchNorm2d(40)),
            nn.Sequential(PrunedConv2d(6, 32, 3, 1, 1), nn.ReLU()),
            nn.Sequential(few, nn.Conv2d(6, 35, 3, padding=1), nn.BatchNorm2d(35), nn.Hardswish()),
            nn.Sequential(few, PrunedConv2d(6, 32, 3, 1, 1), nn.ReLU()),
            Residual(PrunedConv2d(6, 6, 3, 1, 1), nn.ReLU()),
            nn.Sequential(few, Residual(nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU6())),
            nn.Sequential(nn.Flatten(), PrunedLinear(6 * 36, 21), nn.Tanh()),
            nn.Sequential(nn.Flatten(), nn.Linear(6 * 36, 7), nn.BatchNorm1d(7), nn.Linear(7, 33)),
            OverPixels(nn.GRU(6, 17, batch_first=True, bidirectional=True)),
            OverPixels(PrunedRecurrent["gru"](6, 24, batch_first=True)),
            OverPixels(PrunedRecurrent["lstm"](6, 17, batch_first=True)),
        ]
    )
    # Of every third layer all rows are kept, of the others a quarter in each of several blocks.
    for place, layer in enumerate(layer for layer in randomised(module).modules() if hasattr(layer, "kept_blocks")):
        prune(layer, *(((16, 18), (1, 0.5)) if place % 3 == 0 else ((32, 18), (0.25, 0.5))))
    return module.eval()


def _images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 6, 4, 9, generator=torch.Generator().manual_seed(0))


@of_few_bits
@on_each_instruction_set
def test_every_kernel_against_rounded_weights(compiler: Compiler, isa: str, weight_type: str) -> None:
    files = compiler.files(_kernels(), _images(), isa, weight_type=weight_type)
    wanted = with_rounded_weights(_kernels(), weight_type)
    assert isinstance(wanted, Branches)
    for threads in (1, 2):
        found = CompiledNetwork(files.library, files.weights, threads)(_images())
        assert errors(wanted, _images(), found) == {}
    original = _kernels()
    assert isinstance(original, Branches)
    assert len(errors(original, _images(), found)) >= 12, "rounding changes every branch with weights"


@of_few_bits
def test_the_reference_rounds_what_the_compiler_rounds(weight_type: str) -> None:
    module, wanted = _kernels(), with_rounded_weights(_kernels(), weight_type)
    with torch.no_grad(), RoundedWeights(weight_type):
        first, second = module(_images()), module(_images())
    with torch.no_grad():
        assert torch.allclose(first, wanted(_images()), atol=1e-5)
        assert torch.equal(first, second)
        convolution = nn.Conv2d(2, 2, 1)
        with RoundedWeights(weight_type):
            called = nn.functional.conv2d(torch.ones(1, 2, 1, 1), weight=convolution.weight, groups=1)
        own = rounded_weight(convolution.weight, weight_type)
        assert torch.allclose(called.flatten(), own.sum((1, 2, 3)), atol=1e-6)


@of_few_bits
def test_files_are_smaller_and_keep_the_structure(weight_type: str) -> None:
    torch.manual_seed(0)
    network = read_network(prune(PrunedLinear(640, 320), (16, 64), (1, 0.5)), torch.zeros(1, 640))
    floats, few = (emit_network(simplified(network, one), INSTRUCTION_SETS["avx2"]) for one in ("float32", weight_type))
    kept, scales = 640 * 320 // 2, 4 * 320
    saved = len(floats.weights) - len(few.weights)
    assert saved == pytest.approx(kept * (4 - BYTES[weight_type]) - scales, abs=256)
    groups = [source.c[source.c.index("/* linear: ") :].splitlines()[0] for source in (floats, few)]
    assert groups[0] == groups[1], "the same weights in the same groups of rows"


def test_a_norm_is_folded_into_the_scales() -> None:
    torch.manual_seed(0)
    module = randomised(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))).eval()
    for weight_type in _FEW_BITS:
        (layer,) = lower(module, torch.zeros(1, 2, 5, 5), weight_type).layers
        assert isinstance(layer, Convolution)
        own = rounded(module[0].weight.detach().flatten(1).numpy(), weight_type)
        gain = module[1].weight / (module[1].running_var + module[1].eps).sqrt()
        assert np.array_equal(layer.matrix, own[0])
        assert layer.scale is not None
        assert np.allclose(layer.scale, own[1] * gain.detach().numpy(), rtol=1e-5)


def test_files_of_another_type_are_refused(compiler: Compiler) -> None:
    torch.manual_seed(0)
    module, inputs = nn.Linear(40, 30), torch.randn(1, 40)
    files = {one: compiler.files(module, inputs, weight_type=one) for one in ("float32", *_FEW_BITS)}
    for one, other in itertools.permutations(files.values(), 2):
        with pytest.raises(FormatError, match="the weights file belongs to another network"):
            CompiledNetwork(one.library, other.weights)


@needs_sanitizers
@of_few_bits
def test_sanitizers_find_nothing(tmp_path: Path, weight_type: str) -> None:
    """Good files run clean; weights may be any bytes; indices, scales or not, lead nowhere."""
    module = _kernels()
    driver = Driver(tmp_path, module, _images(), HOST_SETS[-1], SANITIZED, weight_type=weight_type)
    wanted = with_rounded_weights(_kernels(), weight_type)
    for threads in (1, 2):
        assert errors(wanted, _images(), driver.outputs(threads)) == {}  # type: ignore[arg-type]  # branches
    chance, good = np.random.default_rng(0), driver.source.weights
    damaged = []
    for _ in range(60):
        content = np.frombuffer(good, np.uint8).copy()
        places = chance.integers(64, len(good), chance.integers(1, 6))
        content[places] = chance.choice([0, 1, 127, 128, 255], len(places))
        damaged.append(with_checksum(content.tobytes()))
    assert set(driver.errors(*damaged)) == {0, 4}
    assert driver.errors(good[:-1], good + b"\0", good[:64]) == [4, 4, 4]


@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None or shutil.which("qemu-aarch64") is None,
    reason="needs the ziglang wheel and qemu-aarch64",
)
@of_few_bits
def test_neon_gives_what_pytorch_gives(tmp_path: Path, weight_type: str) -> None:
    command = (*find_toolchain("aarch64-linux-musl").command, "-O1", "-static")
    driver = Driver(tmp_path, _kernels(), _images(), "neon", command, ["qemu-aarch64"], weight_type)
    wanted = with_rounded_weights(_kernels(), weight_type)
    assert errors(wanted, _images(), driver.outputs(2)) == {}  # type: ignore[arg-type]  # branches


@of_few_bits
def test_optimised_code_computes_the_same(compiler: Compiler, weight_type: str) -> None:
    """As users compile; the other tests do not wait for the compiler to optimise."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 21, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(), nn.Linear(84, 19))
    inputs = torch.randn(2, 3, 6, 7)
    compiler.toolchain = find_toolchain()
    found = compiler.network(module, inputs, weight_type=weight_type)(inputs)
    with torch.no_grad(), RoundedWeights(weight_type):
        assert error(found, module.double()(inputs.double())) <= TOLERANCE
