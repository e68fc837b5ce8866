"""Concatenations whose parts are written in place: which, that no kernel copies, the same bits."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, load, prepare
from graphc.backends.llvm.program_check import check_program
from graphc.backends.llvm.verify import compile_verified
from graphc.debug.compiled import compile_for_view
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.errors import VerifyError
from graphc.ir.types import parse_type

SQUARES = ["f32[32, 32]"] * 3


def product(x, w):
    return ops.dot(x, w, contract=((1,), (0,)), batch=((), ()))


def stacked(*values):
    rows = [ops.reshape(value, shape=(1, *value.type.shape)) for value in values]
    return ops.concat(*rows, axis=0)


def layers(x, v, w):
    """Each layer's result is read by the next one's product, and is a part of the stack."""
    first = ops.tanh(product(x, v))
    second = ops.tanh(product(first, w))
    third = ops.tanh(product(second, v))
    return stacked(first, second, third), ops.reduce_sum(product(third, w), axes=(1,))


def stack_that_is_read(x, v, w):
    """The stack itself is no result: parts of it are read by others while it is made."""
    first = product(x, v)
    second = product(first, w)
    both = ops.concat(first, second, axis=0)
    return product(both, v), product(second, v)


def two_stacks(x, v, w):
    """One kernel would copy both."""
    first, second = product(x, v), product(x, w)
    third, fourth = product(first, w), product(second, v)
    return stacked(first, third), stacked(second, fourth), product(third, fourth)


def assembled(function, types=SQUARES):
    return prepare(trace(function, *map(parse_type, types)))


@pytest.mark.parametrize("function, parts", [(layers, 3), (stack_that_is_read, 2), (two_stacks, 4)])
def test_parts_are_written_where_they_belong(function, parts):
    compiler = assembled(function)
    assert len(compiler.assembled.within) == parts
    assert not any(["concat" in [n.op.name for n in r.nodes] for r in compiler.reports])
    check_program(compiler.program)
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((32, 32)).astype("f4") / 6 for _ in range(3)]
    alone = compile_graph(compiler.source, apart=True)(*arrays)
    for found, want in zip(load(compiler)(*arrays), alone, strict=True):
        assert found.tobytes() == want.tobytes()
    compile_verified(compiler.source)


def test_the_arena_has_no_copies():
    """Of five squares that live at once, three are the first result's."""
    compiler = assembled(layers)
    assert compiler.program.arena.slots[0] <= 2 * 32 * 32 * 4


REFUSED = {
    "a part is a result": lambda x, v, w: (
        a := product(x, v), ops.concat(a, product(a, w), axis=0),
    ),
    "a part is a parameter": lambda x, v, w: ops.concat(x, product(x, v), axis=0),
    "a part stands twice": lambda x, v, w: ops.concat(a := product(x, v), a, axis=0),
    "parts do not lie one after the other": lambda x, v, w: ops.concat(
        a := product(x, v), product(a, w), axis=1
    ),
    "a part is in another whole": lambda x, v, w: (
        ops.concat(a := product(x, v), product(a, w), axis=0),
        ops.concat(a, product(a, v), product(a, x), axis=0),
    ),
    "the whole is more than its parts": lambda x, v, w: ops.tanh(
        ops.concat(a := product(x, v), product(a, w), axis=0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_copied(why):
    compiler = assembled(REFUSED[why])
    assert len(compiler.assembled.within) == (2 if why == "a part is in another whole" else 0)
    compile_verified(compiler.source)


@pytest.mark.parametrize(
    "types",
    [
        ["f32[3, 7]", "f32[7, 7]", "f32[7, 7]"],  # parts of 84 bytes: not aligned
        ["f32[n, 32]", "f32[32, 32]", "f32[32, 32]"],  # of a size that a call decides
        ["f32[0, 32]", "f32[32, 32]", "f32[32, 32]"],
    ],
)
def test_parts_at_places_that_are_not_aligned(types):
    compiler = assembled(layers, types)
    assert not compiler.assembled.within
    compile_verified(compiler.source)


def test_a_part_in_another_place_is_found():
    program = assembled(layers).program
    within = program.assembled.within
    part = next(part for part, (_, offset) in within.items() if offset)
    whole, offset = within[part]
    within[part] = whole, offset + 64
    with pytest.raises(VerifyError, match="is not where the part before it ends"):
        check_program(program)


def test_explain_shows_that_there_is_no_kernel():
    made = compile_for_view(trace(layers, *map(parse_type, SQUARES)))
    kinds = [group.kind for group in made.groups]
    assert kinds.count("in place: no kernel") == 1
    assert made.count == len(kinds) - 1
