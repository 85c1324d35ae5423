"""RAPL, the energy counters of x86 processors, as Linux shows them in its power capping framework."""

from pathlib import Path

from ...errors import EspalierError

__all__ = ["RaplCounter"]

_ROOT = Path("/sys/class/powercap")

#: Packages stand at the top, as intel-rapl:0; their parts (core, uncore, dram) are intel-rapl:0:0 and count again.
_PACKAGES = "intel-rapl:*"

_MICROJOULES_PER_MILLIJOULE = 1000.0


class RaplCounter:
    """Energy of all processor packages of this machine, whoever uses them.

    Source: Linux, Documentation/power/powercap/powercap.rst: `energy_uj` counts microjoules and starts again from 0
    after `max_energy_range_uj`. AMD's processors have the same files.

    Args:
        root: Folder of the power capping framework.

    Raises:
        EspalierError: There is no counter, or no permission to read it.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        zones = [path for path in sorted(root.glob(_PACKAGES)) if path.name.count(":") == 1]
        self._zones = [path for path in zones if _is_package(path)]
        if not self._zones:
            raise EspalierError(
                f"this machine shows no RAPL energy counter in {root} (virtual machines and processors other than x86 "
                "have none)"
            )
        self._ranges = [_number(path / "max_energy_range_uj") for path in self._zones]
        self._last = self._read()
        self._total_uj = 0

    @property
    def name(self) -> str:
        """Which packages are counted."""
        count = len(self._zones)
        return f"RAPL, {count} processor package{'s' if count > 1 else ''} as a whole"

    def read_mj(self) -> float:
        """Millijoules since the counter was opened, of all packages together.

        A package counts to its range and starts again: at 200 W a range of 262 kJ lasts for twenty minutes.

        Raises:
            EspalierError: The counter cannot be read any more.
        """
        now = self._read()
        for value, before, limit in zip(now, self._last, self._ranges, strict=True):
            self._total_uj += value - before if value >= before else value - before + limit
        self._last = now
        return self._total_uj / _MICROJOULES_PER_MILLIJOULE

    def _read(self) -> list[int]:
        return [_number(path / "energy_uj") for path in self._zones]


def _is_package(zone: Path) -> bool:
    """Whether a zone is a package; "psys", the whole platform, contains the packages."""
    try:
        return (zone / "name").read_text(encoding="ascii").startswith("package")
    except OSError:
        return False


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except PermissionError as error:
        raise EspalierError(
            f"no permission to read the energy counter {path}: since CVE-2020-8694 it belongs to root; let your user "
            "read it (sudo chmod a+r), or choose another energy"
        ) from error
    except (OSError, ValueError) as error:
        raise EspalierError(f"the energy counter {path} cannot be read: {error}") from error
