"""What a newcomer mistypes: each mistake is one line that says what to write instead."""

import math
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from espalier import __version__
from espalier.commands.building import build
from espalier.commands.catalogue import options, spaces_with
from espalier.commands.importing import located
from espalier.commands.suggestions import did_you_mean
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.envs.rewards.reward import Reward
from espalier.errors import EspalierError
from espalier.evaluation.demand import Demand
from espalier.evaluation.metrics import Metrics
from espalier.hw_models.tables.table import LookupTable

from tests.commands.conftest import FAST, Run
from tests.conftest import REPOSITORY

#: Composed in half the time.
_SMALL_SPACE = "space=pruning_int8"
_PI = (*FAST, _SMALL_SPACE, "device=raspberrypi4")
_ADD_WIDTH = r"\+technique@space\.techniques\.width_scaling=width_scaling"
_HERE = "tests.commands.test_mistakes"

_MISTAKES: list[tuple[tuple[str, ...], str]] = [
    # a group's option
    (("demand=3",), "demand=3: demand is a group; expected one of balanced, energy, latency, storage"),
    (("tracker=null",), "tracker is a group; expected one of none, wandb"),
    (("-m", _SMALL_SPACE, "device=host,3"), "device is a group; expected one of .*host, .*raspberrypi4, .*table"),
    (("agent=dynaa",), "agent=dynaa: agent has no option 'dynaa'; did you mean 'dyna'\\?$"),
    (("agnet=dyna",), "unknown option 'agnet'; did you mean 'agent'\\?$"),
    (("+agent=ppo",), r"agent is chosen already; leave the \+ away: agent=ppo$"),
    (("planner=policy",), "agent=dyna planner@agent.planner=policy$"),
    (("evaluator.precision=int3",), "evaluator.precision='int3': input should be 'auto', 'bfloat16' or 'float32'"),
    # a key
    (("bugdet=20",), r"unknown option 'bugdet'; did you mean 'budget'\?$"),
    (("+bugdet=20",), r"unknown option 'bugdet'; did you mean 'budget'\?$"),
    (("+budget=20",), r"budget has a value already; leave the \+ away: budget=20$"),
    (("demand.latncy_ms=2",), r"unknown option 'demand\.latncy_ms'; did you mean 'demand\.latency_ms'\?$"),
    (("+demand.latncy_ms=2",), r"unknown option 'demand\.latncy_ms'; did you mean 'demand\.latency_ms'\?$"),
    (("agent.weight=1",), r"unknown option 'agent\.weight'; known: agent\.planner, agent\.recipe, agent\.seed$"),
    (("space.techniques.channel_pruning.keep=[0.5]",), r"did you mean 'space\.techniques\.channel_pruning\.kept'\?$"),
    (("model=custom", "model._target_=torch.nn.Linear", "model.bias=false"), r"add it as \+model\.bias=VALUE$"),
    # techniques
    (("technique=int8",), r"one by one: add \+technique@space\.techniques\.int8=int8$"),
    (("+technique=int8",), r"unknown option 'technique'; a technique is added as"),
    (("+space/techniques=int8",), r"unknown option 'space/techniques'; a technique is added as"),
    (("technique@space.techniques.cp=cp",), r"add \+technique@space\.techniques\.cp=cp, or choose space=all$"),
    (("space.techniques.width_scaling.kept=[0.5]",), f"add {_ADD_WIDTH}, or choose space=all or space=single$"),
    (
        ("space=single", f"{_ADD_WIDTH}".replace("\\", "")),
        r"space already; .* as space\.techniques\.width_scaling\.OPTION",
    ),
    (("~space.techniques.fier",), r"fier is not in the space; did you mean 'fire'\?$"),
    # values
    (("agent=lookup",), r"agent\.journal has no value: give agent\.journal=FILE$"),
    (("demand.latency_ms=0.1ms",), r"demand\.latency_ms: expected a number \(in milliseconds\), got '0\.1ms'$"),
    (("space.include=features.3",), r"expected a list, got 'features\.3'; write space\.include=\[features\.3\]$"),
    (("demand.weights=3",), r"demand\.weights\.NAME=VALUE, got '3'; known: accuracy, latency"),
    (("budget.plans=3",), "budget is one value, not a group of options$"),
    (("demand.max_accuracy_drop_points=200",), "must be percentage points from 0 to 100, got 200"),
    # how options are written
    (("--agent", "dyna"), "unknown flag --agent; options are written KEY=VALUE, such as agent=dyna$"),
    (("--agent=sac",), "unknown flag --agent=sac; .* such as agent=sac$"),
    (("runtime=torch",), r"unknown option 'runtime'; did you mean 'device\.runtime'\?$"),
    (("thread=2",), r"unknown option 'thread'; did you mean 'device\.threads'\?$"),
    (("latency_ms=2",), r"unknown option 'latency_ms'; did you mean 'demand\.latency_ms'\?$"),
    (("--cfg",), "expected one argument; options are written KEY=VALUE"),
    (("raspberrypi4",), "'raspberrypi4' has no value; .* such as device=raspberrypi4$"),
    (("dyna",), "'dyna' has no value; options are written KEY=VALUE, such as agent=dyna$"),
    (("space.include=[a",), r"space\.include=\[a cannot be read as KEY=VALUE"),
    # classes of the user's own
    (("model._target_=mynet.Nope",), "there is no module 'mynet'; its folder must be on PYTHONPATH, or its package"),
    (("model._target_=MyNet",), r"'MyNet' cannot be imported: expected MODULE\.NAME"),
    (("model._target_=espalier.tasks.models.vgg.VggSmal",), r"has no 'VggSmal'; did you mean 'VggSmall'\?$"),
    # what only shows later
    (
        (*_PI, f"task.checkpoint={REPOSITORY / 'README.md'}"),
        "neither a safetensors file nor a state dict that",
    ),
    ((*_PI, "space.exclude=['*']"), r"space\.exclude=\['\*'\] leaves out every layer of the network$"),
    (
        (*_PI, "space.include=[features.*]", "space.exclude=['f*']"),
        r"layer that space\.include=\['features\.\*'\]",
    ),
    ((*_PI, f"reward._target_={_HERE}.NoNumber"), "the reward NoNumber returned nan in evaluation 0"),
]


