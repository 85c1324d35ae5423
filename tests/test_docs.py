"""The documentation tells the truth."""

import re
import runpy
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

_PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def test_the_catalogue_is_up_to_date() -> None:
    made = runpy.run_path(str(REPOSITORY / "docs/catalogue.py"))["catalogue"]()
    assert (REPOSITORY / "docs/options.md").read_text() == made, "run `make docs`"


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    folders = "|".join(sorted(path.name for path in REPOSITORY.iterdir() if path.is_dir() and path.name[0].isalpha()))
    for name in re.findall(rf"`((?:{folders})/[\w/]+\.(?:py|yaml|md))`", page.read_text()):
        assert (REPOSITORY / name).exists(), name
