"""The package as a whole: it steps aside for the standard library, and its parts are found."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import espalier
import gymnasium
import pytest

REPOSITORY = Path(__file__).parents[1]


def test_compression_steps_aside_when_imported_as_top_level(tmp_path: Path) -> None:
    """Python 3.14 has a package `compression`; a checkout as working directory must not hide it."""
    library = tmp_path / "library"
    (library / "compression" / "zstd").mkdir(parents=True)
    (library / "compression" / "__init__.py").touch()
    (library / "compression" / "zstd" / "__init__.py").write_text("answer = 42\n")
    code = (
        "import sysconfig, sys\n"
        f"sysconfig.get_path = lambda name, *rest, **more: {str(library)!r}\n"
        "import compression\n"
        "from compression import zstd\n"
        "assert zstd.answer == 42\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_an_installed_package_has_all_of_its_parts() -> None:
    """In a checkout a part that nobody listed is found all the same."""
    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    outside = ("benchmarks", "build", "docs", "examples", "tests")
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    files = [Path(name) for name in tracked.splitlines() if not name.startswith((".", *outside))]
    folders = {file.parent for file in files if file.suffix in (".py", ".yaml")}
    parts = {".".join(("espalier", *folder.parts)) for folder in folders if folder.parts[:1] != ("conf",)}
    assert set(setup["packages"]) == parts | {"espalier.conf"}
    data = {REPOSITORY / file for file in files if len(file.parts) > 1 and file.suffix != ".py"}
    listed = {
        file
        for package, patterns in setup["package-data"].items()
        for pattern in patterns
        for file in REPOSITORY.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    assert data <= listed


def test_importing_the_package_registers_the_environments_and_stays_light() -> None:
    code = (
        "import sys, espalier, gymnasium\n"
        "assert 'espalier/LayerWise-v0' in gymnasium.registry\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "espalier/OneShot-v0" in gymnasium.registry


def test_unknown_attributes_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        espalier.lode  # noqa: B018
    assert callable(espalier.load)


def test_pytorchs_threads_wait_busily_for_a_short_while_only() -> None:
    """OpenMP shows what it goes by when PyTorch loads it; what the user set stays."""
    code = "from espalier.cli import main; main(['--help']); import torch"
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    for given, shown in (
        ({}, "GOMP_SPINCOUNT = '2000'"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
        ({"OMP_WAIT_POLICY": "passive"}, "GOMP_SPINCOUNT = '0'"),
    ):
        environment = {name: value for name, value in os.environ.items() if name not in names}
        environment |= {"OMP_DISPLAY_ENV": "verbose", **given}
        command = [sys.executable, "-c", code]
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
        if "GOMP_SPINCOUNT" not in output:
            pytest.skip("this build of PyTorch has another OpenMP library")
        assert shown in output
