"""Derivatives of graphs, of any order, forward and reverse, from one declaration an op.

An op says how it is linear, and both modes read that:

    pull, push           both directions by hand (sort, maximum)
    linear, transpose    structural: linear in some operands; `transpose` runs it backward
    partials             pointwise: the derivative is a diagonal, which is its own transpose
    expand               a composite: by its expansion, unless it declares a backward
    if, scan, while      by the derivative of their blocks (`control_flow`, `while_loop`)

A derivative that is zero is the absence of an entry, never a node. Only nodes on a path from a
wanted input to a wanted result are differentiated, so an unwanted input costs nothing. Masks are
selects, never products. Derived nodes keep the source line of the node that they derive from.
"""

from graphc.ir import ops

from . import control_flow, while_loop
from .forward import jvp, push_graph
from .linear import differentiable, has_derivative
from .reverse import grad, linearize, vjp, vjp_into

__all__ = [
    "control_flow",
    "differentiable",
    "grad",
    "has_derivative",
    "jvp",
    "linearize",
    "push_graph",
    "vjp",
    "vjp_into",
    "while_loop",
]
