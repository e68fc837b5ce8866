"""Values that kernels of several layers read are found before fusion, in one round of it."""

from graphc.backends.base import core_graph
from graphc.backends.llvm.compile import prepare
from graphc.ir.build import Builder
from graphc.ir.dtype import F32
from graphc.ir.op import OPS
from graphc.ir.types import TensorType
from graphc.passes.autodiff import vjp
from graphc.passes.clean import clean
from graphc.passes.fuse import fuse as module
from graphc.passes.fuse.shared import shared_values

from .test_partition import gpt


def residual_chain(layers):
    """x becomes x + tanh(x) @ w in every layer: each sum is read by the next layer and the next
    sum."""
    with Builder() as builder:
        x, weight = (builder.param(TensorType(F32, (8, 8))) for _ in range(2))
        for _ in range(layers):
            product = OPS["dot"](OPS["tanh"](x), weight, contract=((1,), (0,)), batch=((), ()))
            x = OPS["add"](x, product)
        return builder.graph([x])


def rounds_of_fusion(monkeypatch, run):
    seen = []
    original = module.Fuser.run
    monkeypatch.setattr(module.Fuser, "run", lambda self: seen.append(self) or original(self))
    run()
    return len(seen)


def found_in(graph):
    """What is found where products have kernels of their own, which read their operands."""
    products = [node for node in graph.nodes if node.op.name == "dot"]
    operands = {value for node in products for value in node.inputs if value.node}
    return shared_values(graph, set(products), operands | set(graph.results))


def test_the_sums_of_a_residual_chain_are_found():
    graph = residual_chain(6)
    sums = [node.outputs[0] for node in graph.nodes if node.op.name == "add"]
    assert found_in(graph) == set(sums[:-1])


def test_what_one_level_reads_is_not_found():
    assert not found_in(residual_chain(1))


def test_a_deep_network_is_fused_in_one_round(monkeypatch):
    core = core_graph(clean(vjp(clean(gpt(6, n=8, d=4)))))
    assert rounds_of_fusion(monkeypatch, lambda: prepare(core)) == 1


def test_no_kernel_grows_with_the_depth():
    """A kernel that computed the sums of all layers before it would."""
    largest = []
    for layers in (6, 24):
        plan = prepare(core_graph(residual_chain(layers))).plan
        largest.append(max(len(group.memo) for group in plan.groups))
    assert largest[0] == largest[1]


def test_of_a_chain_that_two_kernels_pull_only_the_last_value_is_kept():
    """A row sum and a transposed map read the sigmoid: its exp is computed where it is."""
    with Builder() as builder:
        x = builder.param(TensorType(F32, (64, 96)))
        one = OPS["full"](value=1.0, dtype=F32, shape=(64, 96))
        s = OPS["div"](one, OPS["add"](one, OPS["exp"](OPS["neg"](x))))
        weight = builder.param(TensorType(F32, (96, 96)))
        low = OPS["pad"](s, low=(0, 96), high=(0, 0), value=0)
        high = OPS["pad"](OPS["mul"](s, s), low=(0, 0), high=(0, 96), value=0)
        product = OPS["dot"](OPS["add"](low, high), OPS["concat"](weight, weight, axis=0),
                             contract=((1,), (0,)))  # fmt: skip
        graph = builder.graph([product, OPS["mul"](s, x)])
    plan = prepare(graph).plan
    stored = {value.node.op.name for group in plan.groups for value in group.members()}
    assert "div" in stored and stored.isdisjoint(["exp", "neg"])