class NoNumber(ConstrainedReward):
    """A user's reward with a mistake in it."""

    def __call__(self, metrics: Metrics, baseline: Metrics, demand: Demand) -> float:
        return math.nan


class NoArguments(Reward):
    """Takes none, which only the call shows: the signature of a protocol's class takes any."""


@pytest.mark.parametrize(("words", "message"), _MISTAKES, ids=[" ".join(words)[-50:] for words, _ in _MISTAKES])
def test_mistakes_end_in_one_line(run: Run, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    is_about_spaces = any("space" in word or "technique" in word for word in words)
    result = run("search", *([] if is_about_spaces else [_SMALL_SPACE]), *words)
    assert result.status == 2, result.err
    assert re.search(message, result.last_line), result.err
    assert "Traceback" not in result.err
    if not set(FAST) <= set(words):
        assert len(result.err.splitlines()) == 1
    assert not list(tmp_path.rglob("*")), "a folder of a run that never evaluated anything is left"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profil",), "unknown command 'profil'; did you mean 'profile'?"),
        (("zzz",), "unknown command 'zzz'; known: search, profile, compile, report, verify, list"),
        (("--config-dir", "mine", "search"), "flags come after the command, as in espalier search --config-dir ..."),
        (("profile", "shwo", "a.json"), "espalier profile has no 'shwo'; did you mean 'show'?"),
        (("profile", "import_result", "a"), "espalier profile has no 'import_result'; did you mean 'import-result'?"),
        (("profile", "runtme=torch"), "unknown option 'runtme'; did you mean 'device.runtime'?"),
        (("profile", "remesure=true"), "unknown option 'remesure'; did you mean 'device.remeasure'?"),
    ],
)
def test_misspelt_commands(run: Run, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert (result.status, result.err) == (2, f"espalier: {message}\n")


def test_flags_may_stand_between_options(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine" / "demand").mkdir(parents=True)
    (tmp_path / "mine" / "demand" / "tight.yaml").write_text("latency_ms: 2.5\n")
    result = run("search", "demand=tight", "--config-dir", "mine", "~space.techniques.fire", "--cfg", "job", "seed=3")
    assert result.status == 0, result.err
    assert "latency_ms: 2.5" in result.out
    assert "seed: 3" in result.out


@pytest.mark.parametrize(
    ("number", "word", "status"), [(signal.SIGTERM, "terminated", 143), (signal.SIGINT, "interrupted", 130)]
)
@pytest.mark.parametrize("lines", [0, 1, 2])
def test_who_ends_a_run_is_told_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, word: str, status: int, lines: int
) -> None:
    def killed(_: object, folder: Path, *__: object) -> None:
        if lines:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "evaluations.jsonl").write_text("{}\n" * lines)
        os.kill(os.getpid(), number)

    monkeypatch.setattr("espalier.commands.search_command.run_search", killed)
    before = signal.getsignal(signal.SIGTERM)
    folder = tmp_path / "run"
    # Who is started in the background ignores interrupts.
    interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("search", _SMALL_SPACE, f"hydra.run.dir={folder}")
    finally:
        signal.signal(signal.SIGINT, interrupts)
    kept = (
        f"what was evaluated is kept: espalier search resume={folder}"
        if lines > 1
        else "what was trained, built and measured is kept in the cache: run the same command again"
    )
    assert (result.status, result.err) == (status, f"espalier: {word} ({kept})\n")
    assert signal.getsignal(signal.SIGTERM) is before
    assert folder.exists() == bool(lines)


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"espalier {__version__}\n"


