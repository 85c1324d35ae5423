"""Energy, roofline, tables, devices."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from espalier.errors import EspalierError, FormatError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.energy import EnergyModel
from espalier.hw_models.machine import cpu_model, usable_cpus
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.profiling.timing import one_processor, paired_ratio, summarise, time_alternating
from espalier.hw_models.roofline import Roofline
from espalier.hw_models.table_device import TableDevice
from espalier.hw_models.tables.table import Entry, LookupTable

_CONV = OpSpec("conv2d", (8, 10, 10), (16, 10, 10), (3, 3), padding=(1, 1), bias=True)
_LINEAR = OpSpec("linear", (64,), (10,), bias=True)


def test_energy_is_adadeeps_equation_by_hand() -> None:
    """E = e1 C + e2 S_p + e3 S_f with e2 = 6 e1, e3 = 200 e1, e1 = 52.8 pJ."""
    macs, weights = 16 * 100 * 8 * 9, 16 * 8 * 9 + 16
    activations = 8 * 100 + 16 * 100
    expected_pj = 52.8 * (macs + 6 * weights + 200 * activations)
    assert EnergyModel().energy_mj([_CONV]) == pytest.approx(expected_pj * 1e-9)
    assert EnergyModel().energy_mj([_CONV, _CONV]) == pytest.approx(2 * expected_pj * 1e-9)


def test_integers_cost_less_energy() -> None:
    integer = EnergyModel().energy_mj([_CONV.replace(bits=8)])
    macs = 16 * 100 * 8 * 9
    words = (16 * 8 * 9 + 4 * 16) / 4 * 6 + (8 * 100 + 16 * 100) / 4 * 200
    assert integer == pytest.approx(52.8e-9 * (0.065 * macs + words))


def test_roofline_waits_for_the_slower_of_work_and_memory() -> None:
    device = Roofline("d", gflops=10, bandwidth_gbps=1, overhead_us=5, int8_speedup=4)
    compute = 2 * _CONV.macs / 10e9 * 1e3
    memory = (_LINEAR.input_bytes + _LINEAR.weight_bytes + _LINEAR.output_bytes) / 1e9 * 1e3
    assert device.cost([_CONV]).latency_ms.value == pytest.approx(compute + 5e-3)
    assert device.cost([_LINEAR]).latency_ms.value == pytest.approx(memory + 5e-3)
    assert device.cost([_CONV, _LINEAR]).latency_ms.value == pytest.approx(compute + memory + 10e-3)
    assert device.cost([OpSpec("reshape", (8,), (8,))]).latency_ms.value == 0
    eight = _CONV.replace(bits=8)
    assert device.cost([eight]).latency_ms.value == pytest.approx(compute / 4 + 5e-3)
    assert device.cost([_CONV]).latency_ms.kind == "modelled"
    assert device.features() == pytest.approx((1, 0, math.log10(5), math.log10(4)))
    device.prepare([_CONV])
    assert device.runtime is None


@pytest.mark.parametrize("name", ["gflops", "bandwidth_gbps", "int8_speedup"])
def test_impossible_devices_are_refused(name: str) -> None:
    with pytest.raises(EspalierError, match=rf"device\.{name} must be above 0, got 0"):
        Roofline("d", **{"gflops": 1.0, "bandwidth_gbps": 1.0, name: 0.0})


def _table(*entries: Entry) -> LookupTable:
    table = LookupTable("d", "onnxruntime, 1 thread", {"onnxruntime": "1"}, "cpu", call_overhead_ms=0.01)
    for entry in entries:
        table.add(entry)
    return table


def test_tables_round_trip_and_sum(tmp_path: Path) -> None:
    table = _table(Entry(_CONV, 0.3, 0.03, 9), Entry(_LINEAR, 0.1, 0.04, 9))
    table.save(tmp_path / "t.json")
    assert LookupTable.load(tmp_path / "t.json") == table
    device = TableDevice(str(tmp_path / "t.json"))
    device.prepare([_CONV, _LINEAR, OpSpec("reshape", (8,), (8,))])
    cost = device.cost([_CONV, _LINEAR, _LINEAR, OpSpec("reshape", (8,), (8,))])
    assert cost.latency_ms.value == pytest.approx(0.01 + 0.3 + 0.2)
    assert cost.latency_ms.std == pytest.approx(math.sqrt(0.03**2 + 2 * 0.04**2))
    assert device.features()[0] == pytest.approx(math.log10(2e-6 * _CONV.macs / 0.3))


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    _table(Entry(_CONV, 0.3, 0.03, 9)).save(tmp_path / "t.json")
    device = TableDevice(str(tmp_path / "t.json"))
    with pytest.raises(EspalierError, match=r"lacks 1 operators of this search space, such as linear:i64:o10:bias"):
        device.prepare([_CONV, _LINEAR])
    with pytest.raises(EspalierError, match="latency table of d lacks the operator linear"):
        device.cost([_LINEAR])


def test_merging_keeps_what_both_know(tmp_path: Path) -> None:
    _table(Entry(_CONV, 0.3, 0.03, 9)).merge_into(tmp_path / "t.json")
    other = _table(Entry(_LINEAR, 0.1, 0.01, 9))
    other.merge_into(tmp_path / "t.json")
    assert set(LookupTable.load(tmp_path / "t.json").entries) == {_CONV.key, _LINEAR.key} == set(other.entries)


def _broken(change: Any) -> Any:
    values = _table(Entry(_CONV, 0.3, 0.03, 9)).to_dict()
    change(values)
    return values


_KEY = _CONV.key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format="x"), "is not a latency table"),
        (lambda v: v.update(version=9), "has version 9, expected 1 to 2"),
        (lambda v: v.update(unit="s"), "has unit 's', expected 'ms'"),
        (lambda v: v.update(cpu=3), "must give 'cpu' as a text"),
        (lambda v: v.update(entries=[]), "must have the objects 'versions' and 'entries'"),
        (lambda v: v.update(keeps_integers=1), "'keeps_integers' true or false"),
        (lambda v: v.update(call_overhead_ms=-1), "call_overhead_ms must be a number of at least 0"),
        (lambda v: v["entries"][_KEY].update(mean=float("nan")), "NaN is no number that JSON knows"),
        (lambda v: v["entries"][_KEY].update(samples=0), "samples must be a whole number"),
        (lambda v: v["entries"][_KEY].pop("std"), "expected an object with spec, mean, std and samples"),
        (lambda v: v["entries"][_KEY]["spec"].update(kind="x"), "unknown operator kind 'x'"),
        (lambda v: v["entries"].update(other=v["entries"].pop(_KEY)), "its spec has the key conv2d"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    (tmp_path / "t.json").write_text(json.dumps(_broken(change)))
    with pytest.raises(FormatError, match=message):
        LookupTable.load(tmp_path / "t.json")


def test_medians_ignore_a_minority_of_disturbed_samples() -> None:
    clean = np.full(21, 2.0) + np.linspace(-0.1, 0.1, 21)
    disturbed = clean.copy()
    disturbed[:8] += 50
    assert summarise(disturbed).median_ms == pytest.approx(2.05, abs=0.1)
    assert summarise(disturbed).std_ms < 0.1
    assert summarise(np.full(9, 3.0)).std_ms == 0
    assert paired_ratio(np.array([2.0, 4, 60]), np.array([1.0, 2, 3])) == 2


def test_calls_take_turns() -> None:
    order: list[str] = []
    samples = time_alternating([lambda: order.append("a"), lambda: order.append("b")], rounds=5, warmup=1)
    assert samples.shape == (2, 5)
    assert (samples > 0).all()
    turns = [name for name, previous in zip(order, ["", *order], strict=False) if name != previous]
    assert len(turns) >= 10


def test_pinning_is_undone() -> None:
    before = usable_cpus()
    with one_processor(1):
        assert usable_cpus() == 1
    with one_processor(2):
        assert usable_cpus() == before
    assert usable_cpus() == before
    assert cpu_model()


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_live_device_measures_once_and_remembers(tmp_path: Path, runtime: str, monkeypatch: Any) -> None:
    table = str(tmp_path / "t.json")
    small = OpSpec("conv2d", (16, 4, 4), (16, 4, 4), (3, 3), padding=(1, 1))
    large = OpSpec("conv2d", (64, 32, 32), (64, 32, 32), (3, 3), padding=(1, 1))
    device = ProfiledDevice(runtime=runtime, rounds=5, table=table)
    device.prepare([small, large, small])
    assert set(device.table.entries) == {small.key, large.key}
    costs = [device.cost([spec]).latency_ms.value for spec in (small, large)]
    assert 0 < costs[0] < costs[1]
    assert "sum of operators" in device.cost([small]).latency_ms.on
    again = ProfiledDevice(runtime=runtime, rounds=5, table=table)
    monkeypatch.setattr("espalier.hw_models.profiled_device.Profile", lambda *_: pytest.fail("again"))
    assert again.cost([large]).latency_ms.value == costs[1]
    assert len(again.features()) == 4
    assert LookupTable.load(Path(table)).cpu == cpu_model()


def test_what_was_never_seen_is_measured_on_demand(tmp_path: Path) -> None:
    device = ProfiledDevice(runtime="torch", rounds=3, table=str(tmp_path / "t.json"))
    assert device.cost([_LINEAR]).latency_ms.value > 0
    assert (tmp_path / "t.json").exists()


def test_tables_of_other_engines_lie_elsewhere() -> None:
    paths = {ProfiledDevice(runtime=r, threads=t).table_path for r in ("torch", "onnxruntime") for t in (1, 2)}
    assert len(paths) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "tflite"}, "unknown runtime 'tflite'; known: espalier, onnxruntime, openvino, torch"),
        ({"threads": 0}, "at least 1, got 0"),
    ],
)
def test_unknown_engines_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        ProfiledDevice(**arguments)


def test_a_missing_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier.hw_models.runtimes.runtime.missing_modules", lambda *_: ["onnxruntime"])
    with pytest.raises(EspalierError, match=r"needs onnxruntime: pip install 'espalier\[export\]'"):
        ProfiledDevice()
    with pytest.raises(
        EspalierError, match=r"runtime 'openvino' needs onnxruntime: pip install 'espalier\[openvino\]'"
    ):
        ProfiledDevice(runtime="openvino")
