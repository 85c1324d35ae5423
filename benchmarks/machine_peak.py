"""The processor's peak, and C for benchmarks."""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.toolchain import find_toolchain

__all__ = ["built", "peak_gflops"]

#: Independent chains of multiplications and additions, and steps of a measurement.
_CHAINS, _STEPS = 12, 2_000_000

_PEAK = """
typedef float v __attribute__((vector_size({bytes})));
float peak(long steps) {{
  v s[{chains}], a = (v){{}} + 1.0f, b = (v){{}} + 1e-9f;
  __asm__ volatile("" : "+x"(a), "+x"(b));
  for (int k = 0; k < {chains}; k++) s[k] = (v){{}} + (float)k;
  for (long i = 0; i < steps; i++) {{
{body}
  }}
  v sum = s[0];
  for (int k = 1; k < {chains}; k++) sum += s[k];
  return sum[0];
}}
"""


def built(source: str) -> ctypes.CDLL:
    """A library of some C for this machine."""
    with TemporaryDirectory() as folder:
        file, library = Path(folder) / "benchmark.c", Path(folder) / "benchmark.so"
        file.write_text(f"#pragma GCC visibility push(default)\n{source}", encoding="utf-8")
        find_toolchain().library(file, library, host_instruction_set())
        return ctypes.CDLL(str(library))


def peak_gflops(threads: int = 1) -> float:
    """Most GFLOP/s in registers, the best of ten measurements."""
    isa = host_instruction_set()
    body = "\n".join(f"    s[{k}] = s[{k}] * a + b;" for k in range(_CHAINS))
    peak = built(_PEAK.format(bytes=isa.vector_bytes, chains=_CHAINS, body=body)).peak
    peak.argtypes, peak.restype = [ctypes.c_long], ctypes.c_float
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(10):
            started = time.perf_counter()
            list(pool.map(peak, [_STEPS] * threads))
            seconds.append(time.perf_counter() - started)
    return 2e-9 * threads * _CHAINS * isa.lanes * _STEPS / min(seconds)
