"""Every configuration composes, every mistake is one line with status 2."""

import contextlib
import itertools
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from espalier.agents.universal.policy import UniversalPolicy
from espalier.commands.building import build, resolved
from espalier.commands.catalogue import DEFAULTS, options
from espalier.commands.schema import register_schema
from espalier.commands.usage import COMMANDS
from espalier.commands.validation import check_node
from espalier.errors import EspalierError
from espalier.hw_models.cost import Estimate
from espalier.tasks.models.vgg import VggSmall
from hydra import compose, initialize_config_module
from safetensors.torch import save_file

from tests.commands.conftest import FAST, Run
from tests.conftest import REPOSITORY

#: Chosen elsewhere than at the top of a search's configuration.
_ELSEWHERE = ("energy", "planner", "target", "technique")
_GROUPS = [group for group in DEFAULTS if group not in _ELSEWHERE]

#: Groups whose options choose those of other groups, or are chosen by them.
_LEADING = ("env", "experiment", "task")


def _compositions() -> list[dict[str, str]]:
    """Every option once; those of different groups together, because composing takes most of a second."""
    alone = [{group: name} for group in _LEADING for name in options(group)]
    columns = [[(group, name) for name in options(group)] for group in _GROUPS if group not in _LEADING]
    return alone + [dict(pair for pair in row if pair) for row in itertools.zip_longest(*columns)]


@pytest.mark.parametrize("chosen", _compositions(), ids=lambda chosen: ",".join(chosen.values()))
def test_every_option_composes_and_fits_what_it_builds(chosen: dict[str, str], tmp_path: Path) -> None:
    register_schema()
    policy, journal = tmp_path / "policy.safetensors", tmp_path / "evaluations.jsonl"
    UniversalPolicy.untrained().save(policy)
    journal.touch()
    needed = {
        "table": "device.table=x",
        "custom": "model._target_=tests.commands.test_configuration.TwoOutputs",
        "lookup": f"agent.journal={journal}",
        "universal": f"agent.policy={policy}",
        "universal_dyna": f"agent.policy={policy}",
    }
    extra = [needed[name] for name in chosen.values() if name in needed]
    with initialize_config_module("espalier.conf", version_base="1.3"):
        words = [f"{group}={name}" for group, name in chosen.items()]
        values = resolved(compose("config", overrides=[*words, "seed=1", *extra]))
    assert values["seed"] == 1
    for group in ("agent", "reward", "pruning", "finish", "tracker"):
        if group in chosen:
            build(values[group])


def test_every_option_is_composed_once() -> None:
    composed = [pair for chosen in _compositions() for pair in chosen.items()]
    assert sorted(composed) == sorted((group, name) for group in _GROUPS for name in options(group))


@pytest.mark.parametrize("name", options("energy"))
@pytest.mark.parametrize("device", ["host", "raspberrypi4"])
def test_every_energy_fits_every_device(name: str, device: str) -> None:
    register_schema()
    extra = ["device.energy.watts=5"] if name == "power_time" else []
    with initialize_config_module("espalier.conf", version_base="1.3"):
        config = compose("config", overrides=[f"device={device}", f"energy@device.energy={name}", *extra])
    energy = resolved(config)["device"]["energy"]
    with contextlib.nullcontext() if name != "counter" else contextlib.suppress(EspalierError):
        assert build(energy).estimate([], Estimate(0.0, 0.0, "modelled", "")).value == 0


def test_defaults_are_those_of_the_configuration() -> None:
    text = (REPOSITORY / "conf" / "config.yaml").read_text()
    for group, name in DEFAULTS.items():
        if name:
            assert f"- {group}: {name}\n" in text


def test_every_option_says_what_it_is() -> None:
    for group in DEFAULTS:
        for name, text in options(group).items():
            assert len(text) > 10, f"{group}={name}"


_MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("frobnicate",), "unknown command 'frobnicate'; known: search, profile, compile, report, verify, list"),
    (("search", "agent=nope"), r"agent=nope: agent has no option 'nope'; known: .*maskable_ppo"),
    (("search", "agent.lr=abc"), r"unknown option 'agent\.lr'; known: agent\.planner"),
    (
        ("search", "agent=evolution", "agent.population=abc"),
        r"agent\.population='abc': input should be a valid integer",
    ),
    (("search", "agent=evolution", "+agent.size=3"), "agent has no argument 'size'; known: population"),
    (("search", "agent=ppo", "agent.algorithm=a.b"), r"agent\.algorithm='a\.b' cannot be imported"),
    (("search", "agent._target_=a.b"), r"agent\._target_='a\.b' cannot be imported"),
    (("search", "agent._target_=espalier.__version__"), "is a str, expected a class or function"),
    (("search", "agent=ppo", "agent.hyperparameters.n_step=3"), r"n_step"),
    (("search", "energy=counter"), r"energy=counter: .*energy@device\.energy=counter"),
    (("search", "energy@device.energy=power_time"), r"device\.energy\.watts has no value"),
    (("search", "budget=abc"), "budget: expected a whole number, got 'abc'"),
    (("search", "budget=0"), "budget must be at least 1, got 0"),
    (("search", "seed=-1"), "seed must be at least 0, got -1"),
    (("search", "demand.speed=1"), r"unknown option 'demand\.speed'; known: demand\.weights"),
    (("search", "demand.latency_ms=-1"), r"demand\.latency_ms must be above 0, got -1"),
    (("search", "demand.weights.accuracy=x"), r"demand\.weights\.accuracy: expected a number, got 'x'"),
    (("search", "device=table"), r"device\.table has no value: give device\.table=FILE"),
    (("search", "device=table", "device.table=/nowhere.json"), "cannot read a latency table from /nowhere.json"),
    (("search", "device.runtime=tflite"), "unknown runtime 'tflite'; known: espalier, onnxruntime, openvino, torch"),
    (("search", "task=mnist_lenet5", "data.root=/nowhere"), r"data folder /nowhere does not exist; point at"),
    (("search", "task=mnist_lenet5", "data.root=/"), r"train-images-idx3-ubyte is missing in /; point at .*data\.root"),
    (("search", "tracker.mode=abc"), r"tracker\.mode"),
    (("search", "finish.rounds=0"), r"finish\.rounds must be at least 1"),
    (("search", "pruning=admm", "pruning.rho=0"), r"pruning\.rho must be above 0, got 0"),
    (("search", "pruning=soft"), r"pruning=soft: pruning has no option 'soft'; known: .*gradual"),
    (("search", "pruning=gradual", "pruning.rho=1"), r"unknown option 'pruning\.rho'"),
    (("search", "resume=/nowhere"), "is no run that can be resumed: it has no checkpoint/config.yaml"),
    (("search", "resume=/nowhere", "seed=1"), "takes no other arguments, got seed=1"),
    (("search", *FAST, "space.include=[lay*]"), r"no layer matches the pattern 'lay\*'; layers: features\.0"),
    (
        ("search", *FAST, "device=raspberrypi4", "demand.latency_ms=1e-9"),
        "cannot be met: every plan of this space needs at least",
    ),
    (("search", *FAST, "reward=absolute", "device=raspberrypi4"), "reward=absolute aims at budgets"),
    (("search", *FAST, "agent=exhaustive", "device=raspberrypi4"), "agent=exhaustive takes spaces of up to"),
    (("search", *FAST, "model._target_=tests.commands.test_configuration.TwoOutputs"), "returns a tuple, expected one"),
    (("search", "model=custom"), r"model\._target_ has no value: give model\._target_=MODULE\.CLASS"),
    (("search", *FAST, "task.checkpoint=/nowhere.pt"), "checkpoint /nowhere.pt does not exist"),
    (("profile", "device=raspberrypi4", *FAST), "device 'raspberrypi4' is not measured on this machine"),
    (("report",), "takes one folder, got 0 arguments"),
    (("report", "/nowhere"), "the folder /nowhere does not exist"),
    (("report", "."), r"holds no finished run: expected summary\.json"),
    (("verify", "."), r"is not a finished run: it has no summary\.json"),
    (("verify",), "takes one run folder, got 0 arguments"),
    (("list", "planets"), "unknown group 'planets'; known: agents"),
    (("list", "agents", "rewards"), "takes one group, got agents rewards"),
    (("list", "--config-dir"), "--config-dir needs a folder"),
    (("list", "agents", "--config-dir", "/nowhere"), "configuration folder /nowhere does not exist"),
]


class TwoOutputs(VggSmall):
    """A user's model that returns its features too."""

    def forward(self, inputs: torch.Tensor) -> Any:  # type: ignore[override]
        features = self.features(inputs)
        return features, self.classifier(torch.flatten(features, 1))


