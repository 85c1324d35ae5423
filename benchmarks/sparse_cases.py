"""The networks of `sparse_inference.py`: untrained, pruned in blocks, compiled; the same ones in every process."""

import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from espalier.compression.assembly import batch_norm_pairs, fold_batch_norms
from espalier.compression.techniques.bcr_pruning import project
from espalier.graph.fusion import fuse
from espalier.graph.trace import trace
from espalier.hw_models.runtimes.onnx_export import export_onnx
from espalier.kernels.block_grid import BlockGrid
from espalier.kernels.compile_network import compile_network
from espalier.kernels.engine import load_compiled
from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.rounded_weights import RoundedWeights
from espalier.kernels.toolchain import find_toolchain
from espalier.kernels.weight_types import FLOAT32
from espalier.tasks.models.imagenet_resnet import ImageNetResNet
from espalier.tasks.models.mobilenet import MobileNetV2
from espalier.tasks.models.recurrent import RecurrentClassifier
from espalier.tasks.models.vgg import Vgg16
from torch import Tensor, nn

__all__ = [
    "DENSE_CHAINS",
    "LAYERS",
    "NETWORKS",
    "Compiled",
    "compiled",
    "dense_onnx",
    "example",
    "exported_program",
    "folded",
    "make",
    "pruned",
]

#: A block of a convolution or a linear layer: all its rows stay, its columns are chosen.
BLOCK = (16, 144)

#: State units and columns of a block of a recurrent layer; the three gates of a unit share their columns.
GATE_BLOCK = (16, 128)

#: Of the largest output, how far a compiled one may be from PyTorch's.
TOLERANCE = 1e-4

#: Name -> network and the shape of its input.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vgg16_32": (lambda: Vgg16(image_size=32, hidden=512, n_classes=10), (1, 3, 32, 32)),
    "vgg16_224": (Vgg16, (1, 3, 224, 224)),
    "resnet18_224": (ImageNetResNet, (1, 3, 224, 224)),
    "mobilenetv2_224": (MobileNetV2, (1, 3, 224, 224)),
    "gru_1024": (lambda: RecurrentClassifier("gru", 39, 1024, 2, 10), (1, 100, 39)),
}


def _convolution(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1))


def _linear(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs))


#: Networks of one layer: channels and pixels of 3x3 convolutions, outputs and inputs of linear layers.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{
        f"conv_{channels}_{side}": (partial(_convolution, channels), (1, channels, side, side))
        for channels, side in ((64, 56), (128, 28), (256, 14), (512, 7), (512, 4), (512, 2))
    },
    **{
        f"linear_{outputs}_{inputs}": (partial(_linear, inputs, outputs), (1, inputs))
        for outputs, inputs in ((4096, 4096), (3072, 1024))
    },
}


