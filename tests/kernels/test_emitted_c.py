"""The emitted text: golden files of tiny layers, and the same bytes every time."""

import re
from pathlib import Path

import pytest
import torch
from espalier.kernels.compiler.emit.network import Source, emit_network
from espalier.kernels.compiler.lower import lower
from espalier.kernels.instruction_set import INSTRUCTION_SETS
from torch import nn

from tests.kernels.programs import Compiler, randomised
from tests.kernels.pruned import PrunedConv2d, PrunedLinear, prune

_GOLDEN = Path(__file__).parent / "golden"


def _tiny() -> dict[str, tuple[nn.Module, tuple[int, ...], str]]:
    """Name -> network, input shape, instruction set."""
    return {
        "convolution": (prune(PrunedConv2d(2, 4, 3, padding=1), (4, 6), (0.5, 0.5)), (2, 4, 5), "avx2"),
        "linear": (nn.Sequential(prune(PrunedLinear(6, 5), (5, 3), (1, 0.34)), nn.ReLU()), (6,), "plain"),
    }


def _emitted(name: str) -> Source:
    torch.manual_seed(0)
    module, shape, isa = _tiny()[name]
    network = lower(randomised(module), torch.zeros(1, *shape))
    return emit_network(network, INSTRUCTION_SETS[isa])


def _layers(text: str) -> str:
    """Kernels and layers, without what stands around them in every file."""
    start = text.index("static void rows_") if "static void rows_" in text else text.index("static void pixels_")
    return text[start : text.index("static void work(")]


@pytest.mark.parametrize("name", ["convolution", "linear"])
def test_kernels_are_the_golden_ones(name: str) -> None:
    """Where this fails on purpose: read the difference, then write what is emitted into the golden file."""
    assert _layers(_emitted(name).c) == (_GOLDEN / f"{name}.c").read_text(encoding="utf-8")


def test_what_is_emitted_depends_on_the_network_only(compiler: Compiler) -> None:
    torch.manual_seed(0)
    module, inputs = (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)),
        torch.zeros(1, 3, 8, 8),
    )
    first, second = (compiler.files(module, inputs) for _ in range(2))
    for name in ("source", "header", "library", "weights"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes(), name


def test_other_weights_of_one_structure_change_the_weights_file_only() -> None:
    module = nn.Conv2d(2, 3, 3)
    sources = []
    for seed in (0, 1):
        network = lower(randomised(module, seed), torch.zeros(1, 2, 6, 6))
        sources.append(emit_network(network, INSTRUCTION_SETS["avx2"]))
    assert sources[0].c == sources[1].c
    assert sources[0].weights != sources[1].weights


def test_the_header_declares_what_the_source_exports() -> None:
    source = emit_network(lower(nn.Linear(3, 2), torch.zeros(1, 3)), INSTRUCTION_SETS["plain"], None, "mine", '1"\\')
    exported = set(re.findall(r"^EXPORT .*?(\w+)\(", source.c, re.MULTILINE))
    assert exported == {"mine_load", "mine_run", "mine_free", "mine_version"}
    assert set(re.findall(r"(mine_\w+)\(", source.header)) == exported
    assert r"\"espalier\": \"1\\\"\\\\\"" in source.c
