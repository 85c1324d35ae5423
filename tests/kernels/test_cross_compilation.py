"""Code for another processor, run by an emulator: correctness, no timing."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from espalier.errors import FormatError
from espalier.kernels.engine import load_compiled
from espalier.kernels.toolchain import find_toolchain
from torch import Tensor, nn

from tests.kernels.driver import Driver
from tests.kernels.programs import HOST_SETS, TOLERANCE, Compiler, error, expected
from tests.kernels.pruned import PrunedConv2d, PrunedRecurrent, prune

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs the ziglang wheel")


class _Recurrent(nn.Module):
    """A small convolution, rows that are added, and a pruned recurrent layer over the columns."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Hardswish(),
            nn.Conv2d(8, 8, 3, 2, 1, groups=8),
            nn.ReLU6(),
            prune(PrunedConv2d(8, 40, 3, padding=1), (32, 18), (0.25, 0.5)),
            nn.AdaptiveAvgPool2d((1, 3)),
        )
        self.gru = prune(PrunedRecurrent["gru"](40, 17, batch_first=True, bidirectional=True), (32, 8), (0.25, 0.5))
        self.classifier = nn.Sequential(nn.Linear(34, 7), nn.Softmax(1))

    def forward(self, inputs: Tensor) -> Tensor:
        steps = self.features(inputs).flatten(2).transpose(1, 2)
        return self.classifier(self.gru(steps)[0][:, -1])


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="needs qemu-aarch64")
def test_neon_gives_what_pytorch_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, inputs = _Recurrent(), torch.randn(2, 3, 9, 12)
    command = (*find_toolchain("aarch64-linux-musl").command, "-O1", "-static")
    driver = Driver(tmp_path, module, inputs, "neon", command, ["qemu-aarch64"])
    for threads in (1, 2):
        assert error(driver.outputs(threads), expected(module, inputs)) <= TOLERANCE
    assert driver.errors(driver.source.weights[:-1], b"", driver.source.weights) == [4, 2, 0]


def test_a_library_for_another_processor_is_refused_here(tmp_path: Path) -> None:
    compiler = Compiler(tmp_path, find_toolchain("aarch64-linux-gnu"))
    files = compiler.files(nn.Linear(4, 3), torch.randn(1, 4), "neon")
    with pytest.raises(FormatError, match="is compiled for aarch64, this machine is"):
        load_compiled(files.library)


def test_zig_compiles_for_this_machine(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, inputs = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU()), torch.randn(2, 3, 9, 12)
    compiler = Compiler(tmp_path, find_toolchain(compiler="zig"))
    assert error(compiler.network(module, inputs, HOST_SETS[0])(inputs), expected(module, inputs)) <= TOLERANCE
