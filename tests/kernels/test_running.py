"""The engine: what it accepts and refuses, threads, handles, state between runs."""

import contextlib
import copy
import gc
import os
import pickle
import platform
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.errors import EspalierError, FormatError
from espalier.kernels.compile_network import CompiledFiles
from espalier.kernels.engine import CompiledNetwork, load_compiled
from espalier.kernels.instruction_set import host_instruction_set, instruction_set
from espalier.kernels.toolchain import Toolchain, find_toolchain
from torch import Tensor, nn

from tests.kernels.programs import HOST_SETS, TOLERANCE, Compiler, error, expected
from tests.kernels.pruned import PrunedConv2d, PrunedRecurrent, prune


class _Everything(nn.Module):
    """Convolutions of every way of reading, rows that are added, a depthwise one, a linear and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 40, 3, padding=1),
            nn.ReLU(),
            prune(PrunedConv2d(40, 40, 3, padding=1), (32, 60), (0.25, 0.5)),
            nn.Conv2d(40, 40, 3, 2, 1, groups=40),
            nn.ReLU6(),
            nn.Conv2d(40, 20, 3, 2, 1),
        )
        self.gru = prune(PrunedRecurrent["gru"](20, 24, batch_first=True), (32, 8), (0.25, 0.5))
        self.lstm = nn.LSTM(24, 17, batch_first=True)
        self.classifier = nn.Linear(17, 7)

    def forward(self, inputs: Tensor) -> Tensor:
        steps = self.features(inputs).flatten(2).transpose(1, 2)
        return self.classifier(self.lstm(self.gru(steps)[0])[0][:, -1])


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return _Everything()


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return torch.randn(3, 3, 10, 17, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, module: nn.Module, inputs: Tensor) -> CompiledFiles:
    return Compiler(tmp_path_factory.mktemp("compiled")).files(module, inputs)


def _network(files: CompiledFiles, threads: int = 1) -> CompiledNetwork:
    return CompiledNetwork(files.library, files.weights, threads)


def test_threads_and_repetitions_give_the_same_bits(files: CompiledFiles, module: nn.Module, inputs: Tensor) -> None:
    first = _network(files)(inputs)
    assert error(first, expected(module, inputs)) <= TOLERANCE
    for threads in (1, 2, 3, 16):
        network = _network(files, threads)
        assert all(torch.equal(network(inputs), first) for _ in range(3))
        assert torch.equal(torch.cat([network(inputs[i : i + 1]) for i in (0, 1, 2)]), first)


def test_handles_are_independent_and_one_handle_may_be_shared(files: CompiledFiles, inputs: Tensor) -> None:
    networks = [_network(files, threads) for threads in (1, 2)] * 2
    wanted, found = networks[0](inputs), {}

    def run(place: int) -> None:
        found[place] = [networks[place](inputs) for _ in range(5)]

    workers = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(one, wanted) for results in found.values() for one in results)


def test_closing_ends_the_threads(files: CompiledFiles, inputs: Tensor) -> None:
    def n_threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = n_threads()
    network = _network(files, 5)
    assert n_threads() == before + 4
    network.close()
    network.close()
    assert n_threads() == before
    with pytest.raises(EspalierError, match="the compiled network was closed"):
        network(inputs)
    forgotten = _network(files, 3)
    assert n_threads() == before + 2
    del forgotten
    gc.collect()
    assert n_threads() == before


def test_arrays_are_read_and_written_where_they_lie(files: CompiledFiles, inputs: Tensor) -> None:
    network = _network(files)
    addresses: list[tuple[int, int]] = []
    run = network._run

    def noted(handle, given, written, batch):
        addresses.append(tuple(np.ctypeslib.as_array(one, (1,)).ctypes.data for one in (given, written)))
        return run(handle, given, written, batch)

    network._run = noted
    array, out = inputs.numpy(), np.full((3, 7), np.nan, np.float32)
    assert network(array, out=out) is out
    assert addresses == [(array.ctypes.data, out.ctypes.data)]
    found = network(inputs)
    assert isinstance(found, Tensor)
    assert np.array_equal(found.numpy(), out)
    written = torch.empty(3, 7)
    assert network(inputs, out=written) is written
    assert torch.equal(written, found)
    assert [one[0] for one in addresses] == [array.ctypes.data] * 3
    assert addresses[2][1] == written.data_ptr()


def test_what_is_not_contiguous_is_copied(files: CompiledFiles, inputs: Tensor) -> None:
    network = _network(files)
    turned = inputs.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not turned.is_contiguous()
    assert torch.equal(network(turned), network(inputs))
    assert network(inputs[:0]).shape == (0, 7)
    assert isinstance(network(inputs.numpy()), np.ndarray)
    assert network(inputs.clone().requires_grad_()).requires_grad is False


def test_what_fits_not_is_refused(files: CompiledFiles, inputs: Tensor) -> None:
    network = _network(files)
    for bad in (inputs[:, :2], inputs.flatten(1)):
        with pytest.raises(EspalierError, match=r"expected inputs of shape \(N, 3, 10, 17\), got \(3, [\d, ]+\)$"):
            network(bad)
    with pytest.raises(EspalierError, match=r"the batch axis is missing: give inputs\[None\]"):
        network(inputs[0])
    for bad in (inputs.double(), inputs.bfloat16(), inputs.to("meta"), inputs.to_sparse()):
        with pytest.raises(EspalierError, match=r"expected a dense float32 tensor on the CPU, got .*; convert it"):
            network(bad)
    for bad in (inputs.double().numpy(), inputs.tolist(), None):
        with pytest.raises(EspalierError, match=r"expected a float32 array or tensor of shape \(N, 3, 10, 17\), got"):
            network(bad)
    for out in (torch.empty(3, 7, dtype=torch.float64), torch.empty(2, 7), torch.empty(7, 3).T):
        with pytest.raises(EspalierError, match=r"out must be contiguous float32 of shape \(3, 7\), got"):
            network(inputs, out=out)
    for threads in (0, 17, 2.5, "2", None, True):
        with pytest.raises(EspalierError, match=f"threads must be a whole number from 1 to 16, got {threads!r}"):
            _network(files, threads)


def test_a_network_says_what_it_is(files: CompiledFiles) -> None:
    network = _network(files, 2)
    assert (network.input_shape, network.output_shape) == ((3, 10, 17), (7,))
    assert (network.threads, network.output_floats) == (2, 7)
    assert network.instruction_set == HOST_SETS[0] == host_instruction_set().name


def test_a_folder_or_a_library_is_loaded(files: CompiledFiles, inputs: Tensor, tmp_path: Path) -> None:
    wanted = _network(files)(inputs)
    assert torch.equal(load_compiled(files.library.parent, 2)(inputs), wanted)
    assert torch.equal(load_compiled(str(files.library))(inputs), wanted)
    with pytest.raises(FormatError, match="holds 0 shared libraries, expected the one that `espalier compile` wrote"):
        load_compiled(tmp_path)
    with pytest.raises(FormatError, match=r"there is no compiled network .*nothing\.so"):
        load_compiled(tmp_path / "nothing.so")
    shutil.copytree(files.library.parent, tmp_path / "compiled/host")
    with pytest.raises(FormatError, match=r"holds 0 shared libraries.*; give .*/compiled/host$"):
        load_compiled(tmp_path)


def test_libraries_that_are_damaged_or_of_others(files: CompiledFiles, tmp_path: Path) -> None:
    library = tmp_path / "espalier.so"
    whole = files.library.read_bytes()
    for content in (b"no library", b"", whole[:20], b"\x7fELF\x01" + whole[5:]):
        library.write_bytes(content)
        with pytest.raises(FormatError, match=r"espalier\.so is no shared library"):
            load_compiled(tmp_path)
    for length in (64, len(whole) // 2, len(whole) - 1):
        library.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=f"is cut short: {length} bytes, it should have {len(whole)}"):
            load_compiled(tmp_path)
    for machine, name in ((243, "riscv64"), (8, "processor family 8")):
        library.write_bytes(whole[:18] + machine.to_bytes(2, "little") + whole[20:])
        with pytest.raises(FormatError, match=f"is compiled for {name}, this machine is {platform.machine()}"):
            load_compiled(tmp_path)
    with pytest.raises(FormatError, match=r"is no network compiled for this machine: undefined symbol: \w+_load$"):
        CompiledNetwork(files.library, files.weights, prefix="others")


def test_a_network_is_neither_copied_nor_sent(files: CompiledFiles) -> None:
    network = _network(files)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(EspalierError, match="cannot be copied or pickled; load it again"):
            attempt(network)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_that_was_forked_off(files: CompiledFiles, inputs: Tensor, threads: int) -> None:
    """Threads stay behind: a call that waited for them would never return."""
    with _network(files, threads) as network:
        wanted = network(inputs)
        child = os.fork()
        if not child:
            status = 1
            with contextlib.suppress(EspalierError):
                status = 0 if torch.equal(network(inputs), wanted) else 2
            network.close()
            os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == (0 if threads == 1 else 1)
        assert torch.equal(network(inputs), wanted)


def test_a_folder_may_be_compiled_into_again(tmp_path: Path) -> None:
    """The loader knows libraries by their names: it must not answer with the one that was there."""
    inputs = torch.randn(1, 4)
    for outputs in (3, 5):
        compiler = Compiler(tmp_path)
        module = nn.Linear(4, outputs)
        assert error(compiler.network(module, inputs)(inputs), expected(module, inputs)) <= TOLERANCE


def test_instructions_that_the_processor_lacks_are_no_crash(compiler: Compiler) -> None:
    files = compiler.files(nn.Linear(4, 3), torch.randn(1, 4))
    text = files.source.read_text(encoding="utf-8")
    changed = text.replace("const unsigned state = ", "const unsigned state = 0x80000000u | ")
    if changed == text:
        pytest.skip("this instruction set needs nothing special")
    files.source.write_text(changed, encoding="utf-8")
    compiler.toolchain.library(files.source, files.library, instruction_set(HOST_SETS[0]))
    with pytest.raises(EspalierError, match="this processor lacks instructions that the network was compiled for"):
        _network(files)


def test_compilers_that_are_missing_or_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EspalierError, match=r"there is no C compiler 'nocc'; .* leave target\.compiler= away"):
        find_toolchain(compiler="nocc")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EspalierError, match="there is no C compiler for the target riscv64-linux-gnu: pip install"):
        find_toolchain("riscv64-linux-gnu")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EspalierError, match="there is no C compiler on this machine"):
        find_toolchain()
    monkeypatch.undo()
    source = tmp_path / "bad.c"
    source.write_text("int f(void) { return nothing; }\n", encoding="utf-8")
    with pytest.raises(EspalierError, match=r"the C compiler .* fails: bad\.c:1.*error"):
        find_toolchain().library(source, tmp_path / "bad.so", instruction_set("plain"))
    with pytest.raises(EspalierError, match="the C compiler false fails: exit status 1"):
        Toolchain(("false",)).library(source, tmp_path / "bad.so", instruction_set("plain"))
    with pytest.raises(EspalierError, match="unknown instruction set 'mmx'; known: avx512, avx2, neon, plain"):
        instruction_set("mmx")
