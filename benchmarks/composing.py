"""The configuration of `espalier search`, for scripts that call its parts themselves."""

from typing import Any

from espalier.commands.building import resolved
from espalier.commands.schema import register_schema
from hydra import compose, initialize_config_module

__all__ = ["compose_config"]


def compose_config(overrides: list[str]) -> dict[str, Any]:
    """A composed configuration as plain values, without a tracker."""
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        return resolved(compose("config", overrides=["tracker=none", *overrides]))
