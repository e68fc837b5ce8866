"""Graphs that the tests of drawings and explanations share."""

from graphc.ir import composite, ops
from graphc.ir.build import Builder
from graphc.ir.graph import Graph
from graphc.ir.types import parse_type


def network() -> tuple[Graph, list[str]]:
    """A small convolutional network in evaluation mode, and the names of its weights."""
    with Builder() as builder:

        def param(name, text):
            return builder.param(parse_type(text), name)

        x = param("x", "f32[4, 1, 8, 8]")
        weight, bias = param("0.weight", "f32[16, 1, 3, 3]"), param("0.bias", "f32[16]")
        norm = [param(f"1.{part}", "f32[16]") for part in ("mean", "var", "weight", "bias")]
        head = param("4.weight", "f32[10, 256]")
        builder.loc = "net.py:10 in forward (0)"
        attrs = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
        h = ops.conv(x, weight, **attrs)
        h = h + ops.expand(bias, shape=h.shape, axes=(0, 2, 3))
        builder.loc = "net.py:11 in forward (1)"
        h = composite.relu(composite.batch_norm(h, *norm, eps=1e-5))
        builder.loc = "net.py:12 in forward (2)"
        h = ops.window(h, sizes=(2, 2), strides=(2, 2), dilations=(1, 1))
        h = ops.reshape(ops.reduce_max(h, axes=(4, 5)), shape=(4, 256))
        builder.loc = "net.py:13 in forward (4)"
        graph = builder.graph([ops.dot(h, head, contract=((1,), (1,)))])
    return graph, [p.name for p in graph.params[1:]]


def normalised() -> Graph:
    """softmax(gelu(x) + x) and a sum over rows: one kernel with several readers of a value."""
    with Builder() as builder:
        x = builder.param(parse_type("f32[64, 256]"), "x")
        builder.loc = "block.py:3 in forward"
        h = composite.gelu(x, approximate="none") + x
        builder.loc = "block.py:4 in forward"
        s = composite.softmax(h, axis=1)
        return builder.graph([h, ops.reduce_sum(s * s, axes=(0,))])


def loop() -> Graph:
    """A scan, whose block is a graph of its own."""
    from graphc.ir.text import parse

    return parse(
        """graph @main(%x: f32[4, 8], %h: f32[8]) -> (f32[8]) {
  %y = scan(%h, %x) [length=4, carry=1, xs=1, reverse=False] : f32[8] {
    block (%c: f32[8], %row: f32[8]) -> (f32[8]) {
      %s = add(%c, %row) : f32[8]  # rnn.py:5 in cell
      return %s
    }
  }
  return %y
}"""
    )
