"""What codecs store: exact round trips, sizes against the entropy, and damaged files."""

import numpy as np
import pytest
import torch
from espalier.compression.layers import (
    Codec,
    SharedCodec,
    SparseCodec,
    SparseSharedCodec,
    StoredLayer,
    UniformCodec,
    build_module,
    describe_module,
    trainable,
)
from espalier.compression.layers.symbols import decode_symbols, encode_symbols
from espalier.errors import FormatError
from torch import Tensor, nn


def _entropy_bytes(symbols: Tensor) -> float:
    shares = np.bincount(symbols.flatten().numpy()) / symbols.numel()
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum() * symbols.numel() / 8)


@pytest.mark.parametrize("count", [1, 7, 100, 20_000])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_symbols_come_back_and_take_little_more_than_their_entropy(count: int, bits: int) -> None:
    rng = np.random.default_rng(count)
    middle = 2 ** (bits - 1)
    symbols = torch.from_numpy(np.clip(rng.normal(middle, middle / 6, count).round(), 0, 2**bits - 1)).long()
    coded = encode_symbols(symbols, bits)
    assert torch.equal(decode_symbols(coded, bits, count), symbols)
    assert len(coded) <= 1 + (count * bits + 7) // 8
    if count > 1000 and bits > 2:  # Huffman's code spends at least a bit a symbol
        assert len(coded) < 1.06 * _entropy_bytes(symbols) + 100


def test_damaged_symbols_are_refused() -> None:
    coded = encode_symbols(torch.arange(16).repeat(40) % 5, 4)
    for damaged in (coded[:0], coded[:1], coded[:-20], torch.tensor([7, 1, 2], dtype=torch.uint8)):
        with pytest.raises(FormatError, match="damaged: expected 640 symbols of 4 bits"):
            decode_symbols(damaged, 4, 640)
    with pytest.raises(FormatError, match="damaged"):
        decode_symbols(encode_symbols(torch.full((640,), 9), 4), 3, 640)


@pytest.mark.parametrize("group", [8, 4, 9])
def test_sparse_codecs_give_back_what_they_hold(group: int) -> None:
    generator = torch.Generator().manual_seed(group)
    weight = torch.randn(6, 5, 3, 3, generator=generator)
    masks = torch.rand(6, 5, 3, 3, generator=generator) < 0.3
    codec = SparseCodec.store(weight, masks, group)
    assert torch.equal(codec.decode(), weight * masks)
    assert codec.n_parameters == int(masks.sum())
    codec.scale_rows(torch.arange(6.0))
    assert torch.allclose(codec.decode(), weight * masks * torch.arange(6.0).view(-1, 1, 1, 1))


def test_structure_makes_masks_cheap() -> None:
    """2:4 takes log2(6) / 4 = .65 bits a weight, one bit where nothing is known of the structure."""
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(128, 64, 4, generator=generator).argsort(2)
    mask = (order < 2).view(128, 256)
    codec = SparseCodec.store(torch.randn(128, 256), mask, 4)
    assert 8 * len(codec.coded) / mask.numel() < 0.72
    shuffled = mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view_as(mask)
    assert 8 * len(SparseCodec.store(torch.randn(128, 256), shuffled).coded) / mask.numel() > 0.98


def test_too_many_distinct_masks_are_refused() -> None:
    mask = torch.rand(64, 144, generator=torch.Generator().manual_seed(0)) < 0.5
    with pytest.raises(ValueError, match=r"groups of 9 weights have .* distinct masks, at most 256"):
        SparseCodec.store(torch.randn(64, 144), mask, 9)


def test_uniform_and_shared_codecs_decode_to_their_equations() -> None:
    codes = torch.randint(-7, 8, (5, 12), generator=torch.Generator().manual_seed(0))
    scale = torch.rand(5) + 0.5
    assert torch.allclose(UniformCodec.store(codes, scale, 4).decode(), codes * scale[:, None])
    codebook = torch.tensor([-1.0, 0.0, 0.5, 2.0])
    indices = codes.remainder(4)
    shared = SharedCodec.store(indices, codebook, scale)
    assert torch.allclose(shared.decode(), codebook[indices] * scale[:, None])
    mask = indices > 0
    sparse = SparseCodec.store(codebook[indices], mask)
    both = SparseSharedCodec.store_shared(sparse, indices[mask], codebook, scale)
    assert torch.allclose(both.decode(), codebook[indices] * mask * scale[:, None])
    for codec in (shared, both):
        before = codec.decode()
        codec.scale_rows(torch.full((5,), -2.0))
        assert torch.allclose(codec.decode(), -2 * before)


def _coded(shape: torch.Size) -> Codec:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return SparseCodec.store(weight, weight.abs() > 0.7)


_LAYERS = [
    (nn.Conv2d(3, 6, 3, 2, 1), (2, 3, 9, 9)),
    (nn.Conv2d(6, 6, 3, groups=6, bias=False), (2, 6, 5, 5)),
    (nn.Linear(7, 4), (3, 7)),
    (nn.GRU(5, 6, batch_first=True), (2, 4, 5)),
    (nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True), (2, 4, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), _LAYERS, ids=[type(layer).__name__ for layer, _ in _LAYERS])
