"""The text form: `parse(print(g)) == g`, source lines included.

    module "mlp" {
      dim n in 1..4096 ~ 256
      graph @forward(%x: f32[n, 64], %w: f32[64, 128]) -> (f32[n, 128]) {
        %h = dot(%x, %w) [contract=((1,), (0,)), batch=((), ())] : f32[n, 128]  # mlp.py:12
        return %h
      }
    }

One line is one node, so one regular expression reads it. Malformed text raises FormatError with
the number of the line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from math import inf, nan
from typing import Any

from .data import Data
from .dims import Facts, parse_dim, symbol
from .dtype import DTYPES
from .errors import FormatError, GraphcError
from .graph import Attrs, Graph, Module, Node, Value, quoted
from .op import OPS
from .types import Type, parse_type


def print_graph(graph: Graph, name: str = "main", locs: bool = True) -> str:
    """The text of one graph, with a header `graph @name(...)`."""
    return "\n".join(_graph_lines(graph, f"graph @{_plain(name)}", "", locs))


def print_module(module: Module, locs: bool = True) -> str:
    lines = [f"module {quoted(module.name)} {{"]
    for name, fact in module.dims.items():
        high = "" if fact.hi is None else str(fact.hi)
        lines.append(f"  dim {name} in {fact.lo}..{high} ~ {fact.hint}")
    for name, graph in module.graphs.items():
        lines += _graph_lines(graph, f"graph @{_plain(name)}", "  ", locs)
    lines.append("}")
    return "\n".join(lines)


def _graph_lines(graph: Graph, head: str, indent: str, locs: bool) -> list[str]:
    names: dict[Value, str] = {}
    used: set[str] = set()

    def define(value: Value) -> str:
        text = _given(_plain(value.name)) or str(len(names))
        while text in used:
            text = f"{text}.{len(names)}"
        used.add(text)
        names[value] = "%" + text
        return names[value]

    params = ", ".join([f"{define(p)}: {p.type.text}" for p in graph.params])
    types = ", ".join([value.type.text for value in graph.results])
    lines = [f"{indent}{head}({params}) -> ({types}) {{"]
    for node in graph.nodes:
        inputs = ", ".join([names[value] for value in node.inputs])
        outputs = ", ".join([define(value) for value in node.outputs])
        types = ", ".join([value.type.text for value in node.outputs])
        equals, typed = (" = ", f" : {types}") if outputs else ("", "")
        attrs = f" [{node.attrs.text}]" if node.attrs.text else ""
        loc = f"  # {_one_line(node.loc)}" if locs and node.loc else ""
        brace = " {" if node.blocks else ""
        lines.append(
            f"{indent}  {outputs}{equals}{node.op.name}({inputs}){attrs}{typed}{brace}{loc}"
        )
        for block in node.blocks:
            lines += _graph_lines(block, "block ", indent + "    ", locs)
        if node.blocks:
            lines.append(f"{indent}  }}")
    lines.append(
        f"{indent}  return {', '.join([names[value] for value in graph.results])}".rstrip()
    )
    lines.append(indent + "}")
    return lines


def _plain(name: str) -> str:
    """A name that the parser reads: users' and files' names may hold anything."""
    return name if not name or _NAME.fullmatch(name) else re.sub(r"[^\w.]", "_", name)


def _one_line(loc: str) -> str:
    return loc if loc.isprintable() else " ".join(loc.split())


_NAME = re.compile(r"[\w.]+")
_HEAD = re.compile(
    r"\s*(?:graph @(?P<name>[\w.]+)|block )\((?P<params>.*)\) -> \((?P<types>.*)\) \{$"
)
_PARAM = re.compile(r"%([\w.]+): ((?:[^,\[\]()]|\[[^\]]*\]|\((?:[^()]|\([^()]*\))*\))+)(?:, |$)")
_NODE = re.compile(
    r"\s*(?:(?P<outs>%[\w.]+(?:, %[\w.]+)*) = )?(?P<op>[\w.]+)\((?P<ins>[^)]*)\)"
    r'(?: \[(?P<attrs>(?:[^"\]]|"(?:\\.|[^"\\])*")*)\])?(?: : (?P<types>[^{#]*?))?'
    r"(?P<block> \{)?(?:  # (?P<loc>.*))?$"
)
_DIM = re.compile(r"\s*dim (\w+) in (-?\d+)\.\.(\d*)(?: ~ (\d+))?$")
_MODULE = re.compile(r'module ("(?:[^"\\]|\\.)*") \{$')
_TYPE = re.compile(r"(?:[^,\[\]()]|\[[^\]]*\]|\((?:[^()]|\([^()]*\))*\))+")


class _Lines:
    """The lines of a text that are not blank, each with its number."""

    def __init__(self, text: str) -> None:
        self.all = [(i, s) for i, s in enumerate(text.splitlines(), 1) if s.strip()]
        self.at = 0

    def next(self) -> tuple[int, str]:
        if self.at == len(self.all):
            raise FormatError("the text ends inside a graph or a module")
        self.at += 1
        return self.all[self.at - 1]

    def peek(self) -> str | None:
        return self.all[self.at][1] if self.at < len(self.all) else None


def parse(text: str) -> Module | Graph:
    """Reads a module (`module "name" { ... }`) or a single graph (`graph @name(...) ...`)."""
    lines = _Lines(text)
    first = lines.peek()
    if first is None:
        raise FormatError("the text is empty", hint='It should begin with module "name" {')
    found = _parse_module(lines) if first.startswith("module") else _parse_graph(lines, 0)[1]
    if lines.peek() is not None:
        number, line = lines.next()
        raise FormatError(f"line {number}: text after the end: {_short(line)}")
    return found


def _parse_module(lines: _Lines) -> Module:
    number, line = lines.next()
    match = _MODULE.match(line.rstrip())
    if match is None:
        raise FormatError(f'line {number}: expected module "name" {{, found {_short(line)}')
    try:
        title = ast.literal_eval(match.group(1))
    except (SyntaxError, ValueError):
        raise FormatError(f"line {number}: cannot read the name {_short(line)}") from None
    dims: dict[str, Facts] = {}
    graphs: dict[str, Graph] = {}
    while True:
        following = lines.peek()
        if following is not None and following.strip() == "}":
            lines.next()
            return Module(graphs, dims, name=title)
        if following is not None and following.strip().startswith("dim "):
            number, line = lines.next()
            fact = _DIM.match(line)
            if fact is None:
                raise FormatError(f"line {number}: cannot read the dim {_short(line)}")
            name, lo, hi, hint = fact.groups()
            dims[name] = Facts(int(lo), int(hi) if hi else None, int(hint or 256))
            continue
        name, graph = _parse_graph(lines, 0)
        if name in graphs:
            raise FormatError(f"two graphs are called @{name}")
        graphs[name] = graph


_DEEPEST = 64  # blocks within blocks; more is a malformed file, not a program


def _parse_graph(lines: _Lines, depth: int) -> tuple[str, Graph]:
    number, line = lines.next()
    head = _HEAD.match(line.rstrip())
    if head is None:
        raise FormatError(
            f"line {number}: expected graph @name(...) -> (...) {{, found {_short(line)}"
        )
    if depth > _DEEPEST:
        raise FormatError(f"line {number}: blocks are nested more than {_DEEPEST} deep")
    env: dict[str, Value] = {}
    try:
        params = _parse_params(head["params"], env)
        declared = _types(head["types"])
        nodes, results = _parse_body(lines, env, depth)
    except GraphcError as error:
        if error.message.startswith(("line ", "the text ends")):
            raise
        raise FormatError(f"line {number}: {_cut(error.message)}") from None
    if tuple(value.type for value in results) != declared:
        raise FormatError(f"line {number}: the results are not of the types that the head declares")
    return head["name"] or "", Graph(params, nodes, results)


def _parse_params(text: str, env: dict[str, Value]) -> list[Value]:
    at = 0
    while (match := _PARAM.match(text, at)) is not None:
        name, type = match.groups()
        if "%" + name in env:
            raise FormatError(f"the parameter %{name} is defined twice")
        env["%" + name] = Value(parse_type(type), name=_given(name))
        at = match.end()
    if at != len(text):
        raise FormatError(f"cannot read the parameters {_short(text[at:])}")
    return list(env.values())


def _parse_body(lines: _Lines, env: dict[str, Value], depth: int) -> tuple[list[Node], list[Value]]:
    nodes: list[Node] = []
    while True:
        number, line = lines.next()
        stripped = line.strip()
        if stripped == "return" or stripped.startswith("return "):
            names = [n for n in stripped[len("return") :].strip().split(", ") if n]
            _known(names, env, number)
            number, line = lines.next()
            if line.strip() != "}":
                raise FormatError(f"line {number}: expected }} after return, found {_short(line)}")
            return nodes, [env[n] for n in names]
        match = _NODE.match(line.rstrip())
        if match is None:
            raise FormatError(f"line {number}: cannot read {_short(stripped)}")
        blocks = []
        if match["block"]:
            while (lines.peek() or "").strip() != "}":
                blocks.append(_parse_graph(lines, depth + 1)[1])
            lines.next()
        nodes.append(_parse_node(match, tuple(blocks), env, number))


def _parse_node(match: re.Match, blocks: tuple[Graph, ...], env: dict, number: int) -> Node:
    op = OPS.get(match["op"])
    if op is None:
        raise FormatError(f"line {number}: no op is called {_short(match['op'])}")
    names = match["ins"].split(", ") if match["ins"] else []
    _known(names, env, number)
    try:
        types, attrs = _types(match["types"] or ""), _attrs(match["attrs"] or "")
    except FormatError as error:
        raise FormatError(f"line {number}: {_cut(error.message)}") from None
    inputs = tuple([env[name] for name in names])
    node = Node(op, inputs, types, attrs, blocks, match["loc"] or "")
    outs = match["outs"].split(", ") if match["outs"] else []
    if len(outs) != len(node.outputs):
        raise FormatError(f"line {number}: {len(outs)} names for {len(node.outputs)} types")
    for name, value in zip(outs, node.outputs, strict=True):
        if name in env:
            raise FormatError(f"line {number}: {name} is defined twice")
        value.name = _given(name[1:])
        env[name] = value
    return node


def _given(name: str) -> str:
    return "" if name.isdigit() else name


def _known(names: list[str], env: dict[str, Value], number: int) -> None:
    for name in names:
        if name not in env:
            raise FormatError(f"line {number}: {_short(name)} is not defined before it is used")


def _short(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _cut(message: str) -> str:
    return message if len(message) <= 200 else message[:197] + "..."


@lru_cache(maxsize=65536)
def _types(text: str) -> tuple[Type, ...]:
    return tuple(parse_type(part) for part in _TYPE.findall(text) if part.strip())


@lru_cache(maxsize=65536)
def _attrs(text: str) -> Attrs:
    try:
        call = ast.parse(f"_({text})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return Attrs.of({str(item.arg): _literal(item.value) for item in call.keywords})
    except (SyntaxError, AssertionError, ValueError, TypeError, RecursionError, MemoryError):
        raise FormatError(f"cannot read the attributes {_short(text)}") from None


_NAMES: dict[str, Any] = {"inf": inf, "nan": nan, **DTYPES}


def _literal(tree: ast.AST) -> Any:
    if isinstance(tree, ast.Constant):
        return tree.value
    if isinstance(tree, ast.Tuple):
        return tuple(map(_literal, tree.elts))
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return -_literal(tree.operand)
    if isinstance(tree, ast.Name):
        return _NAMES[tree.id] if tree.id in _NAMES else symbol(tree.id)
    if isinstance(tree, ast.BinOp):
        return parse_dim(ast.unparse(tree))
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        arguments = [_literal(a) for a in tree.args]
        if tree.func.id == "data" and len(arguments) == 3:
            return Data.parse(*arguments)
        if tree.func.id == "complex" and len(arguments) == 2:
            return complex(*arguments)
    raise ValueError("not the text of an attribute")


def iter_graphs(graph: Graph) -> Iterator[Graph]:
    """The graph and every block within it, outermost first."""
    todo = [graph]
    while todo:
        current = todo.pop()
        yield current
        for node in current.nodes:
            todo += node.blocks
