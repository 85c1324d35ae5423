"""Counters, power times time, and who uses them."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from espalier.errors import EspalierError
from espalier.finish import measurement
from espalier.graph.opspec import OpSpec
from espalier.hw_models.cost import Estimate
from espalier.hw_models.energy import EnergyModel, MeasuredPower, PowerTime
from espalier.hw_models.energy import measured_power as measured_power_module
from espalier.hw_models.energy.counter import EnergyCounter, energy_per_call, find_counter
from espalier.hw_models.energy.nvml import NvmlCounter
from espalier.hw_models.energy.rapl import RaplCounter
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.roofline import Roofline
from espalier.hw_models.runtimes.runtime import make_runtime
from torch import nn

_LINEAR = OpSpec("linear", (16,), (8,), bias=True)
_LATENCY = Estimate(2.0, 0.1, "modelled", "a table")


def _zone(root: Path, name: str, label: str, energy_uj: int, limit_uj: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit_uj}\n")
    return folder


def test_rapl_adds_packages_and_leaves_their_parts_out(tmp_path: Path) -> None:
    first = _zone(tmp_path, "intel-rapl:0", "package-0", 5000)
    second = _zone(tmp_path, "intel-rapl:1", "package-1", 900)
    core = _zone(tmp_path, "intel-rapl:0:0", "core", 10)
    platform = _zone(tmp_path, "intel-rapl:2", "psys", 10)
    counter = RaplCounter(tmp_path)
    assert counter.name == "RAPL, 2 processor packages as a whole"
    assert counter.read_mj() == 0
    for folder, value in ((first, 7500), (second, 1400), (core, 90_000), (platform, 90_000)):
        (folder / "energy_uj").write_text(str(value))
    assert counter.read_mj() == pytest.approx(2.5 + 0.5)
    assert counter.read_mj() == pytest.approx(3.0)


def test_rapl_goes_on_after_its_range(tmp_path: Path) -> None:
    zone = _zone(tmp_path, "intel-rapl:0", "package-0", 999_000)
    counter = RaplCounter(tmp_path)
    total = 0.0
    for value, more in ((4000, 5.0), (900_000, 896.0), (100_000, 200.0)):
        (zone / "energy_uj").write_text(str(value))
        total += more
        assert counter.read_mj() == pytest.approx(total)


def test_machines_without_rapl_say_so(tmp_path: Path) -> None:
    with pytest.raises(EspalierError, match=r"shows no RAPL energy counter in .*virtual machines"):
        RaplCounter(tmp_path)
    _zone(tmp_path, "intel-rapl:0", "psys", 1)
    (tmp_path / "intel-rapl:1").mkdir()
    with pytest.raises(EspalierError, match="shows no RAPL"):
        RaplCounter(tmp_path)


def test_rapl_without_permission_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", 1)
    read = Path.read_text

    def refused(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(EspalierError, match=r"no permission to read .*CVE-2020-8694.*sudo chmod a\+r"):
        RaplCounter(tmp_path)


def test_rapl_that_vanishes_is_an_error(tmp_path: Path) -> None:
    zone = _zone(tmp_path, "intel-rapl:0", "package-0", 1)
    counter = RaplCounter(tmp_path)
    (zone / "energy_uj").write_text("broken")
    with pytest.raises(EspalierError, match="energy_uj cannot be read"):
        counter.read_mj()


class _NvmlError(Exception):
    pass


def _fake_nvml(monkeypatch: pytest.MonkeyPatch, energies: list[int | Exception], name: str | bytes = "A Card") -> None:
    readings = iter(energies)

    def read(_: object) -> int:
        value = next(readings)
        if isinstance(value, Exception):
            raise value
        return value

    def handle(index: int) -> str:
        if index > 0:
            raise _NvmlError("Invalid Argument")
        return "handle"

    module: Any = types.ModuleType("pynvml")
    module.NVMLError = _NvmlError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByIndex = handle
    module.nvmlDeviceGetName = lambda _: name
    module.nvmlDeviceGetTotalEnergyConsumption = read
    monkeypatch.setitem(sys.modules, "pynvml", module)


@pytest.mark.parametrize("name", ["A Card", b"A Card"])
def test_nvml_counts_from_when_it_was_opened(monkeypatch: pytest.MonkeyPatch, name: str | bytes) -> None:
    _fake_nvml(monkeypatch, [5000, 5250, 6000], name)
    counter = find_counter("nvml")
    assert counter.name == "NVML, A Card as a whole"
    assert [counter.read_mj(), counter.read_mj()] == [250, 1000]


def test_nvml_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(EspalierError, match=r"needs pynvml: pip install 'espalier\[nvml\]'"):
        NvmlCounter()
    _fake_nvml(monkeypatch, [_NvmlError("Not Supported")])
    with pytest.raises(EspalierError, match="energy of graphics processor 0 cannot be read: Not Supported"):
        NvmlCounter()
    with pytest.raises(EspalierError, match="graphics processor 3 cannot be read: Invalid Argument"):
        NvmlCounter(3)
    _fake_nvml(monkeypatch, [1, _NvmlError("GPU is lost")])
    counter = NvmlCounter()
    with pytest.raises(EspalierError, match="energy counter of A Card cannot be read: GPU is lost"):
        counter.read_mj()


def test_unknown_counters_are_named(tmp_path: Path) -> None:
    with pytest.raises(EspalierError, match="unknown energy counter 'x'; known: auto, rapl, nvml"):
        find_counter("x")
    _zone(tmp_path, "intel-rapl:0", "package-0", 1)
    assert find_counter(root=tmp_path).name == "RAPL, 1 processor package as a whole"


def test_power_times_time_by_hand() -> None:
    energy = PowerTime(5.0, relative_std=0.2, source="data sheet").estimate([_LINEAR], _LATENCY)
    assert energy.value == pytest.approx(5.0 * 2.0)  # W x ms = mJ
    assert energy.std == pytest.approx(((5 * 0.1) ** 2 + (0.2 * 10) ** 2) ** 0.5)
    assert (energy.kind, energy.on) == ("modelled", "5 W (data sheet) times latency")
    device = Roofline("d", 10.0, 1.0, energy=PowerTime(3.0))
    cost = device.cost([_LINEAR])
    assert cost.energy_mj.value == pytest.approx(3 * cost.latency_ms.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"watts": 0.0}, r"device\.energy\.watts must be above 0, got 0\.0"),
        ({"watts": float("nan")}, r"watts must be above 0, got nan"),
        ({"watts": 1.0, "relative_std": -1.0}, r"relative_std must be at least 0, got -1\.0"),
    ],
)
def test_impossible_powers_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        PowerTime(**arguments)


class _Clockwork:
    """A machine of `watts` whose every call takes `call_ms`, and whose clock only such calls advance."""

    name = "clockwork"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, watts: float, call_ms: float = 10.0) -> None:
        self.now_ms, self.watts, self.call_ms = 0.0, watts, call_ms
        monkeypatch.setattr("time.perf_counter", lambda: self.now_ms / 1e3)

    def read_mj(self) -> float:
        return self.watts * self.now_ms

    def call(self) -> None:
        self.now_ms += self.call_ms


def test_energy_per_call_is_what_the_counter_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _Clockwork(monkeypatch, watts=20.0, call_ms=10.0)
    assert energy_per_call(machine, machine.call, seconds=0.3) == pytest.approx(200.0)
    assert machine.now_ms >= 300


def test_measured_power_is_watts_of_steady_work(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _Clockwork(monkeypatch, watts=12.5)
    monkeypatch.setattr(measured_power_module, "find_counter", lambda _: machine)
    power = MeasuredPower()
    with pytest.raises(EspalierError, match="needs a device that is measured live"):
        power.estimate([_LINEAR], _LATENCY)
    power.prepare(machine.call)
    energy = power.estimate([_LINEAR], _LATENCY)
    assert energy.value == pytest.approx(12.5 * 2.0)
    assert (energy.kind, energy.on) == ("modelled", "12.5 W (measured by clockwork) times latency")
    spent = machine.now_ms
    power.prepare(machine.call)
    assert machine.now_ms == spent


def test_a_counter_that_stands_still_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _Clockwork(monkeypatch, watts=0.0)
    monkeypatch.setattr(measured_power_module, "find_counter", lambda _: machine)
    with pytest.raises(EspalierError, match=r"the energy counter \(clockwork\) does not move"):
        MeasuredPower().prepare(machine.call)
    with pytest.raises(EspalierError, match=r"device\.energy\.seconds must be above 0"):
        MeasuredPower(seconds=0.0)


class _Steady:
    """A counter that grows by one at every reading."""

    name = "steady"

    def __init__(self) -> None:
        self.count = 0.0

    def read_mj(self) -> float:
        self.count += 1.0
        return self.count


def test_a_live_device_predicts_energy_from_its_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_power_module, "find_counter", lambda _: _Steady())
    energy = MeasuredPower(seconds=0.01)
    device = ProfiledDevice(runtime="torch", rounds=2, table=str(tmp_path / "t.json"), energy=energy)
    cost = device.cost([_LINEAR])
    assert "measured by steady" in cost.energy_mj.on
    assert cost.energy_mj.value > 0
    plain = ProfiledDevice(runtime="torch", table=str(tmp_path / "t.json")).cost([_LINEAR])
    assert plain.energy_mj.value == pytest.approx(EnergyModel().energy_mj([_LINEAR]))


def _compared(monkeypatch: pytest.MonkeyPatch, find: Callable[[], EnergyCounter]) -> measurement.LiveLatency:
    monkeypatch.setattr(measurement, "find_counter", find)
    monkeypatch.setattr(measurement, "_ENERGY_SECONDS", 0.0)
    original, final = nn.Linear(8, 8).eval(), nn.Linear(8, 4).eval()
    return measurement.measure_latency(make_runtime("torch", 1), original, final, torch.rand(1, 8), rounds=10)


def test_the_final_comparison_counts_energy_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    energies = _compared(monkeypatch, _Steady).energies
    assert energies is not None
    # Two readings around one call: one millijoule each.
    assert [(e.value, e.kind, e.on) for e in energies] == [(1.0, "measured", "steady, on this machine")] * 2

    def none() -> EnergyCounter:
        raise EspalierError("no counter")

    assert _compared(monkeypatch, none).energies is None
