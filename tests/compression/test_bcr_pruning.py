"""Block column-row pruning: the projection against brute force, what is stored against the dense matrix."""

from itertools import combinations

import pytest
import torch
from espalier.compression.calibration import Calibration
from espalier.compression.choice import Choice
from espalier.compression.layers import BlockSparseCodec, StoredLayer, build_module, describe_module
from espalier.compression.site import Site
from espalier.compression.techniques import BcrPruning, MagnitudePruning
from espalier.compression.techniques.bcr_pruning import column_order, project
from espalier.errors import EspalierError, FormatError
from espalier.kernels.block_grid import BlockGrid
from torch import Tensor, nn

from tests.compression.conftest import white_inputs


def _energy(rows: int, columns: int, seed: int) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).square()


def _held(energy: Tensor, grid: BlockGrid, rows: Tensor, columns: Tensor) -> float:
    return float((grid.blocks(energy) * (rows[:, :, None] & columns[:, None, :])).sum())


def _subsets(length: int) -> list[tuple[int, ...]]:
    return [chosen for size in range(1, length + 1) for chosen in combinations(range(length), size)]


def _best(energy: Tensor, budget: int) -> float:
    """The most energy that a rectangle of one block holds within a budget: every set of rows and columns."""
    fits = [
        (rows, columns)
        for rows in _subsets(energy.shape[0])
        for columns in _subsets(energy.shape[1])
        if len(rows) * len(columns) <= budget
    ]
    return max(float(energy[list(rows)][:, list(columns)].sum()) for rows, columns in fits)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 7), (8, 12), (9, 13)])
def test_blocks_cut_a_matrix_and_put_it_together_again(rows: int, columns: int) -> None:
    grid = BlockGrid(rows, columns, 4, 6)
    matrix = torch.arange(1.0, rows * columns + 1).view(rows, columns)
    blocks = grid.blocks(matrix)
    assert torch.equal(grid.matrix(blocks), matrix)
    for index in range(grid.count):
        top, left = 4 * (index // grid.across), 6 * (index % grid.across)
        piece = matrix[top : top + 4, left : left + 6]
        assert torch.equal(blocks[index, : piece.shape[0], : piece.shape[1]], piece)
        assert int(grid.heights()[index]) == piece.shape[0]
        assert float(blocks[index].sum()) == float(piece.sum()), "what lies outside is zero"


def test_the_projection_comes_close_to_brute_force_on_one_block() -> None:
    shares = []
    for seed in range(60):
        energy, budget = _energy(4, 5, seed), 3 + seed % 10
        grid = BlockGrid(4, 5, 4, 5)
        rows, columns = project(energy, grid, budget)
        assert int(rows.sum() * columns.sum()) <= budget
        shares.append(_held(energy, grid, rows, columns) / _best(energy, budget))
    assert max(shares) <= 1 + 1e-12
    assert sum(share > 0.999 for share in shares) > 30
    assert sum(shares) / len(shares) > 0.96


def test_blocks_share_a_budget_as_well_as_brute_force_could() -> None:
    """Two blocks: the best split of the budget between the best rectangles of each."""
    shares = []
    for seed in range(20):
        energy, budget = _energy(6, 4, 100 + seed), 10
        energy[3:] *= 4
        grid = BlockGrid(6, 4, 3, 4)
        rows, columns = project(energy, grid, budget)
        upper, lower = energy[:3], energy[3:]
        best = max(
            (_best(upper, part) if part else 0.0) + (_best(lower, budget - part) if budget - part else 0.0)
            for part in range(budget + 1)
        )
        shares.append(_held(energy, grid, rows, columns) / best)
    assert max(shares) <= 1 + 1e-12
    assert sum(shares) / len(shares) > 0.93


def test_blocks_of_one_weight_are_unstructured_pruning() -> None:
    energy = _energy(9, 11, 0)
    rows, columns = project(energy, BlockGrid(9, 11, 1, 1), 23)
    kept = BlockGrid(9, 11, 1, 1).matrix((rows & columns)[:, :, None])
    assert int(kept.sum()) == 23
    assert torch.equal(kept, energy >= energy.flatten().topk(23).values.min())


def test_a_planted_rectangle_is_found() -> None:
    energy = 1e-6 * _energy(12, 10, 1)
    chosen_rows, chosen_columns = [1, 4, 9], [0, 2, 3, 8]
    for row in chosen_rows:
        energy[row, chosen_columns] = 1.0
    rows, columns = project(energy, BlockGrid(12, 10, 12, 10), 12)
    assert rows[0].nonzero().flatten().tolist() == chosen_rows
    assert columns[0].nonzero().flatten().tolist() == chosen_columns


@pytest.mark.parametrize("budget", [1, 7, 40, 99, 180])
def test_ragged_edges_equal_weights_and_row_multiples_keep_to_the_budget(budget: int) -> None:
    grid = BlockGrid(10, 18, 4, 7)
    for energy in (_energy(10, 18, 3), torch.ones(10, 18, dtype=torch.float64)):
        rows, columns = project(energy, grid, budget, row_multiple=2)
        mask = grid.blocks(grid.matrix(rows[:, :, None] & columns[:, None, :]).to(torch.uint8))
        assert int(mask.sum()) == int((rows.sum(1) * columns.sum(1)).sum()) <= budget
        assert int(mask.sum()) > budget - 8, "no more is left over than a column takes"
        assert set(rows.sum(1).tolist()) <= {0, 2, 4}


def test_a_layer_of_zeros_keeps_nothing() -> None:
    rows, columns = project(torch.zeros(4, 6, dtype=torch.float64), BlockGrid(4, 6, 2, 3), 8)
    assert not rows.any()
    assert not columns.any()


def test_columns_by_position_or_by_channel() -> None:
    shape = (4, 3, 2, 2)
    assert column_order(shape, "channel").tolist() == list(range(12))
    assert column_order(shape, "kernel").tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert column_order((4, 12), "kernel").tolist() == list(range(12))


@pytest.mark.parametrize("order", ["channel", "kernel"])
def test_stored_convolutions_compute_with_the_masked_dense_weight(order: str) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 20, 3, padding=1)
    site = Site("x", "conv2d", (6, 8, 8), (20, 8, 8), ("x",))
    technique = BcrPruning(rates=(5,), block_rows=8, block_columns=10, row_multiple=2, column_order=order)  # type: ignore[arg-type]
    module = technique.build(layer, site, Choice.of("bcr_pruning", rate=5.0), white_inputs(54))
    assert isinstance(module, StoredLayer)
    codec = module.codecs["weight"]
    assert isinstance(codec, BlockSparseCodec)
    mask = codec.mask()
    assert 0.9 * layer.weight.numel() / 5 < int(mask.sum()) == codec.n_parameters <= layer.weight.numel() / 5
    images = torch.randn(3, 6, 8, 8)
    expected = nn.functional.conv2d(images, layer.weight * mask, layer.bias, padding=1)
    assert torch.allclose(module(images), expected, atol=1e-5), "white inputs: what stays is what it was"
    again = build_module(describe_module(module))
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(images), module(images))
    codec.scale_rows(torch.arange(20.0))
    assert torch.allclose(codec.decode(), layer.weight * mask * torch.arange(20.0).view(-1, 1, 1, 1), atol=1e-6)


