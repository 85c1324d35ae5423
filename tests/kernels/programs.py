"""What tests of compiled networks share: compiling quickly, comparing with PyTorch, networks of many branches."""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from espalier.kernels.compile_network import CompiledFiles, compile_network
from espalier.kernels.compiler.emit.tiles import Tile
from espalier.kernels.engine import CompiledNetwork
from espalier.kernels.instruction_set import INSTRUCTION_SETS, InstructionSet, _cpu_flags
from espalier.kernels.toolchain import Toolchain, find_toolchain
from espalier.kernels.weight_types import FLOAT32
from torch import Tensor, nn

#: Largest error of single precision, of the output's largest magnitude.
TOLERANCE = 1e-5

#: What this machine executes, the widest first.
HOST_SETS = tuple(
    name
    for name, one in INSTRUCTION_SETS.items()
    if one.machine in ("", platform.machine()) and set(one.needed) <= _cpu_flags()
)

on_each_instruction_set = pytest.mark.parametrize(
    "isa",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in HOST_SETS, reason=f"this machine does not run {name}"))
        for name in ("avx512", "avx2", "plain")
    ],
)


@dataclass(frozen=True)
class QuickToolchain(Toolchain):
    """The system's compiler, which does not optimise, so that tests do not wait."""

    extra: tuple[str, ...] = ("-O0",)

    def library(self, source: Path, library: Path, instruction_set: InstructionSet, extra: Sequence[str] = ()) -> None:
        super().library(source, library, instruction_set, (*self.extra, *extra))


def quick_toolchain() -> QuickToolchain:
    return QuickToolchain(find_toolchain().command)


@dataclass
class Compiler:
    """Compiles networks into a folder of each.

    Attributes:
        folder: Of all.
        toolchain: Makes the libraries.
    """

    folder: Path
    toolchain: Toolchain = field(default_factory=quick_toolchain)
    _count: int = 0

    def files(
        self,
        module: nn.Module,
        example: Tensor,
        isa: str = HOST_SETS[0],
        tiles: Mapping[str, Tile] | None = None,
        weight_type: str = FLOAT32,
    ) -> CompiledFiles:
        self._count += 1
        what = (self.folder / str(self._count), INSTRUCTION_SETS[isa], self.toolchain, tiles)
        return compile_network(module.eval(), example[:1], *what, weight_type=weight_type)

    def network(
        self,
        module: nn.Module,
        example: Tensor,
        isa: str = HOST_SETS[0],
        threads: int = 1,
        tiles: Mapping[str, Tile] | None = None,
        weight_type: str = FLOAT32,
    ) -> CompiledNetwork:
        files = self.files(module, example, isa, tiles, weight_type)
        return CompiledNetwork(files.library, files.weights, threads)


class Branches(nn.Module):
    """Modules side by side on one input; their outputs are flattened and concatenated."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([branch(inputs).flatten(1) for branch in self.branches], 1)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self._function(inputs)


class Residual(nn.Module):
    """What goes in is added to what a module makes of it, and activated."""

    def __init__(self, module: nn.Module, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.module = module
        self.activation = activation or nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.activation(self.module(inputs) + inputs)


def expected(module: nn.Module, inputs: Tensor) -> Tensor:
    """What PyTorch computes in double precision."""
    with torch.no_grad():
        result: Tensor = deepcopy(module).eval().double()(inputs.double())
    return result


def error(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, of the largest magnitude."""
    assert found.shape == wanted.shape
    assert torch.isfinite(found).all()
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


def errors(module: Branches, inputs: Tensor, found: Tensor) -> dict[str, float]:
    """Of each branch that is wrong its place and description -> its error, relative to that branch's magnitude."""
    wrong, first = {}, 0
    for place, branch in enumerate(module.branches):
        wanted = expected(branch, inputs).flatten(1)
        got = found[:, first : first + wanted.shape[1]]
        first += wanted.shape[1]
        its_error = error(got, wanted)
        if not its_error <= TOLERANCE:
            wrong[f"{place}: {branch}"] = its_error
    assert first == found.shape[1]
    return wrong


@torch.no_grad()
def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with random batch-norm statistics and weights that keep signals at one size."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            shape = layer.running_mean.shape
            layer.running_mean.copy_(0.2 * torch.randn(shape, generator=generator))
            layer.running_var.copy_(0.5 + torch.rand(shape, generator=generator))
            layer.weight.copy_(0.5 + torch.rand(shape, generator=generator))
            layer.bias.copy_(0.5 * torch.randn(shape, generator=generator))
        elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            size = (2 / layer.weight[0].numel()) ** 0.5
            layer.weight.copy_(size * torch.randn(layer.weight.shape, generator=generator))
    return module


class OverPixels(nn.Module):
    """The last step of a recurrent layer over an image's pixels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.flatten(2).transpose(1, 2))[0][:, -1]


def with_rounded_weights(module: nn.Module, weight_type: str) -> nn.Module:
    """The network with its weights replaced, by another way than the one that is tested."""
    for layer in module.modules():
        is_depthwise = isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels
        for name, weight in layer.named_parameters(recurse=False):
            if name.startswith("weight") and weight.ndim > 1 and not is_depthwise:
                weight.data = rounded_weight(weight.data, weight_type)
    return module


def rounded_weight(weight: Tensor, weight_type: str) -> Tensor:
    if weight_type == "bfloat16":
        return weight.bfloat16().float()
    scale = weight.flatten(1).abs().amax(1).clamp_min(1e-30).div(127).view(-1, *[1] * (weight.ndim - 1))
    return (weight / scale).round() * scale