def _chain(*layers: Callable[[], nn.Module]) -> nn.Module:
    """The layers again and again, each with weights of its own: inside a network nothing is copied in or out."""
    return nn.Sequential(*(layer() for _ in range(CHAIN // len(layers)) for layer in layers))


#: Layers of a network of equal layers.
CHAIN = 8

#: Networks of equal layers of which nothing is pruned: what stays dense in a pruned network, or is dense by nature.
DENSE_CHAINS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{
        f"depthwise_{channels}_{side}": (
            partial(_chain, partial(nn.Conv2d, channels, channels, 3, padding=1, groups=channels)),
            (1, channels, side, side),
        )
        for channels, side in ((32, 112), (144, 56), (192, 28), (384, 14), (576, 14), (960, 7))
    },
    **{
        f"pointwise_{narrow}_{wide}_{side}": (
            partial(_chain, partial(nn.Conv2d, narrow, wide, 1), partial(nn.Conv2d, wide, narrow, 1)),
            (1, narrow, side, side),
        )
        for narrow, wide, side in ((16, 96, 112), (24, 144, 56), (32, 192, 28), (64, 384, 14), (160, 960, 7))
    },
    **{
        f"convs_{channels}_{side}": (
            partial(_chain, partial(nn.Conv2d, channels, channels, 3, padding=1)),
            (1, channels, side, side),
        )
        for channels, side in ((64, 224), (64, 56), (128, 28), (256, 14), (512, 7), (512, 2))
    },
    "linear_4096": (partial(_chain, partial(nn.Linear, 4096, 4096)), (1, 4096)),
    "max_pool_64_112": (partial(_chain, partial(nn.MaxPool2d, 3, 1, 1)), (1, 64, 112, 112)),
    "gru_256": (lambda: RecurrentClassifier("gru", 40, 256, 1, 10), (1, 100, 40)),
    "lstm_256": (lambda: RecurrentClassifier("lstm", 40, 256, 1, 10), (1, 100, 40)),
}

_CASES = NETWORKS | LAYERS | DENSE_CHAINS


@dataclass(frozen=True)
class Compiled:
    """A pruned network that was compiled, and what it took.

    Attributes:
        folder: The library and its weights.
        kept: Weights of convolutions, linear and recurrent layers that are not pruned.
        total: All of them.
        multiplications: Of an inference, with the kept weights.
        weights_bytes: Size of the weights file.
        library_bytes: Size of the library.
        compile_seconds: From the network to the files.
        tuning_seconds: Of them in the tuner.
        error: Largest difference from the masked PyTorch network with the weights that are stored, relative to the
            largest output.
        rounding: What rounding the weights changes of PyTorch's outputs, the same way.
    """

    folder: str
    kept: int
    total: int
    multiplications: int
    weights_bytes: int
    library_bytes: int
    compile_seconds: float
    tuning_seconds: float
    error: float
    rounding: float = 0.0


def is_recurrent(network: nn.Module) -> bool:
    """Whether it has recurrent layers."""
    return any(isinstance(layer, nn.RNNBase) for layer in network.modules())


@torch.no_grad()
def make(name: str) -> nn.Module:
    """A network of that name with random weights that keep signals alive, and random batch-norm statistics."""
    torch.manual_seed(0)
    network = _CASES[name][0]().eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
            layer.weight.uniform_(0.8, 1.2)
            layer.bias.normal_(0, 0.1)
    return network


def example(name: str) -> Tensor:
    """The input that is timed."""
    return torch.randn(_CASES[name][1], generator=torch.Generator().manual_seed(1))


def folded(name: str) -> nn.Module:
    """The dense network without batch-norms."""
    network = make(name)
    if is_recurrent(network):
        return network
    graph = trace(network, example(name))
    return fold_batch_norms(network, batch_norm_pairs(graph, fuse(graph)))


def dense_onnx(name: str, folder: Path) -> Path:
    """The dense network as an ONNX file, made if it is not there."""
    path = folder / f"{name}.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        export_onnx(folded(name), example(name), path)
    return path


def exported_program(name: str, folder: Path) -> Path:
    """The dense network as an exported PyTorch program, made if it is not there."""
    path = folder / f"{name}.pt2"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.export.save(torch.export.export(folded(name), (example(name),)), path)
    return path


def matrices(network: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """The weight matrices that are pruned, and in which order their rows are cut into blocks; None where they stand."""
    found: list[tuple[Tensor, Tensor | None]] = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            found.append((layer.weight.data.flatten(1), None))
        if isinstance(layer, nn.GRU):
            order = _gate_order(layer.hidden_size)
            found += [(layer.weight_ih_l0.data, order), (layer.weight_hh_l0.data, order)]
    return found


def _gate_order(hidden: int) -> Tensor:
    """The rows of all gates of some state units, then of the next units."""
    units = GATE_BLOCK[0]
    starts = range(0, hidden, units)
    return torch.cat([torch.arange(unit, unit + units) + gate * hidden for unit in starts for gate in range(3)])


@torch.no_grad()
def pruned(name: str, rate: float) -> nn.Module:
    """The network with 1 / rate of each layer's weights, the largest columns of each block, scaled to keep signals."""
    network = make(name)
    for matrix, order in matrices(network):
        mask = _mask(matrix.square(), order, rate)
        matrix.mul_(mask).mul_((mask.numel() / mask.sum()) ** 0.5)
    return network


def _mask(energy: Tensor, order: Tensor | None, rate: float) -> Tensor:
    rows, columns = energy.shape
    block_rows, block_columns = BLOCK if order is None else (3 * GATE_BLOCK[0], GATE_BLOCK[1])
    order = torch.arange(rows) if order is None else order
    grid = BlockGrid(rows, columns, block_rows, min(block_columns, columns))
    kept_rows, kept_columns = project(energy[order], grid, int(energy.numel() / rate), block_rows)
    mask = torch.empty_like(energy)
    mask[order] = grid.matrix(kept_rows[:, :, None] & kept_columns[:, None, :]).to(energy.dtype)
    return mask


def compiled(
    name: str,
    rate: float,
    folder: Path,
    tiles: Mapping[str, Any] | None = None,
    tuning_seconds: float = 0.0,
    weight_type: str = FLOAT32,
) -> Compiled:
    """The network pruned, compiled and compared with PyTorch; what an earlier run has left in the folder is taken.

    Args:
        name: Of the network.
        rate: Of pruning.
        folder: Of the library; is made.
        tiles: A tuner's choices by layer.
        tuning_seconds: That the tuner took.
        weight_type: That weights are rounded to.

    Raises:
        ValueError: The compiled network computes something else.
    """
    account = folder / "account.json"
    if not account.is_file():
        result = _compiled(name, rate, folder, tiles, weight_type)
        seconds = result.compile_seconds + tuning_seconds
        result = replace(result, compile_seconds=seconds, tuning_seconds=tuning_seconds)
        account.write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
    return Compiled(**json.loads(account.read_text(encoding="utf-8")))


def _compiled(name: str, rate: float, folder: Path, tiles: Mapping[str, Any] | None, weight_type: str) -> Compiled:
    network, inputs = pruned(name, rate), example(name)
    started = time.perf_counter()
    isa, toolchain = host_instruction_set(), find_toolchain()
    copied = copy.deepcopy(network)
    files = compile_network(copied, inputs, folder, isa, toolchain, tiles, weight_type=weight_type)
    seconds = time.perf_counter() - started
    weights = [matrix for matrix, _ in matrices(network)]
    return Compiled(
        str(folder),
        sum(int(matrix.count_nonzero()) for matrix in weights),
        sum(matrix.numel() for matrix in weights),
        multiplications(network, inputs),
        files.weights.stat().st_size,
        files.library.stat().st_size,
        seconds,
        0.0,
        *checked(network, inputs, folder, weight_type),
    )


@torch.no_grad()
def checked(network: nn.Module, inputs: Tensor, folder: Path, weight_type: str) -> tuple[float, float]:
    """The largest difference between PyTorch with rounded weights and the compiled network, and what rounding changes.

    Both are relative to the largest output.

    Raises:
        ValueError: It is more than the tolerance.
    """
    original, got = network(inputs), load_compiled(folder)(inputs)
    with RoundedWeights(weight_type):
        expected = network(inputs)
    error = float((expected - got).abs().max() / expected.abs().max())
    if not error <= TOLERANCE:
        raise ValueError(f"the compiled network in {folder.name} is wrong by {error:.2g}")
    return error, float((expected - original).abs().max() / original.abs().max())


@torch.no_grad()
def multiplications(network: nn.Module, inputs: Tensor) -> int:
    """Multiplications of one inference by weights that are not zero."""
    counts: list[int] = []

    def count(layer: nn.Module, given: tuple[Tensor, ...], result: Any) -> None:
        if isinstance(layer, nn.GRU):
            weights = int(layer.weight_ih_l0.count_nonzero() + layer.weight_hh_l0.count_nonzero())
            counts.append(weights * given[0].shape[1])
        else:
            counts.append(int(layer.weight.count_nonzero()) * result[0, 0].numel())

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear | nn.GRU)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return sum(counts)
