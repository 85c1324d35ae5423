"""Architecture strings into operators, against networks of PyTorch that are built from the papers."""

from collections import Counter

import numpy as np
import pytest
import torch
from espalier.errors import FormatError
from espalier.graph.fusion import fuse
from espalier.graph.opspec import FREE_KINDS, OpSpec
from espalier.graph.trace import trace
from espalier.hw_models.spaces.fbnet import BLOCKS, FbnetSpace
from espalier.hw_models.spaces.nasbench201 import EDGES, OPERATIONS, Nasbench201Space
from torch import nn

from tests.hw_models.spaces.networks import counted_macs, fbnet, nasbench201


def _fbnet_labels() -> list[str]:
    rng = np.random.default_rng(0)
    random = [" ".join(map(str, rng.integers(len(BLOCKS), size=22))) for _ in range(3)]
    return [*random, *(" ".join([str(block)] * 22) for block in range(len(BLOCKS)))]


def _label(cell: list[str]) -> str:
    a, b, c, d, e, f = cell
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def _executed(network: nn.Module) -> Counter[OpSpec]:
    """What an engine executes after folding batch norms and activations into convolutions."""
    graph = trace(network.eval(), torch.zeros(1, 3, 32, 32))
    fusion = fuse(graph)
    ops = []
    for operator in graph.operators:
        if operator.name in fusion.owner or operator.kind in FREE_KINDS or operator.spec.kind == "other":
            continue
        spec = operator.spec
        if operator.name in fusion.batch_norm:
            spec = spec.replace(bias=True)
        if operator.name in fusion.activation:
            spec = spec.replace(activation="relu")
        ops.append(spec)
    return Counter(ops)


@pytest.mark.parametrize("label", _fbnet_labels())
def test_fbnet_has_the_macs_of_the_network(label: str) -> None:
    network = fbnet([BLOCKS[int(one)] for one in label.split()])
    ops = FbnetSpace().parse(label).ops
    assert sum(op.macs for op in ops) == counted_macs(network)


def test_fbnet_has_the_operators_of_the_traced_network() -> None:
    label = "0 2 8 3 2 8 6 5 4 8 7 3 2 6 2 7 7 8 3 8 4 0".replace("5", "4")  # without groups: a shuffle traces apart
    ops = FbnetSpace().parse(label).ops
    assert Counter(ops) == _executed(fbnet([BLOCKS[int(one)] for one in label.split()]))


def test_groups_shuffle_their_channels_once() -> None:
    ops = FbnetSpace().parse(" ".join(["1"] + ["8"] * 21)).ops
    assert [op.kind for op in ops[:5]] == ["conv2d", "conv2d", "gather", "conv2d", "conv2d"]
    assert ops[1].groups == ops[4].groups == 2
    assert ops[3].groups == 16


def test_fbnet_decisions_are_the_blocks_by_position() -> None:
    decisions = FbnetSpace().parse(" ".join(["3"] * 21 + ["8"])).decisions
    assert decisions["block 0"] == "k3_e6"
    assert decisions["block 21"] == "skip"
    assert len(decisions) == 22


@pytest.mark.parametrize("label", ["", "1 2 3", " ".join(["9"] * 22), " ".join(["-1"] * 22), " ".join(["x"] * 22)])
def test_other_strings_are_no_fbnet(label: str) -> None:
    with pytest.raises(FormatError, match="22 block ids from 0 to 8"):
        FbnetSpace().parse(label)


@pytest.mark.parametrize(
    "cell",
    [
        ["nor_conv_3x3"] * 6,
        ["avg_pool_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_1x1", "skip_connect", "nor_conv_3x3"],
        ["nor_conv_3x3", "none", "avg_pool_3x3", "skip_connect", "none", "nor_conv_1x1"],
    ],
)
def test_nasbench201_has_the_operators_of_the_traced_network(cell: list[str]) -> None:
    edges = {edge: operation for edge, operation in zip(EDGES, cell, strict=True) if operation != "none"}
    network = nasbench201(edges)
    ops = Nasbench201Space().parse(_label(cell)).ops
    assert sum(op.macs for op in ops) == counted_macs(network)
    assert Counter(ops) == _executed(network)


def test_the_largest_cell_has_the_published_work() -> None:
    """NAS-Bench-201 gives 220.12 million multiply-accumulates for six 3x3 convolutions, 1.53 million parameters."""
    ops = Nasbench201Space().parse(_label(["nor_conv_3x3"] * 6)).ops
    assert sum(op.macs for op in ops) == pytest.approx(220.12e6, rel=1e-4)
    assert sum(op.parameters for op in ops) == pytest.approx(1.53e6, rel=3e-3)


def _kinds(cell: list[str], removes_dead_code: bool) -> int:
    return len(Nasbench201Space(removes_dead_code).parse(_label(cell)).ops)


def test_dead_code_is_removed_as_the_measurements_show() -> None:
    conv, none = "nor_conv_3x3", "none"
    dead_sum = [conv, conv, conv, conv, none, none]  # node 2 adds two edges, nobody reads it, node 1 feeds only it
    alone = [none, none, none, conv, none, none]
    assert _kinds(dead_sum, True) == _kinds(alone, True) == _kinds(alone, False) < _kinds(dead_sum, False)
    still_read = [conv, conv, conv, conv, conv, none]  # node 1 has another reader
    assert _kinds(still_read, True) == _kinds([conv, none, none, conv, conv, none], False)
    lone = [none, conv, none, conv, none, none]
    assert _kinds(lone, True) == _kinds(lone, False)
    whole = [conv] * 6
    assert _kinds(whole, True) == _kinds(whole, False)


@pytest.mark.parametrize(
    "cell", [["none"] * 6, ["nor_conv_3x3", *["none"] * 5], [*["none"] * 4, *["nor_conv_3x3"] * 2]]
)
def test_a_network_that_ignores_its_input_is_all_dead(cell: list[str]) -> None:
    assert Nasbench201Space(removes_dead_code=True).parse(_label(cell)).ops == ()
    assert Nasbench201Space().parse(_label(cell)).ops


def test_nasbench201_decisions_are_edges_as_written_and_as_executed() -> None:
    cell = ["nor_conv_3x3", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "none", "none"]
    decisions = Nasbench201Space().parse(_label(cell)).decisions
    assert [decisions[f"edge {a}-{b}"] for a, b in EDGES] == cell
    assert [decisions[f"live {a}-{b}"] for a, b in EDGES] == ["none", "none", "none", "nor_conv_1x1", "none", "none"]
    assert set(decisions.values()) <= set(OPERATIONS)


@pytest.mark.parametrize("label", ["", "|none~0|", _label(["conv"] * 6), _label(["none"] * 6) + "|", "|none~1|" * 6])
def test_other_strings_are_no_nasbench201(label: str) -> None:
    with pytest.raises(FormatError, match="NAS-Bench-201 architecture looks like"):
        Nasbench201Space().parse(label)
