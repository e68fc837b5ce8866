"""Which nodes keep something for a backward, as in torch.

torch gives up what was kept after a backward without retain_graph, and a second backward through
the same node raises. Nodes that keep nothing (sums, views, products with a number) may be passed
any number of times. Sets of nodes are bit masks: bit i is node i of a trace.

A value that torch saves and that is written later makes the backward raise. (The derivative here
would be right: it uses the value of then. But a program that relies on that fails in torch.)
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from ..ir.build import trace
from ..ir.dtype import F32
from ..ir.errors import GraphcError
from ..ir.graph import Attrs, Node, Value
from ..ir.op import OPS
from ..ir.types import TensorType
from ..passes.autodiff.linear import has_derivative, linear_places

_KEEP_NOTHING = {"add", "sub", "neg", "real", "imag", "concat", "graft"}
_PASS_NUMBERS_ON = {"cast", "expand", "reshape"}


def keeps(node: Node, wanted: Container[Value] = ()) -> bool:
    """Whether the node's derivative reads an operand or a result.

    wanted: what derivatives are taken by: tensors, also those of one element.
    """
    op = node.op
    if op.name in _KEEP_NOTHING:
        return False
    if op.name == "mul":
        return not any([_is_number(v) and v not in wanted for v in node.inputs])
    if op.name == "div":
        return node.inputs[1] in wanted or not _is_number(node.inputs[1])
    if op.name == "select":
        return not _is_number(node.inputs[0])
    if op.name == "cumulative":
        return node.attrs["mode"] != "sum"
    if op.bilinear or op.linear is None:
        return True
    return len(linear_places(node)) < len(node.inputs)


def _kept_operands(node: Node, wanted: Iterable[Value]) -> list[Value]:
    """The operands that derivatives by some values read."""
    name, inputs = node.op.name, node.inputs
    if name in ("mul", "div") or node.op.bilinear:
        asked = [value in wanted for value in inputs]
        return [
            value
            for i, value in enumerate(inputs)
            if any(asked[:i] + asked[i + 1 :]) or (name == "div" and i == 1)
        ]
    if name == "scatter" and node.attrs["mode"] in ("add", "set"):
        return [inputs[1]] if inputs[2] in wanted or node.attrs["mode"] == "set" else []
    if not keeps(node):
        return []
    linear = linear_places(node) if node.op.linear is not None else ()
    return [value for i, value in enumerate(inputs) if i not in linear]


def keeps_any(nodes: Sequence[Node], given: Iterable[Value], wanted: Iterable[Value]) -> bool:
    """Whether derivatives by `wanted` read one of the given values, or what is made from them."""
    made, ways = set(given), set(wanted)
    for node in nodes:
        if not ways.isdisjoint(node.inputs):
            if not made.isdisjoint(_kept_operands(node, ways)):
                return True
            ways.update(node.outputs)
        if not made.isdisjoint(node.inputs):
            made.update(node.outputs)
    return False


def _is_number(value: Value) -> bool:
    """Whether the value is one number, spread over a shape."""
    while value.node is not None and value.node.op.name in _PASS_NUMBERS_ON:
        value = value.node.inputs[0]
    if value.node is None:
        return value.type.shape == ()
    return value.node.op.name == "full"


def kept_nodes(nodes: Sequence[Node], wanted: Iterable[Value]) -> dict[Value, int]:
    """For each value that depends on `wanted`: the nodes on the way that keep something."""
    masks: dict[Value, int] = dict.fromkeys(wanted, 0)
    for i, node in enumerate(nodes):
        if node.op.no_derivative:
            continue
        above = [masks[value] for value in node.inputs if value in masks]
        if above:
            mask = 1 << i if keeps(node, masks) else 0
            for one in above:
                mask |= one
            for value in node.outputs:
                if has_derivative(value):  # (an int has none)
                    masks[value] = mask
    return masks


def upstream(nodes: Sequence[Node], marked: Mapping[Value, int]) -> dict[Value, int]:
    """For each value that depends on a marked one: the bits of the marks, its own included."""
    made = {value for node in nodes for value in node.outputs}
    masks = {value: 1 << bit for value, bit in marked.items() if value not in made}
    for node in nodes:
        mask = 0
        if not node.op.no_derivative:
            for value in node.inputs:
                mask |= masks.get(value, 0)
        for value in node.outputs:
            own = mask | (1 << marked[value] if value in marked else 0)
            if own:
                masks[value] = own
    return masks


# --- values that torch saves, and that may be written later --------------------------------------

# What the derivatives of other functions read, as torch's do; of a pointwise op, its declaration
# says it.
_RESULT = frozenset(
    "reciprocal sigmoid relu softmax log_softmax softmin prod cumprod logsumexp logcumsumexp "
    "std amax amin median hypot copysign norm cdist".split()
)
_SELF = frozenset(
    "log10 pow square erfinv prod cumprod logsumexp logcumsumexp std var amax amin median "
    "cummax clamp clamp_min clamp_max sinc nan_to_num renorm logit gather nansum softplus "
    "logsigmoid hardshrink softshrink softsign copysign norm gelu silu _gelu _silu _leaky "
    "_elu _clipped _mish _hardswish _hardsigmoid _threshold _layer_norm _rms_norm _avg_pool "
    "_max_pool".split()
)  # erfinv is computed twice there
_OTHER = frozenset("mul multiply matmul mm bmm mv dot linear outer inner".split())
_BOTH = frozenset(
    "minimum maximum fmin fmax atan2 hypot fmod remainder _mse _smooth_l1 _huber _bce_logits "
    "logaddexp xlogy cross cdist conv1d conv2d".split()
)


@cache
def _pointwise() -> tuple[frozenset[str], frozenset[str]]:
    """Functions of one tensor whose derivative reads the result, and those that read the tensor."""
    example = TensorType(F32, (1,), "cpu")
    of_result, of_self = set(_RESULT), set(_SELF)
    for op in OPS.values():
        partials = getattr(op, "partials", None)
        if op.torch is None or len(op.operands) != 1 or op.attributes or partials is None:
            continue
        if op.infer(Attrs.of({}), [example])[0] != example:
            continue
        graph = trace(partials, example, example)
        read = {value for node in graph.nodes for value in node.inputs} | set(graph.results)
        if graph.params[1] in read:
            of_result.update(set(op.torch.names) - of_self)
        elif graph.params[0] in read:
            of_self.update(op.torch.names)
    return frozenset(of_result), frozenset(of_self)


class Written:
    """Whether the memory that shows a value was written since: (recording, slot) of the writer."""

    __slots__ = ("by",)

    def __init__(self) -> None:
        self.by: tuple[int, int] | None = None


class ModifiedError(GraphcError, RuntimeError):
    """A backward through a value whose memory was written after it had been saved."""


def modified_error(text: str) -> ModifiedError:
    return ModifiedError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: {text}.",
        hint="Write to a clone of it, or after the backward.",
    )


class Saved(NamedTuple):
    """A value that torch saves at a step: its slot, and the step's nodes.

    own: the slot of what y.mul_(x) writes, whose write of y does not count; else -1.
    """

    slot: int
    own: int
    nodes: tuple[Node, ...]
    text: str

    def mask(self, places: Mapping[Node, int]) -> int:
        found = 0
        for node in self.nodes:
            if node in places:
                found |= 1 << places[node]
        return found

    def written_by_another(self, by: tuple[int, int] | None, recording: int) -> bool:
        return by is not None and by != (recording, self.own)


def saved_values(path: Iterable[Any]) -> list[Saved]:
    """What torch saves in a trace, as far as the functions here go; the others save nothing."""
    grads: list[bool] = []
    types: list[Any] = []
    found = []
    of_result, of_self = _pointwise()
    steps = list(path)
    for state, following in zip(steps, [*steps[1:], None]):
        base, key = len(grads), state.key
        grads += state.grads
        types += state.types
        name = getattr(key[0], "name", None)
        if name is None or not state.grads or not state.grads[0]:
            continue
        slots = [slot for slot in key[4 if key[1] == "numbers" else 3 :] if slot < base]
        own = base
        if following is not None and following.key[0] == "put" and following.key[-1] == base:
            own = base + len(state.values)  # written through a view
        places = [(base, -1)] if name in of_result else []
        if name in of_self:
            places += [(slots[0], own)]
        if name in _BOTH and len(slots) > 1:
            places += [(slots[0], own), (slots[1], -1)]
        elif name in _OTHER and len(slots) > 1:
            a, b = slots[:2]
            places = [(a, own)] * grads[b] + [(b, -1)] * grads[a]
        elif name in ("div", "true_divide") and len(slots) > 1:
            places = [(slots[0], own)] * grads[slots[1]] + [(slots[1], -1)]
        found += [Saved(slot, own, state.nodes, types[slot].text) for slot, own in places]
    return found
