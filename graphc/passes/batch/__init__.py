"""Batching: `vmap` of closed graphs, one more axis in front of what is mapped.

Families of ops share a rule (`rules`, `convolution`, `indexing`); control flow maps its blocks
(`control_flow`); an op without a rule is scanned over the examples: slower, and never wrong.
"""

from . import control_flow, convolution, indexing, rules
from .walk import batch, batch_node, vmap

__all__ = ["batch", "batch_node", "control_flow", "convolution", "indexing", "rules", "vmap"]
