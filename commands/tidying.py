"""Taking away the folders of runs that failed before they had anything to keep."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ..finish.loading import MODEL_FILE

__all__ = ["Tidying"]

#: Made before the first evaluation.
_OWN = {".hydra", Path(MODEL_FILE).parts[0]}


class Tidying(Callback):
    """Removes a run's folder when the run made it itself and left nothing in it but what every run begins with.

    A folder that was there before stays, whatever it holds.
    """

    def __init__(self) -> None:
        self._made: list[Path] = []

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
