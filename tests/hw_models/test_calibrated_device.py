"""Devices fitted to what others measured: sums by hand, what users can get wrong, and the files of the device zoo."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from espalier.commands.building import build, resolved
from espalier.commands.catalogue import options
from espalier.commands.schema import register_schema
from espalier.errors import EspalierError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.calibrated_device import CalibratedDevice
from espalier.hw_models.cost import HardwareModel
from espalier.hw_models.energy import EnergyModel
from espalier.hw_models.energy.power_time import PowerTime
from espalier.hw_models.spaces.fbnet import FbnetSpace
from espalier.hw_models.spaces.latency_csv import read_rows
from espalier.testing.contracts import HardwareModelContract
from hydra import compose, initialize_config_module

from tests.conftest import REPOSITORY

_CONV = OpSpec("conv2d", (8, 10, 10), (16, 10, 10), (3, 3), padding=(1, 1), bias=True)
_ADD = OpSpec("add", (16, 10, 10), (16, 10, 10), n_inputs=2)
_KINDS = {"conv2d_3x3": {"count": 0.01, "mmacs": 2.0, "weight_mb": 5.0}}
_OTHER = {"read_mb": 3.0, "written_mb": 3.0}

#: Device -> column of the measurements.
ZOO = {
    "pixel3": "pixel3",
    "raspi4": "raspi4",
    "eyeriss": "eyeriss",
    "fpga": "fpga",
    "samsung_s7": "samsung_s7",
    "essential_ph_1": "essential_ph_1",
    "gold_6240": "gold_6240",
    "silver_4114": "silver_4114",
    "1080ti": "1080ti_1",
    "2080ti": "2080ti_1",
    "titanx": "titanx_1",
    "titanxp": "titanxp_1",
}

#: Fitted to tables of blocks; their figures are checked beside the tables.
PHONES = ("pixel1", "note10")


def _device(**changes: Any) -> CalibratedDevice:
    return CalibratedDevice(
        **{
            "name": "d",
            "overhead_ms": 0.5,
            "kinds": _KINDS,
            "other": {"read_mb": 3.0, "written_mb": 3.0},
            "relative_std": 0.1,
        }
        | changes
    )


def test_latency_is_a_sum_over_quantities() -> None:
    conv = 0.01 + 2.0 * 16 * 100 * 8 * 9e-6 + 5.0 * 4 * (16 * 8 * 9 + 16) * 1e-6
    add = 3.0 * 4 * 3 * 1600e-6
    latency = _device().cost([_CONV, _ADD, _CONV, OpSpec("reshape", (8,), (8,))]).latency_ms
    assert latency.value == pytest.approx(0.5 + 2 * conv + add)
    assert latency.std == pytest.approx(0.1 * latency.value)
    assert latency.kind == "modelled"
    assert _device().efficiency.latency_ms([_CONV, _ADD, _CONV]) == pytest.approx(latency.value)


def test_eight_bits_count_as_floats_and_are_faster_only_where_the_user_says_so() -> None:
    eight = _CONV.replace(bits=8)
    plain, fast = (_device(int8_speedup=speed).operator_latency_ms(eight) for speed in (1.0, 4.0))
    assert plain == _device().operator_latency_ms(_CONV)
    assert plain - fast == pytest.approx(0.75 * 2.0 * eight.macs * 1e-6)
    assert _device(int8_speedup=4.0).features()[3] == pytest.approx(math.log10(4))
    assert _device().operator_latency_ms(OpSpec("quantize", (8,), (8,))) == 0


def test_operators_that_were_not_measured_are_counted() -> None:
    device, free = _device(), OpSpec("reshape", (8,), (8,))
    assert device.cost([_CONV, free]).latency_ms.on == "d, efficiencies fitted to measurements"
    for _ in range(2):
        on = device.cost([_CONV, _ADD, _CONV.replace(bits=8), free]).latency_ms.on
        assert on.endswith("; 2 of 4 operators of kinds or formats that were not measured")
    assert "1 of 1 operators" in device.cost([_CONV.replace(kernel=(5, 5), padding=(2, 2))]).latency_ms.on


def test_energy_comes_from_its_source() -> None:
    assert _device().cost([_CONV, _ADD]).energy_mj.value == pytest.approx(EnergyModel().energy_mj([_CONV, _ADD]))
    watts = _device(energy=PowerTime(watts=3.0)).cost([_CONV, _ADD])
    assert watts.energy_mj.value == pytest.approx(3.0 * watts.latency_ms.value)


def test_observations_are_read_off_operators() -> None:
    device = _device(
        kinds={
            "conv2d_3x3": {"mmacs": 0.1},
            "elementwise": {"read_mb": 0.5, "written_mb": 0.5},
            "conv2d_1x1": {"count": 0.02},
        }
    )
    assert device.features() == pytest.approx((math.log10(2 / 0.1), math.log10(1 / 0.5), math.log10(20), 0.0))
    assert np.isfinite(_device(kinds={}, other={}).features()).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"int8_speedup": 0}, r"device\.int8_speedup must be above 0, got 0"),
        ({"overhead_ms": -1.0}, r"device\.overhead_ms must be a number of at least 0, got -1"),
        ({"relative_std": math.nan}, r"device\.relative_std must be a number of at least 0, got nan"),
        ({"kinds": {"conv": {}}}, r"device\.kinds names the unknown kind 'conv'; known: conv2d, "),
        ({"kinds": {"conv2d_3": {}}}, r"unknown kind 'conv2d_3'"),
        ({"kinds": {"add": {"macs": 1.0}}}, r"device\.kinds\.add has the unknown quantity 'macs'; known: count, mmacs"),
        ({"kinds": {"add": {"count": math.inf}}}, r"device\.kinds\.add\.count must be a number of at least 0, got inf"),
        ({"other": {"count": -0.1}}, r"device\.kinds\.other\.count must be a number of at least 0, got -0\.1"),
    ],
)
def test_impossible_devices_are_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(EspalierError, match=match):
        _device(**changes)


@cache
def _configured(name: str) -> CalibratedDevice:
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        device: CalibratedDevice = build(resolved(compose("config", overrides=[f"device={name}"]))["device"])
    return device


class TestDeviceZoo(HardwareModelContract):
    @pytest.fixture(params=[*ZOO, *PHONES])
    def device(self, request: pytest.FixtureRequest) -> HardwareModel:
        return _configured(request.param)


def test_the_zoo_is_listed() -> None:
    assert {*ZOO, *PHONES} <= set(options("device"))


@pytest.mark.parametrize("name", ZOO)
def test_a_file_keeps_the_error_that_it_states(name: str, data_root: Path) -> None:
    """On 250 networks drawn from the FBNet file: phones have spells in which all takes longer, so never every n-th."""
    header, rows = read_rows(data_root / "fbnet_latency_ms.csv.gz")
    column = header.index(ZOO[name])
    device, space = _configured(name), FbnetSpace()
    drawn = [rows[index][1] for index in np.random.default_rng(0).choice(len(rows), 250, replace=False)]
    errors = [abs(device.cost(space.parse(row[0]).ops).latency_ms.value / float(row[column]) - 1) for row in drawn]
    text = (REPOSITORY / "conf" / "device" / f"{name}.yaml").read_text()
    stated = float(text.partition("FBNet: ")[2].partition(" %")[0])
    assert 100 * np.mean(errors) == pytest.approx(stated, rel=0.2, abs=0.3)
    assert device.name == name


def test_a_file_holds_a_few_dozen_figures_at_most() -> None:
    for name in (*ZOO, *PHONES):
        device = _configured(name)
        assert sum(map(len, device.kinds.values())) + len(device.other) + 3 < 48
