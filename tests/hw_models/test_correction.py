"""The sum of a table, corrected by whole networks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from espalier.errors import EspalierError, FormatError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.table_device import TableDevice
from espalier.hw_models.tables.comparison import merge_tables
from espalier.hw_models.tables.correction import FEWEST_NETWORKS, TERMS, fitted_correction, network_sums
from espalier.hw_models.tables.entry import Entry
from espalier.hw_models.tables.sums import summed_latency
from espalier.hw_models.tables.table import LookupTable

_RESHAPE = OpSpec("reshape", (4, 4), (16,))
_CONVOLUTIONS = [OpSpec("conv2d", (c, 8, 8), (c, 8, 8), (3, 3), padding=(1, 1), bias=True) for c in (4, 8, 16, 32)]
_LINEARS = [OpSpec("linear", (width,), (10,), bias=True) for width in (8, 64, 512)]
_POOL = OpSpec("max_pool2d", (8, 8, 8), (8, 4, 4), (2, 2), (2, 2))
_QUANTIZE = OpSpec("quantize", (8, 4, 4), (8, 4, 4))
_OPS = [*_CONVOLUTIONS, *_LINEARS, _POOL, _QUANTIZE]

#: What the networks of these tests really take beside 1.2 times their sum; milliseconds.
_RESHAPE_MS, _LINEAR_MS, _WEIGHT_MS_PER_MB, _POOLED_MS_PER_M = 0.05, 0.02, 3.0, 40.0


def _table() -> LookupTable:
    table = LookupTable("d", "torch, 1 thread", {"torch": "1"}, "cpu", call_overhead_ms=0.01)
    for number, op in enumerate(_OPS):
        table.add(Entry(op, 0.01 * (number + 1), 0.0, 15))
    return table


def _really_ms(table: LookupTable, ops: tuple[OpSpec, ...]) -> float:
    total = table.call_overhead_ms
    for previous, op in zip((None, *ops), ops, strict=False):
        if op == _RESHAPE:
            total += _RESHAPE_MS
            continue
        total += 1.2 * table.entries[op.key].mean + _LINEAR_MS * (op in _LINEARS)
        total += _WEIGHT_MS_PER_MB * 1e-6 * op.weight_bytes
        total += _POOLED_MS_PER_M * 1e-6 * 8 * 8 * 8 * (op == _QUANTIZE and previous == _POOL)
    return total


def _networks(table: LookupTable, count: int, seed: int = 0, noise: float = 0.0) -> list[Measurement]:
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        ops = [_OPS[place] for place in rng.integers(0, len(_OPS), 8)] + [_RESHAPE] * int(rng.integers(0, 3))
        rng.shuffle(ops)  # type: ignore[arg-type]
        ms = _really_ms(table, tuple(ops)) * (1 + noise * rng.normal())
        found.append(Measurement(tuple(ops), ms, 0.0, 15, f"{seed}-{number}"))
    return found


def _learnt(count: int = 40, noise: float = 0.0) -> LookupTable:
    table = _table()
    for network in _networks(table, count, noise=noise):
        table.add_network(network)
    return table


def test_what_the_sum_leaves_out_is_learnt() -> None:
    table = _learnt()
    correction = fitted_correction(table, [*_OPS, _RESHAPE])
    assert correction is not None
    others = _networks(table, 50, seed=1)
    for network in others:
        estimate = summed_latency(table, network.ops, "d", correction)
        assert estimate.value == pytest.approx(network.latency_ms, rel=0.01)
        assert estimate.on == "d, sum of operators, corrected by 40 networks"
    assert np.median(network_sums(table, others) / [n.latency_ms for n in others]) < 0.8
    assert correction.sum_error < -0.2
    assert correction.relative_std < 0.01
    figures = dict(zip(TERMS, correction.coefficients, strict=True))
    assert figures["computing_ms"] == pytest.approx(1.2, rel=0.05)
    assert figures["reshapes"] == pytest.approx(_RESHAPE_MS, rel=0.05)
    assert figures["pooled_m"] == pytest.approx(_POOLED_MS_PER_M, rel=0.1)


def test_a_sum_that_is_right_is_left_alone() -> None:
    table = _table()
    for network in _networks(table, 20):
        table.add_network(replace(network, latency_ms=float(network_sums(table, [network])[0])))
    correction = fitted_correction(table, [*_OPS, _RESHAPE])
    assert correction is not None
    times = [term.endswith("ing_ms") or term == "elementwise_ms" for term in TERMS]
    assert correction.coefficients == pytest.approx(list(map(float, times)), abs=1e-6)
    assert (correction.sum_error, correction.relative_std) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_the_stated_deviation_is_that_of_networks_that_were_left_out() -> None:
    table = _learnt(noise=0.05)
    correction = fitted_correction(table, [*_OPS, _RESHAPE])
    assert correction is not None
    others = _networks(table, 400, seed=2, noise=0.05)
    errors = [summed_latency(table, n.ops, "", correction).value / n.latency_ms - 1 for n in others]
    assert correction.relative_std == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))), rel=0.35)
    estimate = summed_latency(table, others[0].ops, "", correction)
    assert estimate.std == pytest.approx(correction.relative_std * estimate.value, rel=1e-6)


def test_more_work_never_takes_less_time() -> None:
    table = _learnt(12, noise=0.3)
    correction = fitted_correction(table, [*_OPS, _RESHAPE])
    assert correction is not None
    assert min(correction.coefficients) >= 0
    ops: list[OpSpec] = []
    least = 0.0
    for op in [*_OPS, _RESHAPE, *_OPS]:
        ops.append(op)
        now = summed_latency(table, ops, "", correction).value
        assert now >= least
        least = now


def test_what_no_network_holds_keeps_its_time() -> None:
    """An operator that was measured alone but is in none of the networks must not look free to a search."""
    table, addition = _learnt(), OpSpec("add", (8, 8, 8), (8, 8, 8), n_inputs=2)
    table.add(Entry(addition, 0.5, 0.0, 15))
    correction = fitted_correction(table, [*_OPS, _RESHAPE, addition])
    assert correction is not None
    assert correction.operator_ms(addition, 0.5) == pytest.approx(0.5, rel=0.1)


def test_elementwise_operators_may_be_done_on_the_way() -> None:
    """As engines do that add residuals in the pass of the convolution before."""
    table, addition = _table(), OpSpec("add", (8, 8, 8), (8, 8, 8), n_inputs=2)
    table.add(Entry(addition, 0.05, 0.0, 15))
    rng = np.random.default_rng(0)
    for network in _networks(table, 30):
        ops = (*network.ops, *[addition] * int(rng.integers(0, 4)))
        table.add_network(replace(network, ops=ops))
    correction = fitted_correction(table, [*_OPS, _RESHAPE, addition])
    assert correction is not None
    assert correction.operator_ms(addition, 0.05) < 0.005
    assert correction.operator_ms(_CONVOLUTIONS[0], 0.01) > 0.01


def test_only_networks_of_the_space_count() -> None:
    table = _learnt(FEWEST_NETWORKS)
    assert fitted_correction(table, [*_OPS, _RESHAPE]) is not None
    assert fitted_correction(table, _OPS) is None  # those with a reshape are of another space
    del table.networks["0-0"]
    assert fitted_correction(table, [*_OPS, _RESHAPE]) is None
    table = _learnt(FEWEST_NETWORKS)
    del table.entries[_QUANTIZE.key]
    assert fitted_correction(table, [*_OPS, _RESHAPE]) is None


@pytest.mark.parametrize("name", ["t.json", "t.parquet"])
def test_a_file_carries_the_networks_to_a_table_device(tmp_path: Path, name: str) -> None:
    table = _learnt()
    table.save(tmp_path / name)
    read = LookupTable.load(tmp_path / name)
    assert read.networks == table.networks
    device = TableDevice(str(tmp_path / name))
    network = _networks(table, 1, seed=3)[0]
    plain = device.cost(network.ops).latency_ms
    assert plain.value == pytest.approx(network_sums(table, [network])[0])
    device.prepare([*_OPS, _RESHAPE])
    corrected = device.cost(network.ops).latency_ms
    assert corrected.value == pytest.approx(network.latency_ms, rel=0.01)
    assert "corrected by 40 networks" in corrected.on
    assert corrected.std > 0


def test_networks_of_two_tables_are_joined(tmp_path: Path) -> None:
    first, second = _learnt(9), _learnt(10)
    second.networks["0-0"] = replace(second.networks["0-0"], latency_ms=first.networks["0-0"].latency_ms + 1)
    merged = merge_tables(first, second)
    assert len(merged.networks) == 10
    assert merged.networks["0-0"].latency_ms == pytest.approx(first.networks["0-0"].latency_ms + 0.5)
    first.save(tmp_path / "t.json")
    _learnt(10).merge_into(tmp_path / "t.json")
    assert len(LookupTable.load(tmp_path / "t.json").networks) == 10


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([], "must have the objects 'versions' and 'entries', got no object 'networks'"),
        ({"a": {"ops": [], "mean": 1, "std": 0, "samples": 1}}, "expected at least one operator"),
        ({"a": {"ops": [_RESHAPE.to_dict()], "mean": -1, "std": 0, "samples": 1}}, "mean must be a number of at least"),
        ({"a": {"ops": [_RESHAPE.to_dict()], "mean": 1}}, r"expected an object with ops \(a list\), mean, std"),
    ],
)
def test_damaged_networks_are_refused(networks: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        LookupTable.from_dict(_learnt().to_dict() | {"networks": networks}, "t")


def test_a_live_device_learns_and_remembers(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    device = ProfiledDevice(runtime="torch", rounds=2, table=str(path), networks=FEWEST_NETWORKS)
    device.prepare([*_OPS, _RESHAPE])
    sums = device.table
    network = _networks(sums, 1, seed=5)[0]
    before = device.cost(network.ops).latency_ms
    assert "corrected" not in before.on
    networks = _networks(sums, 40)
    labels = [network.label for network in networks]
    device.learn(networks, labels)
    after = device.cost(network.ops).latency_ms
    assert after.value == pytest.approx(network.latency_ms, rel=0.02)
    again = ProfiledDevice(runtime="torch", rounds=2, table=str(path), networks=FEWEST_NETWORKS)
    again.prepare([*_OPS, _RESHAPE])
    again.learn([], labels)
    assert again.cost(network.ops).latency_ms == after
    plain = ProfiledDevice(runtime="torch", rounds=2, table=str(path))
    plain.prepare([*_OPS, _RESHAPE])
    assert plain.cost(network.ops).latency_ms.value == pytest.approx(before.value)
    again.learn([replace(network, label="another search's", latency_ms=99.0)], labels)
    assert again.cost(network.ops).latency_ms == after, "only the search's own networks count"


def test_a_network_of_no_time_does_not_count() -> None:
    table = _learnt()
    before = fitted_correction(table, [*_OPS, _RESHAPE])
    table.add_network(replace(next(iter(table.networks.values())), label="none", latency_ms=0.0))
    assert fitted_correction(table, [*_OPS, _RESHAPE]) == before


@pytest.mark.parametrize("networks", [-1, 1, FEWEST_NETWORKS - 1])
def test_too_few_networks_are_refused(networks: int) -> None:
    with pytest.raises(EspalierError, match=f"device.networks must be 0 or at least {FEWEST_NETWORKS}, got {networks}"):
        ProfiledDevice(networks=networks)
