"""`espalier profile --export-runner`: measuring on a device that has no Espalier."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ..errors import EspalierError
from ..finish.network_timing import NetworkTimer
from ..hw_models.collector import OperatorCollector
from ..hw_models.profiled_device import ProfiledDevice
from ..hw_models.profiling.adaptive import Sampling
from ..hw_models.runtimes.runtime import make_runtime, missing_modules
from ..progress import results, step
from ..tasks.task import Task
from .building import build_device, resolved
from .search import prepare_evaluator

if TYPE_CHECKING:
    from ..hw_models.runner.export import WholeNetwork

__all__ = ["export", "export_folder"]

_FLAG = "--export-runner"


def export_folder(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder after the flag, if it is given, and the other arguments.

    Raises:
        EspalierError: The flag stands without a folder.
    """
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith(f"{_FLAG}=") else [word])]
    if _FLAG not in words:
        return None, words
    place = words.index(_FLAG)
    folder = words[place + 1] if place + 1 < len(words) else ""
    if not folder or folder.startswith("-") or "=" in folder:
        raise EspalierError(f"{_FLAG} needs the name of a folder to write, such as {_FLAG} runner")
    return Path(folder).expanduser(), [*words[:place], *words[place + 2 :]]


def export(folder: Path, config: DictConfig, _: Path) -> None:
    """Write what a device needs to measure the operators of a search space.

    Args:
        folder: Where to write.
        config: The composed configuration.

    Raises:
        EspalierError: The folder is not empty, or a library is missing.
    """
    values = resolved(config)
    if missing := missing_modules("onnx", "onnxruntime", "onnxscript"):
        raise EspalierError(f"{_FLAG} needs {', '.join(missing)}: pip install 'espalier[export]'")
    from ..hw_models.runner.export import check_empty, export_runner  # noqa: PLC0415  # needs an optional dependency

    check_empty(folder)  # before the network is trained and its variants are made
    device = build_device(values)
    live = device if isinstance(device, ProfiledDevice) else None
    collector = OperatorCollector()
    task, surveyed, bank, _ = prepare_evaluator(values, collector)
    timer = NetworkTimer(task, surveyed, bank, make_runtime("onnxruntime", 1))
    networks = _networks(timer, task, live.networks if live else 0)
    count = export_runner(collector.ops, folder, live.sampling if live else Sampling(), networks)
    also = f" and {len(networks)} networks" if networks else ""
    results().print(f"{count} operators{also}: copy {folder} to the device and read its README.txt", soft_wrap=True)


def _networks(timer: NetworkTimer, task: Task, count: int) -> "list[WholeNetwork]":
    """Networks of the search space as ONNX files."""
    from ..hw_models.runner.export import WholeNetwork  # noqa: PLC0415  # needs an optional dependency
    from ..hw_models.runtimes.onnx_export import export_onnx  # noqa: PLC0415  # needs an optional dependency

    wanted = timer.different(count) if count else {}
    found = []
    with TemporaryDirectory() as temporary, step("exporting networks", len(wanted)) as advance:
        for label, plan in wanted.items():
            path = Path(temporary) / f"{label}.onnx"
            export_onnx(timer.network(plan), task.example_input, path)
            found.append(WholeNetwork(label, timer.operators(plan), path.read_bytes()))
            advance()
    return found
