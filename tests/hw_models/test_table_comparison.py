"""Tables side by side, as one, and by kind."""

import math

import pytest
from espalier.errors import EspalierError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.tables.comparison import compare_tables, merge_tables
from espalier.hw_models.tables.overview import kind_rows, lines
from espalier.hw_models.tables.table import Entry, LookupTable

_CONV = OpSpec("conv2d", (8, 10, 10), (16, 10, 10))
_WIDE = OpSpec("conv2d", (8, 10, 10), (32, 10, 10))
_LINEAR = OpSpec("linear", (64,), (10,))


def _table(*entries: Entry, **changes: object) -> LookupTable:
    table = LookupTable(**{"device": "d", "runtime": "r", "versions": {"engine": "1"}, "cpu": "c", **changes})  # type: ignore[arg-type]
    for entry in entries:
        table.add(entry)
    return table


def test_only_what_lies_beyond_its_uncertainty_differs() -> None:
    first = _table(Entry(_CONV, 1.0, 0.1, 9), Entry(_WIDE, 1.0, 0.01, 9), Entry(_LINEAR, 5.0, 0.0, 1))
    second = _table(Entry(_CONV, 1.2, 0.1, 9), Entry(_WIDE, 1.2, 0.01, 9), versions={"engine": "2"}, cpu="other")
    found = compare_tables(first, second)
    assert found.shared == 2
    assert [difference.key for difference in found.differences] == [_WIDE.key]
    assert found.differences[0].deviations == pytest.approx(0.2 / math.hypot(0.01, 0.01))
    assert found.ratios["conv2d"] == (pytest.approx(1.2), 2)
    assert found.only_first == (_LINEAR.key,)
    assert found.provenance == {"cpu": ("c", "other"), "engine": ("1", "2")}
    assert compare_tables(first, first).differences == ()


def test_exact_figures_differ_however_little() -> None:
    found = compare_tables(_table(Entry(_CONV, 1.0, 0.0, 1)), _table(Entry(_CONV, 0.0, 0.0, 1)))
    assert found.differences[0].deviations == math.inf
    assert found.ratios == {}


def test_pooling_is_that_of_all_samples_together() -> None:
    """Two samples of 1 and six of 2: the mean is that of eight, and the gap counts as uncertainty."""
    first = _table(Entry(_CONV, 1.0, 0.0, 2, energy=1.0), energy_unit="mJ")
    second = _table(Entry(_CONV, 2.0, 0.0, 6, energy=3.0), Entry(_LINEAR, 5.0, 0.1, 3), energy_unit="mJ", source="them")
    merged = merge_tables(first, second)
    pooled = merged.entries[_CONV.key]
    values = [1.0] * 2 + [2.0] * 6
    mean = sum(values) / 8
    assert (pooled.mean, pooled.samples, pooled.energy) == (mean, 8, 2.0)
    assert pooled.std == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / 8))
    assert merged.entries[_LINEAR.key] == second.entries[_LINEAR.key]
    assert (merged.source, merged.device, merged.versions) == ("them", "d", {"engine": "1"})
    assert len(first.entries) == 1, "the tables that were merged stay as they were"


def test_blocks_are_pooled_when_they_are_the_same() -> None:
    first, second, other = (_table() for _ in range(3))
    first.add_block(Measurement((_CONV, _LINEAR), 1.0, 0.0, 1, "a"))
    second.add_block(Measurement((_CONV, _LINEAR), 3.0, 0.0, 1, "a"))
    other.add_block(Measurement((_CONV,), 3.0, 0.0, 1, "a"))
    assert merge_tables(first, second).blocks["a"].latency_ms == 2.0
    assert compare_tables(first, second).ratios["block"] == (pytest.approx(3.0), 1)
    with pytest.raises(EspalierError, match="the tables mean different operators by 'a'"):
        merge_tables(first, other)


@pytest.mark.parametrize("name", ["device", "runtime", "cpu"])
def test_tables_of_different_places_are_merged_only_on_purpose(name: str) -> None:
    first, second = _table(**{name: "one"}), _table(Entry(_CONV, 1.0, 0.0, 1), **{name: "two"})
    with pytest.raises(EspalierError, match=f"the tables differ in {name}: 'one' and 'two'; force=true merges"):
        merge_tables(first, second)
    assert getattr(merge_tables(first, second, even_if_different=True), name) == "one and two"


def test_units_are_never_mixed() -> None:
    with pytest.raises(EspalierError, match="tables in ms and relative cannot be merged"):
        merge_tables(_table(), _table(unit="relative"), even_if_different=True)
    with pytest.raises(EspalierError, match="tables in mJ and relative cannot be compared"):
        compare_tables(_table(energy_unit="mJ"), _table(energy_unit="relative"))


def test_overview_by_kind() -> None:
    integer = _CONV.replace(bits=8)
    table = _table(
        Entry(_CONV, 1.0, 0.1, 9), Entry(_WIDE, 2.0, 0.02, 9), Entry(integer, 0.5, 0.0, 1), Entry(_LINEAR, 0.0, 0.0, 3)
    )
    table.add(Entry(integer, 0.4, 0.0, 1, number_format="w4a8"))
    rows = {row.kind: row for row in kind_rows(table)}
    assert set(rows) == {"conv2d", "conv2d, 8 bits", "conv2d, w4a8", "linear"}
    conv = rows["conv2d"]
    assert (conv.count, conv.fastest, conv.slowest, conv.noisy, conv.single) == (2, 1.0, 2.0, 1, 0)
    assert conv.median_noise == pytest.approx((0.1 + 0.01) / 2)
    assert rows["conv2d, w4a8"].median_noise is None
    assert [line.mean for line in lines(table)] == [2.0, 1.0, 0.5, 0.4, 0.0]
