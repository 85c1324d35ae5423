"""Composing configurations with Hydra, and running jobs on them."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from ..errors import EspalierError
from ..reports.journal import JOURNAL_FILE
from .errors import USER_ERRORS, one_line
from .explanations import explained
from .schema import register_schema
from .tidying import ERROR_FILE, remove_refused_sweep
from .words import check_words, options_first

__all__ = ["chosen_names", "run_jobs", "saying_what_is_kept"]

_CACHED = " (what was trained, built and measured is kept in the cache: run the same command again)"

Job = Callable[[DictConfig, Path], object]


def chosen_names() -> dict[str, str]:
    """Group -> option that was chosen, inside a job."""
    choices = HydraConfig.get().runtime.choices
    return {str(group): str(option) for group, option in choices.items() if "/" not in str(group) and "@" not in group}


def run_jobs(program: str, arguments: Sequence[str], job: Job) -> None:
    """Run a job on the composed configuration, or in a multirun on each of them.

    Args:
        program: What Hydra calls the program in its messages.
        arguments: Hydra's command line.
        job: Takes a configuration and its output folder.

    Raises:
        EspalierError: The command line cannot be read, or a job ended with an error that the user can mend.
    """
    arguments = options_first(arguments)
    check_words(arguments)
    register_schema()
    sys.argv = [program, *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    guarded = _GuardedJob(job)
    try:
        hydra.main(version_base="1.3", config_path="pkg://espalier.conf", config_name="config")(guarded)()
    except HydraException as error:
        remove_refused_sweep()
        raise EspalierError(explained(error, arguments)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        if guarded.has_started:
            raise
        raise EspalierError(
            f"a configuration file is not YAML in UTF-8, mend or remove it: {one_line(error)}"
        ) from error
    if guarded.interruption:
        raise guarded.interruption
    if guarded.failure:
        raise EspalierError(guarded.failure)
    if guarded.sweep is not None:
        _check_sweep(guarded.sweep)


@contextlib.contextmanager
def saying_what_is_kept(folder: Path) -> Iterator[None]:
    """Tell whoever interrupts what runs inside how to go on.

    Args:
        folder: The run folder.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(_resume_hint(folder) or _CACHED)
        raise


class _GuardedJob:
    """Keeps a user's error from becoming a stack trace; in a sweep, from stopping the other jobs.

    Attributes:
        failure: What went wrong in a single job; "" while nothing has.
        interruption: What ended a single job from outside; None while nothing has.
        has_started: Whether a configuration was composed.
        sweep: Folder of the sweep that this process took part in.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.failure = ""
        self.interruption: KeyboardInterrupt | None = None
        self.has_started = False
        self.sweep: Path | None = None
        # Hydra names its jobs after the function.
        self.__name__ = "espalier"
        self.__module__ = job.__module__

    def __call__(self, config: DictConfig) -> None:
        self.has_started = True
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        is_sweep = settings.mode == RunMode.MULTIRUN
        if is_sweep:
            (folder / ERROR_FILE).unlink(missing_ok=True)  # of an earlier try
        try:
            with saying_what_is_kept(folder):
                self._job(config, folder)
        except KeyboardInterrupt as stop:
            if is_sweep:
                raise
            self.interruption = stop  # raised when Hydra's callbacks have tidied up
        except USER_ERRORS as error:
            message = one_line(error)
            if is_sweep:
                sys.stderr.write(f"espalier: job {settings.job.num}: {message}\n")
                (folder / ERROR_FILE).write_text(message + "\n", encoding="utf-8")
            else:
                self.failure = message if "resume=" in message else message + _resume_hint(folder)
        if is_sweep:
            self.sweep = folder.parent


def _resume_hint(folder: Path) -> str:
    """How to go on, where more was evaluated than the original."""
    journal = folder / JOURNAL_FILE
    if journal.exists() and journal.read_bytes().count(b"\n") > 1:
        return f" (what was evaluated is kept: espalier search resume={folder})"
    return ""


def _check_sweep(folder: Path) -> None:
    failed = sorted(folder.glob(f"*/{ERROR_FILE}"))
    if failed:
        jobs = ", ".join(path.parent.name for path in failed)
        raise EspalierError(f"{len(failed)} of the sweep's jobs failed ({jobs}); see {failed[0]}")
