"""Layers whose weights keep rectangles of blocks, with and without saying so."""

import numpy as np
import torch
from espalier.kernels.block_grid import BlockGrid
from espalier.kernels.blocks import Blocks
from torch import Tensor, nn

__all__ = ["PrunedConv2d", "PrunedLinear", "PrunedRecurrent", "prune"]


def blocks_of(
    shape: tuple[int, int], block: tuple[int, int], kept: tuple[float, float], seed: int = 0, is_reordered: bool = False
) -> Blocks:
    """Random blocks that keep these shares of their rows and columns."""
    chance = np.random.default_rng(seed)
    grid = BlockGrid(*shape, *block)
    rows, columns = (
        chance.random((grid.count, length)).argsort(1) < round(share * length)
        for length, share in zip(block, kept, strict=True)
    )
    order = chance.permutation(shape[1]) if is_reordered else np.arange(shape[1])
    return Blocks(grid, rows, columns, order)


def mask_of(blocks: Blocks) -> Tensor:
    mask = torch.zeros(blocks.grid.rows, blocks.grid.columns, dtype=torch.bool)
    for rows, columns in blocks.rectangles():
        mask[torch.from_numpy(rows)[:, None], torch.from_numpy(columns)] = True
    return mask


class _Pruned(nn.Module):
    """A layer that knows its blocks."""

    known: dict[str, Blocks]

    def kept_blocks(self) -> dict[str, Blocks]:
        return self.known


class PrunedConv2d(_Pruned, nn.Conv2d):
    pass


class PrunedLinear(_Pruned, nn.Linear):
    pass


class PrunedGru(_Pruned, nn.GRU):
    pass


class PrunedLstm(_Pruned, nn.LSTM):
    pass


PrunedRecurrent = {"gru": PrunedGru, "lstm": PrunedLstm}


@torch.no_grad()
def prune(
    layer: nn.Module,
    block: tuple[int, int],
    kept: tuple[float, float],
    seed: int = 0,
    is_reordered: bool = False,
    is_known: bool = True,
) -> nn.Module:
    """The layer with its weights pruned in blocks.

    Args:
        layer: Is changed.
        block: Rows and columns of a block.
        kept: Shares of rows and columns of each block.
        seed: Of what is kept.
        is_reordered: Whether the columns are in another order than the tensor's.
        is_known: Whether the layer tells.
    """
    layer.known = {}
    for name, weight in layer.named_parameters():
        if name.startswith("weight"):
            matrix = weight.view(len(weight), -1)
            found = blocks_of(tuple(matrix.shape), block, kept, seed, is_reordered)
            matrix.mul_(mask_of(found))
            if is_known:
                layer.known[name] = found
    return layer