def test_an_agent_for_other_actions_is_refused_before_anything_is_built(run: Run) -> None:
    result = run("search", *_PI, "agent=sac", "env=layer_wise")
    assert result.status == 2
    assert "SAC needs continuous actions: choose env=layer_wise_continuous" in result.last_line
    assert len(result.err.splitlines()) == 1
    result = run("search", *_PI, "agent=maskable_ppo", "env=layer_wise_continuous")
    assert "MaskablePPO needs discrete actions: choose env=layer_wise, got" in result.last_line


def test_a_device_that_is_not_measured_is_refused_before_anything_is_built(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("espalier.commands.profile_command.prepare", lambda _: pytest.fail("was prepared"))
    result = run("profile", _SMALL_SPACE, "device=raspberrypi4")
    assert result.status == 2
    assert result.err == "espalier: device 'raspberrypi4' is not measured on this machine; use device=host\n"


def test_verify_says_which_class_is_missing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier.commands.verify_command.read_summary", lambda _: {})
    (tmp_path / "checkpoint").mkdir()
    config = "model: {_target_: mynet.Nope}\nspace: {techniques: {}}\nseed: 0\nbudget: 1\n"
    (tmp_path / "checkpoint" / "config.yaml").write_text(config)
    result = run("verify", str(tmp_path))
    assert result.status == 2
    assert re.fullmatch(r"espalier: model\._target_='mynet\.Nope' cannot be imported: .* PYTHONPATH.*\n", result.err)


@pytest.mark.parametrize("held", ["", "mine.txt", "checkpoint/mine.txt", ".hydra/mine.txt"])
def test_a_folder_that_was_there_before_stays(run: Run, tmp_path: Path, held: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if held:
        (folder / held).parent.mkdir(exist_ok=True)
        (folder / held).write_text("mine")
    assert run("search", "budget=0", _SMALL_SPACE, f"hydra.run.dir={folder}").status == 2
    assert folder.is_dir()
    assert not held or (folder / held).read_text() == "mine"


def test_a_first_evaluation_that_fails_leaves_no_folder_of_the_tracker(run: Run, tmp_path: Path) -> None:
    result = run("search", *_PI, "tracker=wandb", f"reward._target_={_HERE}.NoNumber", "hydra.run.dir=runs/one")
    assert "the reward NoNumber returned nan in evaluation 0" in result.last_line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("was_there", [True, False])
def test_a_job_of_a_sweep_that_fails_early_leaves_its_error(run: Run, tmp_path: Path, was_there: bool) -> None:
    mine = tmp_path / "sweep" / "0" / "wandb" / "mine.txt"
    if was_there:
        mine.parent.mkdir(parents=True)
        mine.touch()
    words = (*_PI, "tracker=wandb", f"reward._target_={_HERE}.NoNumber", "hydra.sweep.dir=sweep")
    assert run("search", "-m", *words, "seed=1").status == 2
    assert mine.exists() == was_there
    if not was_there:
        assert [path.name for path in (tmp_path / "sweep" / "0").iterdir()] == ["error.txt"]


@pytest.mark.parametrize("held", ["", "mine.txt"])
def test_a_sweep_that_cannot_be_composed_leaves_nothing(run: Run, tmp_path: Path, held: str) -> None:
    if held:
        (tmp_path / "sweeps").mkdir()
        (tmp_path / "sweeps" / held).touch()
    result = run("search", "-m", "task=digits_vgg,nonexistent", "hydra.sweep.dir=sweeps/one/two")
    assert result.status == 2
    assert "'nonexistent'" in result.last_line
    assert [path.name for path in tmp_path.rglob("*")] == (["sweeps", held] if held else [])


def test_a_job_that_works_at_last_forgets_its_error(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    (tmp_path / "sweep" / "0" / "error.txt").write_text("no")
    monkeypatch.setattr("espalier.commands.search_command.run_search", lambda *_: None)
    result = run("search", "-m", _SMALL_SPACE, "hydra.sweep.dir=sweep", "seed=1")
    assert result.status == 0, result.err
    assert not (tmp_path / "sweep" / "0" / "error.txt").exists()


def test_only_what_the_run_made_and_left_empty_goes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert run("search", "budget=0", _SMALL_SPACE, "hydra.run.dir=runs/day/hour").status == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]


def test_modules_that_fail_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_net.py").write_text("raise RuntimeError('first line\\nsecond line')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EspalierError, match=r"importing broken_net ended in RuntimeError: first line second line$"):
        located("model._target_", "broken_net.Net")
    assert located("model._target_", "torch.nn.Module.train") is torch.nn.Module.train
    assert located("model._target_", "os.path") is os.path


def test_a_target_that_refuses_its_arguments() -> None:
    with pytest.raises(EspalierError, match=r"NoArguments: .*takes exactly one argument"):
        build({"_target_": f"{_HERE}.NoArguments", "floor": 1.0})
    with pytest.raises(EspalierError, match=r"time\.sleep: "):
        build({"_target_": "time.sleep", "seconds": 0})


def test_suggestions() -> None:
    assert did_you_mean("latncy", ["latency", "energy"]) == "; did you mean 'latency'?"
    assert did_you_mean("zzz", ["latency", "energy"], "demand.") == "; known: demand.latency, demand.energy"
    assert did_you_mean("zzz", []) == ""
    assert spaces_with("width_scaling") == ["all", "single"]
    assert set(spaces_with("channel_pruning")) == set(options("space")) - {"adadeep", "bcr"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00a", "a configuration file is not YAML in UTF-8, mend or remove it: 'utf-8' codec"),
        (b"a: [1\n", "a configuration file is not YAML in UTF-8, mend or remove it: while parsing a flow sequence"),
        (b"", "a configuration file must name its class in _target_, but it has nothing"),
        (b"name: mine\n", "a configuration file must name its class in _target_, but it has name"),
    ],
)
def test_damaged_configuration_files(run: Run, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine" / "device").mkdir(parents=True)
    (tmp_path / "mine" / "device" / "bad.yaml").write_bytes(content)
    result = run("search", "--config-dir", "mine", "experiment=smoke", "device=bad")
    assert result.status == 2
    assert message in result.last_line


@pytest.mark.parametrize("output", ["host.csv", "host", "host.JSON"])
def test_a_table_is_only_written_as_what_it_is(run: Run, tmp_path: Path, output: str) -> None:
    for words in (("task=digits_vgg",), ("merge", "a", "b"), ("import", "a"), ("import-result", "a")):
        result = run("profile", *words, f"output={output}")
        assert result.status == 2
        assert result.err == (
            f"espalier: output must end in .json or .parquet, such as output=host.json, got {output}\n"
        )
    assert not list(tmp_path.iterdir())


def test_a_profile_does_not_take_another_files_place(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier.commands.profile_command.prepare", lambda _: pytest.fail("was prepared"))
    LookupTable("phone", "engine", {}, "chip").save(tmp_path / "phone.json")
    before = (tmp_path / "phone.json").read_text()
    result = run("profile", _SMALL_SPACE, "output=phone.json")
    assert result.status == 2
    assert "phone.json exists already, with device 'phone' where this is 'host': remove it, or give" in result.last_line
    assert (tmp_path / "phone.json").read_text() == before


def test_a_cache_that_cannot_be_written_is_found_before_the_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("espalier.tasks.task.train", lambda *_, **__: pytest.fail("was trained"))
    for words in (("search", *_PI), ("profile", *FAST, _SMALL_SPACE, "output=t.json")):
        result = run(*words)
        assert result.status == 2
        assert result.err == (
            f"espalier: cannot write into the cache folder {tmp_path / 'file' / 'cache'}: Not a directory; "
            "set ESPALIER_CACHE to a folder that can be written\n"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("output", ["", "folder", "file/t.json"])
def test_a_profile_that_could_not_be_written_is_not_measured(run: Run, tmp_path: Path, output: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    result = run("profile", f"output={output}", "task=digits_vgg")
    assert result.status == 2
    assert "output must be a file that can be written, such as output=host.json" in result.last_line
