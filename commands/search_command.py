"""The command line of `espalier search`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import EspalierError
from ..files import read_json
from ..progress import console
from ..reports.summary import SUMMARY_FILE
from .catalogue import DEFAULTS, options
from .hydra_app import chosen_names, run_jobs, saying_what_is_kept
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
    """Search into a folder; a run of the same configuration that was begun there goes on."""
    path = folder / CONFIG_FILE
    if path.exists():
        _check_same(folder, OmegaConf.load(path), config)
        if _is_finished(folder):
            return
    run_search(config, folder, chosen_names())


def _check_same(folder: Path, begun: Any, config: DictConfig) -> None:
    """Refuse to write into the folder of another run."""
    known, wanted = (OmegaConf.to_container(one, resolve=False) for one in (begun, config))
    assert isinstance(known, dict)
    assert isinstance(wanted, dict)
    if differing := [str(key) for key in wanted if key not in known or known[key] != wanted[key]]:
        raise EspalierError(
            f"{folder} holds another run, which differs in {', '.join(differing)}: choose another hydra.run.dir, or go "
            f"on with that one: espalier search resume={folder}"
        )


def _is_finished(folder: Path) -> bool:
    if not (folder / SUMMARY_FILE).exists():
        return False
    console.print(f"{folder} is finished already: espalier report {folder}", soft_wrap=True)
    return True


def _resume(folder: Path, others: Sequence[str]) -> None:
    if others:
        raise EspalierError(f"resume goes on with a run as it was begun: it takes no other arguments, got {others[0]}")
    path = folder / CONFIG_FILE
    if not path.exists():
        raise EspalierError(f"{folder} is no run that can be resumed: it has no {CONFIG_FILE}")
    if _is_finished(folder):
        return
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    names = read_json(folder / "checkpoint/names.json", "the names of a run's options")
    with saying_what_is_kept(folder):
        run_search(config, folder, names)


def _groups() -> str:
    lines = []
    for group, default in DEFAULTS.items():
        names = (f"+{name}" if name == default else name for name in options(group))
        lines.append(f"  {group:<10} {', '.join(names)}\n")
    return "".join(lines)
