"""What a long step says where there is no terminal."""

import io

import espalier.progress
import pytest
from espalier.progress import step
from rich.console import Console


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(espalier.progress, "time", clock)
    return clock


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    log = io.StringIO()
    monkeypatch.setattr(espalier.progress, "console", Console(file=log, width=160))
    return log


def test_a_long_step_is_told_of_every_half_minute(clock: Clock, log: io.StringIO) -> None:
    with step("training the network", 10) as advance:
        for _ in range(10):
            clock.seconds += 12
            advance(1, "loss 0.5")
    assert log.getvalue().splitlines() == [
        "training the network           30 %, about 84 s left; loss 0.5",
        "training the network           60 %, about 48 s left; loss 0.5",
        "training the network           90 %, about 12 s left; loss 0.5",
        "training the network          120.0 s",
    ]


def test_a_short_step_is_one_line(clock: Clock, log: io.StringIO) -> None:
    with step("calibrating", 3) as advance:
        for _ in range(3):
            clock.seconds += 2
            advance()
    assert log.getvalue() == "calibrating                     6.0 s\n"


def test_nobody_knows_what_is_left_of_a_step_without_a_total(clock: Clock, log: io.StringIO) -> None:
    with step("tuning") as advance:
        for _ in range(3):
            clock.seconds += 100
            advance()
    assert log.getvalue() == "tuning                        300.0 s\n"


def test_a_step_that_begins_again_tells_no_nonsense(clock: Clock, log: io.StringIO) -> None:
    with step("profiling operators", 4) as advance:
        clock.seconds += 60
        advance(2)
        advance(-2)
        clock.seconds += 60
        advance(0)
    assert [line.split()[2:4] for line in log.getvalue().splitlines()] == [["50", "%,"], ["120.0", "s"]]


def test_a_step_that_takes_more_than_was_planned_goes_on_telling(clock: Clock, log: io.StringIO) -> None:
    with step("profiling operators", 2) as advance:
        for units in (1, 1, 0, 0, 0):
            clock.seconds += 20
            advance(units, "conv2d, again")
    assert log.getvalue().splitlines() == [
        "profiling operators            60.0 s, more than was planned; conv2d, again",
        "profiling operators           100.0 s, more than was planned; conv2d, again",
        "profiling operators           100.0 s",
    ]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(espalier.progress, "console", Console(file=screen, force_terminal=True, width=120))
    with step("building the bank", 2) as advance:
        advance(1, "conv1")
        advance()
    assert "\x1b[" in screen.getvalue(), "control sequences of a bar"
    assert "building the bank" in screen.getvalue().splitlines()[-1], "what it took, when it is over"
