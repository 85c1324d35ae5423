"""WAV recordings and log-mel features, against SciPy, NumPy and closed forms for pure tones."""

import io
import math
import struct
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io.wavfile
import scipy.signal
import torch
from espalier.errors import DataError
from espalier.tasks.data.log_mel import LogMel, centred, mel_filters, mel_of
from espalier.tasks.data.spoken_digits import read_recordings, spoken_digits
from espalier.tasks.data.wav import decode_wav

_RATE = 8000


def _wav(samples: np.ndarray, rate: int = _RATE) -> bytes:
    buffer = io.BytesIO()
    scipy.io.wavfile.write(buffer, rate, samples)
    return buffer.getvalue()


def _tone(frequency_hz: float, amplitude: float = 0.5, samples: int = 8000) -> torch.Tensor:
    return (
        amplitude * torch.sin(2 * math.pi * frequency_hz * torch.arange(samples, dtype=torch.float64) / _RATE).float()
    )


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (np.uint8, [0, 128, 255], [-1.0, 0.0, 127 / 128]),
        (np.int16, [-32768, 0, 32767], [-1.0, 0.0, 32767 / 32768]),
        (np.int32, [-(2**31), 0, 2**30], [-1.0, 0.0, 0.5]),
    ],
)
def test_samples_of_every_width_are_scaled_to_one(kind: type, values: list[int], expected: list[float]) -> None:
    assert decode_wav(_wav(np.array(values, kind)), _RATE, "it").tolist() == expected


def test_stereo_is_averaged() -> None:
    both = np.array([[16384, 0], [-16384, 16384]], np.int16)
    assert decode_wav(_wav(both), _RATE, "it").tolist() == [0.25, 0.0]


def _three_bytes() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 3, _RATE, 0, "NONE", ""))
        file.writeframes(b"abcdef")
    return buffer.getvalue()


