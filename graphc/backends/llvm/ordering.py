"""Native kernels of ops that compare: `sort`, `topk` and `searchsorted`.

Nan counts as the largest number, as in numpy and torch.
"""

from __future__ import annotations

import hashlib
from string import Template

from graphc.backends.llvm import ordering_text as text
from graphc.backends.llvm import topk_text
from graphc.backends.llvm.contract.kernel import Kernel
from graphc.backends.llvm.native import NativeCall, native_kernel
from graphc.backends.llvm.target import Target
from graphc.backends.llvm.vmath.emitter import memory_element
from graphc.ir.dims import AnyDim, product
from graphc.ir.dtype import DType
from graphc.ir.graph import Node
from graphc.passes.fuse.plan import base_of

_SORT_NS, _TOPK_NS = 10.0, 1.0  # of an element

_ORDER = {"insert": text.INSERT, "order": text.ORDER}

_LESS_FLOAT = """
define internal i1 @$less($T %a, $T %b) alwaysinline nounwind {
  %below = fcmp olt $T %a, %b
  %number = fcmp ord $T %a, %a
  %nan = fcmp uno $T %b, %b
  %end = and i1 %number, %nan
  %r = or i1 %below, %end
  ret i1 %r
}
"""
_LESS_INT = """
define internal i1 @$less($T %a, $T %b) alwaysinline nounwind {
  %r = icmp $sign $T %a, %b
  ret i1 %r
}
"""

_SEARCH = """
define void @$name(ptr noalias %boundaries, ptr noalias %values, ptr noalias %out,
                   ptr noalias %scratch, i64 %lo, i64 %hi, i64 %n) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ %lo, %entry ], [ %i2, %found ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %start, label %done
start:
  %vp = getelementptr $T, ptr %values, i64 %i
  %v = load $T, ptr %vp, align $bytes
  br label %halve
halve:
  %low = phi i64 [ 0, %start ], [ %low2, %look ]
  %high = phi i64 [ %n, %start ], [ %high2, %look ]
  %open = icmp slt i64 %low, %high
  br i1 %open, label %look, label %found
look:
  %sum = add i64 %low, %high
  %middle = lshr i64 %sum, 1
  %bp = getelementptr $T, ptr %boundaries, i64 %middle
  %b = load $T, ptr %bp, align $bytes
  %l = call i1 @$less($T $first, $T $then)
  %after = xor i1 %l, $flip
  %past = add i64 %middle, 1
  %low2 = select i1 %after, i64 %past, i64 %low
  %high2 = select i1 %after, i64 %high, i64 %middle
  br label %halve
found:
  %op = getelementptr i64, ptr %out, i64 %i
  store i64 %low, ptr %op, align 8
  %i2 = add i64 %i, 1
  br label %next
done:
  ret void
}
"""


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _filled(text: str, words: dict[str, str]) -> str:
    """The template with the words that it has; a word may hold others."""
    return Template(Template(text).safe_substitute(words)).safe_substitute(words)


def _kernel(
    stem: str,
    main: str,
    helpers: dict[str, str],
    words: dict[str, str],
    operands: tuple,
    sizes: tuple,
    declares: tuple = (),
) -> Kernel:
    """The kernel of a template. Its helpers, too, are named by what they hold, in order."""
    words, functions = dict(words), []
    for helper, helper_text in (*helpers.items(), (stem, main)):
        body = _filled(helper_text, words)
        word = helper if helper in helpers else "name"
        words[word] = f"{helper}_{_digest(body)}"
        functions.append((words[word], Template(body).substitute({word: words[word]})))
    return Kernel(words["name"], tuple(functions), declares, operands, sizes, 1, 0)


def _words(dtype: DType, bits: int) -> dict[str, str]:
    """What the templates call an element, a record and the tables of digits."""
    low = bits // 16
    numbers = {
        "bytes": dtype.itemsize,
        "size": bits // 8,
        "half_bits": bits // 2,
        "few": text.FEW,
        "digits": dtype.itemsize,
        "low": low,
        "table": text.DIGITS * 8,
        "counters": text.DIGITS * dtype.itemsize,
        "tables": _tables(dtype),
    }
    words = {"T": memory_element(dtype), "R": f"i{bits}", "row": text.ROW}
    words["tally"] = text.tally_text(dtype.itemsize, low)
    return words | {key: str(number) for key, number in numbers.items()}


def _tables(dtype: DType) -> int:
    return text.DIGITS * 8 * dtype.itemsize


