"""Finding the classes and functions that a configuration names, and saying why one cannot be found."""

import importlib
import importlib.util

from ..errors import EspalierError
from .suggestions import did_you_mean

__all__ = ["located"]

_WHERE = "its folder must be on PYTHONPATH, or its package installed"


def located(path: str, target: str) -> object:
    """What a dotted path leads to, its modules imported.

    Hydra's own function does the same, but writes to the standard error where it fails.

    Args:
        path: The option that holds it, such as "model._target_".
        target: Such as "my_package.MyNet".

    Raises:
        EspalierError: It cannot be imported: says which part, and why.
    """
    failed = f"{path}={target!r} cannot be imported"
    first, *rest = target.split(".")
    if not all([first, *rest]) or not rest:
        raise EspalierError(f"{failed}: expected MODULE.NAME, such as my_package.MyNet")
    place = first
    found: object = _module(first, failed)
    for name in rest:
        if not hasattr(found, name) and hasattr(found, "__path__") and _exists(f"{place}.{name}"):
            _module(f"{place}.{name}", failed)
        if not hasattr(found, name):
            near = did_you_mean(name, [known for known in dir(found) if not known.startswith("_")])
            raise EspalierError(f"{failed}: {place} has no {name!r}" + (near if "known" not in near else ""))
        found, place = getattr(found, name), f"{place}.{name}"
    return found


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _module(name: str, failed: str) -> object:
    if not _exists(name):
        raise EspalierError(f"{failed}: there is no module {name!r}; {_WHERE}")
    try:
        return importlib.import_module(name)
    except Exception as error:  # the module is the user's: it can fail in any way
        reason = " ".join(str(error).split())
        raise EspalierError(f"{failed}: importing {name} ended in {type(error).__name__}: {reason}") from error
