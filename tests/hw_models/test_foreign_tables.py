"""Other people's tables: small files written here, and the real ones where they are."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from espalier.errors import FormatError
from espalier.graph.opspec import OpSpec
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.tables.formats import FORMATS, foreign, guess_format, import_table
from espalier.hw_models.tables.formats.mobile_blocks import squeeze_and_excitation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_BLOCK = "expanded_conv-input:14x14x80-output:14x14x96-expand:3-kernel:5-stride:1-idskip:0"
_SHORTCUT = "expanded_conv-input:14x14x40-output:14x14x40-expand:{}-kernel:3-stride:1-idskip:1"


def _proxyless(*keys: str) -> str:
    return "".join(f"{key}:\n  count: 4\n  mean: 2.5\n  var: 0.04\n" for key in keys)


def _once(*keys: str) -> str:
    return "".join(f"{key}:\n  count: 4\n  mean: 2.5\n  std: 0.2\n" for key in keys)


def _written(folder: Path, text: str, name: str = "phone.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def _only_block(path: Path) -> Measurement:
    (block,) = import_table(path).table.blocks.values()
    return block


def test_a_block_of_proxylessnas_is_three_convolutions(tmp_path: Path) -> None:
    path = _written(tmp_path, _proxyless(_BLOCK))
    assert guess_format(path) == "proxylessnas"
    block = _only_block(path)
    pixels = 14 * 14
    assert [op.macs for op in block.ops] == [pixels * 80 * 240, pixels * 240 * 25, pixels * 240 * 96]
    assert [op.groups for op in block.ops] == [1, 240, 1]
    assert [op.activation for op in block.ops] == ["relu6", "relu6", ""]
    assert (block.latency_ms, block.samples, block.label) == (2.5, 4, _BLOCK)
    assert block.std_ms == pytest.approx(0.1), "the mean of 4 samples deviates by half of a sample's deviation"


def test_expansion_1_does_not_expand_and_shortcuts_add(tmp_path: Path) -> None:
    block = _only_block(_written(tmp_path, _proxyless(_SHORTCUT.format(1))))
    assert [op.kind for op in block.ops] == ["conv2d", "conv2d", "add"]
    assert block.ops[0].groups == 40
    assert block.ops[-1] == OpSpec("add", (40, 14, 14), (40, 14, 14), n_inputs=2)


def test_the_expansion_of_once_for_all_is_a_number_of_channels(tmp_path: Path) -> None:
    plain = _SHORTCUT.format(120) + "-se:0-hs:0"
    path = _written(tmp_path, _once(plain))
    assert guess_format(path) == "once_for_all"
    assert [op.output_shape[0] for op in _only_block(path).ops] == [120, 120, 40, 40]
    excited = _only_block(_written(tmp_path, _once(_SHORTCUT.format(120) + "-se:1-hs:1")))
    kinds = [op.kind for op in excited.ops]
    expand, depthwise = ["conv2d", "activation"], ["conv2d", "activation"]
    excitation = ["global_avg_pool2d", "conv2d", "conv2d", "activation", "elementwise"]
    assert kinds == [*expand, *depthwise, *excitation, "conv2d", "add"]
    assert [op.activation for op in excited.ops if op.kind == "activation"] == ["hardswish", "hardswish", "hardsigmoid"]


@pytest.mark.parametrize(("channels", "reduced"), [(16, 8), (72, 24), (120, 32), (408, 104), (576, 144), (960, 240)])
def test_squeezing_rounds_as_mobilenet_v3_does(channels: int, reduced: int) -> None:
    """The squeezed widths of MobileNetV3-Large (Howard et al. 2019) and of Once-for-all's rule for 408."""
    assert squeeze_and_excitation((channels, 7, 7))[1].output_shape == (reduced, 1, 1)


