"""Structural hash and difference: blind to names, lines, order and dead nodes; to nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.diff import diff, same, structural_hash
from graphc.ir.graph import Graph
from graphc.ir.text import parse, print_graph
from graphc.ir.types import parse_type

from .programs import GRAPHS, traced

ROOT = Path(__file__).resolve().parents[2]


def two(order):
    """sin(x) + cos(y), its nodes in either order, named and with lines, and a dead node."""
    with Builder() as b:
        x, y = b.param(parse_type("f32[2]"), f"x{order}"), b.param(parse_type("f32[2]"))
        b.loc = f"a.py:{order}"
        if order:
            s, c = ops.sin(x), ops.cos(y)
            ops.exp(s)
        else:
            c, s = ops.cos(y), ops.sin(x)
        out = ops.add(s, c)
        out.name = f"out{order}"
        return Graph(b.params, b.nodes, [out])


def test_it_is_blind_to_names_lines_order_and_dead_nodes():
    assert structural_hash(two(0)) == structural_hash(two(1))
    assert same(two(0), two(1)) and diff(two(0), two(1)) == ""


VARIANTS = {
    "plain": lambda x, y: ops.sub(ops.sin(x), y),
    "operands": lambda x, y: ops.sub(y, ops.sin(x)),
    "op": lambda x, y: ops.sub(ops.cos(x), y),
    "parameter": lambda x, y: ops.sub(ops.sin(y), x),
    "results": lambda x, y: [ops.sub(ops.sin(x), y)] * 2,
    "constant": lambda x, y: ops.sub(ops.sin(x), y * 0.0),
    "sign of a zero": lambda x, y: ops.sub(ops.sin(x), y * -0.0),
    "attribute": lambda x, y: ops.flip(ops.sub(ops.sin(x), y), axes=(0,)),
    "another attribute": lambda x, y: ops.flip(ops.sub(ops.sin(x), y), axes=(1,)),
    "output": lambda x, y: ops.sort(x, axis=0)[0],
    "another output": lambda x, y: ops.cast(ops.sort(x, axis=0)[1], dtype=x.dtype),
    "effect": lambda x, y: (ops.print_op(x, text="a"), ops.sub(ops.sin(x), y))[1],
    "other effect": lambda x, y: (ops.print_op(x, text="b"), ops.sub(ops.sin(x), y))[1],
}


def test_everything_else_counts():
    graphs = [traced(f, "f32[2, 2]", "f32[2, 2]") for f in VARIANTS.values()]
    graphs.append(traced(VARIANTS["plain"], "f64[2, 2]", "f64[2, 2]"))
    graphs.append(traced(VARIANTS["plain"], "f32[2, n]", "f32[2, n]"))
    graphs += [make() for make in GRAPHS.values()]
    assert len({structural_hash(g) for g in graphs}) == len(graphs)


def test_effects_count_in_their_order():
    def printing(*texts):
        return traced(lambda x: [ops.print_op(x, text=t) for t in texts] and x, "f32[]")

    assert not same(printing("a", "b"), printing("b", "a"))
    assert not same(printing("a"), printing("a", "a"))
    assert same(printing("a", "b"), printing("a", "b"))


def test_blocks_count():
    def looped(f):
        body = traced(lambda c: f(c), "f32[2]")
        return traced(lambda c: ops.scan(body, [c], [], [], 3)[0], "f32[2]")

    assert same(looped(ops.sin), looped(ops.sin))
    assert not same(looped(ops.sin), looped(ops.cos))
    then, other = traced(ops.sin, "f32[2]"), traced(ops.cos, "f32[2]")
    sides = [
        traced(lambda p, x, s=s: ops.cond(p, *s, x), "bool[]", "f32[2]")
        for s in ((then, other), (other, then))
    ]
    assert not same(*sides)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_text_form_keeps_the_hash(name):
    graph = GRAPHS[name]()
    assert same(graph, parse(print_graph(graph)))


def test_the_hash_is_the_same_in_every_process():
    """Whatever the seed of Python's own hashes: caches on disk rely on it."""
    script = (
        "from tests.ir.programs import GRAPHS\n"
        "from graphc.ir.diff import structural_hash\n"
        "print(*[structural_hash(make()) for make in GRAPHS.values()])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }  # fmt: skip
    assert found == {" ".join(structural_hash(make()) for make in GRAPHS.values()) + "\n"}


def test_the_difference_is_a_diff_of_texts():
    found = diff(
        traced(lambda x: ops.exp(ops.sin(x)), "f32[2]", names=("x",)),
        traced(lambda y: ops.exp(ops.cos(y)), "f32[2]", names=("y",)),
    ).splitlines()
    assert found[:2] == ["--- a", "+++ b"]
    assert [line for line in found[2:] if line[0] in "+-"] == [
        "-  %1 = sin(%0) : f32[2]", "+  %1 = cos(%0) : f32[2]",
    ]  # fmt: skip


def test_a_long_chain_does_not_recurse():
    def chain(n):
        def function(x):
            for _ in range(n):
                x = ops.sin(x)
            return x

        return traced(function, "f32[]")

    assert same(chain(5_000), chain(5_000)) and not same(chain(5_000), chain(5_001))
