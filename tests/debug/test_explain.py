"""Costs, refusals and facets."""

from pathlib import Path

import pytest

from graphc.backends.llvm.settings import settings
from graphc.backends.llvm.target import host_target
from graphc.debug.compiled import compile_for_view
from graphc.debug.cost import example_sizes, flops
from graphc.debug.explain import bytes_text, explain, flops_text, measure, time_text
from graphc.debug.facets import facets
from graphc.debug.machine import Limits, describe, measure_limits, multiply_adds
from graphc.ir import composite, ops  # noqa: F401  (declare the ops)
from graphc.ir.dims import Facts
from graphc.ir.op import OPS
from graphc.ir.text import parse
from tests.debug.digits_graph import loop, network, normalised

ROOT = Path(__file__).resolve().parents[2]


def test_operations_of_nodes():
    graph, _ = network()
    by_op = {node.op.name: flops(node, {}) for node in graph.nodes}
    assert by_op["conv"] == 2 * 4 * 16 * 8 * 8 * 9
    assert by_op["dot"] == 2 * 4 * 10 * 256
    assert by_op["add"] == 4 * 16 * 8 * 8
    assert by_op["reshape"] == 0


@pytest.mark.parametrize("causal, part", [(False, 1), (True, 2)])
def test_operations_of_attention(causal, part):
    graph = parse(
        "graph @main(%q: f32[2, 5, 8], %k: f32[2, 7, 8], %v: f32[2, 7, 4]) -> (f32[2, 5, 4]) {\n"
        f"  %o, %l = attention(%q, %k, %v) [scale=1.0, causal={causal}] : f32[2, 5, 4], f32[2, 5]\n"
        "  return %o\n}"
    )
    assert flops(graph.nodes[0], {}) == 2 * 2 * 5 * 7 * (8 + 4) // part


def test_a_scan_counts_each_step():
    assert flops(loop().nodes[0], {}) == 4 * 8


def test_a_kernel_in_place_is_shown():
    graph = parse(
        "graph @main(%x: f32[300, 128], %w: f32[128, 128]) -> (f32[300, 128]) {\n"
        "  %1 = dot(%x, %w) [batch=((), ()), contract=((1,), (0,))] : f32[300, 128]\n"
        "  %2 = tanh(%1) : f32[300, 128]\n"
        "  %3 = dot(%2, %w) [batch=((), ()), contract=((1,), (0,))] : f32[300, 128]\n"
        "  %5 = dot(%3, %w) [batch=((), ()), contract=((1,), (0,))] : f32[300, 128]\n"
        "  %6 = add(%5, %2) : f32[300, 128]\n"
        "  %7 = dot(%6, %w) [batch=((), ()), contract=((1,), (0,))] : f32[300, 128]\n"
        "  return %7\n}"
    )
    kinds = [kernel.kind for kernel in explain(compile_for_view(graph)).kernels]
    assert kinds == ["dot, map", "dot", "dot, map, in place", "dot"]


def test_symbolic_sizes_take_their_hints():
    graph = parse("graph @main(%x: f32[n, m]) -> (f32[n, m]) {\n  return %x\n}")
    assert example_sizes(graph, {"n": Facts(1, 99, 7)}) == {"n": 7, "m": 256}


def test_kernels_refusals_and_lines_add_up():
    graph, _ = network()
    report = explain(compile_for_view(graph))
    assert report.computed >= sum(
        [flops(node, {}) for node in graph.nodes if not node.op.composite]
    )
    conv = next(kernel for kernel in report.kernels if kernel.group.kind == "conv")
    moved = 4 * (4 * 64 + 16 * 9 + 4 * 16 * 64)
    assert conv.moved == moved
    assert conv.floor_s == report.limits.floor_s(moved, conv.computed)
    assert set(report.lines) == {f"net.py:{k}" for k in (10, 11, 12, 13)}
    refused = [each for each in report.refused if "native" in each.reason]
    assert refused and all(each.moved > 0 and each.loc for each in refused)
    unfused = sum([line.unfused for line in report.lines.values()])
    assert unfused == sum([each.moved for each in report.refused])


def test_a_kernel_with_an_epilogue_has_its_nodes():
    """And what follows it has kernels too."""
    graph = parse(
        "graph @main(%x: f32[40, 30], %w: f32[30, 50], %b: f32[50]) -> (f32[40, 40]) {\n"
        "  %h = dot(%x, %w) [contract=((1,), (0,)), batch=((), ())] : f32[40, 50]\n"
        "  %e = expand(%b) [shape=(40, 50), axes=(0,)] : f32[40, 50]\n"
        "  %a = add(%h, %e) : f32[40, 50]\n"
        "  %g = dot(%a, %a) [contract=((1,), (1,)), batch=((), ())] : f32[40, 40]\n"
        "  return %g\n}"
    )
    first, second = compile_for_view(graph).groups
    assert first.kind == "dot, map" and len(first.kernels) == 1
    assert [node.op.name for node in first.nodes] == ["dot", "expand", "add"]
    assert [value.node.op.name for value in first.writes] == ["add"]
    assert {value.name for value in first.reads} == {"x", "w", "b"}
    assert second.kind == "dot" and len(second.kernels) == 1
    assert [value.node.op.name for value in second.reads] == ["add"]


