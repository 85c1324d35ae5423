"""`espalier profile fit`: a device from measured networks, and every mistake in one line."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.spaces.architecture import convolution
from espalier.hw_models.spaces.nasbench201 import Nasbench201Space
from espalier.hw_models.tables.table import Entry, LookupTable

from tests.commands.conftest import FAST, Run

_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_HEAD = OpSpec("linear", (64,), (10,), bias=True)


def _latency_ms(ops: tuple[OpSpec, ...], slower: float = 1.0) -> float:
    """A device that takes its time by arithmetic, each layer's start, and half a millisecond a call."""
    return slower * (0.5 + sum(0.01 + 1e-7 * op.macs for op in ops))


def _networks(count: int, slower: float = 1.0) -> list[Measurement]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        sizes = rng.choice([8, 16, 24, 32, 48], (rng.integers(3, 8), 2))
        layers = tuple(convolution(16, int(a), int(b), int(rng.choice([1, 3]))) for a, b in sizes)
        found.append(Measurement((*layers, _HEAD), _latency_ms((*layers, _HEAD), slower), label=f"network {number}"))
    return found


def _table(path: Path, networks: list[Measurement], **more: str) -> Path:
    table = LookupTable("board", "engine, 1 thread", {}, "chip", **more)
    for network in networks:
        table.add_network(network)
    table.save(path)
    return path


def test_a_fitted_device_is_found_by_the_search(run: Run, tmp_path: Path) -> None:
    _table(tmp_path / "board.json", _networks(120))
    result = run("profile", "fit", "board.json", "output=mine/device/board.yaml")
    assert result.status == 0, result.err
    assert "fitted to 120 networks; those left out were off by 0." in result.out
    assert "use it: espalier search --config-dir mine device=board" in result.out
    written = yaml.safe_load((tmp_path / "mine/device/board.yaml").read_text())
    assert written["overhead_ms"] == pytest.approx(0.5, abs=0.05)
    assert written["kinds"]["conv2d_3x3"]["mmacs"] == pytest.approx(0.1, rel=0.1)
    searched = run("search", "--config-dir", "mine", *FAST, "device=board", "budget=3")
    assert searched.status == 0, searched.err
    assert "board, efficiencies fitted to measurements" in searched.out


def test_a_handful_of_networks_and_a_similar_device(run: Run, tmp_path: Path) -> None:
    _table(tmp_path / "board.json", _networks(120))
    assert run("profile", "fit", "board.json", "output=device/board.yaml").status == 0
    _table(tmp_path / "slow.parquet", _networks(6, slower=4))
    result = run("profile", "fit", "slow.parquet", "output=device/slow.yaml", "like=device/board.yaml")
    assert result.status == 0, result.err
    assert "drawn to device/board.yaml" in (tmp_path / "device/slow.yaml").read_text()
    slow = yaml.safe_load((tmp_path / "device/slow.yaml").read_text())
    assert slow["kinds"]["conv2d_3x3"]["mmacs"] == pytest.approx(0.4, rel=0.1)
    shipped = run("profile", "fit", "slow.parquet", "output=device/phone.yaml", "like=raspi4")
    assert shipped.status == 0, shipped.err


def test_operators_where_there_are_no_networks(run: Run, tmp_path: Path) -> None:
    table = LookupTable("board", "engine, 1 thread", {}, "chip", call_overhead_ms=0.25)
    for op in {op for network in _networks(40) for op in network.ops}:
        table.add(Entry(op, 0.01 + 1e-7 * op.macs, 0.0, 1))
        table.add(Entry(op.replace(bits=8), 1e-3, 0.0, 1))
    table.save(tmp_path / "board.json")
    result = run("profile", "fit", "board.json", "output=device/board.yaml")
    assert result.status == 0, result.err
    assert "blocks and operators; those left out were off by 0." in result.out
    written = yaml.safe_load((tmp_path / "device/board.yaml").read_text())
    assert written["overhead_ms"] == 0.25, "what the table subtracted from each operator"
    assert written["kinds"]["conv2d_3x3"]["mmacs"] == pytest.approx(0.1, rel=0.1), "8-bit operators must not count"


