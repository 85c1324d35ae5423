"""Sampling until medians are tight, noticing noise, going on after a kill."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from espalier.errors import EspalierError, FormatError
from espalier.graph.opspec import OpSpec
from espalier.hw_models import profiled_device
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.profiling import adaptive, machine_state, noise
from espalier.hw_models.profiling.adaptive import Sampling, time_until_tight
from espalier.hw_models.profiling.machine_state import Counters, frequency_mhz
from espalier.hw_models.profiling.noise import Noise, NoiseWatch, merged_noise
from espalier.hw_models.profiling.saying import noise_text, say_trust
from espalier.hw_models.profiling.timing import relative_half_width
from espalier.hw_models.runtimes.pytorch import PyTorchRuntime
from espalier.hw_models.tables.table import Entry, LookupTable

_LINEAR = OpSpec("linear", (16,), (8,), bias=True)


@pytest.mark.parametrize("count", [6, 7, 10, 15, 31, 75])
def test_the_interval_has_the_ranks_of_a_binomial(count: int) -> None:
    """Brute force over the ranks: the narrowest symmetric pair that misses the median in at most 5 % of all cases."""
    samples = np.arange(1.0, count + 1)
    width = 2 * relative_half_width(samples) * np.median(samples)
    tails = [2 * sum(math.comb(count, below) for below in range(rank + 1)) / 2**count for rank in range(count // 2)]
    best = max(rank for rank, tail in enumerate(tails) if tail <= 0.05)
    assert width == pytest.approx(count - 1 - 2 * best)


def test_the_interval_covers_the_true_median() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        samples = rng.lognormal(0.0, 0.5, 15)  # skewed; its median is 1
        ranked = np.sort(samples)
        covered += ranked[3] <= 1.0 <= ranked[11]
        assert relative_half_width(samples) == pytest.approx((ranked[11] - ranked[3]) / (2 * np.median(samples)))
    assert covered / 2000 > 0.95


def test_few_samples_take_their_whole_range() -> None:
    assert relative_half_width(np.array([1.0, 2.0, 4.0])) == pytest.approx(1.5 / 2.0)
    assert relative_half_width(np.array([3.0])) == 0


def _clock(monkeypatch: pytest.MonkeyPatch, durations: dict[object, Callable[[], float]]) -> None:
    """Calls last what their entry says, without any time going by."""
    monkeypatch.setattr(adaptive, "sample_ms", lambda call, _: durations[call]())
    monkeypatch.setattr(adaptive, "warmed_up", lambda call, _: 1)


def test_what_is_small_beside_a_call_is_tight_enough() -> None:
    """Half the whole range of three samples, .0001 ms, is 10 % of their median, and 2 % of a call of .005 ms."""
    samples, sampling = np.array([0.0009, 0.001, 0.0011]), Sampling(tolerance=0.05)
    assert not sampling.is_settled(samples)
    assert sampling.is_settled(samples, call_ms=0.0051)
    assert not sampling.is_settled(samples, call_ms=0.0049)
    assert Sampling(tolerance=0.11).is_settled(samples)


def test_steady_calls_stop_early_and_noisy_ones_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def steady() -> None: ...
    def noisy() -> None: ...
    def settling() -> None: ...

    at_first = iter([4.0, 6.0] * 8)
    values = {steady: lambda: 2.0, noisy: lambda: rng.uniform(1, 9), settling: lambda: next(at_first, 5.0)}
    _clock(monkeypatch, values)
    rows = time_until_tight([steady, noisy, settling], Sampling(15, 60, 0.02))
    assert [len(rows[0]), len(rows[1])] == [15, 60]
    assert 15 < len(rows[2]) < 60
    assert relative_half_width(rows[2]) <= 0.02 < relative_half_width(rows[1])


def test_rounds_end_at_the_maximum_even_between_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def noisy() -> None: ...

    _clock(monkeypatch, {noisy: lambda: rng.uniform(1, 9)})
    (row,) = time_until_tight([noisy], Sampling(3, 10, 1e-9))
    assert len(row) == 10


def _stat(path: Path, line: str) -> Path:
    path.write_text(f"{line}\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    return path


def test_counters_are_those_of_proc_stat(tmp_path: Path) -> None:
    before = Counters.read(_stat(tmp_path / "a", "cpu  100 0 100 1000 50 0 0 10 0 0"))
    after = Counters.read(_stat(tmp_path / "b", "cpu  300 0 150 1100 50 0 0 60 0 0")).since(before)
    # 400 ticks of a hundredth of a second each: 200 user, 50 system, 100 idle, 50 stolen.
    assert after.total == pytest.approx(4.0)
    assert after.steal_share == pytest.approx(50 / 400)
    assert after.others_share(own=1.5) == pytest.approx((250 - 150) / 400)


@pytest.mark.parametrize("line", ["", "cpu 1 2", "intr 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h"])
def test_unreadable_counters_count_as_quiet(tmp_path: Path, line: str) -> None:
    counters = Counters.read(_stat(tmp_path / "stat", line))
    assert (counters.steal_share, counters.others_share(1.0)) == (0, 0)
    assert Counters.read(tmp_path / "missing") == Counters()


def test_the_frequency_is_read_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_state, "_FREQUENCY", str(tmp_path / "{}"))
    assert frequency_mhz() is None
    for processor in range(1024):
        (tmp_path / str(processor)).write_text("2400000\n")
    assert frequency_mhz() == 2400


def _watch(
    monkeypatch: pytest.MonkeyPatch, speeds: list[float], steal: float = 0.0, others: float = 0.0, waits: bool = False
) -> Noise:
    """A watch whose looks see these durations, on a system whose counters say what they are told."""
    durations = iter(speeds)

    def look(self: NoiseWatch, _: int) -> None:
        took = next(durations)
        self._best, self._wall = min(self._best, took), self._wall + took
        self._processor += took / 2 if waits else took
        self._looks.append(took)
        self._next = math.inf

    monkeypatch.setattr(NoiseWatch, "_look", look)
    readings = iter([Counters(0, 0, 0), Counters(100, 100 - 100 * (steal + others), 100 * steal)])
    monkeypatch.setattr(noise.Counters, "read", lambda: next(readings))
    monkeypatch.setattr(noise, "own_seconds", lambda: 0.0)
    watch = NoiseWatch()
    for _ in speeds[2:]:
        watch.look(now=True)
    return watch.report()


def test_a_quiet_machine_gives_no_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = _watch(monkeypatch, [1.0, 1.02, 1.01])
    assert quiet.reasons == ()
    assert quiet.slowdown == pytest.approx(0.02)
    assert noise_text(quiet) == "the machine was quiet while it was measured"


@pytest.mark.parametrize(
    ("speeds", "facts", "reason"),
    [
        ([1.0, 1.3, 1.0], {}, "took up to 30% longer than at its best"),
        ([1.0, 1.0], {"waits": True}, "waited 50% of its time for a processor"),
        ([1.0, 1.0], {"steal": 0.05}, "gave 5% of the processors' time to others"),
        ([1.0, 1.0], {"others": 0.4}, "other programs kept 40% of the processors busy"),
    ],
)
def test_each_disturbance_is_named(
    monkeypatch: pytest.MonkeyPatch, speeds: list[float], facts: dict[str, float], reason: str
) -> None:
    noisy = _watch(monkeypatch, speeds, **facts)
    assert len(noisy.reasons) == 1
    assert reason in noisy.reasons[0]
    assert reason in noise_text(noisy)


def test_changes_of_frequency_are_named() -> None:
    assert "frequency changed by 25%" in Noise(frequency_change=0.25).reasons[0]


def test_a_real_watch_sees_figures_of_the_right_size() -> None:
    watch = NoiseWatch()
    watch.look()
    seen = watch.report()
    assert seen.slowdown >= 0
    assert 0 <= seen.waiting < 1
    assert 0 <= seen.others <= 1


def test_the_worst_of_two_counts() -> None:
    merged = merged_noise(Noise(slowdown=0.5), Noise(steal=0.2))
    assert merged == Noise(slowdown=0.5, steal=0.2)
    assert merged_noise(None, Noise(steal=0.2)) == Noise(steal=0.2)
    assert merged_noise(None, None) is None


def test_doubts_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    say_trust(Noise(), {}, 4, Sampling())
    assert capsys.readouterr().err == ""
    say_trust(Noise(steal=0.5), {_LINEAR: 0.125}, 4, Sampling(tolerance=0.02, max_rounds=30))
    said = capsys.readouterr().err
    assert "noisy while it was measured: the hypervisor gave 50%" in said
    assert "1 of 4 operators are uncertain by more than 2.0% after 30 rounds; the worst by 12.5%" in said
    assert noise_text(None) == "nobody watched the machine while it was measured"


def test_a_table_tells_of_the_noise(tmp_path: Path) -> None:
    device = ProfiledDevice(runtime="torch", rounds=2, table=str(tmp_path / "t.json"))
    device.prepare([_LINEAR])
    read = LookupTable.load(tmp_path / "t.json")
    assert read.noise is not None
    assert read.noise.to_dict() == device.table.noise.to_dict()
    values = read.to_dict()
    assert set(values["noise"]) >= {"noisy", "reasons", "steal"}
    with pytest.raises(FormatError, match="must give 'noise' as an object, got 3"):
        LookupTable.from_dict(values | {"noise": 3}, "t")
    with pytest.raises(FormatError, match="noise: steal must be a number of at least 0, got -1"):
        LookupTable.from_dict(values | {"noise": {"steal": -1}}, "t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": 0}, r"device\.rounds must be at least 1, got 0"),
        ({"rounds": 9, "max_rounds": 8}, r"device\.max_rounds must be at least device\.rounds, 9, got 8"),
        ({"tolerance": 0.0}, r"device\.tolerance must be above 0, such as 0\.05 for 5 %, got 0\.0"),
    ],
)
def test_impossible_sampling_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        ProfiledDevice(**arguments)


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the operators that are made ready from now on."""
    prepared: list[str] = []
    operator = PyTorchRuntime.operator

    def counting(self: PyTorchRuntime, spec: OpSpec) -> Callable[[], object]:
        prepared.append(spec.key)
        return operator(self, spec)

    monkeypatch.setattr(PyTorchRuntime, "operator", counting)
    return prepared


