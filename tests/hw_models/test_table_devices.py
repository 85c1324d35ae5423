"""Devices from tables, from specifications, and from what others measured on phones."""

import copy
import math
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from espalier.commands.building import build, resolved
from espalier.commands.catalogue import options
from espalier.commands.schema import register_schema
from espalier.errors import EspalierError, FormatError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.cost import Estimate, HardwareModel
from espalier.hw_models.energy import EnergyModel
from espalier.hw_models.predictors.efficiency_fit import fit_efficiency
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.roofline import Roofline
from espalier.hw_models.table_device import TableDevice
from espalier.hw_models.tables.formats import import_table
from espalier.hw_models.tables.table import Entry, LookupTable
from hydra import compose, initialize_config_module

from tests.conftest import REPOSITORY

_DEVICES = REPOSITORY / "conf" / "device"


def _dense(channels: int, out: int, size: int = 8, bits: int = 32) -> OpSpec:
    return OpSpec("conv2d", (channels, size, size), (out, size, size), bits=bits)


def _table(path: Path, bits: int = 8, **changes: Any) -> Path:
    settings = {"unit": "relative", "energy_unit": "relative", **changes}
    table = LookupTable("array", "none", {}, "none", **settings)
    for channels in (8, 16, 32, 64):
        for out in (8, 32, 96):
            spec = _dense(channels, out, bits=bits)
            energy = 1e-5 * spec.macs if settings["energy_unit"] else None
            table.add(Entry(spec, 1e-6 * spec.macs, 1e-8 * spec.macs, 9, energy))
    table.save(path)
    return path


def _device(path: Path, **settings: Any) -> TableDevice:
    return TableDevice(str(_table(path)), interpolate=True, only_bits=8, free_kinds=["activation"], **settings)


def test_a_table_in_relative_units_says_so(tmp_path: Path) -> None:
    device = _device(tmp_path / "t.json")
    cost = device.cost([_dense(8, 8), _dense(16, 8), OpSpec("activation", (8,), (8,)), OpSpec("quantize", (8,), (8,))])
    macs = 64 * (8 * 8 + 16 * 8)
    assert cost.latency_ms.value == pytest.approx(1e-6 * macs)
    assert cost.latency_ms.std == pytest.approx(1e-8 * math.hypot(64 * 64, 64 * 128))
    assert cost.energy_mj.value == pytest.approx(1e-5 * macs)
    assert cost.latency_ms.unit == cost.energy_mj.unit == "relative"
    assert cost.latency_ms.to_dict()["unit"] == "relative"
    assert cost.latency_ms.on == "array table, sum of operators"
    assert "unit" not in Estimate(1.0, 0.0, "modelled", "x").to_dict()


def test_without_energies_the_equation_answers(tmp_path: Path) -> None:
    path = _table(tmp_path / "t.json", bits=32, unit="ms", energy_unit="")
    cost = TableDevice(str(path)).cost([_dense(8, 8)])
    assert cost.energy_mj.value == pytest.approx(EnergyModel().energy_mj([_dense(8, 8)]))
    assert (cost.energy_mj.on, cost.energy_mj.unit, cost.latency_ms.unit) == ("AdaDeep energy equation", "", "")


def test_estimated_operators_are_counted_and_their_doubts_add_up(tmp_path: Path) -> None:
    device = _device(tmp_path / "t.json")
    inside, beyond = _dense(24, 20), _dense(500, 20)
    one, two = device.cost([inside]), device.cost([inside, inside])
    assert one.latency_ms.value == pytest.approx(1e-6 * inside.macs, rel=0.05)
    assert two.latency_ms.std == pytest.approx(2 * one.latency_ms.std), "errors of one curve do not average out"
    mixed = device.cost([_dense(8, 8), inside, beyond])
    assert mixed.latency_ms.on.endswith("; 2 of 3 estimated, 1 of them beyond what was measured")
    assert mixed.energy_mj.value == pytest.approx(1e-5 * (_dense(8, 8).macs + inside.macs + beyond.macs), rel=0.1)


