"""Refusing keys that no schema has: `+key=value` appends whatever is written."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import EspalierError
from .schema import DemandSchema, EnvSchema, SearchSchema, SpaceSchema, WeightsSchema
from .suggestions import unknown_option

__all__ = ["check_keys"]

#: Path of a node -> what it may hold; the other nodes belong to what they build.
_OWN = {
    "": SearchSchema,
    "env": EnvSchema,
    "space": SpaceSchema,
    "demand": DemandSchema,
    "demand.weights": WeightsSchema,
}


def check_keys(values: Mapping[str, Any]) -> None:
    """Check the keys at the top and in the nodes that no target builds.

    Args:
        values: The whole configuration.

    Raises:
        EspalierError: Names a key that does not exist, and the nearest that does.
    """
    for path, schema in _OWN.items():
        node: Any = values
        for name in path.split(".") if path else ():
            node = node.get(name) if isinstance(node, Mapping) else None
        known = [entry.name for entry in fields(schema)]
        for key in node if isinstance(node, Mapping) else ():
            if key not in known:
                raise EspalierError(unknown_option(f"{path}.{key}" if path else str(key), known))
