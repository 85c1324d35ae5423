"""Taking away the folders of runs that failed before they had anything to keep."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ..finish.loading import MODEL_FILE

__all__ = ["ERROR_FILE", "Tidying"]

#: Where a job of a sweep says why it failed.
ERROR_FILE = "error.txt"

#: Made before the first evaluation: the last is W&B's.
_OWN = {".hydra", Path(MODEL_FILE).parts[0], "wandb"}


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
        folder = Path(config.hydra.run.dir).absolute()
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]

    def on_run_end(self, config: DictConfig, **_: Any) -> None:
        """Remove the run's folder and the folders around it that it alone was in."""
        folder = Path(config.hydra.run.dir).absolute()
        if folder not in self._made or not folder.is_dir() or {path.name for path in folder.iterdir()} - _OWN:
            return
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run's folder lies there, too
            for path in self._made[1:]:
                path.rmdir()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note whether the sweep is about to make its folder."""
        self._made_sweep = not Path(config.hydra.sweep.dir).exists()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:  # noqa: ARG002  # Hydra gives it
        """Leave nothing but the error of a sweep's job that never evaluated anything."""
        folder = Path(config.hydra.runtime.output_dir)
        if not self._made_sweep or {path.name for path in folder.iterdir()} - _OWN != {ERROR_FILE}:
            return
        for name in _OWN:
            shutil.rmtree(folder / name, ignore_errors=True)
