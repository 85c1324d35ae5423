"""`espalier profile show|diff|merge|check|import`: what is printed, what is written, and every mistake in one line."""

import json
import re
from pathlib import Path

import pytest
from espalier.commands.profile_subcommands import SUBCOMMANDS
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.tables.table import Entry, LookupTable

from tests.commands.conftest import FAST, Run

_CONV = OpSpec("conv2d", (8, 10, 10), (16, 10, 10))
_WIDE = OpSpec("conv2d", (8, 10, 10), (32, 10, 10))
_LINEAR = OpSpec("linear", (64,), (10,))


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder with two tables of one device, one of another, and one in relative units."""
    plain = {"runtime": "engine, 1 thread", "cpu": "chip"}
    first = LookupTable("board", versions={"engine": "1"}, **plain)
    second = LookupTable("board", versions={"engine": "2"}, **plain)
    first.add(Entry(_CONV, 0.5, 0.001, 9))
    first.add(Entry(_WIDE, 2.0, 0.4, 9))
    second.add(Entry(_CONV, 1.0, 0.001, 9))
    second.add(Entry(_LINEAR, 0.25, 0.0, 1))
    first.save(tmp_path / "first.json")
    second.save(tmp_path / "second.parquet")
    LookupTable("other board", versions={}, **plain).save(tmp_path / "other.json")
    LookupTable("array", versions={}, unit="relative", energy_unit="relative", **plain).save(tmp_path / "relative.json")
    return tmp_path


def test_show(run: Run, tables: Path) -> None:
    result = run("profile", "show", "first.json", "slowest=1")
    assert result.status == 0, result.err
    assert re.search(r"conv2d +│ +2 │ +500 us │ +2 ms │ +10\.1 % │ +1 │ +0", result.out)
    assert "engine 1" in result.out
    assert _WIDE.key in result.out
    assert _CONV.key not in result.out, "one of the slowest was asked for"
    shown = run("profile", "show", "relative.json").out
    assert "latency    relative units, not documented by the source; 0 (relative) per call" in shown
    assert "the table holds nothing: no operators, blocks or networks\n" in shown
    assert "unknown" in run("profile", "show", "second.parquet").out, "the noise of a single sample"


def test_diff(run: Run, tables: Path) -> None:
    result = run("profile", "diff", "first.json", "second.parquet")
    assert result.status == 0, result.err
    assert "1 of 1 shared operators differ by more than their uncertainty" in result.out
    assert "1 only in the first table, 1 only in the second" in result.out
    assert re.search(r"conv2d +│ 2\.000 │ +1", result.out)
    assert re.search(r"engine │ 1 +│ 2", result.out)
    assert re.search(rf"{re.escape(_CONV.key)} │ 500 us │ +1 ms │ 2\.000 │ +353\.6", result.out)
    same = run("profile", "diff", "first.json", "first.json").out
    assert "0 of 2 shared operators differ" in same
    assert "both come from the same place" in same


def test_merge(run: Run, tables: Path) -> None:
    result = run("profile", "merge", "first.json", "second.parquet", "output=both.parquet")
    assert (result.status, result.out) == (0, "3 operators and blocks, 1 of them pooled: both.parquet\n")
    merged = LookupTable.load(tables / "both.parquet")
    assert merged.entries[_CONV.key].mean == pytest.approx(0.75)
    assert merged.versions == {"engine": "1 and 2"}
    assert run("profile", "merge", "first.json", "other.json", "output=forced.json", "force=true").status == 0
    assert LookupTable.load(tables / "forced.json").device == "board and other board"


def test_check_of_a_file(run: Run, tables: Path) -> None:
    result = run("profile", "check", "first.json")
    assert result.status == 0, result.err
    assert "first.json is sound: 2 operators and 0 blocks of board in milliseconds, 1 noisier than 5 %" in result.out
    assert "estimates would be cannot be told: that takes at least 4 operators of one kind" in result.out
    assert "and the table has 2 operators measured alone\n" in result.out
    many = LookupTable("board", "engine", {}, "chip")
    for width in range(8, 80, 8):
        many.add(Entry(OpSpec("linear", (64,), (width,)), 1e-3 * width, 0.0, 1))
    many.save(tables / "many.json")
    assert re.search(r"linear:i64:o\d+ │ +9 │ +[\d.]+ % │", run("profile", "check", "many.json").out)


def test_check_of_a_table_of_blocks(run: Run, tables: Path) -> None:
    table = LookupTable("board", "engine", {}, "chip")
    table.add_block(Measurement((_CONV, _LINEAR), 1.0, 0.0, 1, "both"))
    table.save(tables / "blocks.json")
    said = "the table has no operator measured alone; estimates come from its blocks, by time per unit of work"
    assert said in " ".join(run("profile", "check", "blocks.json").out.split())


def test_check_says_nothing_before_an_error(run: Run, tables: Path) -> None:
    result = run("profile", "check", "first.json", "task=digits_vg")
    assert (result.status, result.out) == (2, "")
    assert "task has no option 'digits_vg'; did you mean 'digits_vgg'?" in result.last_line


def test_check_of_a_search_space(run: Run, tables: Path) -> None:
    space = [*FAST[1:4], "data.search=120", "data.test=150", "space=pruning_int8", "space.include=[classifier.0]"]
    result = run("profile", "check", "first.json", *space)
    assert result.status == 2
    assert re.search(r"first\.json knows nothing like \d+ operators of this search space, such", result.last_line)
    assert re.search(r"unknown +│ +\d+", result.out)
    profiled = run(
        "profile", "output=whole.json", "device.runtime=torch", "device.rounds=3", "device.networks=0", *space
    )
    assert profiled.status == 0, profiled.err
    whole = run("profile", "check", "whole.json", *space)
    assert whole.status == 0, whole.err
    assert re.search(r"known +│ +\d+", whole.out)
    assert "unknown" not in whole.out
    table = LookupTable.load(tables / "whole.json")
    linear = [key for key in table.entries if key.startswith("linear")]
    for key in linear[:2]:
        del table.entries[key]
    table.save(tables / "part.json")
    part = run("profile", "check", "part.json", *space)
    assert all(key in part.out for key in linear[:2]), "what is missing is named"


_BLOCKS = "Conv-input:224x224x3-output:112x112x32:\n  count: 9\n  mean: 4.5\n  var: 0.25\n"


def test_import(run: Run, tables: Path) -> None:
    (tables / "phone.yaml").write_text(_BLOCKS)
    result = run("profile", "import", "phone.yaml", "output=phone.parquet", "device=my phone")
    assert (result.status, result.out) == (0, "1 operators and 0 blocks of my phone, in milliseconds: phone.parquet\n")
    (entry,) = LookupTable.load(tables / "phone.parquet").entries.values()
    assert (entry.mean, entry.std, entry.samples) == (4.5, pytest.approx(0.5 / 3), 9)
    figures = {"latency": 1, "energy": 1}
    (tables / "b.json").write_text(json.dumps({"head": figures, "(8, 8, 4, 1, 1, 0, 1)-W8A8": figures}))
    imported = run("profile", "import", "b.json", "output=b.parquet").out
    assert "in relative units, because the source does not say which: b.parquet" in imported
    assert "left out: head: its operators are not named" in imported


_MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("show",), "espalier profile show takes one file, got 0"),
    (("show", "first.json", "second.parquet"), "takes one file, got 2"),
    (("show", "none.json"), r"cannot read a latency table from none\.json: No such file or directory"),
    (("show", "first.json", "slowest=many"), "slowest: expected a whole number of at least 0, got 'many'"),
    (("show", "first.json", "slowest=-3"), "slowest: expected a whole number of at least 0, got '-3'"),
    (("show", "empty.json"), r"empty\.json is not a latency table: the file is empty"),
    (("merge", "empty.json", "first.json", "output=x.json"), r"empty\.json is not a latency table: the file is empty"),
    (("import", "empty.json", "output=x.json"), r"empty\.json is not a latency table: the file is empty"),
    (("show", "picture.json"), r"picture\.json is not a latency table: it is neither a text nor Parquet"),
    (("check", "other.json"), "other.json holds nothing: no operators, blocks or networks; measure some with"),
    (("show", "first.json", "slowst=3"), r"has no option 'slowst'; did you mean 'slowest'\?"),
    (("show", "first.json", "--all"), "unknown flag --all; options are written KEY=VALUE"),
    (("show", "text.json"), r"text\.json is not a latency table: not valid JSON"),
    (("diff", "first.json"), "espalier profile diff takes 2 files, got 1"),
    (("diff", "first.json", "relative.json"), "tables in ms and relative cannot be compared"),
    (("merge", "first.json", "second.parquet"), "espalier profile merge needs output=FILE"),
    (("merge", "first.json", "second.parquet", "output="), "output must be given once, with a value: output=VALUE"),
    (("merge", "first.json", "second.parquet", "output=other.json"), r"other\.json exists already"),
    (("merge", "first.json", "other.json", "output=x.json"), "the tables differ in device: 'board' and 'other board'"),
    (("merge", "first.json", "other.json", "output=x.json", "force=yes"), "force: expected true or false, got 'yes'"),
    (("merge", "first.json", "relative.json", "output=x.json", "force=true"), "in ms and relative cannot be merged"),
    (("check",), "espalier profile check takes a file and then options KEY=VALUE"),
    (("check", "task=digits_vgg"), "takes a file and then options"),
    (("check", "first.json", "tsk=digits_vgg"), r"unknown option 'tsk'; did you mean 'task'\?"),
    (("check", "first.json", "device=raspberrypi4"), "device"),
    (("import", "text.json", "output=x.json"), r"cannot guess the format of text\.json: give format=, one of"),
    (("import", "text.json", "output=x.json", "format=csv"), "unknown format 'csv'; known: proxylessnas"),
    (("import", "first.json", "output=other.json"), r"other\.json exists already"),
    (("import", "none.yaml", "output=x.json"), r"cannot read a latency table from none\.yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), _MISTAKES, ids=[" ".join(words) for words, _ in _MISTAKES])
def test_mistakes_end_in_one_line(run: Run, tables: Path, words: tuple[str, ...], message: str) -> None:
    (tables / "text.json").write_text("hello")
    (tables / "empty.json").touch()
    (tables / "picture.json").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    result = run("profile", *words)
    assert result.status == 2, result.out
    assert re.search(message, result.last_line), result.err
    assert len(result.err.splitlines()) == 1
    assert not (tables / "x.json").exists()


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help(run: Run, name: str) -> None:
    result = run("profile", name, "--help")
    assert result.status == 0
    assert f"usage: espalier profile {name}" in result.out
    assert max(map(len, result.out.splitlines())) <= 120
    assert name in run("profile", "--help").out
