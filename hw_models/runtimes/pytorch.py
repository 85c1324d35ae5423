"""PyTorch in inference mode as an engine."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ...graph.describe import ACTIVATIONS
from ...graph.layers import executable
from ...graph.opspec import FLOAT_BITS, OpSpec
from ...kernels.integer import IntegerConv2d, IntegerLinear

__all__ = ["PyTorchRuntime", "single_operator"]

Call = Callable[[], object]


class PyTorchRuntime:
    """Eager PyTorch; 8-bit layers run on oneDNN's integer kernels.

    Args:
        threads: Threads that an inference may use.
    """

    name = "torch"
    keeps_integers = False

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def versions(self) -> dict[str, str]:
        """Version of PyTorch."""
        return {"torch": torch.__version__}

    def operator(self, spec: OpSpec) -> Call:
        """One operator as a module call."""
        module, inputs = single_operator(spec)
        return self._call(module, inputs)

    def network(self, module: nn.Module, example_input: Tensor, onnx_file: Path | None = None) -> "_TorchNetwork":  # noqa: ARG002
        """The network itself, its simulated integer layers replaced by real ones."""
        return _TorchNetwork(executable(_channels_last(module)), example_input, self)

    def call_overhead(self) -> tuple[Call, Call, int]:
        """Identity modules: their number decides nothing but the overhead of calling modules."""
        one, many = nn.Sequential(nn.Identity()), nn.Sequential(*(nn.Identity() for _ in range(11)))
        inputs = (torch.zeros(1, 1),)
        return self._call(one, inputs), self._call(many, inputs), 10

    def _call(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Call:
        def call() -> object:
            with self.limited_threads(), torch.inference_mode():
                return module(*inputs)

        return call

    @contextlib.contextmanager
    def limited_threads(self) -> Iterator[None]:
        """Give PyTorch this engine's threads for a while."""
        before = torch.get_num_threads()
        if before == self.threads:
            yield
            return
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class _TorchNetwork:
    def __init__(self, module: nn.Module, example_input: Tensor, runtime: PyTorchRuntime) -> None:
        self._module = module
        self._example = _laid_out(example_input)
        self._runtime = runtime

    def __call__(self) -> object:
        return self.outputs(self._example)

    def outputs(self, inputs: Tensor) -> Tensor:
        with self._runtime.limited_threads(), torch.inference_mode():
            result: Tensor = self._module(inputs)
        return result


def _channels_last(module: nn.Module) -> nn.Module:
    """A copy laid out as oneDNN's kernels read it, so that no call converts weights."""
    return copy.deepcopy(module).to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


class _Sum(nn.Module):
    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = first + other
        return first


class _Product(nn.Module):
    def forward(self, inputs: Tensor, *others: Tensor) -> Tensor:
        return inputs * (others[0] if others else 2.0)


class _Concat(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, 1)


class _Gather(nn.Module):
    """Copies channels, pixels or padding, as the shapes say."""

    def __init__(self, spec: OpSpec) -> None:
        super().__init__()
        self.order = torch.randperm(spec.input_shape[0])
        self.output_shape = spec.output_shape
        self.same = spec.input_shape == spec.output_shape

    def forward(self, inputs: Tensor) -> Tensor:
        if self.same:
            return inputs.index_select(1, self.order)
        copy = inputs.new_zeros(1, *self.output_shape)
        sizes = [min(a, b) for a, b in zip(inputs.shape[1:], self.output_shape, strict=False)]
        region = (slice(None), *(slice(size) for size in sizes))
        copy[region] = inputs[region]
        return copy


