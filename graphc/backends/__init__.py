"""Backends: what a graph becomes. Machine code (llvm/, cuda/), a file (onnx/), values (reference).

Here live: the interface that every backend implements, code generation from the loop level, the
runtime of compiled entries (threads, memory, caches on disk), and the tables that passes read of
each target.

Not here: decisions about the graph (those are passes) and anything of the user's API.
Imports from graphc.passes and graphc.ir only.
"""

if __name__ != "graphc.backends":
    raise ImportError(
        f"imported as {__name__!r}: the link at the repository's root is for readers and would "
        "make a second copy of the package; import graphc.backends instead"
    )