def test_a_csv_file_of_networks(run: Run, tmp_path: Path) -> None:
    rng, space, rows = np.random.default_rng(0), Nasbench201Space(), [("arch", "phone", "board")]
    for _ in range(60):
        names = [str(rng.choice(_OPERATIONS)) for _ in range(6)]
        label = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*names)
        latency = _latency_ms(space.parse(label).ops)
        rows.append((label, f"{latency:.6f}", f"{2 * latency:.6f}"))
    with (tmp_path / "networks.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    result = run("profile", "fit", "networks.csv", "space=nasbench201", "column=phone", "output=device/my_phone.yaml")
    assert result.status == 0, result.err
    assert "fitted to " in result.out
    assert "'networks.csv'" in (tmp_path / "device/my_phone.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("output=board.yaml",), "output must be FOLDER/device/NAME.yaml"),
        (("output=device/board.json",), "output must be FOLDER/device/NAME.yaml"),
        (("output=device/raspi4.yaml",), "there is a device 'raspi4' already"),
        (("output=device/there.yaml",), "device/there.yaml exists already"),
        (
            ("output=device/a.yaml",),
            "board.json has 6 networks, and 0 blocks and operators, of floats; fitting needs 20 of one sort, or 5 with",
        ),
        (("output=device/a.yaml", "like=raspi5"), "like=raspi5 is no fitted device; did you mean 'raspi4'?"),
        (("output=device/a.yaml", "like=host"), "like=host is no fitted device"),
        (("output=device/a.yaml", "like=device/there.yaml"), "like=device/there.yaml is no fitted device"),
        (("output=device/a.yaml", "like=device/half.yaml"), "device/half.yaml is not a whole device: 'kinds'"),
        (("output=device/a.yaml", "like=device/damaged.yaml"), "cannot read the device device/damaged.yaml"),
        (
            ("output=device/a.yaml", "column=a"),
            "a CSV file of networks needs space=NAME, too; known: fbnet, nasbench201",
        ),
        (("output=device/a.yaml", "space=fbnets", "column=a"), "unknown space 'fbnets'; did you mean 'fbnet'?"),
        (("output=device/a.yaml", "space=fbnet", "column=a"), "board.json, line 2: expected 1 fields"),
        ((), "espalier profile fit needs output=FILE"),
    ],
)
def test_mistakes(run: Run, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    _table(tmp_path / "board.json", _networks(6))
    (tmp_path / "device").mkdir()
    (tmp_path / "device/there.yaml").write_text("name: there\n")
    target = "_target_: espalier.hw_models.calibrated_device.CalibratedDevice\noverhead_ms: 0\n"
    (tmp_path / "device/half.yaml").write_text(target)
    (tmp_path / "device/damaged.yaml").write_text("a: [\n")
    result = run("profile", "fit", "board.json", *words)
    assert result.status == 2
    assert message in result.last_line
    assert not (tmp_path / "device/a.yaml").exists()


def test_only_the_chosen_column_of_a_csv_file_counts(run: Run, tmp_path: Path) -> None:
    live = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"
    (tmp_path / "n.csv").write_text("arch,phone,watch_us,broken\n" + f"{live},2.5,2500,-\n" * 4)
    words = ("space=nasbench201", "output=device/a.yaml", "like=raspi4")
    assert "a CSV file of networks needs space=NAME" in run("profile", "fit", "n.csv", *words[1:]).last_line
    result = run("profile", "fit", "n.csv", *words)
    assert result.last_line.endswith("a CSV file of networks needs column=NAME, too; n.csv has phone, watch_us, broken")
    assert (
        "n.csv has no column 'fone'; did you mean 'phone'?" in run("profile", "fit", "n.csv", "column=fone", *words).err
    )
    assert "n.csv has 4 networks" in run("profile", "fit", "n.csv", "column=phone", *words).last_line
    assert "column watch_us is not in mill" in run("profile", "fit", "n.csv", "column=watch_us", *words).last_line
    assert "line 2: a latency must be a n" in run("profile", "fit", "n.csv", "column=broken", *words).last_line


def test_networks_without_operators_do_not_count(run: Run, tmp_path: Path) -> None:
    dead = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    live = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"
    (tmp_path / "n.csv").write_text("arch,phone\n" + f"{dead},1.5\n" * 4 + f"{live},2.5\n")
    words = ("space=nasbench201_compiled", "column=phone", "output=device/a.yaml", "like=raspi4")
    assert "n.csv has 1 networks" in run("profile", "fit", "n.csv", *words).last_line


def test_the_hint_names_a_folder_that_exists(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _table(tmp_path / "board.json", _networks(30))
    (tmp_path / "device").mkdir()
    monkeypatch.chdir(tmp_path / "device")
    result = run("profile", "fit", "../board.json", "output=mine.yaml")
    assert "--config-dir .. device=mine" in result.out


def test_relative_units_and_other_columns_are_refused(run: Run, tmp_path: Path) -> None:
    _table(tmp_path / "relative.json", _networks(6), unit="relative")
    result = run("profile", "fit", "relative.json", "output=device/a.yaml")
    assert "relative.json is in relative units; a device needs milliseconds" in result.last_line
    (tmp_path / "n.csv").write_text("arch,phone\n|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,1.5\n")
    result = run("profile", "fit", "n.csv", "space=nasbench201", "column=phones", "output=device/a.yaml")
    assert "n.csv has no column 'phones'; did you mean 'phone'?" in result.last_line
