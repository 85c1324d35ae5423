"""Taking away the folders of runs that failed before they had anything to keep."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ..finish.loading import MODEL_FILE

__all__ = ["ERROR_FILE", "Tidying", "remove_refused_sweep"]

#: Where a job of a sweep says why it failed.
ERROR_FILE = "error.txt"

#: Made before the first evaluation: the last is W&B's.
_OWN = {".hydra", Path(MODEL_FILE).parts[0], "wandb"}

#: What Hydra writes into a sweep's folder before it composes the first job.
_OF_SWEEP = {"multirun.yaml"}

#: Folders that this process' sweep made, the innermost first.
_made_by_sweep: list[Path] = []


def remove_refused_sweep() -> None:
    """Remove the folders of a sweep none of whose jobs could be composed: Hydra calls no callback then."""
    if _made_by_sweep and {path.name for path in _made_by_sweep[0].glob("*")} <= _OF_SWEEP:
        shutil.rmtree(_made_by_sweep[0], ignore_errors=True)
        _remove_empty(_made_by_sweep[1:])


def _remove_empty(folders: Sequence[Path]) -> None:
    """The innermost first, up to one where another run's folder lies, too."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _missing(folder: Path) -> list[Path]:
    """Which folders whoever makes this one makes, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


class Tidying(Callback):
    """Removes a run's folder when the run made it itself and left nothing in it but what every run begins with.

    A folder that was there before stays, whatever it holds. A job of a sweep that failed so early leaves the line that
    says why.
    """

    def __init__(self) -> None:
        self._made: list[Path] = []
        self._made_sweep = False

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Note which folders the run is about to make, the innermost first."""
        self._made = _missing(Path(config.hydra.run.dir).absolute())

    def on_run_end(self, config: DictConfig, **_: Any) -> None:
        """Remove the run's folder and the folders around it that it alone was in."""
        folder = Path(config.hydra.run.dir).absolute()
        if folder not in self._made or not folder.is_dir() or {path.name for path in folder.iterdir()} - _OWN:
            return
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(self._made[1:])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note whether the sweep is about to make its folder."""
        _made_by_sweep[:] = _missing(Path(config.hydra.sweep.dir).absolute())
        self._made_sweep = bool(_made_by_sweep)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:  # noqa: ARG002  # Hydra gives it
        """Leave nothing but the error of a sweep's job that never evaluated anything."""
        folder = Path(config.hydra.runtime.output_dir)
        if not self._made_sweep or {path.name for path in folder.iterdir()} - _OWN != {ERROR_FILE}:
            return
        for name in _OWN:
            shutil.rmtree(folder / name, ignore_errors=True)
