"""One line about a failure inside somebody else's forward."""

import linecache
import traceback
from pathlib import Path

import torch

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)


def describe_failure(error: BaseException) -> str:
    """The first line of `error`, and the last line of the model's own code that led to it, if any."""
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    if not frames:
        return message
    last = frames[-1]
    source = linecache.getline(last.filename, last.lineno or 0).strip()
    return f"`{source}` ({Path(last.filename).name}:{last.lineno}): {message}"


def _is_users(filename: str) -> bool:
    return not filename.startswith((_TORCH, _OURS, "<"))
