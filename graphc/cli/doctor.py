"""`graphc doctor`: this machine; `graphc doctor ops [NAME]`: the ops and their facets."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .errors import CommandError

if TYPE_CHECKING:
    from graphc.ir.op import Op

    from .console import Console

EXAMPLE = """\
examples:
  graphc doctor                what this machine offers, and what is missing
  graphc doctor ops            the table of all ops
  graphc doctor ops gelu       file and line of every facet of one op
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", nargs="?", choices=["ops"], help="ops: the table of all ops")
    parser.add_argument("name", nargs="?", metavar="NAME", help="one op")


def run(options: argparse.Namespace) -> int:
    from .console import Console

    console = Console()
    if options.subject is None:
        _machine(console)
    elif options.name is None:
        _all_ops(console)
    else:
        _one_op(console, options.name)
    return 0


def _machine(console: Console) -> None:
    from graphc.debug.machine import describe

    for title, rows in describe():
        console.line(console.bold(title))
        for name, text in rows:
            console.line(f"  {name:24}{text}")


def _all_ops(console: Console) -> None:
    from graphc.debug.facets import facets
    from graphc.debug.family import family_of

    rows = []
    for op in sorted(all_ops().values(), key=lambda op: (family_of(op).name, op.name)):
        found = {facet.name: facet for facet in facets(op)}
        derivative = found.get("derivative")
        onnx = found.get("ONNX")
        rows.append(
            [
                op.name,
                family_of(op).name,
                "composite" if op.composite else "primitive",
                _kind(derivative.note if derivative else None),
                op.onnx.name if op.onnx else _kind(onnx.note if onnx else None),
                "yes" if "vector code" in found or "native kernel" in found else "",
                ", ".join(op.torch.names) if op.torch else "",
            ]
        )
    from .explain import table

    head = ("op", "family", "kind", "derivative", "ONNX", "own kernel", "torch's names")
    table(console, f"{len(rows)} ops", head, rows, len(rows))


def _kind(note: str | None) -> str:
    if note is None:
        return "by expansion"
    return "none" if note.startswith("none:") else "yes"


def _one_op(console: Console, name: str) -> None:
    from graphc.debug.facets import facets

    ops = all_ops()
    op = ops.get(name)
    if op is None:
        import difflib

        named = [op.name for op in ops.values() if op.torch and name in op.torch.names]
        near = named or difflib.get_close_matches(name, ops, 4)
        hint = f"Did you mean {', '.join(near)}?" if near else "graphc doctor ops lists them."
        raise CommandError(f"no op {name!r}", hint=hint)
    console.line(f"{console.bold(op.name)}: {signature(op)}")
    for facet in facets(op):
        console.line(f"  {facet.name:16}{facet.where:52}{facet.note}".rstrip())


def signature(op: Op) -> str:
    """The schema in one line: operands and attributes with their kinds."""
    operands = [f"{name}: {kinds}" for name, kinds in op.operands]
    attributes = [f"{name}: {kind.name}" for name, kind in op.attributes]
    return f"({', '.join(operands)})" + (f" [{', '.join(attributes)}]" if attributes else "")


def all_ops() -> dict[str, Op]:
    from graphc.ir import composite, ops  # noqa: F401  (declare them)
    from graphc.ir.op import OPS

    return dict(OPS)
