"""NVML, the energy counter of NVIDIA's graphics processors (Volta and later)."""

from typing import Any

from ...errors import EspalierError

__all__ = ["NvmlCounter"]


class NvmlCounter:
    """Energy of one graphics processor, whoever uses it.

    Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption: millijoules since the driver was loaded.

    Args:
        index: Which graphics processor.

    Raises:
        EspalierError: The extra 'nvml' is missing, or there is no such processor or counter.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml  # noqa: PLC0415  # an optional dependency
        except ImportError as error:
            raise EspalierError("the energy counter 'nvml' needs pynvml: pip install 'espalier[nvml]'") from error
        self._nvml: Any = pynvml
        try:
            self._nvml.nvmlInit()
            self._device = self._nvml.nvmlDeviceGetHandleByIndex(index)
            model = self._nvml.nvmlDeviceGetName(self._device)
            self._start = self._read()
        except self._nvml.NVMLError as error:
            raise EspalierError(f"the energy of graphics processor {index} cannot be read: {error}") from error
        self._model = model.decode() if isinstance(model, bytes) else str(model)

    @property
    def name(self) -> str:
        """Which processor is counted."""
        return f"NVML, {self._model} as a whole"

    def read_mj(self) -> float:
        """Millijoules since the counter was opened.

        Raises:
            EspalierError: The counter cannot be read any more.
        """
        try:
            return float(self._read() - self._start)
        except self._nvml.NVMLError as error:
            raise EspalierError(f"the energy counter of {self._model} cannot be read: {error}") from error

    def _read(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device))