_KILLED = """
import sys
from espalier.graph.opspec import OpSpec
from espalier.hw_models import profiled_device
profiled_device._SAVE_SECONDS = 0.0
device = profiled_device.ProfiledDevice(runtime="torch", rounds=3, table=sys.argv[1])
device.prepare([OpSpec("linear", (width,), (8,)) for width in range(1, 2000)])
"""


def test_a_killed_profile_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.json"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    known = LookupTable.load(path)
    assert 8 <= len(known.entries) < 1999
    measured = _counted(monkeypatch)
    wanted = [OpSpec("linear", (width,), (8,)) for width in range(1, len(known.entries) + 9)]
    device = ProfiledDevice(runtime="torch", rounds=2, table=str(path))
    device.prepare(wanted)
    complete = {key: entry for key, entry in known.entries.items() if entry.samples >= 2}
    assert set(measured) == {spec.key for spec in wanted} - set(complete)
    again = LookupTable.load(path)
    assert all(again.entries[key] == entry for key, entry in complete.items())
    assert set(again.entries) >= {spec.key for spec in wanted}


def test_operators_whose_passes_were_cut_short_are_measured_again(tmp_path: Path) -> None:
    path, (short, whole) = tmp_path / "t.json", (OpSpec("linear", (width,), (8,)) for width in (3, 4))
    table = LookupTable("host", "torch, 1 thread", {}, "chip")
    table.add(Entry(short, 99.0, 0.0, 5))
    table.add(Entry(whole, 98.0, 0.0, 15))
    table.save(path)
    device = ProfiledDevice(runtime="torch", table=str(path))
    device.prepare([short, whole])
    assert device.table.entries[short.key].mean < 1
    assert device.table.entries[short.key].samples >= 15
    assert device.table.entries[whole.key].mean == 98.0


