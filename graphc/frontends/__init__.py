"""Frontends: how a user's program or file becomes a graph.

Here live: the recorder of eager programs (the trie of traces), trace, script, the just-in-time
cache with its guards and reports, export, and the readers of ONNX and torch files.

Not here: what torch's names mean (the public modules, which call the frontends) and how a graph
is run. Imports from graphc.backends, graphc.passes and graphc.ir only.
"""

if __name__ != "graphc.frontends":
    raise ImportError(
        f"imported as {__name__!r}: the link at the repository's root is for readers and would "
        "make a second copy of the package; import graphc.frontends instead"
    )
