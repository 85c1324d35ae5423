"""What there is to choose from: the YAML files of every group."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ..errors import EspalierError

__all__ = ["DEFAULTS", "inner_options", "option_file", "options", "spaces_with"]

#: Group -> the option of `conf/config.yaml`; "" where there is none.
DEFAULTS = {
    "task": "digits_vgg",
    "model": "vgg_small",
    "data": "digits",
    "device": "host",
    "energy": "",
    "demand": "balanced",
    "space": "standard",
    "technique": "",
    "reward": "constrained",
    "agent": "dyna",
    "planner": "",
    "env": "layer_wise",
    "evaluator": "local",
    "finish": "refit_distil",
    "pruning": "masked",
    "tracker": "wandb",
    "experiment": "",
    "target": "",
}


def options(group: str, folders: Sequence[Path] = ()) -> dict[str, str]:
    """The options of a group and what their files say of themselves in the first line.

    Args:
        group: A key of `DEFAULTS`.
        folders: More folders of configurations.

    Raises:
        EspalierError: A folder does not exist.
    """
    found: dict[str, str] = {}
    for folder in folders:
        if not folder.is_dir():
            raise EspalierError(f"the configuration folder {folder} does not exist")
    for root in (Path(str(files("espalier.conf"))), *folders):
        for path in sorted((root / group).glob("*.yaml")):
            found[path.stem] = _first_comment(path)
    return found


def inner_options() -> dict[str, str]:
    """The options inside of the groups' default options: last part of the name -> whole name."""
    folder = Path(str(files("espalier.conf")))
    found: dict[str, str] = {}
    for group, option in DEFAULTS.items():
        text = (folder / group / f"{option}.yaml").read_text(encoding="utf-8") if option else ""
        for name in re.findall(r"^([a-z]\w*):", text, re.MULTILINE):
            found.setdefault(name, f"{group}.{name}")
    found.pop("defaults", None)
    return found


def option_file(group: str, name: str, folders: Sequence[Path] = ()) -> Path | None:
    """The file of an option; None where there is none.

    Args:
        group: A key of `DEFAULTS`.
        name: Of the option.
        folders: More folders of configurations, which come first.
    """
    roots = (*folders, Path(str(files("espalier.conf"))))
    return next((path for root in roots if (path := root / group / f"{name}.yaml").is_file()), None)


def spaces_with(technique: str) -> list[str]:
    """The options of the group space that list a technique."""
    folder = Path(str(files("espalier.conf"))) / "space"
    entry = re.compile(rf"^\s*- /technique@techniques\.{re.escape(technique)}:", re.MULTILINE)
    return [name for name in options("space") if entry.search((folder / f"{name}.yaml").read_text(encoding="utf-8"))]


def _first_comment(path: Path) -> str:
    """The comment at the head of a file, up to its first full stop."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            words.append(line.lstrip("# ").strip())
    text = " ".join(words)
    # A sentence ends where a capital letter follows: "et al. 2011" goes on.
    return re.split(r"\.\s+(?=[A-Z])", text)[0].rstrip(".")
