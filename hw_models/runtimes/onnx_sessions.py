"""Sessions of ONNX Runtime with a fixed number of threads, on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

__all__ = ["make_session"]


def make_session(model: bytes, threads: int, optimise: bool = True, save_to: Path | None = None) -> Any:
    """Load a model.

    Args:
        model: The ONNX file's content.
        threads: Threads that an inference may use.
        optimise: Whether to apply all of the engine's graph optimisations, or none.
        save_to: Where to write the optimised model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
