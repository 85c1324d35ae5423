"""The errors that a user's input can cause, each one line long."""

__all__ = ["DataError", "DemandError", "EspalierError", "FormatError", "ModelError"]


class EspalierError(ValueError):
    """What a user can get wrong; the command line prints it as one line and exits with status 2."""


class DataError(EspalierError):
    """A data set is missing, truncated or not what it says it is."""


class DemandError(EspalierError):
    """A demand that no plan of the search space can meet, or that contradicts itself."""


class FormatError(EspalierError):
    """A file of Espalier's own formats (plan, table, model, summary) cannot be read."""


class ModelError(EspalierError):
    """A model cannot be traced, loaded or compressed."""