_GOOD = _wav(np.arange(100, dtype=np.int16))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "it cannot be decoded as WAV: it ends too early"),
        (b"rubbish" * 20, "it cannot be decoded as WAV: file does not start with RIFF id"),
        (_GOOD[:30], "it cannot be decoded as WAV"),
        (_GOOD[:-60], "it is cut or empty: its header promises 200 bytes of sound, 140 are there"),
        (_wav(np.zeros(0, np.int16)), "it is cut or empty"),
        (_wav(np.zeros(9, np.int16), 16000), "it has 16000 samples per second, expected 8000"),
        (_wav(np.zeros(9, np.float32)), "it cannot be decoded as WAV"),
        (_three_bytes(), "it has samples of 24 bits, expected 8, 16 or 32"),
        (_GOOD[:20] + struct.pack("<HH", 1, 0) + _GOOD[24:], "it cannot be decoded as WAV"),
    ],
    ids=["nothing", "rubbish", "cut header", "cut sound", "no sound", "rate", "float", "24 bits", "no channels"],
)
def test_unusable_recordings_are_refused(encoded: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_wav(encoded, _RATE, "it")


@pytest.mark.parametrize(
    ("samples", "length", "expected"),
    [
        ([1, 2, 3], 3, [1, 2, 3]),
        ([1, 2], 5, [0, 1, 2, 0, 0]),
        ([1, 2, 3], 5, [0, 1, 2, 3, 0]),
        ([1, 2, 3, 4, 5], 2, [2, 3]),
        ([1, 2, 3, 4], 1, [2]),
    ],
)
def test_the_middle_is_kept(samples: list[float], length: int, expected: list[float]) -> None:
    assert centred(torch.tensor(samples), length).tolist() == expected


def test_mel_has_its_published_anchors() -> None:
    """1000 mel is 1000 Hz by the definition of the unit; HTK's formula gives 999.99."""
    assert mel_of(torch.tensor([0.0, 1000.0])).tolist() == pytest.approx([0.0, 1000.0], abs=0.05)


def test_triangles_add_up_to_one_between_the_outer_peaks() -> None:
    """Where one triangle falls the next one rises, both linearly: they sum to one at every frequency."""
    filters = mel_filters(20, 512, _RATE, 0.0)
    peaks = filters.argmax(1)
    assert torch.allclose(filters[:, int(peaks[0]) + 1 : int(peaks[-1])].sum(0), torch.ones(1), atol=1e-6)
    assert (peaks.diff() > 0).all()
    assert filters.amax() <= 1


def test_spectra_are_scipys() -> None:
    """Every band of every frame, from scipy.signal.stft and triangles drawn by numpy.interp."""
    samples = torch.randn(1500, generator=torch.Generator().manual_seed(0)) * 0.1
    made = LogMel(n_mels=12, n_frames=9, window=200, hop=80, low_hz=100, high_hz=3000, floor=1e-7)
    recording = centred(samples, made.n_samples).numpy()
    _, _, spectra = scipy.signal.stft(recording, _RATE, "hann", 200, 120, boundary=None, padded=False)
    power = (2 * np.abs(spectra)) ** 2  # SciPy divides by the window's sum
    mels = np.linspace(2595 * np.log10(1 + 100 / 700), 2595 * np.log10(1 + 3000 / 700), 14)
    corners = 700 * (10 ** (mels / 2595) - 1)
    frequencies = np.arange(101) * _RATE / 200
    filters = [np.interp(frequencies, corners[i : i + 3], [0, 1, 0]) for i in range(12)]
    assert np.allclose(made([samples])[0].numpy(), np.log(np.stack(filters) @ power + 1e-7), atol=1e-3)


@pytest.mark.parametrize("frequency_hz", [500.0, 1000.0, 2500.0])
def test_a_pure_tone_lights_its_band_with_its_power(frequency_hz: float) -> None:
    """A sine of amplitude a on a frequency of the transform has power a^2 there and a^2 / 4 beside (Hann window)."""
    features = LogMel(n_mels=20, window=512, hop=256, n_frames=10)
    frames = features([_tone(frequency_hz, 0.5)])[0]
    filters = mel_filters(20, 512, _RATE)
    line = round(frequency_hz * 512 / _RATE)
    expected = 0.25 * filters[:, line] + 0.0625 * (filters[:, line - 1] + filters[:, line + 1])
    assert torch.allclose(frames.exp(), expected[:, None].expand_as(frames), atol=1e-4)
    assert torch.equal(frames.argmax(0), filters[:, line].argmax().expand(10))


def test_silence_has_the_logarithm_of_the_floor() -> None:
    features = LogMel(floor=1e-5)
    assert torch.allclose(features([torch.zeros(3)]), torch.tensor(math.log(1e-5)).expand(1, 40, 48))


def test_more_recordings_than_a_chunk_change_nothing() -> None:
    tones = [_tone(200.0 + 10 * number, samples=900) for number in range(300)]
    features = LogMel(n_frames=6)
    together = features(tones)
    assert together.shape == (300, 40, 6)
    assert torch.allclose(together[299], features(tones[299:])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((40, 64, _RATE), "40 mel bands are too narrow for a window of 64 samples, which tells 125.0 Hz apart"),
        ((10, 256, _RATE, 100.0, 4001.0), "must lie within 0 and 4000 Hz, got 100 to 4001"),
        ((10, 256, _RATE, 500.0, 500.0), "got 500 to 500"),
    ],
)
def test_impossible_bands_are_refused(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mel_filters(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", [{"hop": 0}, {"n_frames": 0}, {"window": 1}, {"floor": 0.0}, {"n_mels": 0}])
def test_impossible_sizes_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(DataError, match="sizes and the floor of a log-mel spectrogram must be above 0"):
        LogMel(**setting)  # type: ignore[arg-type]


def _write(path: Path, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    recordings = [(rng.normal(size=400 + 10 * n) * 3000).astype(np.int16) for n in range(count)]
    rows = [{"bytes": _wav(samples), "path": f"{n}.wav"} for n, samples in enumerate(recordings)]
    pq.write_table(pa.table({"audio": rows, "label": [n % 3 for n in range(count)], "speaker": ["a"] * count}), path)
    return recordings


def test_recordings_are_read_in_order_and_laid_out_twice(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", 60)
    tested = _write(tmp_path / "test.parquet", 15)
    shared = {"root": str(tmp_path), "n_mels": 8, "n_frames": 5, "calibrate": 9, "search": 12, "n_classes": 3}
    image, sequence = (
        spoken_digits("train.parquet", "test.parquet", layout=layout, **shared) for layout in ("image", "sequence")
    )
    assert [len(part) for part in (image.fit, image.calibrate, image.search, image.test)] == [39, 9, 12, 15]
    assert torch.equal(image.search.images[:, 0].transpose(1, 2), sequence.search.images)
    assert torch.equal(image.test.labels, torch.arange(15) % 3)
    features = LogMel(n_mels=8, n_frames=5)
    assert torch.equal(image.test.images[:, 0], features([torch.from_numpy(r / np.float32(32768)) for r in tested]))
    for split in (image.fit, sequence.fit):
        assert split.inputs().mean().item() == pytest.approx(0, abs=1e-4)
    assert torch.allclose(sequence.fit.inputs().std((0, 1), correction=0), torch.ones(8), atol=1e-4)
    assert image.fit.mean == image.test.mean
    assert sequence.fit.std == sequence.test.std


def test_damaged_tables_of_recordings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    good = {"bytes": _GOOD, "path": "a.wav"}
    cases = [
        ({"audio": [good], "label": [10]}, "label in row 0 of .* must be 0 to 9, got 10"),
        ({"sound": [good], "label": [1]}, "has no column 'audio'; columns: sound, label"),
        ({"audio": [good], "digit": [1]}, "has no column 'label'; columns: audio, digit"),
        ({"audio": [good, {"bytes": b"x"}], "label": [1, 1]}, "recording in row 1 of .* cannot be decoded as WAV"),
        ({"audio": ["text"], "label": [1]}, "recording in row 0 of .* must be a struct with 'bytes', got str"),
    ]
    for columns, message in cases:
        pq.write_table(pa.table(columns), path)
        with pytest.raises(DataError, match=message):
            read_recordings(path, _RATE, 10)


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.layout must be image or sequence, got 'flat'"):
        spoken_digits(layout="flat")  # type: ignore[arg-type]


def test_real_spoken_digits(data_root: Path) -> None:
    """300 test recordings: takes 0 to 4 of ten digits by six speakers."""
    recordings, labels = read_recordings(data_root / "spoken_digits_test.parquet", _RATE, 10)
    assert torch.bincount(labels).tolist() == [30] * 10
    assert 0.3 < sum(map(len, recordings)) / len(recordings) / _RATE < 0.6