def test_gates_of_recurrent_layers_are_pruned_apart() -> None:
    torch.manual_seed(0)
    layer = nn.GRU(12, 16, batch_first=True)
    site = Site("x", "recurrent", (5, 12), (5, 16), ("x",), cell="gru", cells=1)
    module = BcrPruning(block_rows=16, block_columns=8).build(
        layer, site, Choice.of("bcr_pruning", rate=4.0), white_inputs(12)
    )
    assert isinstance(module, StoredLayer)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weight, mask = getattr(layer, name), module.codecs[name].mask()
        assert 0.8 * weight.numel() / 4 < int(mask.sum()) <= weight.numel() / 4
        assert torch.allclose(module.tensors()[name], weight * mask, atol=1e-6)


def test_what_stays_makes_up_for_what_goes() -> None:
    """Two pairs of equal inputs: each that stays takes over its twin's weights, and nothing is lost."""
    torch.manual_seed(0)
    covariance = torch.block_diag(*[torch.ones(2, 2, dtype=torch.float64)] * 2) + 1e-9 * torch.eye(4)
    calibration = Calibration(covariance.double(), torch.zeros(4, dtype=torch.float64), 0, 1)
    layer, site = nn.Linear(4, 8, bias=False), Site("x", "linear", (4,), (8,), ("x",))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, 1.0, 0.1, 1.0]]).expand(8, 4))
    technique = BcrPruning(rates=(2,), block_rows=8, block_columns=4, row_multiple=8)
    module = technique.build(layer, site, Choice.of("bcr_pruning", rate=2.0), calibration)
    values = torch.randn(5, 2).repeat_interleave(2, 1)
    assert torch.allclose(module(values), layer(values), atol=1e-3)


