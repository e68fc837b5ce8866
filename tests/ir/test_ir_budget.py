"""Time of the IR itself, in microseconds a node: building, replaying, hashing, printing, parsing,
verifying. Several times what they take on an idle machine; a quadratic step would take more."""

import gc
import time

import pytest

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.diff import structural_hash
from graphc.ir.text import parse, print_graph
from graphc.ir.types import parse_type
from graphc.ir.verify import verify

LAYERS = 1_000  # of four nodes
ROOM = 4
MICROSECONDS_A_NODE = {
    "build": 12, "replay": 3, "hash": 4, "print": 4, "parse": 25, "verify": 8,
}  # fmt: skip


def build():
    with Builder() as b:
        x, w, bias = [b.param(parse_type("f32[8, 8]")) for _ in range(3)]
        for i in range(LAYERS):
            b.loc = f"net.py:{i} in forward"
            h = ops.dot(x, w, contract=((1,), (0,)))
            h = ops.tanh(ops.add(h, bias))
            x = ops.mul(h, x)
        return b.graph([x])


def replay(graph):
    with Builder() as b:
        b.replay(graph, [b.param(p.type) for p in graph.params])


@pytest.fixture(scope="module")
def graph():
    return build()


@pytest.mark.parametrize("name", MICROSECONDS_A_NODE)
def test_time_a_node(name, graph):
    text = print_graph(graph)
    assert len(graph.nodes) == 4 * LAYERS
    work = {
        "build": build, "replay": lambda: replay(graph), "hash": lambda: structural_hash(graph),
        "print": lambda: print_graph(graph), "parse": lambda: parse(text),
        "verify": lambda: verify(graph),
    }[name]  # fmt: skip
    best = float("inf")
    for _ in range(3):
        gc.collect()
        gc.freeze()
        gc.disable()
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
        gc.enable()
        gc.unfreeze()
    used = best / len(graph.nodes) * 1e6
    assert used < ROOM * MICROSECONDS_A_NODE[name], f"{name}: {used:.1f} us a node"
