"""Tiles that were found before, by the signature of their layer."""

import dataclasses
from pathlib import Path
from typing import Any

from ...errors import EspalierError
from ...files import cache_folder, read_json, write_json
from ..compiler.emit.tiles import TILES, Tile

__all__ = ["TileCache"]

#: Of the file; another number's files are not read.
_VERSION = 2


class TileCache:
    """A JSON file.

    Args:
        path: Of the file; "kernel_tiles.json" in the cache folder when None.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or cache_folder() / "kernel_tiles.json"
        self._tiles = self._read()

    def get(self, signature: str) -> Tile | None:
        """The tile of a layer; None where it was never tuned."""
        return self._tiles.get(signature)

    def put(self, signature: str, tile: Tile) -> None:
        """Remember a tile; `save` writes it down."""
        self._tiles[signature] = tile

    def save(self) -> None:
        """Write the file, with what others wrote meanwhile."""
        self._tiles = {**self._read(), **self._tiles}
        tiles = {
            signature: {"kind": tile.kind, **dataclasses.asdict(tile)}
            for signature, tile in sorted(self._tiles.items())
        }
        write_json(self._path, {"version": _VERSION, "tiles": tiles})

    def _read(self) -> dict[str, Tile]:
        """What the file holds; nothing where it is missing or damaged, for it can be made anew."""
        try:
            content: Any = read_json(self._path, "tuned tiles")
            if content["version"] != _VERSION:
                return {}
            return {signature: _tile(**genes) for signature, genes in content["tiles"].items()}
        except (EspalierError, KeyError, TypeError, AttributeError):
            return {}


def _tile(kind: str, **genes: Any) -> Tile:
    return TILES[kind](**genes)