def test_finer_blocks_lose_less() -> None:
    """Down to single weights, which is what magnitude pruning does."""
    torch.manual_seed(0)
    layer, site = nn.Linear(96, 64), Site("x", "linear", (96,), (64,), ("x",))

    def error(module: nn.Module) -> float:
        return float((module.tensors()["weight"] - layer.weight).norm().detach())

    sizes = [(64, 96, 4), (32, 48, 4), (8, 12, 4), (2, 4, 1), (1, 1, 1)]
    errors = [
        error(BcrPruning((8,), *size).build(layer, site, Choice.of("bcr_pruning", rate=8.0), white_inputs(96)))
        for size in sizes
    ]
    assert errors == sorted(errors, reverse=True)
    unstructured = MagnitudePruning().build(
        layer, site, Choice.of("magnitude_pruning", sparsity=0.875), white_inputs(96)
    )
    assert errors[-1] == pytest.approx(error(unstructured), rel=1e-6)


def test_values_are_trained_where_they_are_kept() -> None:
    torch.manual_seed(0)
    layer, site = nn.Linear(24, 16), Site("x", "linear", (24,), (16,), ("x",))
    module = BcrPruning(block_rows=8, block_columns=8).build(
        layer, site, Choice.of("bcr_pruning", rate=4.0), white_inputs(24)
    )
    codec = module.codecs["weight"]
    inputs, wanted = torch.randn(40, 24), torch.randn(40, 16)
    optimiser = torch.optim.SGD([codec.values], lr=0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = (nn.functional.linear(inputs, codec.decode()) - wanted).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert not codec.decode()[~codec.mask()].any()


def test_gates_share_what_holds_most_of_all_of_them() -> None:
    """Brute force over one block of rows: the sum of the gates' energies decides."""
    energy = torch.cat([_energy(3, 4, seed) for seed in range(3)])
    technique = BcrPruning((2.0,), block_rows=3, block_columns=4, row_multiple=1, shares_gates=True)
    kept = technique.keep(energy, (9, 4), 2.0, gates=3)
    masks = kept.mask().view(3, 3, 4)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])
    summed = energy.view(3, 3, 4).sum(0)
    assert float(summed[masks[0]].sum()) == pytest.approx(_best(summed, 6), rel=0.02)
    alone = BcrPruning((2.0,), block_rows=3, block_columns=4, row_multiple=1).keep(energy, (9, 4), 2.0, gates=3)
    assert not torch.equal(alone.mask()[:3], alone.mask()[3:6])


def test_gates_share_nothing_where_blocks_reach_into_two() -> None:
    technique = BcrPruning((2.0,), block_rows=4, block_columns=4, row_multiple=1, shares_gates=True)
    plain = BcrPruning((2.0,), block_rows=4, block_columns=4, row_multiple=1)
    energy = _energy(9, 4, 0)
    assert torch.equal(technique.keep(energy, (9, 4), 2.0, 3).mask(), plain.keep(energy, (9, 4), 2.0).mask())


def test_a_recurrent_layer_is_stored_with_shared_gates() -> None:
    torch.manual_seed(0)
    layer = nn.GRU(8, 16, batch_first=True)
    site = Site("x", "recurrent", (5, 8), (5, 16), ("x",))
    technique = BcrPruning((2.0,), block_rows=16, block_columns=8, row_multiple=16, shares_gates=True)
    built = technique.build(layer, site, Choice.of("bcr_pruning", rate=2.0), white_inputs(8))
    stored = built.dense()
    for weight in (stored.weight_ih_l0, stored.weight_hh_l0):
        first, second, third = (weight != 0).view(3, 16, -1)
        assert torch.equal(first, second)
        assert torch.equal(first, third)
    assert [spec.sparsity for spec in built.op_specs((5, 8))] == ["bcr:16x8:2.0:r16:g3"]
    apart = BcrPruning((2.0,), block_rows=16, block_columns=8, row_multiple=16)
    others = apart.build(layer, site, Choice.of("bcr_pruning", rate=2.0), white_inputs(8)).op_specs((5, 8))
    assert [spec.sparsity for spec in others] == ["bcr:16x8:2.0:r16"]