def _work(points: AnyDim, point_ns: float) -> float:
    return points * point_ns if isinstance(points, int) else 1e5


@native_kernel("sort")
def _sort(node: Node, target: Target) -> NativeCall:
    x = node.inputs[0]
    dtype, shape, axis = x.type.dtype, x.type.shape, node.attrs["axis"]
    n, inner = shape[axis], product(shape[axis + 1 :])
    bits = text.record_bits(dtype, n)
    words = _words(dtype, bits) | {
        "record": text.record_text(dtype, node.attrs["descending"], bits),
        "position": text.position_text(bits, "s"),
    }
    operands, sizes = ("x", "values", "places"), ("n", "inner")
    kernel = _kernel("sort", text.SORT, _ORDER, words, operands, sizes)
    points = product(shape)
    return NativeCall(
        kernel,
        (base_of(x), *node.outputs),
        (n, inner),
        _work(points, _SORT_NS),
        units=product(shape[:axis]) * inner,
        scratch=2 * n * (bits // 8) + _tables(dtype),
        points=points,
        point_ns=_SORT_NS,
    )


@native_kernel("topk")
def _topk(node: Node, target: Target) -> NativeCall:
    x = node.inputs[0]
    dtype, shape, axis = x.type.dtype, x.type.shape, node.attrs["axis"]
    n, inner, k = shape[axis], product(shape[axis + 1 :]), node.attrs["k"]
    largest, bits = node.attrs["largest"], text.record_bits(dtype, n)
    few = isinstance(k, int) and k <= topk_text.FEW
    lanes = min(64, 4 * target.lanes(dtype.itemsize * 8))
    words = _words(dtype, bits) | {
        "record": text.record_text(dtype, largest, bits),
        "new_record": text.record_text(dtype, largest, bits, "new."),
        "kth_position": text.position_text(bits, "kth"),
        "o_position": text.position_text(bits, "o"),
        "contiguous": topk_text.TOGETHER if inner == 1 else topk_text.APART,
        "offer": topk_text.OFFER_FEW if few else topk_text.OFFER_MANY,
        "first": topk_text.FIRST_FEW if few else topk_text.FIRST_MANY,
        "last": "" if few else topk_text.LAST_MANY,
        "enough": "%room = add i64 %k, 0" if few else topk_text.ROOM_MANY,
        "spare": str(topk_text.SPARE),
        "lanes": str(lanes),
        "threshold": topk_text.threshold_text(dtype, largest),
        "better": topk_text.better_text(dtype, largest, lanes),
        "widen": "%better2 = "
        + ("add i64 %better1, 0" if lanes == 64 else f"zext i{lanes} %better1 to i64"),
    }
    kernel = _kernel(
        "topk",
        topk_text.TOPK,
        {"insert": text.INSERT} if few else _ORDER | {"settle": topk_text.SETTLE},
        words,
        ("x", "values", "places"),
        ("n", "inner", "k"),
        ("declare i64 @llvm.cttz.i64(i64, i1 immarg)",),
    )
    room = k if few else 2 * k + topk_text.SPARE
    points = product(shape)
    return NativeCall(
        kernel,
        (base_of(x), *node.outputs),
        (n, inner, k),
        _work(points, _TOPK_NS),
        units=product(shape[:axis]) * inner,
        scratch=2 * room * (bits // 8) + _tables(dtype) + (0 if inner == 1 else n * dtype.itemsize),
        points=points,
        point_ns=_TOPK_NS,
    )


@native_kernel("searchsorted")
def _searchsorted(node: Node, target: Target) -> NativeCall:
    boundaries, values = node.inputs
    right, dtype = node.attrs["right"], values.type.dtype
    # Left: past what is below v. Right: past what v is not below.
    words = {
        "T": memory_element(dtype),
        "bytes": str(dtype.itemsize),
        "sign": "slt" if dtype.kind == "i" else "ult",
        "first": "%v" if right else "%b",
        "then": "%b" if right else "%v",
        "flip": "true" if right else "false",
    }
    less = {"less": _LESS_FLOAT if dtype.kind == "f" else _LESS_INT}
    kernel = _kernel("search", _SEARCH, less, words, ("boundaries", "values", "out"), ("n",))
    buffers = (base_of(boundaries), base_of(values), node.outputs[0])
    sizes = (boundaries.type.shape[0],)
    return NativeCall(kernel, buffers, sizes, 1e4, units=product(values.type.shape))
