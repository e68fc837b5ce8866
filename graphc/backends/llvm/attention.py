"""The native kernels of attention."""

from __future__ import annotations

from functools import lru_cache

from graphc.backends.llvm.contract.attention import AttentionProblem, Stack, named_sizes
from graphc.backends.llvm.contract.attention_forward import attention, attention_scratch
from graphc.backends.llvm.contract.kernel import Kernel
from graphc.backends.llvm.native import NativeCall, native_kernel
from graphc.backends.llvm.products import RATE, static
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim, product
from graphc.ir.dtype import F32, F64
from graphc.ir.graph import Node, Value
from graphc.passes.fuse.plan import base_of
from graphc.passes.strides import StridedView, strided_view

#: What a symbolic size counts as in estimates.
SOME = 256


@lru_cache(maxsize=256)
def _kernel(problem: AttentionProblem, target: Target) -> Kernel:
    return attention(problem, target)


def _fits(node: Node, target: Target) -> bool:
    return node.outputs[0].type.dtype in (F32, F64)


def _views(node: Node) -> dict[str, StridedView]:
    """The matrices that a node reads where they lie, by name."""
    return {n: strided_view(value) for n, value in zip(("q", "k", "v", "mask"), node.inputs)}


def _operands(node: Node) -> list[Value]:
    return [view.base for view in _views(node).values()]


def _problem(node: Node, views: dict[str, StridedView]) -> tuple[AttentionProblem, list[AnyDim]]:
    """The problem, and the sizes that its kernel is given."""
    q, k, v = [value.type for value in node.inputs[:3]]
    batch = q.shape[:-2]
    dims: list[AnyDim] = [q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], *batch]
    stacks: dict[str, Stack | None] = {"mask": None}
    for name, view in views.items():
        *steps, row, _ = view.steps
        dims += [*steps, row, view.offset]
        of_batch = tuple([static(step) for step in steps])
        stacks[name] = Stack(of_batch, static(row), static(view.offset))
    known = [static(dim) for dim in dims]
    problem = AttentionProblem(
        tuple([static(d) for d in batch]),
        *known[:4],
        **stacks,
        scale=float(node.attrs["scale"]),
        causal=node.attrs["causal"],
        dtype=q.dtype.name,
    )
    assert list(named_sizes(problem).values()) == known
    return problem, [dim for dim in dims if not isinstance(dim, int)]


@native_kernel("attention", operands=_operands, fits=_fits)
def _attention(node: Node, target: Target) -> NativeCall:
    views = _views(node)
    problem, sizes = _problem(node, views)
    kernel = _kernel(problem, target)
    q, k, v = [value.type for value in node.inputs[:3]]
    buffers = (*[base_of(view.base) for view in views.values()], *node.outputs)
    scratch = attention_scratch(q.shape[-1], v.shape[-1], target, q.dtype.itemsize)
    points = product([*q.shape[:-1], k.shape[-2]])
    each = (_hint(q.shape[-1]) + _hint(v.shape[-1]) + 16) / RATE * (0.5 if problem.causal else 1)
    return NativeCall(
        kernel,
        buffers,
        sizes,
        work=each * product([_hint(d) for d in (*q.shape[:-1], k.shape[-2])]),
        scratch=scratch,
        points=points,
        point_ns=each,
    )


def _hint(size: AnyDim) -> int:
    return size if isinstance(size, int) else SOME