def test_damaged_files_are_refused() -> None:
    torch.manual_seed(0)
    layer, site = nn.Conv2d(4, 8, 3), Site("x", "conv2d", (4, 8, 8), (8, 6, 6), ("x",))
    technique = BcrPruning((2,), 4, 6, 2, "kernel")
    codec = technique.build(layer, site, Choice.of("bcr_pruning", rate=2.0), white_inputs(36)).codecs["weight"]
    order = codec.order.clone()
    codec.order[0] = codec.order[1]
    with pytest.raises(FormatError, match="the order of their columns names one twice"):
        codec.decode()
    codec.order.copy_(order)
    codec.row_bits.zero_()
    with pytest.raises(FormatError, match=r"the stored weights are damaged: expected \d+ kept, got 0"):
        codec.decode()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": (1.0,)}, "bcr_pruning.rates must be above 1, got 1.0"),
        ({"block_rows": 0}, "bcr_pruning.block_rows must be a whole number of at least 1, got 0"),
        ({"row_multiple": 0}, "bcr_pruning.row_multiple must be a whole number of at least 1"),
        ({"column_order": "row"}, "bcr_pruning.column_order must be channel or kernel, got 'row'"),
        ({"blocks": ()}, r"bcr_pruning.blocks must be pairs of rows and columns, got \[\]"),
        (
            {"blocks": ((8, 36), (8,))},
            r"blocks must be pairs of rows and columns, got \[\[8, 36\], \[8\]\]",
        ),
        ({"blocks": ((8, 0),)}, "bcr_pruning.blocks must be a whole number of at least 1, got 0"),
        ({"block": "some"}, "bcr_pruning.block must be every or measured, got 'some'"),
        ({"block_tolerance": -0.1}, "bcr_pruning.block_tolerance must be at least 0, got -0.1"),
        ({"kinds": ("head",)}, "bcr_pruning.kinds must be some of conv2d, linear, recurrent, got 'head'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        BcrPruning(**settings)  # type: ignore[arg-type]


def test_rates_that_save_nothing_are_not_offered() -> None:
    tiny = Site("x", "linear", (8,), (8,), ("x",))
    assert not BcrPruning(rates=(1.05,), block_rows=1, block_columns=1, row_multiple=1).choices(tiny)
    assert len(BcrPruning().choices(Site("x", "linear", (256,), (64,), ("x",)))) == 3


_LINEAR = Site("x", "linear", (96,), (64,), ("x",))


def test_each_size_of_blocks_is_a_choice_at_each_rate() -> None:
    offered = BcrPruning((4.0, 8.0), blocks=((8, 24), (32, 48))).choices(_LINEAR)
    assert [(choice["rate"], choice["block"]) for choice in offered] == [
        (4.0, "8x24"),
        (4.0, "32x48"),
        (8.0, "8x24"),
        (8.0, "32x48"),
    ]


def test_sizes_that_cut_a_layer_alike_are_one() -> None:
    sizes = ((8, 24), (64, 96), (80, 100), (64, 576), (8, 24))
    assert [choice["block"] for choice in BcrPruning((4.0,), blocks=sizes).choices(_LINEAR)] == ["8x24", "64x96"]
    gru = Site("x", "recurrent", (5, 24), (5, 32), ("x",), cell="gru", cells=1)
    sizes = ((96, 32), (100, 40), (48, 32))
    assert [choice["block"] for choice in BcrPruning((4.0,), blocks=sizes).choices(gru)] == ["96x32", "48x32"]


@pytest.mark.parametrize("block", ["8x24", "32x48"])
def test_a_choice_is_built_with_the_blocks_that_it_names(block: str) -> None:
    torch.manual_seed(0)
    layer, rows, columns = nn.Linear(96, 64), *map(int, block.split("x"))
    several = BcrPruning((4.0,), blocks=((8, 24), (32, 48)), row_multiple=4)
    alone = BcrPruning((4.0,), rows, columns, 4)
    built = several.build(layer, _LINEAR, Choice.of("bcr_pruning", rate=4.0, block=block), white_inputs(96))
    expected = alone.build(layer, _LINEAR, Choice.of("bcr_pruning", rate=4.0), white_inputs(96))
    assert built.codecs["weight"].block == (rows, columns)
    assert torch.equal(built.tensors()["weight"], expected.tensors()["weight"])


def test_measured_sizes_are_all_that_is_offered() -> None:
    technique = BcrPruning((4.0, 8.0), blocks=((8, 24), (32, 48)), block="measured")
    assert technique.wants_sizes
    with pytest.raises(EspalierError, match=r"block=measured, but nobody measured blocks: use .* and no composition"):
        technique.choices(_LINEAR)
    assert not technique.choices(Site("x", "block", (8, 4, 4), (8, 4, 4), ("x",))), "no layer, nothing to measure"
    assert [len(blocks) for _, blocks in BcrPruning((4.0,), block="measured").candidates(_LINEAR)] == [5]
    sized = technique.with_sizes({("x", 4.0): (32, 48), ("x", 8.0): (8, 24)})
    assert not sized.wants_sizes
    assert [str(choice) for choice in sized.choices(_LINEAR)] == [
        "bcr_pruning(block=32x48, rate=4.0)",
        "bcr_pruning(block=8x24, rate=8.0)",
    ]
    assert len(sized.choices(_LINEAR.narrowed(48))) == 2, "the same of a layer that became narrower"
    assert not sized.choices(Site("y", "linear", (96,), (64,), ("y",))), "a layer that was not open was not measured"
