"""The native kernels of attention and of its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from graphc.backends.llvm.contract.attention import AttentionProblem, Stack, named_sizes
from graphc.backends.llvm.contract.attention_forward import attention, attention_scratch
from graphc.backends.llvm.contract.attention_grad import attention_grad, attention_grad_scratch
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
#: What a weight costs beside its products, in multiply-adds.
WEIGHT = 16


@lru_cache(maxsize=256)
def _kernel(
    make: Callable[[AttentionProblem, Target], Kernel], problem: AttentionProblem, target: Target
) -> Kernel:
    return make(problem, target)


def _fits(node: Node, target: Target) -> bool:
    return node.outputs[0].type.dtype in (F32, F64)


def _strided(node: Node) -> Mapping[str, StridedView]:
    """The matrices that a node reads where they lie, by name."""
    q, k, v, *rest = node.inputs
    found = {"q": q, "k": k, "v": v}
    if node.op.name == "attention_grad":
        found["ct"], rest = rest[2], rest[3:]
    names = ["drop"] if node.attrs["dropout"] else []
    if len(rest) > len(names):
        names = ["mask", *names]
    found |= dict(zip(names, rest, strict=True))
    return {name: strided_view(value) for name, value in found.items()}


def _shared(node: Node) -> tuple[int, ...]:
    """The batch axes along which the node's mask is shared, if it has one."""
    rest = node.inputs[6 if node.op.name == "attention_grad" else 3 :]
    batch = node.inputs[0].type.shape[:-2]
    if len(rest) == node.attrs["dropout"]:
        return ()
    return tuple([a for a, size in enumerate(batch) if rest[0].type.shape[a] != size])


def _rows(node: Node) -> list[Value]:
    """The logarithms and means of an `attention_grad`."""
    return [base_of(value) for value in node.inputs[3:5]]


def _operands(node: Node) -> list[Value]:
    return [base_of(view.base) for view in _strided(node).values()]


def _operands_of_grad(node: Node) -> list[Value]:
    return [*_operands(node), *_rows(node)]


def _problem(node: Node, views: Mapping[str, StridedView]) -> tuple[AttentionProblem, list[AnyDim]]:
    """The problem, and the sizes that its kernel is given."""
    q, k, v = [value.type for value in node.inputs[:3]]
    batch = q.shape[:-2]
    dims: list[AnyDim] = [q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], *batch]
    stacks: dict[str, Stack | None] = {"mask": None, "ct": None, "drop": None}
    shared = _shared(node)
    for name, view in views.items():
        *steps, row, _ = view.steps
        if name == "mask":
            steps = [0 if axis in shared else step for axis, step in enumerate(steps)]
        dims += [*steps, row, view.offset]
        of_batch = tuple([static(step) for step in steps])
        stacks[name] = Stack(of_batch, static(row), static(view.offset))
    problem = AttentionProblem(
        tuple([static(d) for d in batch]),
        *[static(dim) for dim in dims[:4]],
        **stacks,
        scale=float(node.attrs["scale"]),
        causal=node.attrs["causal"],
        dtype=q.dtype.name,
        shared=shared if node.attrs.get("of_mask") else None,
    )
    assert list(named_sizes(problem).values()) == [static(dim) for dim in dims]
    return problem, [dim for dim in dims if not isinstance(dim, int)]


@native_kernel("attention", operands=_operands, fits=_fits)
def _attention(node: Node, target: Target) -> NativeCall:
    problem, sizes = _problem(node, _strided(node))
    kernel = _kernel(attention, problem, target)
    return _call(node, kernel, sizes, attention_scratch, _operands(node), target, products=(1, 1))


@native_kernel("attention_grad", operands=_operands_of_grad, fits=_fits)
def _attention_grad(node: Node, target: Target) -> NativeCall:
    problem, sizes = _problem(node, _strided(node))
    kernel = _kernel(attention_grad, problem, target)
    operands = _operands_of_grad(node)
    return _call(node, kernel, sizes, attention_grad_scratch, operands, target, products=(3, 2))


def _call(
    node: Node,
    kernel: Kernel,
    sizes: list[AnyDim],
    scratch_of: Callable[..., AnyDim],
    operands: list[Value],
    target: Target,
    products: tuple[int, int],
) -> NativeCall:
    """products: how many there are along the columns of q, and along those of v."""
    q, k, v = [value.type for value in node.inputs[:3]]
    scores = (*q.shape[:-1], k.shape[-2])
    columns = (q.shape[-1], v.shape[-1])
    each = sum([count * _hint(d) for count, d in zip(products, columns)]) + WEIGHT
    ns = each / RATE * (0.5 if node.attrs["causal"] else 1.0)
    return NativeCall(
        kernel,
        (*operands, *node.outputs),
        sizes,
        work=ns * product([_hint(d) for d in scores]),
        scratch=scratch_of(*columns, target, q.dtype.itemsize),
        points=product(scores),
        point_ns=ns,
    )


def _hint(size: AnyDim) -> int:
    return size if isinstance(size, int) else SOME
