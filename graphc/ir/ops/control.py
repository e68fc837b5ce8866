"""Control flow: ops whose blocks are closed graphs, and calls of other graphs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..build import Builder
from ..dims import AnyDim
from ..dtype import BOOL
from ..errors import ShapeError
from ..graph import NO_ATTRS, Graph, Value
from ..interpret import run
from ..op import Op, op
from ..schema import DimAttr, Flag, IntAttr, Onnx
from ..types import TensorType


class Control(Op):
    """Operands of any number and type; what they must be depends on the blocks."""

    dear = True

    def check(self, attrs, types) -> None:
        for key, kind in self.attributes:
            if key not in attrs or not kind.check(attrs[key]):
                raise TypeError(f"{self.name}: {key} must be {kind.name}")
        for type in types:
            if not isinstance(type, TensorType):
                raise TypeError(f"{self.name}: an operand must be a tensor, not {type.text}")

    @property
    def pure(self) -> bool:  # type: ignore[override]
        return True


def _match(block: Graph, types: Sequence[Any], what: str) -> None:
    found = [p.type for p in block.params]
    if found != list(types):
        have = ", ".join(t.text for t in found)
        want = ", ".join(t.text for t in types)
        raise ShapeError(f"{what} takes ({have}), but is given ({want})")


def sizes_of(arrays, block: Graph) -> dict[str, int]:
    from ..interpret import bind_sizes

    sizes: dict[str, int] = {}
    bind_sizes(block, [a.shape for a in arrays], sizes)
    return sizes


class _If(Control):
    """Runs the first block where the predicate holds, else the second, on the other operands.

    With a predicate of rank k both run, and each result is chosen along its first k axes.
    """

    def infer(self, attrs, types, blocks=()):
        self.check(attrs, types)
        if len(blocks) != 2 or not types:
            raise TypeError("if needs a predicate and two blocks")
        predicate, *operands = types
        if predicate.dtype is not BOOL:
            raise TypeError(f"the predicate of if is {predicate.text}, not bool")
        for block in blocks:
            _match(block, operands, "a block of if")
        then, other = [[v.type for v in block.results] for block in blocks]
        if then != other:
            raise ShapeError("the blocks of if give results of different types")
        for t in then if predicate.shape else ():
            if not isinstance(t, TensorType) or t.shape[: predicate.rank] != predicate.shape:
                raise ShapeError(f"a predicate {predicate.text} cannot choose along {t.text}")
        return then

    def eval_node(self, node, arrays, attrs):
        predicate, *operands = arrays
        if predicate.ndim == 0:
            block = node.blocks[0 if predicate else 1]
            return run(block, operands, sizes_of(operands, block))
        sides = [run(block, operands, sizes_of(operands, block)) for block in node.blocks]
        masks = [
            predicate.reshape(predicate.shape + (1,) * (a.ndim - predicate.ndim)) for a in sides[0]
        ]
        return [np.where(mask, a, b) for mask, a, b in zip(masks, *sides, strict=True)]


class _While(Control):
    """Runs the second block while the first, on the same values, gives True."""

    def infer(self, attrs, types, blocks=()):
        self.check(attrs, types)
        if len(blocks) != 2:
            raise TypeError("while needs a condition and a body")
        for block in blocks:
            _match(block, types, "a block of while")
        results = [v.type for v in blocks[0].results]
        self.check(attrs, results)
        if len(results) != 1 or results[0].dtype is not BOOL or results[0].shape:
            raise ShapeError("the condition of while must give one bool scalar")
        if [v.type for v in blocks[1].results] != list(types):
            raise ShapeError("the body of while must give values of the types that it takes")
        return list(types)

    def eval_node(self, node, arrays, attrs):
        state = list(arrays)
        condition, body = node.blocks
        while run(condition, state, sizes_of(state, condition))[0]:
            state = run(body, state, sizes_of(state, body))
        return state


class _Scan(Control):
    """Runs the block `length` times. Operands: `carry` values, `xs` (one row a step), constants.

    The block takes (carry, one row of each of xs, constants) and gives (carry, rows to stack).
    """

    def infer(self, attrs, types, blocks=()):
        self.check(attrs, types)
        if len(blocks) != 1:
            raise TypeError("scan needs one block")
        block, length = blocks[0], attrs["length"]
        n_carry, n_xs = attrs["carry"], attrs["xs"]
        if n_carry < 0 or n_xs < 0 or n_carry + n_xs > len(types):
            raise TypeError(f"scan of {len(types)} operands: {n_carry} carried, {n_xs} with rows")
        rows = []
        for t in types[n_carry : n_carry + n_xs]:
            if not t.shape or t.shape[0] != length:
                raise ShapeError(f"scan over {length} steps is given rows {t.text}")
            rows.append(t.with_shape(t.shape[1:]))
        _match(block, [*types[:n_carry], *rows, *types[n_carry + n_xs :]], "the block of scan")
        results = [v.type for v in block.results]
        self.check(attrs, results)
        if results[:n_carry] != list(types[:n_carry]):
            raise ShapeError("the block of scan must give carried values of the types it takes")
        return results[:n_carry] + [t.with_shape((length, *t.shape)) for t in results[n_carry:]]

    def eval_node(self, node, arrays, attrs):
        n_carry, n_xs, length = attrs["carry"], attrs["xs"], attrs["length"]
        state, rows = list(arrays[:n_carry]), arrays[n_carry : n_carry + n_xs]
        fixed, block = list(arrays[n_carry + n_xs :]), node.blocks[0]
        stacked: list[list] = []
        for step in range(length)[:: -1 if attrs["reverse"] else 1]:
            operands = [*state, *[r[step] for r in rows], *fixed]
            outs = run(block, operands, sizes_of(operands, block))
            state = outs[:n_carry]
            stacked.append(outs[n_carry:])
        if attrs["reverse"]:
            stacked.reverse()
        types = [v.type for v in block.results[n_carry:]]
        if not stacked:
            return state + [np.zeros((0, *t.shape), t.dtype.numpy) for t in types]
        return state + [np.stack([row[i] for row in stacked]) for i in range(len(types))]


@op("if")
class if_op(_If):
    __doc__ = _If.__doc__

    def to_onnx(g, node, predicate, *operands):
        return g.if_(node, predicate, *operands)

    onnx = Onnx("If", 16)


@op("while")
class while_op(_While):
    __doc__ = _While.__doc__

    def to_onnx(g, node, *state):
        return g.while_(node, *state)

    onnx = Onnx("Loop", 16)


@op("scan", reverse=False)
class scan_op(_Scan):
    __doc__ = _Scan.__doc__
    length: DimAttr
    carry: IntAttr
    xs: IntAttr
    reverse: Flag

    def to_onnx(g, node, *operands):
        return g.scan_(node, *operands)

    onnx = Onnx("Scan", 16)


def cond(predicate: Value, then: Graph, other: Graph, *operands: Value) -> tuple[Value, ...]:
    """One of two blocks on the operands."""
    return Builder.current().emit(if_op, (predicate, *operands), NO_ATTRS, (then, other))


def while_loop(condition: Graph, body: Graph, *state: Value) -> tuple[Value, ...]:
    """The state after running the body for as long as the condition holds."""
    return Builder.current().emit(while_op, tuple(state), NO_ATTRS, (condition, body))


def scan(
    body: Graph,
    init: Sequence[Value],
    xs: Sequence[Value],
    consts: Sequence[Value] = (),
    length: AnyDim = 0,
    reverse: bool = False,
) -> tuple[Value, ...]:
    """(final carry, stacked rows) of running the body once for each row."""
    attrs = {"length": length, "carry": len(init), "xs": len(xs), "reverse": reverse}
    operands = (*init, *xs, *consts)
    return Builder.current().emit(scan_op, operands, scan_op.attrs_of(attrs), (body,))
