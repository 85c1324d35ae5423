"""Table files: what is written is read back, and whatever else a file holds ends in one FormatError."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from espalier.errors import EspalierError, FormatError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.tables import document
from espalier.hw_models.tables.table import Entry, LookupTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_CONV = OpSpec("conv2d", (8, 10, 10), (16, 10, 10), (3, 3), padding=(1, 1), bias=True)
_EIGHT = _CONV.replace(bits=8)
_FILES = ["t.json", "t.parquet"]


def _table() -> LookupTable:
    table = LookupTable("d", "engine, 1 thread", {"engine": "1"}, "cpu", unit="relative", energy_unit="mJ", source="me")
    table.add(Entry(_CONV, 0.3, 0.03, 9, energy=1.5, half_width=0.2))
    table.add(Entry(_EIGHT, 0.1, 0.0, 1))
    table.add(Entry(_EIGHT, 0.05, 0.0, 1, number_format="w4a8"))
    table.add_block(Measurement((_CONV, _EIGHT), 0.45, 0.01, 7, "both"))
    return table


@pytest.mark.parametrize("name", _FILES)
def test_tables_round_trip(tmp_path: Path, name: str) -> None:
    table = _table()
    table.save(tmp_path / name)
    assert LookupTable.load(tmp_path / name) == table
    assert set(table.entries) == {_CONV.key, _EIGHT.key, f"{_EIGHT.key}@w4a8"}
    labels = [(m.label, m.latency_ms) for m in table.measurements()]
    assert labels == [(_CONV.key, 0.3), (_EIGHT.key, 0.1), ("both", 0.45)]


def test_the_format_is_told_by_the_content_and_not_by_the_name(tmp_path: Path) -> None:
    _table().save(tmp_path / "t.parquet")
    (tmp_path / "t.json").write_bytes((tmp_path / "t.parquet").read_bytes())
    assert LookupTable.load(tmp_path / "t.json") == _table()


def test_parquet_is_a_data_frame_that_others_can_read(tmp_path: Path) -> None:
    _table().save(tmp_path / "t.parquet")
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["kind"] for row in rows] == ["operator"] * 3 + ["block"]
    assert sum(row["mean"] for row in rows) == pytest.approx(0.3 + 0.1 + 0.05 + 0.45)
    assert [row["energy"] for row in rows if row["key"] == _CONV.key] == [1.5]


def test_tables_of_version_1_are_still_read(tmp_path: Path) -> None:
    old = {
        "format": "espalier-latency-table", "version": 1, "unit": "ms", "device": "d", "runtime": "r", "cpu": "c",
        "created": "2026-01-01", "versions": {}, "keeps_integers": True, "call_overhead_ms": 0.5,
        "entries": {_CONV.key: {"spec": _CONV.to_dict(), "mean": 1.0, "std": 0.1, "samples": 3}},
    }  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(old))
    table = LookupTable.load(tmp_path / "t.json")
    assert (table.unit, table.energy_unit, table.source, table.blocks) == ("ms", "", "", {})
    assert table.entries == {_CONV.key: Entry(_CONV, 1.0, 0.1, 3)}
    (tmp_path / "t.json").write_text(json.dumps(old | {"unit": "relative"}))
    with pytest.raises(FormatError, match="has unit 'relative', expected 'ms'"):
        LookupTable.load(tmp_path / "t.json")


def test_other_units_are_not_mixed(tmp_path: Path) -> None:
    _table().save(tmp_path / "t.json")
    with pytest.raises(EspalierError, match=r"t\.json counts in relative, what is to be added to it in ms"):
        LookupTable("d", "r", {}, "c").merge_into(tmp_path / "t.json")


_KEY = _CONV.key
_BOMB = "[" * 100_000 + "]" * 100_000


def _text(change: Any = lambda v: None) -> str:
    values = _table().to_dict()
    change(values)
    return json.dumps(values)


def _spec(**changes: Any) -> str:
    return _text(lambda v: v["entries"][_KEY]["spec"].update(changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (_text()[:-40], "not valid JSON"),
        ("\xff", "not a latency table"),
        (_BOMB, "not valid JSON"),
        ("9" * 5000, "not valid JSON"),
        ("[]", "expected an object with format"),
        (_text().replace('"mean": 0.3', '"mean": 1e999'), "mean must be a number of at most 1e"),
        (_text().replace('"mean": 0.3', f'"mean": 1{"0" * 4000}'), "a whole number of 13288 bits"),
        (_text().replace('"mean": 0.3', '"mean": Infinity'), "Infinity is no number that JSON knows"),
        (_text().replace('"mean": 0.3', '"mean": 0.3, "mean": 0.4'), "the key 'mean' is given twice"),
        (_text().replace('"mean": 0.3', '"mean": true'), "mean must be a number of at least 0, got True"),
        (_text().replace('"cpu": "cpu"', f'"cpu": {_BOMB}'), "not valid JSON"),
        (_text(lambda v: v.update(version=True)), "has version True, expected 1 to 2"),
        (_text(lambda v: v.update(unit=["ms"])), "has unit list, expected 'ms' or 'relative'"),
        (_text(lambda v: v.update(unit="us")), "has unit 'us', expected 'ms' or 'relative'"),
        (_text(lambda v: v.update(energy_unit="J")), "has energy_unit 'J', expected '' or 'mJ' or 'relative'"),
        (_text(lambda v: v.pop("energy_unit")), "gives energies but no 'energy_unit'"),
        (_text(lambda v: v.update(units="ms")), "has the unknown field 'units'; known: blocks, call_overhead_ms"),
        (_text(lambda v: v.update(cpu="x" * 3000)), "must give 'cpu' as a text of at most 2000 letters"),
        (_text(lambda v: v["versions"].update(engine=3)), "must give 'engine' as a text"),
        (_text(lambda v: v.update(blocks=[])), "got no object 'blocks'"),
        (_text(lambda v: v["blocks"]["both"].update(ops=[])), "block both: expected at least one operator"),
        (_text(lambda v: v["blocks"]["both"].update(ops={})), "block both: expected an object with ops"),
        (_text(lambda v: v["blocks"]["both"].update(samples=2.5)), "samples must be a whole number of at least 1"),
        (_text(lambda v: v["entries"][_KEY].update(number_format=3)), "number_format must be a short text"),
        (_text(lambda v: v["entries"][_KEY].update(number_format="w4")), "its spec has the key conv2d.*@w4"),
        (_text(lambda v: v["entries"][_KEY].update(energy=-1)), "energy must be a number of at least 0"),
        (_text(lambda v: v["entries"][_KEY].update(half_width="a")), "half_width must be a number of at least 0"),
        (_text(lambda v: v["entries"].update(x=3)), "expected an object with spec, mean, std and samples"),
        (_spec(groups=0), "groups must be from 1 to"),
        (_spec(groups=10**40), "groups must be from 1 to .* a whole number of 133 bits"),
        (_spec(groups=3), "3 groups do not divide 8 channels"),
        (_spec(bits=7), "bits must be 8 or 32, got 7"),
        (_spec(kernel=[0, 1]), "kernel must be from 1 to"),
        (_spec(kernel=[3]), "bad operator descriptor"),
        (_spec(input_shape=[]), "input_shape of conv2d has 0 axes"),
        (_spec(input_shape=[1] * 9), "input_shape of conv2d has 9 axes"),
        (_spec(activation="x" * 99), "activation must be at most 64 letters long"),
        (_spec(color=3), "unknown attributes"),
    ],
)  # fmt: skip
def test_damaged_and_hostile_files_are_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=message) as caught:
        LookupTable.load(tmp_path / "t.json")
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_missing_and_gigantic_files(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot read a latency table from"):
        LookupTable.load(tmp_path / "none.json")
    with (tmp_path / "t.json").open("wb") as sparse:
        sparse.truncate(document.LARGEST_BYTES + 1)
    with pytest.raises(FormatError, match="it has 256 MiB, more than 256"):
        LookupTable.load(tmp_path / "t.json")


def _parquet(path: Path, change: Any) -> Path:
    _table().save(path)
    pq.write_table(change(pq.read_table(path)), path)
    return path


def _column(name: str, values: list[Any]) -> Any:
    def change(table: pa.Table) -> pa.Table:
        index = table.column_names.index(name)
        return table.set_column(index, table.schema.field(name), pa.array(values, table.schema.field(name).type))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["std"]), r"expected the columns kind \(string\), .*; got kind, key"),
        (lambda t: t.append_column("x", pa.array([1] * 4)), "expected the columns"),
        (lambda t: t.set_column(3, "mean", t["mean"].cast(pa.float32())), "expected the columns"),
        (lambda t: t.replace_schema_metadata({}), "its metadata lack the object 'espalier'"),
        (lambda t: t.replace_schema_metadata({"espalier": "[1]"}), "its metadata lack the object 'espalier'"),
        (lambda t: t.replace_schema_metadata({"espalier": "{}"}), "expected an object with format"),
        (_column("kind", ["operator"] * 3 + ["other"]), "expected an operator, a block or a network, got 'other'"),
        (_column("key", ["a"] * 4), "row 1: the key 'a' is given twice"),
        (_column("operators", ["[]"] * 4), "row 0: expected an operator"),
        (_column("operators", [_BOMB] * 4), "row 0: not valid JSON"),
        (_column("mean", [float("nan")] * 4), "mean must be a number of at least 0, got nan"),
        (_column("mean", [float("inf")] * 4), "mean must be a number of at most"),
        (_column("samples", [-1] * 4), "samples must be a whole number of at least 1, got -1"),
        (lambda t: pa.concat_tables([t, t]), "is given twice"),
    ],
)
def test_parquet_of_another_shape_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = _parquet(tmp_path / "t.parquet", change)
    with pytest.raises(FormatError, match=message):
        LookupTable.load(path)


def test_parquet_without_half_widths_is_still_read(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "t.parquet", lambda table: table.drop_columns(["half_width"]))
    expected = _table()
    expected.entries = {key: replace(entry, half_width=None) for key, entry in expected.entries.items()}
    assert LookupTable.load(path) == expected


def test_declared_sizes_are_checked_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _table().save(tmp_path / "t.parquet")
    monkeypatch.setattr(document, "LARGEST_ROWS", 3)
    with pytest.raises(FormatError, match="it declares 4 rows of"):
        LookupTable.load(tmp_path / "t.parquet")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _paths(values: Any, start: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [start, *(path for key, value in inner for path in _paths(value, (*start, key)))]


_PLACES = [path for path in _paths(_table().to_dict()) if path]


@_FUZZED
@given(place=st.sampled_from(_PLACES), value=_JSON)
def test_any_value_anywhere_is_read_or_refused(tmp_path: Path, place: tuple[Any, ...], value: Any) -> None:
    values = _table().to_dict()
    node: Any = values
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = value
    (tmp_path / "t.json").write_text(json.dumps(values))
    _read_or_refuse(tmp_path / "t.json")


@pytest.mark.parametrize("name", _FILES)
@_FUZZED
@given(data=st.data())
def test_changed_and_cut_bytes_are_read_or_refused(tmp_path: Path, name: str, data: st.DataObject) -> None:
    _table().save(tmp_path / f"whole-{name}")
    content = bytearray((tmp_path / f"whole-{name}").read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    _read_or_refuse(tmp_path / name)


def _read_or_refuse(path: Path) -> None:
    try:
        table = LookupTable.load(path)
    except FormatError:
        return
    assert LookupTable.from_dict(table.to_dict(), "again") == table
    assert all(0 <= entry.mean < 1e13 and entry.spec.macs >= 0 for entry in table.entries.values())