def test_estimates_must_be_asked_for(tmp_path: Path) -> None:
    path = str(_table(tmp_path / "t.json"))
    with pytest.raises(EspalierError, match=r"lacks 1 operators .*estimate them: device\.interpolate=true"):
        TableDevice(path).prepare([_dense(8, 8, bits=8), _dense(9, 8, bits=8)])
    with pytest.raises(EspalierError, match="the latency table of array lacks the operator conv2d"):
        TableDevice(path).cost([_dense(9, 8, bits=8)])
    TableDevice(path, interpolate=True).prepare([_dense(9, 8, bits=8)])
    with pytest.raises(EspalierError, match=r"nothing like them was measured: device\.free_kinds=\[softmax\]"):
        TableDevice(path, interpolate=True).prepare([OpSpec("softmax", (8,), (8,))])
    with pytest.raises(EspalierError, match="lacks 1 operators"):
        TableDevice(path, interpolate=True).prepare([_dense(9, 8, bits=32)])


def test_coverage_sorts_operators_by_how_they_are_known(tmp_path: Path) -> None:
    device = _device(tmp_path / "t.json")
    softmax, activation = OpSpec("softmax", (8,), (8,)), OpSpec("activation", (8,), (8,))
    twin = _dense(8, 8).replace(bias=True)
    found = device.coverage([_dense(8, 8), twin, _dense(24, 20), _dense(500, 20), softmax, activation, activation])
    sizes = [len(keys) for keys in (found.known, found.twin, found.interpolated, found.extrapolated, found.unknown)]
    assert sizes == [1, 1, 1, 1, 1]
    assert len(found.free) == 1
    assert {label for label, _, _ in found.rows()} >= {"known", "unknown", "interpolated"}
    assert found.relative_stds[found.extrapolated[0]] > found.relative_stds[found.interpolated[0]]


def test_a_missing_table_says_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot read .*none\.json: No such file or directory; ask the author"):
        TableDevice(str(tmp_path / "none.json"), origin="ask the author")
    (tmp_path / "t.json").write_text("hello")
    with pytest.raises(FormatError, match="is not a latency table: not valid JSON"):
        TableDevice(str(tmp_path / "t.json"), origin="ask the author")


def test_keys_are_kept_and_survive_copies() -> None:
    spec = _dense(8, 16)
    key = spec.key
    assert spec.key is key
    for twin in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec)), spec.replace(bits=32)):
        assert twin == spec
        assert hash(twin) == hash(spec)
        assert twin.key == key
    assert spec.replace(bits=8).key == f"{key}:b8"


def _built(name: str, *overrides: str) -> HardwareModel:
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        node = resolved(compose("config", overrides=[f"device={name}", "space=single", *overrides]))["device"]
    device: HardwareModel = build(node)
    return device


_SPECIFIED = [name for name in options("device") if "specified, not calibrated" in options("device")[name]]


def test_adadeeps_twelve_devices_are_there() -> None:
    assert sum("AdaDeep's twelve" in options("device")[name] for name in _SPECIFIED) == 12


@pytest.mark.parametrize("name", _SPECIFIED)
def test_specified_devices_are_what_their_specification_says(name: str) -> None:
    """The products in the comment are those in the figures; a third of the bandwidth on paper is taken as usable."""
    device, text = _built(name), (_DEVICES / f"{name}.yaml").read_text().replace("\n# ", " ")
    assert isinstance(device, Roofline)
    assert device.name == name
    assert device.relative_std == 0.5
    if "AdaDeep's twelve" not in text:
        return
    gflops, bandwidth = (re.search(rf"{key}: ([\d.*/+() ]+) = ([\d.]+)", text) for key in ("gflops", "bandwidth_gbps"))
    assert gflops is not None
    assert bandwidth is not None
    assert device.gflops == pytest.approx(_product(gflops[1]), abs=0.05)
    assert 3 * device.bandwidth_gbps == pytest.approx(_product(bandwidth[1]), rel=0.05)