def test_stored_layers_compute_what_they_decode_to(layer: nn.Module, shape: tuple[int, ...]) -> None:
    codecs = {name: _coded(p.shape) for name, p in layer.named_parameters() if name.startswith("weight")}
    stored = StoredLayer.of(layer.eval(), codecs, {}).eval().requires_grad_(False)
    inputs = torch.randn(shape)
    dense = stored.dense()
    assert type(dense) is type(layer)
    expected, found = dense(inputs), stored(inputs)
    if isinstance(expected, tuple):
        assert type(found[1]) is type(expected[1])
        expected, found = expected[0], found[0]
    assert torch.allclose(found, expected, atol=1e-6)
    twin = build_module(describe_module(stored))
    twin.load_state_dict(stored.state_dict())
    again = twin(inputs)
    assert torch.allclose(again[0] if isinstance(again, tuple) else again, found, atol=1e-6)
    plain = sum(p.numel() for name, p in layer.named_parameters() if name not in codecs)
    assert stored.n_parameters == plain + sum(int((codec.decode() != 0).sum()) for codec in codecs.values())


def test_what_is_stored_can_be_trained() -> None:
    layer = nn.Linear(6, 4)
    weight = layer.weight.detach()
    codec = SharedCodec.store((weight > 0).long(), torch.tensor([-0.2, 0.2]), torch.ones(4))
    stored = StoredLayer.of(layer, {"weight": codec}, {})
    inputs, targets = torch.randn(64, 6), torch.randn(64, 4)
    before = float((stored(inputs) - targets).detach().square().mean())
    optimizer = torch.optim.Adam(stored.parameters(), 0.05)
    for _ in range(30):
        loss = (stored(inputs) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    stored.requires_grad_(False)
    assert float((stored(inputs) - targets).square().mean()) < before
    values = stored.tensors()["weight"] / stored.codecs["weight"].scale.detach()[:, None]
    assert len(values.mul(1e3).round().unique()) == 2


def _uniform(rows: int, columns: int, bits: int) -> UniformCodec:
    limit = UniformCodec.limit_of(bits)
    codes = torch.randint(-limit, limit + 1, (rows, columns))
    return UniformCodec.store(codes, torch.rand(rows) + 0.5, bits)


def test_rounded_weights_are_trained_and_stay_on_their_grid() -> None:
    """The oracle is training of the steps alone, which is all that fixed numbers leave."""
    torch.manual_seed(0)
    layer, codec = nn.Linear(8, 4), _uniform(4, 8, 4)
    inputs = torch.randn(256, 8)
    targets = inputs @ torch.randn(8, 4)
    losses = {}
    for is_whole in (False, True):
        stored = StoredLayer.of(layer, {"weight": codec}, {})
        with trainable(stored):
            if not is_whole:
                stored.codecs["weight"].latent.requires_grad_(False)
            optimizer = torch.optim.Adam([p for p in stored.parameters() if p.requires_grad], 0.05)
            for _ in range(100):
                loss = (stored(inputs) - targets).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                in_training = stored(inputs)
        losses[is_whole] = float((stored(inputs) - targets).square().mean())
        assert torch.allclose(stored(inputs), in_training, atol=1e-5)
        trained = stored.codecs["weight"]
        steps = trained.decode() / trained.scale[:, None]
        assert torch.allclose(steps, steps.round(), atol=1e-4)
        assert steps.abs().max() <= 7.001
        assert set(trained.state_dict()) == {"coded", "scale"}
        assert not any(parameter.requires_grad for parameter in stored.parameters())
        again = StoredLayer(describe_module(layer), {"weight": trained.describe()})
        again.load_state_dict(stored.state_dict())
        assert torch.equal(again(inputs), stored(inputs))
    assert losses[True] < 0.5 * losses[False]


def test_gradients_of_rounded_weights_are_those_of_the_equations() -> None:
    """Straight through inside the grid, nothing outside; of a step: the rounded minus the real number of steps."""
    codec = _uniform(3, 5, 3)
    codec.start_training()
    with torch.no_grad():
        codec.latent.add_(torch.randn(3, 5))
    weights = torch.randn(3, 5)
    (codec.decode() * weights).sum().backward()
    real = codec.latent.detach() / codec.scale.detach()[:, None]
    inside = real.abs() <= 3
    assert torch.allclose(codec.latent.grad, weights * inside)
    rounded = real.clamp(-3, 3).round()
    expected = (weights * torch.where(inside, rounded - real, rounded)).sum(1)
    assert torch.allclose(codec.scale.grad, expected, atol=1e-5)


def test_training_that_learns_nothing_changes_nothing() -> None:
    codec = _uniform(6, 40, 2)
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    with trainable(nn.ModuleList([codec])):
        pass
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())


def test_bad_descriptions_are_refused() -> None:
    frame = describe_module(nn.Linear(3, 2))
    good = SparseCodec.store(torch.randn(2, 3), torch.rand(2, 3) > 0.5).describe()
    with pytest.raises(FormatError, match="unknown way to store a weight"):
        build_module({"layer": "StoredLayer", "frame": frame, "codecs": {"weight": {"codec": "os.system"}}})
    with pytest.raises(FormatError, match="the codec of 'weight' does not fit a Linear layer"):
        build_module({"layer": "StoredLayer", "frame": frame, "codecs": {"weight": good | {"shape": [3, 3]}}})
    forged = build_module({"layer": "StoredLayer", "frame": frame, "codecs": {"weight": good}})
    with pytest.raises(FormatError, match="damaged"):
        forged(torch.rand(1, 3))
