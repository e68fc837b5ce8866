"""Passes: functions from graphs to graphs, and the pipeline that runs them.

Here live: the pass manager with its verification, cleaning, rewrite rules (rules/), autodiff,
partition, batching, rematerialisation, layout, fusion, lowering to the loop level, scheduling and
memory planning. A pass sees graphs and data: what it must know of a machine it gets as tables.

Not here: anything that runs code or knows one backend by name. Imports from graphc.ir only.
"""

if __name__ != "graphc.passes":
    raise ImportError(
        f"imported as {__name__!r}: the link at the repository's root is for readers and would "
        "make a second copy of the package; import graphc.passes instead"
    )