def test_the_other_parts_of_the_networks(tmp_path: Path) -> None:
    keys = (
        "Conv-input:224x224x3-output:112x112x32",
        "Conv_1-input:7x7x320-output:7x7x1280",
        "Logits-input:7x7x1280-output:1000",
    )
    table = import_table(_written(tmp_path, _proxyless(*keys))).table
    stem, last = (entry.spec for entry in table.entries.values())
    assert (stem.kernel, stem.stride, stem.output_shape, stem.activation) == ((3, 3), (2, 2), (32, 112, 112), "relu6")
    assert last.macs == 49 * 320 * 1280
    assert [op.kind for op in table.blocks[keys[2]].ops] == ["global_avg_pool2d", "linear"]
    keys = (
        "AvgPool2D-input:7x7x96-output:1x1x96",
        "Conv_2-input:1x1x96-output:1x1x128",
        "Logits-input:1x1x128-output:10",
    )
    table = import_table(_written(tmp_path, _once(*keys))).table
    assert {entry.spec.kind for entry in table.entries.values()} == {"global_avg_pool2d", "linear"}
    assert [op.kind for op in table.blocks[keys[1]].ops] == ["conv2d", "activation"]
    assert table.unit == "ms"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_proxyless("Pool-input:7x7x4-output:1x1x4"), "unknown block 'Pool'; known: Conv, Conv_1, Logits"),
        (_proxyless("Conv-input:7x7-output"), "expected NAME-input:HxWxC-output:HxWxC"),
        (_proxyless("Conv-input:0x7x3-output:7x7x3"), "a shape of no elements"),
        (_proxyless(_BLOCK.replace("-idskip:0", "")), "of an expanded_conv -expand:N-kernel:N-stride:N-idskip:N"),
        (_proxyless(_BLOCK.replace("idskip:0", "idskip:1")), "no block has such an expansion, kernel or shortcut"),
        (_proxyless(_BLOCK.replace("kernel:5", "kernel:4")), "no block has such an expansion, kernel"),
        (_proxyless(_BLOCK.replace("expand:3", "expand:0")), "no block has such an expansion"),
        (_proxyless(_BLOCK.replace("stride:1", "stride:2")), "stride 2 does not lead from"),
        (_proxyless(_BLOCK.replace("stride:1", "stride:0")), "stride 0 does not lead from"),
        (_proxyless(_BLOCK, _BLOCK), r"line 5: expected a key that was not given before"),
        (_proxyless(_BLOCK).replace("count: 4", "count: 0"), "count must be a whole number of at least 1, got 0"),
        (_proxyless(_BLOCK).replace("count: 4", "count: 2.5"), "count must be a whole number"),
        (_proxyless(_BLOCK).replace("mean: 2.5", "mean: -1"), "line 3: mean must be a number of at least 0"),
        (_proxyless(_BLOCK).replace("mean: 2.5", "mean: 1e999"), "mean must be a number of at most"),
        (_proxyless(_BLOCK).replace("mean: 2.5", "mean: .nan"), "expected one of count, mean, var"),
        (_proxyless(_BLOCK).replace("mean: 2.5", "mean: 2.5\n  mean: 3"), "each once, with a number; got 'mean'"),
        (_proxyless(_BLOCK).replace("  mean: 2.5\n", ""), "expected count, mean, var"),
        (_proxyless(_BLOCK) + "\n<<: *alias\n", "expected a key that was not given before and a colon"),
        (_once(_SHORTCUT.format(120)), "of an expanded_conv .*-se:N-hs:N"),
        (_once("Other-input:1x1x4-output:4"), "unknown block 'Other'"),
    ],
)  # fmt: skip
def test_other_syntax_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        import_table(_written(tmp_path, text))


def _bitfusion(folder: Path, entries: Any, packed: bool = True) -> Path:
    data = json.dumps(entries).encode()
    path = folder / "b.json.gz"
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


_FIGURES = {"latency": 2.0, "energy": 3.0}


