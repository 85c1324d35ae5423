"""Putting a network together from layers that exist already."""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..graph.fusion import Fusion
from ..graph.graph import Graph
from .bank import Bank
from .layers import absorb, absorber
from .plan import Plan

__all__ = ["assemble", "batch_norm_pairs", "fold_batch_norms", "structural_copy", "with_layers"]


def structural_copy(module: nn.Module) -> nn.Module:
    """A copy of the module tree that shares all parameters and buffers with the original.

    Replacing a layer or a tensor of the copy leaves the original alone; changing a tensor in place does not.
    """
    return _copy(module, {})


def _copy(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) not in done:
        twin = copy.copy(module)
        done[id(module)] = twin
        for table in ("_parameters", "_buffers"):
            twin.__dict__[table] = dict(twin.__dict__[table])
        children = module.__dict__["_modules"].items()
        twin.__dict__["_modules"] = {name: child and _copy(child, done) for name, child in children}
    return done[id(module)]


def with_layers(model: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """A structural copy of `model` with other layers at some dotted paths."""
    network = structural_copy(model)
    for path, layer in layers.items():
        network.set_submodule(path, layer)
    return network


def assemble(model: nn.Module, plan: Plan, bank: Bank) -> nn.Module:
    """The network of a plan, made of the original's layers and the bank's variants; nothing is computed or copied.

    Args:
        model: The original network.
        plan: A plan of the bank's space.
        bank: The variants.
    """
    return with_layers(model, bank.replacements(plan, model))


def batch_norm_pairs(graph: Graph, fusion: Fusion) -> tuple[tuple[str, str], ...]:
    """Dotted paths of the layers and the batch-norms that can be folded into them."""
    pairs = ((graph[layer].module, graph[norm].module) for layer, norm in fusion.batch_norm.items())
    return tuple((layer, norm) for layer, norm in pairs if layer and norm)


@torch.no_grad()
def fold_batch_norms(network: nn.Module, pairs: Iterable[tuple[str, str]]) -> nn.Module:
    """The same function without the batch-norms, whose scale and shift move into the layers before them.

    Args:
        network: In evaluation mode; it is not changed.
        pairs: Dotted paths of layer and batch-norm.
    """
    folded = structural_copy(network)
    for layer_path, norm_path in pairs:
        norm = folded.get_submodule(norm_path)
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_mean is None:
            continue
        layer = copy.deepcopy(folded.get_submodule(layer_path))
        if absorber(layer) is not None:
            absorb(layer, *_affine(norm))
            folded.set_submodule(layer_path, layer)
            folded.set_submodule(norm_path, nn.Identity())
    return folded


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift that an evaluated batch-norm applies to each channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if not norm.affine:
        return scale, -norm.running_mean * scale
    scale = scale * norm.weight
    return scale, norm.bias - norm.running_mean * scale
