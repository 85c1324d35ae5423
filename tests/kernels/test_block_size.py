"""Choosing the size of blocks by timing synthetic layers."""

import numpy as np
import pytest
from espalier.errors import EspalierError
from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.toolchain import find_toolchain
from espalier.kernels.tuning.block_size import LayerShape, _weight, block_times_us, smallest_fast_block


def test_the_smallest_within_the_tolerance_is_taken() -> None:
    times = {(4, 16): 20.0, (8, 72): 10.9, (16, 72): 11.1, (16, 144): 10.0, (32, 144): 10.5}
    assert smallest_fast_block(times, 0.1) == (8, 72)
    assert smallest_fast_block(times, 0.0) == (16, 144)
    assert smallest_fast_block(times, 1.0) == (4, 16)


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (16, 36), (7, 5)])
def test_synthetic_weights_keep_their_share_of_each_block(rows: int, columns: int) -> None:
    shape = LayerShape((4, 6, 6), 16, (3, 3), padding=(1, 1))
    matrix = _weight(shape, 4.0, rows, columns).reshape(16, 36)
    for top in range(0, 16, rows):
        for left in range(0, 36, columns):
            block = matrix[top : top + rows, left : left + columns] != 0
            assert (block == block[0]).all(), "whole columns"
            assert block[0].sum() == max(1, round(block.shape[1] / 4))


def test_layers_are_timed_for_real() -> None:
    shape = LayerShape((8, 9, 9), 16, (3, 3), (2, 2), (1, 1))
    assert shape.output_shape == (16, 5, 5)
    times = block_times_us(shape, 4.0, [(8, 24), (16, 72)], host_instruction_set(), find_toolchain())
    assert list(times) == [(8, 24), (16, 72)]
    assert all(np.isfinite(time) and time > 0 for time in times.values())


def test_bad_arguments_are_refused() -> None:
    shape = LayerShape((8, 9, 9), 16)
    with pytest.raises(EspalierError, match=r"expected blocks and a rate of at least 1, got \[\] and 4"):
        block_times_us(shape, 4.0, [], host_instruction_set(), find_toolchain())
    with pytest.raises(EspalierError, match=r"rate of at least 1, got .* and 0\.5"):
        block_times_us(shape, 0.5, [(8, 8)], host_instruction_set(), find_toolchain())
    with pytest.raises(EspalierError, match="the times of at least one block"):
        smallest_fast_block({})
