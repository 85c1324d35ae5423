"""The command line of `espalier search`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..errors import EspalierError
from ..files import read_json
from ..progress import console
from ..reports.summary import SUMMARY_FILE
from .catalogue import DEFAULTS, options
from .hydra_app import chosen_names, run_jobs
from .search import CONFIG_FILE, run_search
from .usage import SEARCH_USAGE

__all__ = ["run"]


def run(arguments: Sequence[str]) -> None:
    """Search as the command line says."""
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(SEARCH_USAGE.format(groups=_groups()))
        return
    resumed = [word for word in arguments if word.startswith("resume=")]
    if resumed:
        _resume(Path(resumed[0].removeprefix("resume=")), [word for word in arguments if word not in resumed])
    else:
        run_jobs("espalier search", arguments, _job)


def _job(config: DictConfig, folder: Path) -> None:
    run_search(config, folder, chosen_names())


def _resume(folder: Path, others: Sequence[str]) -> None:
    if others:
        raise EspalierError(f"resume goes on with a run as it was begun: it takes no other arguments, got {others[0]}")
    path = folder / CONFIG_FILE
    if not path.exists():
        raise EspalierError(f"{folder} is no run that can be resumed: it has no {CONFIG_FILE}")
    if (folder / SUMMARY_FILE).exists():
        console.print(f"{folder} is finished already: espalier report {folder}", soft_wrap=True)
        return
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    run_search(config, folder, read_json(folder / "checkpoint/names.json", "the names of a run's options"))


def _groups() -> str:
    lines = []
    for group, default in DEFAULTS.items():
        names = (f"+{name}" if name == default else name for name in options(group))
        lines.append(f"  {group:<10} {', '.join(names)}\n")
    return "".join(lines)