class _MatMul(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left @ right


class _Quantize(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        codes: Tensor = torch.ops.quantized_decomposed.quantize_per_tensor(inputs, 0.02, 0, 0, 255, torch.uint8)
        return codes


class _IntegerOperator(nn.Module):
    """A convolution or linear layer from uint8 codes to floats, and its activation."""

    def __init__(self, spec: OpSpec) -> None:
        super().__init__()
        outputs = spec.output_shape[0]
        rest = (spec.input_shape[0] // spec.groups, *spec.kernel) if spec.kind == "conv2d" else spec.input_shape
        codes = torch.randint(-127, 128, (outputs, *rest), dtype=torch.int8)
        scale, bias, grid = torch.full((outputs,), 0.01), torch.zeros(outputs), (0.02, 0)
        self.layer: IntegerConv2d | IntegerLinear
        if spec.kind == "conv2d":
            moves = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation}
            self.layer = IntegerConv2d(codes, scale, bias, **moves, groups=spec.groups, input_grid=grid)
        else:
            self.layer = IntegerLinear(codes, scale, bias, input_grid=grid)
        self.activation = _activation(spec) if spec.activation else nn.Identity()

    def forward(self, codes: Tensor) -> Tensor:
        result: Tensor = self.activation(self.layer.compute(codes))
        return result


def single_operator(spec: OpSpec) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A module that executes one operator, and random inputs for it.

    Args:
        spec: Any descriptor; kinds that are not known are represented by an elementwise product of their size.
    """
    if spec.bits != FLOAT_BITS:
        return _IntegerOperator(spec), (torch.randint(0, 256, (1, *spec.input_shape), dtype=torch.uint8),)
    inputs = tuple(torch.rand(1, *shape) for shape in _input_shapes(spec))
    build = _BUILDERS.get(spec.kind)
    module = build(spec) if build else _Product()
    if spec.activation and spec.kind != "activation":
        module = nn.Sequential(module, _activation(spec))
    return _channels_last(module.eval().requires_grad_(False)), tuple(map(_laid_out, inputs))


def _laid_out(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def _input_shapes(spec: OpSpec) -> list[tuple[int, ...]]:
    if spec.kind == "concat":
        rest = spec.output_shape[0] - spec.input_shape[0]
        count = max(1, spec.n_inputs - 1)
        parts = [rest // count + (1 if part < rest % count else 0) for part in range(count)]
        return [spec.input_shape, *((part, *spec.input_shape[1:]) for part in parts if part)]
    if spec.kind == "matmul":
        return [spec.input_shape, (*spec.input_shape[:-2], spec.input_shape[-1], spec.output_shape[-1])]
    return [spec.input_shape] * spec.n_inputs


def _conv(spec: OpSpec) -> nn.Module:
    layer = nn.Conv2d if spec.kind == "conv2d" else nn.ConvTranspose2d
    return layer(
        spec.input_shape[0],
        spec.output_shape[0],
        spec.kernel,
        spec.stride,
        spec.padding,
        dilation=spec.dilation,
        groups=spec.groups,
        bias=spec.bias,
    )


class _Recurrent(nn.Module):
    """A recurrent layer without its last state."""

    def __init__(self, spec: OpSpec) -> None:
        super().__init__()
        layer = nn.GRU if spec.kind == "gru" else nn.LSTM
        sizes = spec.input_shape[-1], spec.output_shape[-1] // spec.groups
        self.layer = layer(*sizes, bias=spec.bias, batch_first=True, bidirectional=spec.groups > 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)[0]
        return outputs


def _activation(spec: OpSpec) -> nn.Module:
    by_name = {name: layer for layer, name in ACTIVATIONS.items()}
    return by_name.get(spec.activation, nn.ReLU)()


def _batch_norm(spec: OpSpec) -> nn.Module:
    layer = nn.BatchNorm2d if len(spec.input_shape) == 3 else nn.BatchNorm1d
    return layer(spec.input_shape[0])


_BUILDERS: dict[str, Callable[[OpSpec], nn.Module]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv,
    "linear": lambda spec: nn.Linear(spec.input_shape[-1], spec.output_shape[-1], spec.bias),
    "matmul": lambda _: _MatMul(),
    "gru": _Recurrent,
    "lstm": _Recurrent,
    "batch_norm": _batch_norm,
    "activation": _activation,
    "add": lambda _: _Sum(),
    "concat": lambda _: _Concat(),
    "gather": _Gather,
    "max_pool2d": lambda spec: nn.MaxPool2d(spec.kernel, spec.stride, spec.padding),
    "avg_pool2d": lambda spec: nn.AvgPool2d(spec.kernel, spec.stride, spec.padding),
    "global_avg_pool2d": lambda _: nn.AdaptiveAvgPool2d(1),
    "softmax": lambda _: nn.Softmax(1),
    "quantize": lambda _: _Quantize(),
    # oneDNN's integer kernels return floats.
    "dequantize": lambda _: nn.Identity(),
}
