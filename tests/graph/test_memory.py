"""Peak memory: by hand on chains, by simulation on random networks. Couplings and fusions on hand-made graphs."""

import random

import pytest
from espalier.graph.coupling import couplings, producers
from espalier.graph.fusion import fuse
from espalier.graph.graph import INPUT, Graph, Operator
from espalier.graph.memory import peak_activation_bytes
from espalier.graph.opspec import OpSpec


def _operator(name: str, kind: str, source: int, size: int, *inputs: str) -> Operator:
    spec = OpSpec(kind, (source, 1, 1), (size, 1, 1), n_inputs=max(1, len(inputs)))
    return Operator(name, name if kind == "conv2d" else "", (spec,), inputs or (INPUT,))


def test_a_chain_holds_two_tensors_at_a_time() -> None:
    chain = [
        _operator("a", "conv2d", 3, 10, INPUT),
        _operator("b", "conv2d", 10, 7, "a"),
        _operator("c", "conv2d", 7, 12, "b"),
    ]
    assert peak_activation_bytes(chain, (3, 1, 1), "c") == (7 + 12) * 4


def test_a_shortcut_stays_until_it_is_read() -> None:
    operators = [
        _operator("a", "conv2d", 3, 10, INPUT),
        _operator("b", "conv2d", 10, 20, "a"),
        _operator("c", "conv2d", 20, 10, "b"),
        _operator("d", "add", 10, 10, "c", "a"),
    ]
    assert peak_activation_bytes(operators, (3, 1, 1), "d") == (10 + 20 + 10) * 4


def test_views_take_nothing_and_keep_their_source() -> None:
    operators = [
        _operator("a", "conv2d", 3, 10, INPUT),
        _operator("view", "reshape", 10, 10, "a"),
        _operator("b", "conv2d", 10, 8, "a"),
        _operator("c", "add", 8, 8, "b", "view"),
    ]
    assert peak_activation_bytes(operators, (3, 1, 1), "c") == (10 + 8 + 8) * 4


def test_the_inner_tensors_of_a_layer_of_several_operators_are_freed_as_in_a_chain() -> None:
    inner = tuple(OpSpec("conv2d", (i, 1, 1), (o, 1, 1)) for i, o in ((5, 9), (9, 30), (30, 2)))
    operators = [Operator("a", "a", inner, (INPUT,))]
    assert peak_activation_bytes(operators, (5, 1, 1), "a") == (5 + 9 + 30) * 4


def test_eight_bit_codes_take_a_byte() -> None:
    specs = (OpSpec("quantize", (6, 1, 1), (6, 1, 1)), OpSpec("conv2d", (6, 1, 1), (4, 1, 1), bits=8))
    assert peak_activation_bytes([Operator("a", "a", specs, (INPUT,))], (6, 1, 1), "a") == 6 * 4 + 6 + 4


def _random_network(rng: random.Random) -> tuple[list[Operator], str]:
    sizes, operators = {INPUT: 4}, []
    for index in range(rng.randint(3, 12)):
        inputs = rng.sample(sorted(sizes), k=min(len(sizes), rng.choice([1, 1, 2])))
        kind = "add" if len(inputs) == 2 else rng.choice(["conv2d", "activation", "reshape"])
        size = sizes[inputs[0]] if kind == "reshape" else rng.randint(1, 40)
        operators.append(_operator(f"n{index}", kind, sizes[inputs[0]], size, *inputs))
        sizes[f"n{index}"] = size
    return operators, rng.choice(operators).name  # what follows the output is computed and read by nobody


def _simulated_peak(operators: list[Operator], output: str) -> int:
    """Run with reference counts: a buffer goes when nobody is left to read it or any view of it."""
    buffer, buffers, peak = {INPUT: INPUT}, {INPUT: 4}, 4
    for step, operator in enumerate(operators):
        if operator.kind == "reshape":
            buffer[operator.name] = buffer[operator.inputs[0]]
        else:
            buffer[operator.name] = operator.name
            buffers[operator.name] = operator.output_shape[0]
            peak = max(peak, sum(buffers.values()))
        wanted = {output} | {name for later in operators[step + 1 :] for name in later.inputs}
        needed = {buffer[name] for name in wanted if name in buffer}
        buffers = {name: size for name, size in buffers.items() if name in needed}
    return 4 * peak


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_peak_where_a_simulation_does(seed: int) -> None:
    operators, output = _random_network(random.Random(seed))
    expected = _simulated_peak(operators, output)
    assert peak_activation_bytes(operators, (4, 1, 1), output) == expected


def _graph(*operators: Operator) -> Graph:
    return Graph(operators, (4, 1, 1), operators[-1].name, "torch.fx")


def test_a_tensor_added_to_itself_ties_nothing() -> None:
    doubled = _graph(_operator("a", "conv2d", 4, 4), _operator("sum", "add", 4, 4, "a", "a"))
    assert couplings(doubled) == ()


def test_producers_are_found_once_along_all_ways_back() -> None:
    diamond = _graph(
        _operator("a", "conv2d", 4, 4),
        _operator("relu", "activation", 4, 4, "a"),
        _operator("left", "activation", 4, 4, "relu"),
        _operator("right", "activation", 4, 4, "relu"),
        _operator("sum", "add", 4, 4, "left", "right"),
        _operator("skip", "add", 4, 4, "sum", INPUT),
    )
    assert producers(diamond, "sum") == ("a",)
    assert set(producers(diamond, "skip")) == {"a", INPUT}
    assert [(coupling.kind, coupling.at) for coupling in couplings(diamond)] == [("add", "sum"), ("add", "skip")]


def test_two_readers_without_a_tie_are_no_coupling() -> None:
    stacked = _graph(
        _operator("a", "conv2d", 4, 4), _operator("b", "conv2d", 4, 4), _operator("c", "other", 4, 4, "a", "b")
    )
    assert couplings(stacked) == ()


def test_what_is_read_twice_or_put_out_is_not_merged() -> None:
    conv, relu = _operator("a", "conv2d", 4, 4), OpSpec("activation", (4, 1, 1), (4, 1, 1), activation="relu")
    follower = Operator("relu", "", (relu,), ("a",))
    assert fuse(_graph(conv, follower)).activation == {"a": "relu"}
    read_twice = _graph(conv, follower, _operator("sum", "add", 4, 4, "relu", "a"))
    assert fuse(read_twice).owner == {}
    put_out = Graph((conv, follower), (4, 1, 1), "a", "torch.fx")
    assert fuse(put_out).owner == {}