def test_one_kernel_has_nothing_refused():
    report = explain(compile_for_view(normalised()))
    assert len(report.kernels) == 1
    assert report.refused == []


@pytest.mark.parametrize(
    "target, kind, rate",
    [("avx512", "dot", 1), ("avx512bf16", "dot (bf16 pairs)", 2), ("amx", "dot (amx)", 16)],
)
def test_products_of_bf16_have_the_limit_of_what_multiplies_them(target, kind, rate):
    graph = parse(
        "graph @main(%a: bf16[999, 999], %b: bf16[999, 999]) -> (bf16[999, 999]) {\n"
        "  %c = dot(%a, %b) [contract=((1,), (0,)), batch=((), ())] : bf16[999, 999]\n"
        "  return %c\n}"
    )
    report = explain(compile_for_view(graph, target=target))
    (product,) = report.kernels
    assert product.kind == kind
    assert product.floor_s == report.limits.floor_s(product.moved, 2 * 999**3 / rate)


def test_a_run_is_measured():
    import numpy as np

    compiled = compile_for_view(normalised())
    assert 0 < measure(compiled, [np.ones((64, 256), np.float32)]) < 1


def test_limits():
    limits = Limits(bytes_per_s=1e9, flops_per_s=1e12, threads=2)
    assert limits.floor_s(1e9, 1e9) == 1.0
    assert limits.bound(1e9, 1e9) == "memory"
    assert limits.bound(1, 1e9) == "arithmetic"
    found = measure_limits()
    assert 1e8 < found.bytes_per_s < 1e13
    assert 1e8 < found.flops_per_s < 1e15


def test_the_machine_is_described():
    sections = dict(describe())
    assert dict(sections["packages"])["numpy"][0].isdigit()
    assert dict(sections["code generation"])["entry points"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5e6, "5 MB"), (2.5e12, "2.5e+03 GB")],
)
def test_bytes(value, text):
    assert bytes_text(value) == text


def test_units():
    assert flops_text(2e9) == "2 GFLOP"
    assert time_text(1.5e-5) == "15 µs"


def test_every_facet_of_every_op_is_where_it_says():
    for op in OPS.values():
        found = facets(op)
        assert found[0].name == "declaration"
        for facet in found:
            if not facet.line:
                continue
            lines = (ROOT / facet.file).read_text(encoding="utf-8").splitlines()
            assert 1 <= facet.line <= len(lines), (op.name, facet)


def test_facets_of_one_op():
    found = {facet.name: facet for facet in facets(OPS["tanh"])}
    for name in ("declaration", "meaning", "inference", "derivative", "ONNX", "torch's names",
                 "samples", "vector code"):  # fmt: skip
        facet = found[name]
        line = (ROOT / facet.file).read_text(encoding="utf-8").splitlines()[facet.line - 1]
        assert facet.file.startswith("graphc/") and line.strip(), facet
    line = (ROOT / found["meaning"].file).read_text().splitlines()[found["meaning"].line - 1]
    assert "np.tanh" in line
    assert found["ONNX"].note.startswith("Tanh")


def test_a_product_shows_what_is_fused_into_it():
    graph = parse(
        "graph @main(%x: f32[1, 640], %w: i8[300, 640], %r: f32[1, 300]) -> (f32[1, 300]) {\n"
        "  %wide = cast(%w) [dtype=f32] : f32[300, 640]\n"
        "  %y = dot(%x, %wide) [contract=((1,), (1,)), batch=((), ())] : f32[1, 300]\n"
        "  %z = add(%y, %r) : f32[1, 300]\n"
        "  return %z\n}"
    )
    (kernel,) = compile_for_view(graph).groups
    assert kernel.kind == "map, dot, map"
    assert [node.op.name for node in kernel.nodes] == ["cast", "dot", "add"]
    assert {value.type.text for value in kernel.reads} == {
        "f32[1, 640]", "i8[300, 640]", "f32[1, 300]",
    }  # fmt: skip
    assert [value.node.op.name for value in kernel.writes] == ["add"]


def test_the_limit_is_the_machine_s_for_any_target(monkeypatch):
    monkeypatch.setattr(settings, "target", "x86-64")
    function, operations = multiply_adds()
    chains = min(20, host_target().registers - 4)
    assert operations == 2 * host_target().lanes(32) * chains
    assert function(100) == chains  # each comes to 1
