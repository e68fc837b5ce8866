"""The dataflow IR: types, values, nodes, graphs, the declarations of all ops, text, checks.

What lives here: everything that says what a program *means*: types with symbolic dims, the graph
classes and their builder, one declaration per op (`ops`, `composite`), the text form, the
verifier, the reference interpreter in numpy, hash and diff.
What must not: passes over graphs, code generation, eager tensors. `ir` imports nothing of the rest.
"""

if __name__ != "graphc.ir":
    raise ImportError(
        "import graphc.ir instead of ir: the folder at the repository's root is a link, "
        "and importing through it would make a second registry of ops"
    )
