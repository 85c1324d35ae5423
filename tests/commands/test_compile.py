"""`espalier compile`: from a run folder to C, compared with PyTorch; every mistake in one line."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from espalier.commands.building import build
from espalier.commands.catalogue import options
from espalier.commands.schema import register_schema
from espalier.compression.assembly import assemble
from espalier.compression.bank_builder import build_bank
from espalier.compression.storage import save_network
from espalier.compression.survey import survey
from espalier.compression.techniques import BcrPruning
from espalier.files import write_json, write_text
from espalier.finish.loading import load
from espalier.kernels.engine import CompiledNetwork, load_compiled
from espalier.kernels.instruction_set import INSTRUCTION_SETS
from espalier.kernels.target import Target
from espalier.kernels.tuning.tuner import Tuning
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from tests.commands.conftest import Run
from tests.conftest import REPOSITORY

_FILES = ["espalier.c", "espalier.h", "espalier.so", "espalier.weights"]
_SMALL = ("model.widths=[8,12]", "model.hidden=16", "data.size=16", "data.search=60", "data.test=60")

needs_zig = pytest.mark.skipif(
    subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, check=False).returncode != 0,
    reason="needs ziglang",
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a search leaves that compiling reads: a pruned network, its architecture, the configuration."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        config = compose("config", overrides=list(_SMALL))
    torch.manual_seed(0)
    model = build(config["model"]).eval().requires_grad_(False)
    for weight in (parameter for parameter in model.parameters() if parameter.ndim > 1):
        weight.mul_(3)  # or untrained signals die out on their way, and all outputs are the last layer's bias
    technique = BcrPruning(rates=(4.0,), block_rows=8, block_columns=24)
    inputs = torch.randn(16, 1, 16, 16)
    found = survey(model, inputs[:1], {technique.name: technique})
    plan = found.space.plan([len(choices) - 1 for choices in found.space.choices])
    network = assemble(model, plan, build_bank(model, found.space, inputs, "x"))
    save_network(folder / "model.safetensors", network, model)
    write_json(folder / "checkpoint/model.json", OmegaConf.to_container(config["model"], resolve=True))
    write_text(folder / "checkpoint/config.yaml", OmegaConf.to_yaml(config))
    return folder


def test_a_compiled_run_computes_what_the_run_does(run: Run, run_folder: Path, tmp_path: Path) -> None:
    result = run("compile", str(run_folder), "output=out", "threads=2")
    assert result.status == 0, result.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == _FILES
    assert list(tmp_path.iterdir()) == [tmp_path / "out"], "nothing is left over"
    assert re.search(r"largest relative error[ │]+\d(\.\d)?e-0[678] ", result.out)
    assert re.search(r"latency, compiled[ │]+[\d.]+ (us|ms)", result.out)
    assert "32 inputs of the search split, run on this machine, 2 threads" in result.out
    inputs = torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        expected = load(run_folder)(inputs)
    assert expected.std(0).min() > 0.05
    assert torch.allclose(load_compiled("out")(inputs), expected, atol=1e-5)


@pytest.mark.parametrize("weight_type", ["bfloat16", "int8"])
def test_weights_of_fewer_bits(run: Run, run_folder: Path, tmp_path: Path, weight_type: str) -> None:
    for name in ("float32", weight_type):
        result = run("compile", str(run_folder), f"output={name}", f"weights={name}", "target=plain-linux")
        assert result.status == 0, result.err
        assert ("changed by rounding the weights" in result.out) == (name != "float32")
    assert re.search(r"largest relative error[ │]+\d(\.\d)?e-0[678] ", result.out), "PyTorch has the same weights"
    assert re.search(r"changed by rounding the weights[ │]+0\.0\d+ ", result.out)
    assert re.search(r"accuracy, float32, search split[ │]+[\d.]+ %", result.out)
    assert re.search(rf"accuracy, {weight_type}, search split[ │]+[\d.]+ %", result.out)
    sizes = {name: (tmp_path / name / "espalier.weights").stat().st_size for name in ("float32", weight_type)}
    assert sizes[weight_type] < 0.9 * sizes["float32"]


def test_tuning_keeps_the_outputs_and_is_remembered(
    run: Run, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "espalier.commands.compile_command.Tuning", lambda: Tuning(generations=1, population=2, rounds=2)
    )
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))
    result = run("compile", str(run_folder), "output=out", "tune=true")
    assert result.status == 0, result.err
    assert (tmp_path / "cache/kernel_tiles.json").is_file()
    inputs = torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(load_compiled("out")(inputs), load(run_folder)(inputs), atol=1e-5)
    assert "tune: expected true or false" in run("compile", str(run_folder), "tune=perhaps").err


def test_two_compilations_are_equal_byte_by_byte(run: Run, run_folder: Path, tmp_path: Path) -> None:
    for output in ("one", "deeper/two"):
        assert run("compile", str(run_folder), f"output={output}").status == 0
    for name in _FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "deeper/two" / name).read_bytes(), name


def test_the_default_folder_lies_in_the_run_and_is_replaced(run: Run, run_folder: Path) -> None:
    for name in ("espalier", "digits"):
        result = run("compile", str(run_folder), "target=plain-linux", f"name={name}")
        assert result.status == 0, result.err
        folder = run_folder / "compiled/plain-linux"
        assert sorted(path.name for path in folder.iterdir()) == [f"{name}{file[8:]}" for file in _FILES]
    assert "int digits_run(digits_network *network" in (folder / "digits.h").read_text()


def test_other_peoples_files_stay(run: Run, run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("main.c", "main.h", "notes.txt"):
        (folder / name).write_text("mine")
    result = run("compile", str(run_folder), "output=out")
    assert result.status == 2
    assert "holds what espalier compile did not write (main.c, main.h, notes.txt): give another" in result.last_line
    assert sorted(path.name for path in folder.iterdir()) == ["main.c", "main.h", "notes.txt"]


def test_what_fails_leaves_nothing_and_takes_nothing_away(
    run: Run, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("compile", str(run_folder), "output=out").status == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    honest = CompiledNetwork.__call__
    monkeypatch.setattr(CompiledNetwork, "__call__", lambda *given, **more: honest(*given, **more) + 1)
    result = run("compile", str(run_folder), "output=out")
    assert result.status == 2
    assert "the compiled network's outputs differ from PyTorch's by" in result.last_line
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@needs_zig
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs qemu-aarch64")
def test_arm_code_is_run_by_an_emulator(run: Run, run_folder: Path, tmp_path: Path) -> None:
    result = run("compile", str(run_folder), "target=aarch64-linux", "output=out")
    assert result.status == 0, result.err
    assert re.search(r"largest relative error[ │]+\d(\.\d)?e-0[678] ", result.out)
    assert "run under qemu-aarch64, which says nothing of its speed" in result.out
    assert "latency" not in result.out
    head = (tmp_path / "out/espalier.so").read_bytes()[:20]
    assert head[:4] == b"\x7fELF"
    assert head[18] == 183, "the number of AArch64 in ELF's table of machines"


@needs_zig
def test_zig_is_deterministic_and_right(run: Run, run_folder: Path, tmp_path: Path) -> None:
    words = ("compile", str(run_folder), "target=plain-linux", "target.compiler=zig")
    for output in ("one", "two"):
        result = run(*words, f"output={output}")
        assert result.status == 0, result.err
    assert (tmp_path / "one/espalier.so").read_bytes() == (tmp_path / "two/espalier.so").read_bytes()


def test_what_cannot_be_run_says_so(run: Run, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "runs_here", False)
    result = run("compile", str(run_folder), "output=out")
    assert result.status == 0, result.err
    assert "not run: this processor lacks instructions that it was compiled for" in result.out
    assert "relative error" not in result.out
    monkeypatch.setattr(Target, "is_native", False)
    monkeypatch.setattr(Target, "emulator", "")
    assert re.search(r"not run: that would need qemu-\w+ and zig", run("compile", str(run_folder), "output=o").out)


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_the_example_in_c(run: Run, run_folder: Path, tmp_path: Path) -> None:
    assert run("compile", str(run_folder), "output=out").status == 0
    words = ["-I", "out", "-DINPUTS=256", "-DOUTPUTS=10", str(REPOSITORY / "examples/main.c"), "out/espalier.so"]
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wl,-rpath,out", "-o", "classify"]
    subprocess.run(["gcc", *options, *words], cwd=tmp_path, check=True)
    inputs = torch.randn(3, 1, 16, 16)
    (tmp_path / "images.f32").write_bytes(inputs.numpy().tobytes())
    with (tmp_path / "images.f32").open("rb") as images:
        command = ["./classify", "out/espalier.weights"]
        answer = subprocess.run(command, cwd=tmp_path, stdin=images, capture_output=True, text=True, check=True).stdout
    with torch.no_grad():
        scores = load(run_folder)(inputs)
    found = re.findall(r"class (\d), score (-?[\d.]+)\n", answer)
    assert [int(number) for number, _ in found] == scores.argmax(1).tolist()
    assert [float(score) for _, score in found] == pytest.approx(scores.max(1).values.tolist(), abs=2e-4)
    wrong = subprocess.run(["./classify", "images.f32"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "images.f32 cannot be loaded: error 2, see espalier.h" in wrong.stderr


_MISTAKES = [
    ((), "espalier compile takes one run folder, got 0"),
    (("{run}", "{run}"), "espalier compile takes one run folder, got 2"),
    (("/nowhere",), "/nowhere is no run folder: there is no such folder; expected one that `espalier search` finished"),
    (("{tmp}",), "is no run folder: it has no checkpoint/config.yaml"),
    (("{run}", "target=avx512"), "target=avx512: there is no such target; did you mean 'avx512-linux'?"),
    (("{run}", "targt=host"), "espalier compile has no option 'targt'; did you mean 'target'?"),
    (("{run}", "--fast"), "unknown flag --fast; options are written KEY=VALUE"),
    (("{run}", "target.instructions=sse9"), "unknown instruction set 'sse9'; known: avx512, avx2, neon, plain"),
    (("{run}", "target.compiler=nocc"), "there is no C compiler 'nocc'; install it"),
    (("{run}", "name=my-net"), "name must be letters, digits and _, the first a letter, got 'my-net'"),
    (("{run}", "threads=17"), "threads must be a whole number from 1 to 16, got '17'"),
    (("{run}", "threads=two"), "threads must be a whole number from 1 to 16, got 'two'"),
    (("{run}", "weights=int4"), "weights=int4: there is no such type; did you mean 'int8'?"),
    (("{run}", "weights=double"), "weights=double: there is no such type; known: float32, bfloat16, int8"),
    (("{run}", "output=."), "output must be a folder that can be replaced, . is the current folder"),
    (("{run}", "output=file"), "output must be a folder that can be replaced, file is a file or a link"),
    (("{run}", "target=broken", "--config-dir", "conf"), "is not YAML in UTF-8"),
    (("{run}", "target=list", "--config-dir", "conf"), "is no target: expected keys and values"),
    (("{run}", "target=other", "--config-dir", "conf"), "_target_ must build a Target, got Blur"),
    (("{run}", "target=host", "--config-dir"), "--config-dir needs a folder"),
]


class Blur:
    """Something that is no target."""


@pytest.mark.parametrize(("words", "message"), _MISTAKES, ids=[message[:50] for _, message in _MISTAKES])
def test_mistakes_are_one_line(
    words: tuple[str, ...], message: str, run: Run, run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    texts = {"broken": "a: [", "list": "- 1", "other": "_target_: tests.commands.test_compile.Blur"}
    for name, text in texts.items():
        write_text(tmp_path / f"conf/target/{name}.yaml", text)
    result = run("compile", *(word.format(run=run_folder, tmp=tmp_path) for word in words))
    assert result.status == 2, result.out
    assert message in result.last_line
    assert len(result.err.strip().splitlines()) == 1


def test_without_any_compiler(run: Run, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    honest = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: name != "ziglang" and honest(name, *rest))
    result = run("compile", str(run_folder), "output=out")
    assert result.status == 2
    assert "no C compiler on this machine: pip install 'espalier[compile]', which brings one" in result.last_line
    result = run("compile", str(run_folder), "target=aarch64-linux", "output=out")
    assert "no C compiler for the target aarch64-linux-gnu: pip install" in result.last_line


def test_a_damaged_configuration(run: Run, tmp_path: Path) -> None:
    for text, message in (("a: [", "is damaged"), ("a: 1", "is damaged: it names no model and no data")):
        write_text(tmp_path / "run/checkpoint/config.yaml", text)
        result = run("compile", "run")
        assert result.status == 2
        assert message in result.last_line


def test_targets_of_ones_own(run: Run, run_folder: Path, tmp_path: Path) -> None:
    node = "# A board.\n_target_: espalier.kernels.target.Target\nname: board\ninstructions: plain\n"
    write_text(tmp_path / "conf/target/board.yaml", node)
    result = run("compile", str(run_folder), "target=board", "output=out", "--config-dir", "conf")
    assert result.status == 0, result.err
    assert "board, plain instructions" in result.out


@pytest.mark.parametrize("name", options("target"))
def test_every_target_is_whole(name: str) -> None:
    node = OmegaConf.load(REPOSITORY / f"conf/target/{name}.yaml")
    target = build(OmegaConf.to_container(node))
    assert isinstance(target, Target)
    assert target.name == name
    assert target.instruction_set in INSTRUCTION_SETS.values()
    assert target.instruction_set.machine in ("", target.machine)


def test_help_and_lists(run: Run) -> None:
    result = run("compile", "--help")
    assert result.status == 0
    assert "usage: espalier compile RUN_FOLDER" in result.out
    assert "aarch64-linux, avx2-linux, avx512-linux, host, plain-linux" in result.out
    assert max(map(len, result.out.splitlines())) <= 120
    assert "Raspberry Pi 4" in run("list", "targets").out
    assert "espalier compile RUN_FOLDER target=host" in run("search", "target=host").last_line
