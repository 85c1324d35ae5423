"""Layers in compressed sparse rows: im2col, then SciPy, PyTorch or a loop in C."""

import ctypes
from collections.abc import Callable

import numpy as np
import torch
from machine_peak import built
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sparse_cases import example, pruned
from torch import Tensor, nn

__all__ = ["csr_c", "csr_scipy", "csr_torch"]

Call = Callable[[], object]
Floats = NDArray[np.float32]

#: Rows times vectors of pixels: each kept weight is loaded once and multiplies a run of numbers; with one column of
#: inputs, rows are scalar products.
_CSR = """
#include <stdint.h>
void product(const int32_t *starts, const int32_t *columns, const float *values, const float *restrict x,
             float *restrict y, int rows, int n) {
  if (n == 1) {
    for (int r = 0; r < rows; r++) {
      float sum = 0;
      for (int k = starts[r]; k < starts[r + 1]; k++) sum += values[k] * x[columns[k]];
      y[r] = sum;
    }
    return;
  }
  for (int r = 0; r < rows; r++) {
    float *restrict out = y + (long)r * n;
    for (int i = 0; i < n; i++) out[i] = 0;
    for (int k = starts[r]; k < starts[r + 1]; k++) {
      const float w = values[k], *restrict in = x + (long)columns[k] * n;
      for (int i = 0; i < n; i++) out[i] += w * in[i];
    }
  }
}
"""


def _layer(file: str) -> tuple[Tensor, Callable[[], Tensor]]:
    """The matrix of a network of one layer, "NAME@RATE", and what makes its inputs, a column for each pixel."""
    name, rate = file.split("@")
    (layer,) = (one for one in pruned(name, float(rate)).modules() if isinstance(one, nn.Conv2d | nn.Linear))
    inputs = example(name)
    if isinstance(layer, nn.Linear):
        return layer.weight, lambda: inputs.T
    unfold = nn.Unfold(layer.kernel_size, padding=layer.padding)
    return layer.weight.flatten(1), lambda: unfold(inputs)[0]


def csr_scipy(file: str, threads: int) -> Call:
    """SciPy's sparse product."""
    torch.set_num_threads(threads)
    weight, columns = _layer(file)
    matrix = csr_array(weight.numpy())
    return lambda: matrix @ columns().numpy()


def csr_torch(file: str, threads: int) -> Call:
    """PyTorch's sparse product."""
    torch.set_num_threads(threads)
    weight, columns = _layer(file)
    matrix = weight.to_sparse_csr()
    return lambda: matrix @ columns()


def csr_c(file: str, threads: int) -> Call:
    """A loop in C, in one thread."""
    torch.set_num_threads(threads)
    weight, columns = _layer(file)
    matrix = csr_array(weight.numpy())
    product = built(_CSR).product
    pointer = ctypes.c_void_p
    product.argtypes = [*[pointer] * 5, ctypes.c_int, ctypes.c_int]
    starts, indices = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32)
    values = matrix.data.astype(np.float32)
    outputs = np.empty((len(starts) - 1, columns().shape[1]), np.float32)

    def call() -> Floats:
        given = columns().contiguous().numpy()
        arrays = (starts, indices, values, given, outputs)
        product(*(array.ctypes.data for array in arrays), *outputs.shape)
        return outputs

    return call
