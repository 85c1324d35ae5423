"""Weights files that are damaged or another network's, and what the sanitizers say of good ones."""

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.errors import FormatError
from espalier.kernels.compiler.emit.network import checksum
from espalier.kernels.compiler.emit.runtime import ERRORS, HEADER_BYTES
from espalier.kernels.engine import CompiledNetwork
from torch import Tensor, nn

from tests.kernels.driver import Driver
from tests.kernels.programs import HOST_SETS, TOLERANCE, Branches, Compiler, OverPixels, error, expected
from tests.kernels.pruned import PrunedConv2d, PrunedRecurrent, prune

SANITIZED = ("gcc", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def _can_sanitize() -> bool:
    if shutil.which("gcc") is None:
        return False
    command = [*SANITIZED, "-x", "c", "-", "-o", "/dev/null"]
    return not subprocess.run(
        command, input=b"int main(void) { return 0; }", capture_output=True, check=False
    ).returncode


needs_sanitizers = pytest.mark.skipif(not _can_sanitize(), reason="needs gcc with its sanitizers")


def _sparse() -> nn.Module:
    """Every kind of kernel."""
    torch.manual_seed(0)
    return Branches(
        [
            nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2, 1)),
            nn.Sequential(nn.Conv2d(3, 7, 5, 2, 2), nn.AvgPool2d(3, 2, ceil_mode=True)),
            nn.Conv2d(3, 3, 3, padding=1, groups=3),
            nn.Conv2d(3, 3, 3, 2, 1, groups=3),
            nn.Conv2d(3, 3, 1),
            prune(PrunedConv2d(3, 40, 3, padding=1), (32, 9), (0.25, 0.5)),
            nn.Sequential(nn.AdaptiveAvgPool2d((3, 2)), prune(PrunedConv2d(3, 40, 3, 1, 1), (32, 9), (0.25, 0.5))),
            nn.Sequential(
                nn.AdaptiveAvgPool2d((3, 2)), nn.Conv2d(3, 3, 3, 1, 1, groups=3), nn.Flatten(), nn.Linear(18, 9)
            ),
            OverPixels(nn.GRU(3, 9, batch_first=True, bidirectional=True)),
            OverPixels(prune(PrunedRecurrent["lstm"](3, 17, batch_first=True), (32, 4), (0.25, 0.5))),
        ]
    )


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return torch.randn(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, inputs: Tensor) -> Driver:
    # Sanitizers take half a minute to compile vectors of 16 numbers.
    return Driver(tmp_path_factory.mktemp("driver"), _sparse(), inputs, HOST_SETS[-1], SANITIZED)


def with_checksum(content: bytes) -> bytes:
    data = content[HEADER_BYTES:]
    return content[:32] + struct.pack("<Q", checksum(data)) + content[40:HEADER_BYTES] + data


@needs_sanitizers
@pytest.mark.parametrize("threads", [1, 2])
def test_good_weights_run_clean(driver: Driver, inputs: Tensor, threads: int) -> None:
    assert error(driver.outputs(threads), expected(_sparse(), inputs)) <= TOLERANCE


@needs_sanitizers
def test_indices_that_lead_astray_are_refused(driver: Driver) -> None:
    """With a checksum that fits, only the bounds of the indices stand between a damaged file and foreign memory."""
    chance, good = np.random.default_rng(0), driver.source.weights
    damaged = []
    for _ in range(300):
        content = np.frombuffer(good, np.uint8).copy()
        places = chance.integers(HEADER_BYTES, len(good), chance.integers(1, 6))
        content[places] = chance.choice([0, 1, 127, 128, 255], len(places))
        damaged.append(with_checksum(content.tobytes()))
    found = driver.errors(*damaged)
    assert set(found) == {0, 4}, "weights may be any numbers, indices may not"


@needs_sanitizers
def test_any_index_that_is_too_large_is_refused(driver: Driver) -> None:
    """Each section of indices, its first and its last one."""
    text, damaged = driver.source.c, []
    begin = text.index("index_sections[] = {") + len("index_sections[] = {")
    sections = [line.strip("{} ").split(", ") for line in text[begin : text.index("};", begin)].split("}, {")]
    assert len(sections) > 5
    for offset, count, _, largest, size in (map(int, section) for section in sections):
        for place in {0, count - 1}:
            content = bytearray(driver.source.weights)
            at = HEADER_BYTES + offset + place * size
            content[at : at + size] = (largest + 1).to_bytes(size, "little")
            damaged.append(with_checksum(bytes(content)))
    assert set(driver.errors(*damaged)) == {4}


def _cases(good: bytes) -> dict[str, tuple[bytes, int]]:
    def changed(place: int) -> bytes:
        return good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :]

    return {
        "empty": (b"", 2),
        "half a header": (good[:30], 2),
        "magic": (changed(0), 2),
        "version": (changed(8), 2),
        "byte order": (changed(12), 2),
        "structure": (changed(16), 3),
        "length": (changed(24), 3),
        "checksum": (changed(32), 4),
        "header only": (good[:HEADER_BYTES], 4),
        "one byte short": (good[:-1], 4),
        "one byte long": (good + b"\0", 4),
        "first byte of the data": (changed(HEADER_BYTES), 4),
        "last byte of the data": (changed(len(good) - 1), 4),
        "any byte of the data": (changed((HEADER_BYTES + len(good)) // 2), 4),
        "text": (b"weights " * 100, 2),
    }


def test_every_region_of_the_file_is_checked(compiler: Compiler, tmp_path: Path) -> None:
    torch.manual_seed(0)
    files = compiler.files(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 9, 9))
    for name, (content, wanted) in _cases(files.weights.read_bytes()).items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(FormatError) as caught:
            CompiledNetwork(files.library, path)
        assert str(caught.value) == f"{path}: {ERRORS[wanted]}", name
    with pytest.raises(FormatError, match="nowhere: the weights file cannot be opened"):
        CompiledNetwork(files.library, tmp_path / "nowhere")
    other = compiler.files(nn.Conv2d(3, 5, 3), torch.randn(1, 3, 9, 9))
    with pytest.raises(FormatError, match="the weights file belongs to another network"):
        CompiledNetwork(files.library, other.weights)