@pytest.mark.parametrize("packed", [True, False])
def test_bitfusion_keeps_each_number_format_apart(tmp_path: Path, packed: bool) -> None:
    key = "(96, 96, 14, 5, 2, 2, 96)"
    entries = {f"{key}-W8A8": _FIGURES, f"{key}-W4A8": {"latency": 1.0, "energy": 1.5}, "head": _FIGURES}
    path = _bitfusion(tmp_path, entries, packed)
    assert guess_format(path) == "bitfusion"
    imported = import_table(path)
    spec = OpSpec("conv2d", (96, 14, 14), (96, 7, 7), (5, 5), (2, 2), (2, 2), groups=96, bits=8)
    entries = imported.table.entries
    assert set(entries) == {spec.key, f"{spec.key}@w4a8"}
    assert (entries[spec.key].mean, entries[spec.key].energy) == (2.0, 3.0)
    assert (imported.table.unit, imported.table.energy_unit) == ("relative", "relative")
    assert imported.left_out == ("head: its operators are not named",)
    assert [m.label for m in imported.table.measurements()] == [spec.key]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"(1, 2)-W8A8": _FIGURES}, r"expected \(in, out, size, kernel, stride, padding, groups\)-W8A8"),
        ({"(4, 4, 8, 1, 1, 0, 3)-W8A8": _FIGURES}, "no convolution has such numbers"),
        ({"(4, 4, 8, 1, 0, 0, 1)-W8A8": _FIGURES}, "no convolution has such numbers"),
        ({"(4, 4, 2, 7, 1, 0, 1)-W8A8": _FIGURES}, "the kernel is larger than the image"),
        ({"(4, 4, 8, 1, 1, 0, 1)-W8A8": {"latency": 1.0}}, "expected an object with latency and energy"),
        ({"(4, 4, 8, 1, 1, 0, 1)-W8A8": {"latency": -1.0, "energy": 1.0}}, "latency must be a number of at least 0"),
    ],
)
def test_other_keys_are_refused(tmp_path: Path, entries: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        import_table(_bitfusion(tmp_path, entries), "bitfusion")


def test_damaged_packing_and_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _bitfusion(tmp_path, {"head": _FIGURES})
    whole = path.read_bytes()
    path.write_bytes(whole[:-12])
    with pytest.raises(FormatError, match="cannot read a latency table from"):
        import_table(path, "bitfusion")
    path.write_bytes(whole[:12] + b"\xff\xff" + whole[14:])
    with pytest.raises(FormatError, match="cannot read a latency table from"):
        import_table(path, "bitfusion")
    monkeypatch.setattr(foreign, "LARGEST_BYTES", 2**20)
    path.write_bytes(gzip.compress(b" " * 2**21))
    with pytest.raises(FormatError, match="it has more than 1 MiB"):
        import_table(path, "bitfusion")
    path.write_bytes(gzip.compress(b"[]"))
    with pytest.raises(FormatError, match="is not a table of BitFusion: expected an object"):
        import_table(path, "bitfusion")


def test_formats_that_nobody_knows(tmp_path: Path) -> None:
    path = _written(tmp_path, "hello")
    with pytest.raises(FormatError, match=r"cannot guess the format of .*: give format=, one of proxylessnas"):
        import_table(path)
    with pytest.raises(FormatError, match="unknown format 'tflite'; known: proxylessnas"):
        import_table(path, "tflite")
    path.write_bytes(b"\xff\xfe-input:")
    with pytest.raises(FormatError, match="it is not a text"):
        import_table(path, "proxylessnas")


_FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_FUZZED
@given(data=st.data(), format_name=st.sampled_from([name for name in FORMATS if name != "espalier"]))
def test_changed_files_are_read_or_refused(tmp_path: Path, data: st.DataObject, format_name: str) -> None:
    texts = {
        "proxylessnas": _proxyless(_BLOCK, "Conv-input:8x8x3-output:4x4x8"),
        "once_for_all": _once(_SHORTCUT.format(120) + "-se:1-hs:1"),
        "bitfusion": json.dumps({"(96, 96, 14, 5, 2, 2, 96)-W4A8": _FIGURES}),
    }
    content = bytearray(texts[format_name].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from(b"0123456789-:.x\n {}\xff"))
    (tmp_path / "t").write_bytes(content)
    try:
        table = import_table(tmp_path / "t", format_name).table
    except FormatError:
        return
    assert all(m.latency_ms >= 0 and m.samples >= 1 for m in table.measurements())


@pytest.mark.parametrize(
    ("name", "count"),
    [("pixel1_mobile_trim.yaml", 72), ("note10_160.yaml", 96), ("note10_224.yaml", 96)],
)
def test_real_tables_of_phones(data_root: Path, name: str, count: int) -> None:
    """Every figure of the file is in the table, counted by another program: a pattern over the text."""
    path = data_root / "luts" / name
    table = import_table(path).table
    means = [float(text) for text in re.findall(r"mean: ([\d.e-]+)", path.read_text())]
    assert len(means) == count == len(table.entries) + len(table.blocks)
    assert sum(m.latency_ms for m in table.measurements()) == pytest.approx(sum(means))


def test_the_real_table_of_bitfusion(data_root: Path) -> None:
    path = data_root / "luts" / "bitfusion_latency_energy.json.gz"
    raw = json.loads(gzip.decompress(path.read_bytes()))
    imported = import_table(path)
    assert len(imported.table.entries) == len(raw) - 2 == 6567
    assert len(imported.left_out) == 2
    assert sum(e.energy or 0 for e in imported.table.entries.values()) == pytest.approx(
        sum(figures["energy"] for key, figures in raw.items() if key.startswith("("))
    )
    assert sum(not entry.number_format for entry in imported.table.entries.values()) == 779