def _product(text: str) -> float:
    value: float = eval(text, {"__builtins__": {}})
    return value


def test_every_device_says_how_it_is_known() -> None:
    for name, text in options("device").items():
        ways = r"specified, not calibrated|held-out error [\d.]+ %|from a table of the user's|[Tt]his machine"
        assert re.search(ways, text), f"device={name}: {text}"


@pytest.mark.parametrize(
    ("name", "files"),
    [("pixel1", ["pixel1_mobile_trim"]), ("note10", ["note10_160", "note10_176", "note10_192", "note10_224"])],
)
def test_efficiencies_of_phones_are_those_of_their_tables(data_root: Path, name: str, files: list[str]) -> None:
    tables = [import_table(data_root / "luts" / f"{file}.yaml").table for file in files]
    measurements = [m for table in tables for m in table.measurements()]
    fitted, _ = fit_efficiency(measurements, has_overhead=False)
    device, text = _built(name), (_DEVICES / f"{name}.yaml").read_text()
    stated = [device.cost(m.ops).latency_ms.value for m in measurements]
    # Not coefficients: an addition reads twice what it writes, so that nothing tells the two apart.
    assert stated == pytest.approx([fitted.latency_ms(m.ops) for m in measurements], rel=1e-3)
    errors = [latency / m.latency_ms - 1 for latency, m in zip(stated, measurements, strict=True)]
    held_out = float(text.partition("held-out error ")[2].partition(" %")[0])
    assert 100 * sum(map(abs, errors)) / len(errors) < 1.2 * held_out


def test_whole_networks_of_a_phone_are_nearer_than_their_blocks(data_root: Path) -> None:
    """Sums of blocks, as a network is: errors of single blocks go to both sides."""
    table = import_table(data_root / "luts" / "note10_224.yaml").table
    device, blocks = _built("note10"), list(table.blocks.values())
    ops = [op for block in blocks for op in block.ops]
    assert device.cost(ops).latency_ms.value == pytest.approx(sum(b.latency_ms for b in blocks), rel=0.03)


def test_bitfusion_is_a_device(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPALIER_DATA", str(data_root))
    device = _built("bitfusion")
    known = OpSpec("conv2d", (192, 7, 7), (768, 7, 7), bits=8)
    raw = {
        m.label: m for m in import_table(data_root / "luts" / "bitfusion_latency_energy.json.gz").table.measurements()
    }
    cost = device.cost([known.replace(bits=32, bias=True, activation="relu")])
    assert cost.latency_ms.value == raw[known.key].latency_ms, "every operator counts as 8-bit"
    assert cost.latency_ms.unit == "relative"
    assert device.cost([OpSpec("add", (8, 4, 4), (8, 4, 4), n_inputs=2)]).latency_ms.value == 0


def test_bitfusion_without_its_table_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPALIER_DATA", str(tmp_path))
    with pytest.raises(
        FormatError, match=r"bitfusion_latency_energy\.json\.gz: No such file .*github\.com/mit-han-lab/apq"
    ):
        _built("bitfusion")


def test_block_tables_answer_for_single_operators(tmp_path: Path) -> None:
    table = LookupTable("phone", "none", {}, "none")
    for width in (8, 16, 24, 32):
        table.add_block(Measurement((_dense(8, width), _dense(width, 16)), 1e-6 * 64 * width * 24, 0.0, 9, str(width)))
    table.save(tmp_path / "t.parquet")
    device = TableDevice(str(tmp_path / "t.parquet"), interpolate=True)
    assert device.cost([_dense(8, 12)]).latency_ms.value == pytest.approx(1e-6 * _dense(8, 12).macs, rel=0.01)
    with pytest.raises(EspalierError, match=r"device\.interpolate=true"):
        TableDevice(str(tmp_path / "t.parquet")).prepare([_dense(8, 16)])