def _known(path: Path, half_width: float | None, samples: int) -> None:
    table = LookupTable("host", "torch, 1 thread", {}, "chip")
    table.add(Entry(_LINEAR, 98.0, 0.1, samples, half_width=half_width))
    table.save(path)


@pytest.mark.parametrize(
    ("half_width", "samples", "changes", "is_measured"),
    [
        (0.04, 15, {}, False),
        (0.04, 15, {"tolerance": 0.03}, True),  # is asked for more
        (0.2, 15, {}, True),  # was cut short before its second try
        (0.2, 30, {}, True),
        (0.2, 45, {}, False),  # was given up
        (0.2, 45, {"max_rounds": 60}, True),
        (0.2, 15, {"max_rounds": 17}, False),  # leaves no room for another pass of five
        (None, 15, {}, False),  # of a table of an earlier day
        (0.04, 15, {"remeasure": True}, True),
        (0.2, 45, {"remeasure": True}, True),
    ],
)
def test_what_is_measured_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    half_width: float | None,
    samples: int,
    changes: dict[str, float],
    is_measured: bool,
) -> None:
    path, prepared = tmp_path / "t.json", _counted(monkeypatch)
    _known(path, half_width, samples)
    device = ProfiledDevice(runtime="torch", table=str(path), **changes)
    device.prepare([_LINEAR])
    assert bool(prepared) == is_measured
    assert (LookupTable.load(path).entries[_LINEAR.key].mean < 1) == is_measured