@pytest.mark.parametrize(("words", "message"), _MISTAKES, ids=[" ".join(words)[:60] for words, _ in _MISTAKES])
def test_mistakes_end_in_one_line_and_status_2(run: Run, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.status == 2, result.err
    assert re.search(message, result.last_line), result.err
    assert result.last_line.startswith("espalier: ")
    assert "Traceback" not in result.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "something half-written is left"


def _nan_checkpoint(folder: Path) -> str:
    torch.manual_seed(0)
    state = {name: t.contiguous() for name, t in VggSmall([8, 12, 16], 16, 1, 16, 10).state_dict().items()}
    state["classifier.2.bias"][0] = float("nan")
    save_file(state, folder / "nan.safetensors")
    return f"task.checkpoint={folder / 'nan.safetensors'}"


def _corrupt_table(folder: Path) -> str:
    (folder / "t.json").write_text('{"format": "espalier-latency-table", "version": 1')
    return f"device.table={folder / 't.json'}"


def _corrupt_parquet(folder: Path) -> str:
    (folder / "cifar10_exact_train.parquet").write_bytes(b"PAR1 rubbish")
    (folder / "cifar10_exact_test.parquet").write_bytes(b"PAR1 rubbish")
    return f"data.root={folder}"


@pytest.mark.parametrize(
    ("make", "words", "message"),
    [
        (_nan_checkpoint, FAST, r"classifier\.2\.bias holds infinite or not-a-number values"),
        (_corrupt_table, ("device=table",), r"t\.json is not a latency table: not valid JSON"),
        (_corrupt_parquet, ("task=cifar10_resnet20",), "cannot be read as Parquet"),
    ],
)
def test_damaged_files_end_in_one_line(
    run: Run,
    tmp_path_factory: pytest.TempPathFactory,
    make: Callable[[Path], str],
    words: tuple[str, ...],
    message: str,
) -> None:
    result = run("search", *words, make(tmp_path_factory.mktemp("damaged")))
    assert result.status == 2, result.err
    assert re.search(message, result.last_line)
    assert not list(Path.cwd().rglob("*.json"))


def test_a_full_disk_ends_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """No file may grow beyond 20 kB, as if the disk were full; then there is room again."""
    folder = tmp_path / "full"
    cheap = ("device=raspberrypi4", "finish.onnx=false", "finish.distillation.epochs=0")
    words = [*FAST, *cheap, "agent=random", "budget=40", f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "espalier", "search", *words]
    # What was trained and built before lies in the cache already; only the run itself meets the limit.
    subprocess.run([*command[:-1], "budget=1", f"hydra.run.dir={tmp_path / 'first'}"], check=True, capture_output=True)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    full = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    last = full.stderr.strip().splitlines()[-1]
    assert full.returncode == 2, full.stderr
    assert last.startswith("espalier: ")
    assert "Traceback" not in full.stderr
    assert not (folder / "summary.json").exists()
    again = subprocess.run([*command[:4], f"resume={folder}"], capture_output=True, text=True, check=False)
    if (folder / "evaluations.jsonl").exists():
        assert again.returncode == 0, again.stderr
        assert (folder / "summary.json").exists()


def test_help_is_worth_reading(run: Run) -> None:
    for words in ((), ("--help",), ("-h",)):
        result = run(*words)
        assert result.status == 0
        assert all(name in result.out for name in (*COMMANDS, "examples"))
    result = run("search", "--help")
    assert "+dyna" in result.out
    assert "demand.latency_ms=2" in result.out
    assert "resume=RUN_FOLDER" in result.out
    for command in ("profile", "compile", "report", "verify", "list"):
        assert f"usage: espalier {command}" in run(command, "--help").out


def test_lists_have_a_line_for_each_option(run: Run) -> None:
    overview = run("list").out
    for word, group in (("agents", "agent"), ("rewards", "reward"), ("tasks", "task"), ("devices", "device")):
        lines = run("list", word).out.strip().splitlines()
        assert [line.split()[0] for line in lines] == list(options(group))
        assert all(len(line.split()) > 3 for line in lines)
        assert word in overview
    assert "channel_pruning" in run("list", "techniques").out
    own = run("list", "agents", "--config-dir", str(REPOSITORY / "examples/own_parts/conf"))
    assert "annealing" in own.out


def test_check_node_looks_inside_lists() -> None:
    node = {"parts": [{"_target_": "espalier.evaluation.demand.Weights", "accuracy": "x"}]}
    with pytest.raises(EspalierError, match=r"space\.parts\[0\]\.accuracy='x': input should be a valid number"):
        check_node("space", node)
    check_node("space", {"_target_": "builtins.dict", "anything": 1})


@pytest.mark.parametrize(("experiment", "budget"), [("smoke", 20), ("pi_latency", 200)])
def test_an_experiment_sets_the_budget(run: Run, experiment: str, budget: int) -> None:
    assert f"\nbudget: {budget}\n" in run("search", f"experiment={experiment}", "--cfg", "job").out
    assert "\nbudget: 7\n" in run("search", f"experiment={experiment}", "budget=7", "--cfg", "job").out
