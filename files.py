"""Reading and writing files so that a crash never leaves half of one."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from .errors import EspalierError, FormatError

__all__ = [
    "atomic_folder",
    "atomic_path",
    "cache_folder",
    "check_cache_folder",
    "content_hash",
    "read_json",
    "write_bytes",
    "write_json",
    "write_text",
]


def cache_folder() -> Path:
    """The folder of what can be recomputed: trained models, banks, tables, evaluations.

    It is ``$ESPALIER_CACHE`` when set, else the user's cache folder of the operating system.
    """
    return Path(os.environ.get("ESPALIER_CACHE") or platformdirs.user_cache_path("espalier"))


def check_cache_folder() -> None:
    """Make sure that the cache folder can be written into, before hours of work are to be kept there.

    Raises:
        EspalierError: It cannot.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        advice = "set ESPALIER_CACHE to a folder that can be written"
        raise EspalierError(f"cannot write into the cache folder {folder}: {reason}; {advice}") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends without an error.

    Args:
        path: The file that appears whole or not at all; its folder is created.

    Yields:
        The path to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        try:
            yield temporary
        except OSError as error:
            # A full disk names no file.
            error.filename = error.filename or str(path)
            raise
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes private files; what we write is meant to be shared like any other file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of the folder `path` when the block ends without an error.

    Args:
        path: The folder that appears whole or not at all; the folder above it is made.

    Yields:
        The folder to write into.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        fresh = Path(name) / "fresh"
        fresh.mkdir()
        yield fresh
        if path.exists():
            path.replace(Path(name) / "old")
        fresh.replace(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step that a crash cannot halve."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` in one step that a crash cannot halve."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; not-a-number and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        what: What the file should hold, for the error message, such as "a plan".

    Raises:
        FormatError: The file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(f"cannot read {what} from {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise FormatError(f"{path} is not {what}: not valid JSON ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def content_hash(*parts: bytes | str) -> str:
    """A hash of 32 hexadecimal digits (128 bits of SHA-256) that tells `parts` and their borders apart."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:32]
