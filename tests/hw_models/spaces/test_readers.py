"""Files of whole-network measurements: small ones that are written here, and the real ones where they are."""

import gzip
import math
from pathlib import Path

import pytest
from espalier.errors import FormatError
from espalier.hw_models.spaces import latency_csv
from espalier.hw_models.spaces.fbnet import FbnetSpace
from espalier.hw_models.spaces.hat import HAT_NUMBERS, read_hat_csv
from espalier.hw_models.spaces.latency_csv import read_latency_csv
from espalier.hw_models.spaces.nasbench201 import Nasbench201Space

_ARCH = " ".join(["3"] * 22)
_OTHER = " ".join(["8"] * 22)
_HAT_HEADER = ",".join([*HAT_NUMBERS, *(f"latency_{a}_{b}" for a in ("mean", "std") for b in ("encoder", "decoder"))])
_HAT_ROW = "512,6,1877.5,6.0,640,3,1706.5,6.0,2.5,1.5,{},30.0,0.3,0.4"


def _write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_latencies_are_read_by_device(tmp_path: Path, zipped: bool) -> None:
    text = f"arch,one,two\n{_ARCH},10.5,3\n{_OTHER},0.05,2.5\n"
    path = tmp_path / "fbnet.csv"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    read = read_latency_csv(path, FbnetSpace())
    assert read.devices == ("one", "two")
    assert read.latency_ms["two"].tolist() == [3.0, 2.5]
    assert read.architectures[0].decisions["block 7"] == "k3_e6"
    measured = read.measurements("two")
    assert [(m.label, m.latency_ms) for m in measured] == [(_ARCH, 3.0), (_OTHER, 2.5)]
    assert measured[0].ops == read.architectures[0].ops
    # 0.05 ms: nothing was executed
    assert [m.label for m in read.measurements("one")] == [_ARCH]
    assert read.executed().tolist() == read.executed("one").tolist() == [0]
    assert read.executed("two").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "holds no measurements"),
        ("arch,one\n", "holds no measurements"),
        (f"network,one\n{_ARCH},1.0\n", "must have the columns arch and one for each device"),
        (f"arch\n{_ARCH}\n", "must have the columns arch and one for each device"),
        (f"arch,one,one\n{_ARCH},1.0,2.0\n", "must have the columns arch and one for each device"),
        (f"arch,one_us\n{_ARCH},1000\n", "the column one_us is not in milliseconds"),
        (f"arch,one\n{_ARCH},0.012\n", "must be milliseconds, but their median is 0.012"),
        (f"arch,one\n{_ARCH},12000\n", "must be milliseconds, but their median is 12000"),
        (f"arch,one\n{_ARCH},fast\n", "line 2: a latency must be a number above 0, got 'fast'"),
        (f"arch,one\n{_ARCH},nan\n", "a latency must be a number above 0, got 'nan'"),
        (f"arch,one\n{_ARCH},inf\n", "a latency must be a number above 0, got 'inf'"),
        (f"arch,one\n{_ARCH},-1\n", "a latency must be a number above 0, got '-1'"),
        (f"arch,one\n{_ARCH}\n", "line 2: expected 2 fields, got 1"),
        ("arch,one\n1 2 3,5.0\n", "line 2: an FBNet architecture is 22 block ids"),
    ],
)
def test_damaged_latencies_are_refused(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        read_latency_csv(_write(tmp_path / "l.csv.gz", text), FbnetSpace())


def test_truncated_and_binary_files_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "l.csv.gz", f"arch,one\n{_ARCH},10.5\n" * 50)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(FormatError, match="truncated or damaged"):
        read_latency_csv(path, FbnetSpace())
    path.write_bytes(whole[:20] + b"\xff\x00\xff" + whole[23:])
    with pytest.raises(FormatError, match="truncated or damaged"):
        read_latency_csv(path, FbnetSpace())
    path.write_bytes(b"\xff\xfe\x80" * 40)
    with pytest.raises(FormatError, match="truncated or damaged"):
        read_latency_csv(path, FbnetSpace())
    with pytest.raises(FormatError, match=r"cannot read latencies from .*No such file"):
        read_latency_csv(tmp_path / "absent.csv", FbnetSpace())


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_csv, "_LARGEST_FILE_BYTES", 1 << 20)
    with pytest.raises(FormatError, match="larger than 1 MiB when unpacked"):
        read_latency_csv(_write(tmp_path / "bomb.csv.gz", "0" * (3 << 20)), FbnetSpace())


def test_hat_rows_are_ten_numbers_and_a_latency(tmp_path: Path) -> None:
    read = read_hat_csv(_write(tmp_path / "hat.csv.gz", f"{_HAT_HEADER}\n{_HAT_ROW.format(12.5)}\n"))
    (network,), (measured,) = read.architectures, read.measurements
    assert network.decisions["decoder_embed_dim"] == 640
    assert network.decisions["encoder_ffn_embed_dim_avg"] == 1877.5
    assert len(network.decisions) == 10
    assert measured.latency_ms == pytest.approx(42.5)
    assert measured.std_ms == pytest.approx(math.sqrt(0.3**2 + 0.4**2))
    assert measured.label == network.label


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"{_HAT_HEADER.replace('decoder_layer_num', 'layers')}\n{_HAT_ROW.format(1)}\n", "columns of a HAT data set"),
        (f"{_HAT_HEADER}\n{_HAT_ROW.format('slow')}\n", "line 2: expected a number of at least 0, got 'slow'"),
        (f"{_HAT_HEADER}\n{_HAT_ROW.format(-40)}\n", "expected a number of at least 0, got '-40'"),
        (f"{_HAT_HEADER}\n{_HAT_ROW.format(0).replace(',30.0,', ',0,')}\n", "a latency must be above 0"),
    ],
)
def test_damaged_hat_files_are_refused(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        read_hat_csv(_write(tmp_path / "hat.csv.gz", text))


def test_the_real_files_are_what_their_description_says(data_root: Path) -> None:
    fbnet = read_latency_csv(data_root / "fbnet_latency_ms.csv.gz", FbnetSpace())
    assert (len(fbnet.architectures), len(fbnet.devices)) == (5000, 12)
    cells = read_latency_csv(data_root / "nasbench201_latency_ms.csv.gz", Nasbench201Space())
    assert len({network.label for network in cells.architectures}) == 15625
    assert 15625 - len(cells.executed("pixel3")) == 202
    assert 15625 - len(cells.executed("raspi4")) == 157
    assert len(cells.executed("fpga")) == 15625


def test_the_real_hat_file_is_read(data_root: Path) -> None:
    read = read_hat_csv(data_root / "luts" / "hat_wmt14ende_cpu_raspberrypi.csv.gz")
    assert len(read.measurements) == 2000
    assert read.measurements[0].latency_ms == pytest.approx(1990.097 + 5932.554, abs=1e-2)
