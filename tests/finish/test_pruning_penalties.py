"""What leads weights to block column-row sparsity: closed forms, brute force, autograd."""

from itertools import combinations

import pytest
import torch
from espalier.compression.techniques import BcrPruning
from espalier.errors import EspalierError
from espalier.finish.admm import Admm, AdmmPenalty
from espalier.finish.block_sites import BlockWeight
from espalier.finish.gradual import GradualMasks, rate_after
from espalier.finish.masked import Masked
from espalier.finish.reweighted import Reweighted, ReweightedPenalty
from espalier.tasks.distillation import DistillationRecipe
from torch import Tensor, nn


def _weight(
    values: Tensor, rate: float, rows: int, columns: int, multiple: int = 1, order: str = "channel"
) -> BlockWeight:
    technique = BcrPruning((rate,), rows, columns, multiple, order)  # type: ignore[arg-type]
    return BlockWeight(nn.Parameter(values.clone()), technique, rate)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _nearest_square_distance(matrix: Tensor, budget: int) -> float:
    """Of a matrix from the nearest one that is zero outside some rows and columns: every set of them."""
    height, width = matrix.shape
    subsets = [
        (rows, columns)
        for n in range(1, height + 1)
        for rows in combinations(range(height), n)
        for m in range(1, min(width, budget // n) + 1)
        for columns in combinations(range(width), m)
    ]
    held = max(float(matrix[list(rows)][:, list(columns)].square().sum()) for rows, columns in subsets)
    return float(matrix.square().sum()) - held


def test_the_sparse_copy_comes_close_to_the_nearest_one() -> None:
    """The Z-step against every choice of rows and columns of one block."""
    ratios = []
    for seed in range(30):
        weight = _weight(_random(4, 5, seed=seed), 20 / 8, 4, 5)
        penalty = AdmmPenalty([weight], 1.0, 1)
        penalty.dual[0] = 0.5 * _random(4, 5, seed=1000 + seed)
        wanted = weight.parameter.detach() + penalty.dual[0]
        penalty.update()
        sparse = penalty.sparse[0]
        assert int((sparse != 0).sum()) <= 8
        assert torch.equal(sparse[sparse != 0], wanted[sparse != 0]), "what stays is W + U"
        best = _nearest_square_distance(wanted, 8)
        ratios.append(float((wanted - sparse).square().sum()) / best)
    assert min(ratios) > 1 - 1e-5
    assert sum(ratio < 1 + 1e-5 for ratio in ratios) > 15
    assert sum(ratios) / len(ratios) < 1.12


def test_single_weights_are_projected_exactly() -> None:
    weight = _weight(_random(6, 7), 42 / 10, 1, 1)
    values = _random(6, 7, seed=3)
    largest = values.abs() >= values.abs().flatten().topk(10).values.min()
    assert torch.equal(weight.projected(values), values * largest)
    assert weight.square_distance == pytest.approx(
        float(weight.parameter.detach().square().flatten().sort().values[:32].sum()), rel=1e-5
    )


def test_updates_by_hand() -> None:
    """W = (3, 1), one weight stays: Z = (3, 0) throughout, and U gathers what is cut off."""
    weight = _weight(torch.tensor([[3.0, 1.0]]), 2.0, 1, 1)
    penalty = AdmmPenalty([weight], 0.5, 2)
    assert penalty.sparse[0].tolist() == [[3.0, 0.0]]
    for expected in (0.0, 1.0, 1.0, 2.0):  # every second step
        penalty.after_step()
        assert penalty.dual[0].tolist() == [[0.0, expected]]
    assert penalty.sparse[0].tolist() == [[3.0, 0.0]]
    # Once U outweighs the weight that stayed, the other takes its place.
    penalty.dual[0] = torch.tensor([[0.0, 2.5]])
    penalty.update()
    assert penalty.sparse[0].tolist() == [[0.0, 3.5]]
    assert penalty.dual[0].tolist() == [[3.0, 0.0]]


def test_the_dual_is_the_sum_of_the_residuals() -> None:
    weights = [_weight(_random(8, 12, seed=s), 4.0, 4, 6, 2) for s in (0, 1)]
    penalty = AdmmPenalty(weights, 1.0, 1)
    residuals = [torch.zeros(8, 12) for _ in weights]
    for turn in range(4):
        for weight in weights:
            weight.parameter.data += 0.1 * _random(8, 12, seed=10 + turn)
        penalty.after_step()
        for i, weight in enumerate(weights):
            residuals[i] += weight.parameter.detach() - penalty.sparse[i]
    for dual, residual in zip(penalty.dual, residuals, strict=True):
        assert torch.allclose(dual, residual, atol=1e-6)


def test_value_and_gradient_of_admm() -> None:
    weight = _weight(_random(8, 12), 4.0, 4, 6)
    penalty = AdmmPenalty([weight], 0.3, 1)
    penalty.update()
    weight.parameter.data += 0.2
    value = penalty.penalty()
    value.backward()
    apart = weight.parameter.detach() - penalty.sparse[0] + penalty.dual[0]
    assert value.item() == pytest.approx(0.15 * float(apart.square().sum()), rel=1e-5)
    assert torch.allclose(weight.parameter.grad, 0.3 * apart, atol=1e-6)


@pytest.mark.parametrize("order", ["channel", "kernel"])
def test_value_and_gradient_of_the_reweighted_penalty(order: str) -> None:
    """Row by row and column by column of blocks at ragged edges, against autograd."""
    weight = _weight(_random(5, 3, 2, 2), 2.0, 2, 5, 1, order)
    penalty = ReweightedPenalty([weight], 0.01, 0.1, 1)
    matrix = weight.parameter.detach().flatten(1)
    small = 0.1 * float(matrix.square().mean())
    columns = weight.technique.ordered_grid(weight.parameter.shape)[1].tolist()
    expected, slope = 0.0, torch.zeros_like(matrix)
    moved = matrix + 0.1  # the factors stay those of the old weights
    for rows in (range(2), range(2, 4), range(4, 5)):
        for block in (columns[:5], columns[5:10], columns[10:]):
            for row in rows:
                alpha = 1 / (float(matrix[row, block].square().sum()) + small * 5)
                expected += alpha * float(moved[row, block].square().sum())
                slope[row, block] += 2 * alpha * moved[row, block]
            for column in block:
                beta = 1 / (float(matrix[list(rows), column].square().sum()) + small * 2)
                expected += beta * float(moved[list(rows), column].square().sum())
                slope[list(rows), column] += 2 * beta * moved[list(rows), column]
    weight.parameter.data += 0.1
    value = penalty.penalty()
    value.backward()
    assert value.item() == pytest.approx(0.01 * expected, rel=1e-4)
    assert torch.allclose(weight.parameter.grad.flatten(1), 0.01 * slope, rtol=1e-4, atol=1e-6)


def test_factors_follow_the_weights_every_so_often() -> None:
    weight = _weight(_random(4, 6), 2.0, 2, 3)
    penalty = ReweightedPenalty([weight], 1.0, 0.1, 3)
    before = penalty.factors[0][0].clone()
    weight.parameter.data *= 2
    penalty.after_step()
    penalty.after_step()
    assert torch.equal(penalty.factors[0][0], before)
    penalty.after_step()
    assert torch.allclose(penalty.factors[0][0], before / 4), "1 / (|w|^2 + a share of the mean square)"


def test_a_reweighted_descent_empties_weak_rows_and_spares_strong_ones() -> None:
    values = torch.ones(4, 8)
    values[2:] = 0.2
    weight = _weight(values, 2.0, 4, 8)
    penalty = ReweightedPenalty([weight], 1e-3, 0.1, 1)
    optimizer = torch.optim.SGD([weight.parameter], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        penalty.penalty().backward()
        optimizer.step()
        penalty.after_step()
    weak, strong = float(weight.parameter[2:].detach().abs().max()), float(weight.parameter[:2].detach().abs().min())
    assert strong > 0.5
    assert weak / strong < 0.1, "it was 0.2"


def test_the_schedule_of_rates() -> None:
    assert rate_after(0.0, 8.0) == pytest.approx(1)
    assert rate_after(1.0, 8.0) == pytest.approx(8)
    assert 1 - 1 / rate_after(0.5, 8.0) == pytest.approx(0.875 * 0.875)
    rates = [rate_after(share / 10, 8.0) for share in range(11)]
    assert rates == sorted(rates)


def test_gradual_masks_only_shrink_and_end_at_the_rate() -> None:
    weight = _weight(_random(16, 24), 8.0, 8, 12, 4)
    masks, kept = GradualMasks([weight], 20, 5), []
    last = torch.ones(16, 24, dtype=torch.bool)
    for _ in range(20):
        weight.parameter.data += 0.01 * _random(16, 24, seed=7)  # what a gradient step does to zeros, too
        masks.after_step()
        assert not weight.parameter[~masks.masks[0]].any()
        assert not (masks.masks[0] & ~last).any()
        last = masks.masks[0]
        kept.append(int(last.sum()))
    assert 40 < kept[-1] <= 48 < kept[9] < kept[4] < 16 * 24
    assert weight.square_distance == 0
    assert masks.penalty().item() == 0


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (Admm, {"rho": 0.0}, r"pruning\.rho must be above 0, got 0\.0"),
        (Admm, {"update_steps": 0}, r"pruning\.update_steps must be at least 1, got 0"),
        (Admm, {"approach": DistillationRecipe(epochs=0)}, r"pruning\.approach\.epochs must be at least 1, got 0"),
        (Reweighted, {"strength": -1.0}, r"pruning\.strength and pruning\.epsilon must be above 0, got -1\.0 and 0\.1"),
        (Reweighted, {"epsilon": 0.0}, r"pruning\.strength and pruning\.epsilon must be above 0"),
    ],
)
def test_bad_settings_are_refused(method: type, settings: dict[str, object], message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        method(**settings)


def test_defaults_leave_winners_alone() -> None:
    assert Masked().retraining.epochs == 0