@pytest.mark.parametrize(("rounds", "max_rounds"), [(4, 10), (2, 3), (3, 3)])
def test_what_was_given_up_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int, max_rounds: int
) -> None:
    prepared = _counted(monkeypatch)
    for turn in range(2):
        device = ProfiledDevice(
            runtime="torch", rounds=rounds, max_rounds=max_rounds, tolerance=1e-9, table=str(tmp_path / "t.json")
        )
        device.table.call_overhead_ms = 0.0
        device.prepare([_LINEAR])
        assert bool(prepared) == (turn == 0)
        prepared.clear()


def test_an_interrupted_try_does_not_take_a_complete_entrys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.json"
    _known(path, 0.04, 15)
    monkeypatch.setattr(profiled_device, "_SAVE_SECONDS", 0.0)

    def interrupted(_: object) -> Iterator[list[Entry]]:
        yield [Entry(_LINEAR, 1.0, 0.1, 5, half_width=0.1)]
        raise KeyboardInterrupt

    monkeypatch.setattr(profiled_device.Profile, "groups", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ProfiledDevice(runtime="torch", table=str(path), remeasure=True).prepare([_LINEAR])
    assert LookupTable.load(path).entries[_LINEAR.key].mean == 98.0


def test_everything_is_measured_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, prepared = tmp_path / "t.json", _counted(monkeypatch)
    _known(path, 0.04, 15)
    device = ProfiledDevice(runtime="torch", rounds=2, max_rounds=2, table=str(path), remeasure=True)
    device.table.add_network(Measurement((_LINEAR,), 1.0, 0.0, 1, "known"))
    device.prepare([_LINEAR])
    count = len(prepared)
    device.prepare([_LINEAR])
    device.cost([_LINEAR, OpSpec("linear", (7,), (8,))])
    assert prepared[:count] == [_LINEAR.key] * count
    assert _LINEAR.key not in prepared[count:]
    assert not device.knows_network("known")
    device.learn([Measurement((_LINEAR,), 2.0, 0.0, 1, "known")], ["known"])
    assert device.knows_network("known")
    assert ProfiledDevice(runtime="torch", table=str(path)).knows_network("known")
