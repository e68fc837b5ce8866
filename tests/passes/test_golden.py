"""Passes by example: each file of `golden/` holds inputs and what a pass makes of them, as text.

    # pass: clean
    # --- what the case shows
    graph @main(...) ...
    # becomes
    graph @main(...) ...

`pytest tests/passes/test_golden.py --renew` writes the second halves anew; review them as text.
"""

from pathlib import Path

import numpy as np
import pytest

from graphc.ir.interpret import evaluate
from graphc.ir.text import parse, print_graph
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad, jvp, vjp
from graphc.passes.blocks import merge_loops, prune_blocks
from graphc.passes.clean import clean
from graphc.passes.partition import partition

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.gir"))


def cut(joint):
    """One input and one result come first; the rest is cotangents and gradients."""
    forward, backward, _ = partition(joint, len(joint.params) - 1, 1)
    return forward, backward


PASSES = {
    "clean": (clean, True),
    "merge_loops": (merge_loops, True),
    "prune_blocks": (prune_blocks, True),
    "grad": (lambda graph: clean(grad(graph)), False),
    "vjp": (lambda graph: clean(vjp(graph)), False),
    "jvp": (lambda graph: clean(jvp(graph)), False),
    "partition": (cut, False),
}


def read(path):
    """The name of the pass, and (title, input text, expected text) of each case."""
    head, *cases = path.read_text(encoding="utf-8").split("# --- ")
    found = []
    for case in cases:
        title, _, body = case.partition("\n")
        given, _, expected = body.partition("# becomes\n")
        found.append((title, given.strip(), expected.strip()))
    return head.split("# pass:")[1].strip(), found


def apply(name, text):
    run, same_meaning = PASSES[name]
    graph = parse(text)
    verify(graph)
    made = run(graph)
    for part in made if isinstance(made, tuple) else (made,):
        verify(part)
    if same_meaning:
        check_meaning(graph, made)
    graphs = made if isinstance(made, tuple) else (made,)
    return "\n".join(print_graph(part) for part in graphs)


def check_meaning(graph, made):
    random = np.random.default_rng(0)
    arrays = []
    for p in graph.params:
        shape = [d if isinstance(d, int) else 3 for d in p.type.shape]
        arrays.append(np.asarray(random.normal(size=shape) * 3).astype(p.type.dtype.numpy))
    for a, b in zip(evaluate(graph, *arrays), evaluate(made, *arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_goldens_were_found():
    assert {read(path)[0] for path in FILES} == set(PASSES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path, request):
    name, cases = read(path)
    assert cases
    made = [(title, given, apply(name, given)) for title, given, _ in cases]
    if request.config.getoption("--renew"):
        parts = [f"# pass: {name}\n"]
        parts += [f"# --- {title}\n{a}\n# becomes\n{b}\n" for title, a, b in made]
        path.write_text("\n".join(parts), encoding="utf-8")
    for (title, _, found), (_, _, expected) in zip(made, read(path)[1], strict=True):
        assert found == expected, title
