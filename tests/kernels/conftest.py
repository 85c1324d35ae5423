"""Compiling for tests of this folder."""

import shutil
from pathlib import Path

import pytest

from tests.kernels.programs import Compiler


@pytest.fixture
def compiler(tmp_path: Path) -> Compiler:
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("needs a C compiler")
    return Compiler(tmp_path)
