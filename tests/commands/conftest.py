"""Running the command line inside the test's process."""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from espalier.cli import main
from wandb.proto import wandb_internal_pb2

#: A small network, trained in a second, on a device by its specification.
FAST = (
    "experiment=smoke",
    "model.widths=[8,12,16]",
    "model.hidden=16",
    "task.training.epochs=3",
    "budget=14",
    "data.search=120",
    "data.test=150",
)

#: This machine, measured as briefly as can be; what the fixture `finished` and those that repeat it take.
HOST = (
    "space=single",
    "device.rounds=3",
    "device.max_rounds=3",
    "device.networks=8",
    "finish.sampled_plans=2",
    "demand.max_accuracy_drop_points=30",
)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The last line on standard error."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


Run = Callable[..., Result]


def run_command(*words: str) -> Result:
    """Run `espalier` with these words."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(words)
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Result(status, out.getvalue(), err.getvalue())


def wandb_records(path: Path) -> Iterator[Any]:
    """Records of an offline file: a LevelDB log of protocol buffers in blocks of 32 KiB."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, part = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`espalier` in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return run_command


@dataclass(frozen=True)
class Finished:
    """A finished run."""

    folder: Path
    result: Result


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One whole search on this machine, tracked by W&B offline."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    words = (*FAST, *HOST, "tracker=wandb", f"hydra.run.dir={folder}")
    return Finished(folder, run_command("search", *words))
