"""Mutated texts are read, or refused with an error of graphc of at most eight lines."""

import random
import re

import pytest

from graphc.ir.dtype import DTYPES
from graphc.ir.errors import MAX_LINES, GraphcError
from graphc.ir.op import OPS
from graphc.ir.text import parse, print_graph, print_module
from graphc.ir.verify import verify

from .programs import GRAPHS, module

COUNT = 200
SPLINTERS = (
    "%", "(", ")", "[", "]", "{", "}", ",", ":", "=", '"', "\\", "#", "\n", "\0", " ", "é", "-",
    "*", "**", "1", "99999999999999999999", "-1", "0", "1e999", "nan", "n", "True", "None", "f32",
    "data(", "complex(", "lambda: 0", "__import__('os')", "f'{1}'", "block (", "graph @", "return",
    "module", "dim n in", " -> ", "token", "List(", "(" * 300, "-" * 5000, "0" * 5000, "n*" * 40,
)  # fmt: skip


def sources():
    return [print_graph(make(), name) for name, make in GRAPHS.items()] + [print_module(module())]


def swapped(text, rng, pattern, others):
    """One match of the pattern replaced by another word."""
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    match = rng.choice(found)
    return text[: match.start()] + rng.choice(others) + text[match.end() :]


def broken(text, rng):
    """One edit of characters or lines: most are no syntax any more."""
    at, kind = rng.randrange(len(text)), rng.randrange(6)
    lines = text.split("\n")
    row = rng.randrange(len(lines))
    if kind == 0:
        return text[:at] + text[at + rng.randint(1, 8) :]
    if kind == 1:
        return text[:at] + rng.choice(SPLINTERS) + text[at + rng.randint(0, 1) :]
    if kind == 2:
        other = rng.randrange(len(text))
        piece = text[other : other + rng.randint(1, 30)]
        return text[:at] + piece + text[at + len(piece) :]
    if kind == 3:
        return "\n".join(lines[:row] + lines[row + 1 :])
    if kind == 4:
        return "\n".join([*lines[: row + 1], lines[rng.randrange(len(lines))], *lines[row + 1 :]])
    return text[:at]


def twisted(text, rng):
    """One word for another of its kind: syntax still, seldom a right graph."""
    names = re.findall(r"%[\w.]+", text) or ["%x"]
    return [
        lambda: swapped(text, rng, r"\d+", ("0", "1", "2", "3", "7", "-1", "12345678901234567890")),
        lambda: swapped(text, rng, r"%[\w.]+", names),
        lambda: swapped(text, rng, r"\b\w+(?=\(%)", list(OPS)),
        lambda: swapped(text, rng, r"\b(f32|f64|i64|bool)\b", list(DTYPES)),
        lambda: swapped(
            text, rng, r"\b[\w.]+\[[^\]]*\]", ("f32[]", "token", "i64[n]", "int", "f32[2]")
        ),
        lambda: swapped(
            text, rng, r"(?<==)[\w.()]+", ("1", "(1,)", "(n,)", '"a"', "None", "f32", "nan")
        ),
        lambda: swapped(text, rng, r"\w+(?==[^=])", ("axis", "axes", "length", "value", "data")),
    ][rng.randrange(7)]()


def mutated(text, rng):
    edit = rng.choice((broken, twisted, twisted))
    for _ in range(rng.randint(1, 3)):
        text = edit(text, rng) or "x"
    return text


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_mutated_text_is_read_or_refused(seed):
    rng = random.Random(seed)
    text = mutated(rng.choice(sources()), rng)
    try:
        found = parse(text)
        verify(found)
    except GraphcError as error:
        lines = str(error).splitlines()
        assert 1 <= len(lines) <= MAX_LINES
        assert all(len(line) < 400 for line in lines)
    else:
        assert parse(str(found)) is not None


def test_most_mutations_are_refused():
    refused = 0
    for seed in range(COUNT):
        rng = random.Random(seed)
        try:
            verify(parse(mutated(rng.choice(sources()), rng)))
        except GraphcError:
            refused += 1
    assert refused > COUNT * 0.7
