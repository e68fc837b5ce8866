"""Listings for the terminal."""

from graphc.debug.compiled import compile_for_view, kernels_picture
from graphc.debug.listing import listing
from graphc.debug.picture import graph_picture
from graphc.ir.text import parse
from tests.debug.digits_graph import loop, network

DIAMOND = """graph @main(%x: f32[8], %y: f32[8]) -> (f32[8]) {
  %a = exp(%x) : f32[8]  # net.py:3 in forward
  %b = mul(%a, %y) : f32[8]  # net.py:4 in forward
  %c = sub(%a, %b) : f32[8]  # net.py:5 in forward
  return %c
}"""


def test_rails_show_which_line_reads_which():
    assert listing(graph_picture(parse(DIAMOND))) == (
        "0  ●    x         f32[8]\n"
        "0  │ ●  y         f32[8]\n"
        "1  ● │  exp       f32[8]    net.py:3\n"
        "2  ├─●  mul       f32[8]    net.py:4\n"
        "3  ●─╯  sub       f32[8]    net.py:5\n"
        "4  ●    result 0"
    )


def test_ascii_and_width():
    text = listing(graph_picture(parse(DIAMOND)), unicode=False, width=30)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 30
    assert "*-'" in text


def test_kernels_are_headings_with_their_ops_below():
    graph, weights = network()
    lines = listing(kernels_picture(compile_for_view(graph), "net", weights)).splitlines()
    assert lines[0] == "net"
    heads = [line.split()[2] for line in lines[1:] if " op" in line]
    assert heads[:2] == ["k0", "k1"]
    assert "conv" in lines[lines.index(next(x for x in lines if " k0 " in x)) + 1]


def test_blocks_stand_below_their_node():
    lines = listing(graph_picture(loop())).splitlines()
    scan = next(k for k, line in enumerate(lines) if "scan" in line)
    assert any("add" in line and "rnn.py:5" in line for line in lines[scan + 1 :])


def test_painted_by_family():
    painted = []
    graph, weights = network()

    def paint(text, family):
        if family is not None:
            painted.append((text.strip(), family.name))
        return text

    listing(graph_picture(graph, "", weights), paint)
    assert ("conv", "products") in painted
    assert ("reduce_max", "reductions") in painted
    assert ("batch_norm", "normalisation") in painted
