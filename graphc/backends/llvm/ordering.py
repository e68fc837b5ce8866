"""Native kernels of ops that compare: `sort` (a stable merge sort of each row), `searchsorted`.

Nan counts as the largest number, as in numpy and torch.
"""

from __future__ import annotations

import hashlib
from string import Template

from graphc.backends.llvm.contract.kernel import Kernel
from graphc.backends.llvm.native import NativeCall, native_kernel
from graphc.backends.llvm.target import Target
from graphc.backends.llvm.vmath.emitter import memory_element
from graphc.ir.dims import AnyDim, product
from graphc.ir.dtype import DType
from graphc.ir.graph import Node
from graphc.passes.fuse.plan import base_of

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

# Rows of length n, elements `inner` apart. Keys and places go to scratch, are merged there in runs
# of doubling length, from one half of scratch to the other, and are written back.
_SORT = """
define void @$name(ptr noalias %x, ptr noalias %values, ptr noalias %places,
                   ptr noalias %scratch, i64 %lo, i64 %hi, i64 %n, i64 %inner) nounwind {
entry:
  %kb0 = mul i64 %n, $bytes
  %kb1 = add i64 %kb0, 63
  %kb = and i64 %kb1, -64
  %ib = mul i64 %n, 8
  %half = add i64 %kb, %ib
  %second = getelementptr i8, ptr %scratch, i64 %half
  br label %row
row:
  %r = phi i64 [ %lo, %entry ], [ %r2, %stored ]
  %more = icmp slt i64 %r, %hi
  br i1 %more, label %start, label %done
start:
  %outer = sdiv i64 %r, %inner
  %o1 = mul i64 %outer, %n
  %o2 = mul i64 %o1, %inner
  %o3 = mul i64 %outer, %inner
  %column = sub i64 %r, %o3
  %base = add i64 %o2, %column
  %places0 = getelementptr i8, ptr %scratch, i64 %kb
  br label %read
read:
  %i = phi i64 [ 0, %start ], [ %i2, %read1 ]
  %ic = icmp slt i64 %i, %n
  br i1 %ic, label %read1, label %sorting
read1:
  %at0 = mul i64 %i, %inner
  %at = add i64 %base, %at0
  %xp = getelementptr $T, ptr %x, i64 %at
  %xv = load $T, ptr %xp, align $bytes
  %kp = getelementptr $T, ptr %scratch, i64 %i
  store $T %xv, ptr %kp, align $bytes
  %ip = getelementptr i64, ptr %places0, i64 %i
  store i64 %i, ptr %ip, align 8
  %i2 = add i64 %i, 1
  br label %read
sorting:
  %from = phi ptr [ %scratch, %read ], [ %to, %merged ]
  %to = phi ptr [ %second, %read ], [ %from, %merged ]
  %run = phi i64 [ 1, %read ], [ %run2, %merged ]
  %rc = icmp slt i64 %run, %n
  br i1 %rc, label %pass, label %write
pass:
  %fromi = getelementptr i8, ptr %from, i64 %kb
  %toi = getelementptr i8, ptr %to, i64 %kb
  %run2 = mul i64 %run, 2
  br label %pair
pair:
  %p = phi i64 [ 0, %pass ], [ %pe, %joined ]
  %pc = icmp slt i64 %p, %n
  br i1 %pc, label %bounds, label %merged
bounds:
  %m0 = add i64 %p, %run
  %mc = icmp slt i64 %m0, %n
  %middle = select i1 %mc, i64 %m0, i64 %n
  %e0 = add i64 %p, %run2
  %ec = icmp slt i64 %e0, %n
  %pe = select i1 %ec, i64 %e0, i64 %n
  br label %step
step:
  %a = phi i64 [ %p, %bounds ], [ %a2, %put ]
  %b = phi i64 [ %middle, %bounds ], [ %b2, %put ]
  %k = phi i64 [ %p, %bounds ], [ %k2, %put ]
  %kc = icmp slt i64 %k, %pe
  br i1 %kc, label %choose, label %joined
choose:
  %aleft = icmp slt i64 %a, %middle
  %bleft = icmp slt i64 %b, %pe
  %both = and i1 %aleft, %bleft
  br i1 %both, label %compare, label %one
compare:
  %akp = getelementptr $T, ptr %from, i64 %a
  %ak = load $T, ptr %akp, align $bytes
  %bkp = getelementptr $T, ptr %from, i64 %b
  %bk = load $T, ptr %bkp, align $bytes
  %swap = call i1 @$less($T $first, $T $then)
  br label %put
one:
  %onlyb = xor i1 %aleft, true
  br label %put
put:
  %takeb = phi i1 [ %swap, %compare ], [ %onlyb, %one ]
  %s = select i1 %takeb, i64 %b, i64 %a
  %skp = getelementptr $T, ptr %from, i64 %s
  %sk = load $T, ptr %skp, align $bytes
  %sip = getelementptr i64, ptr %fromi, i64 %s
  %si = load i64, ptr %sip, align 8
  %dkp = getelementptr $T, ptr %to, i64 %k
  store $T %sk, ptr %dkp, align $bytes
  %dip = getelementptr i64, ptr %toi, i64 %k
  store i64 %si, ptr %dip, align 8
  %one64 = zext i1 %takeb to i64
  %b2 = add i64 %b, %one64
  %notb = sub i64 1, %one64
  %a2 = add i64 %a, %notb
  %k2 = add i64 %k, 1
  br label %step
joined:
  br label %pair
merged:
  br label %sorting
write:
  %lasti = getelementptr i8, ptr %from, i64 %kb
  br label %put1
put1:
  %w = phi i64 [ 0, %write ], [ %w2, %put2 ]
  %wc = icmp slt i64 %w, %n
  br i1 %wc, label %put2, label %stored
put2:
  %wkp = getelementptr $T, ptr %from, i64 %w
  %wk = load $T, ptr %wkp, align $bytes
  %wip = getelementptr i64, ptr %lasti, i64 %w
  %wi = load i64, ptr %wip, align 8
  %wt0 = mul i64 %w, %inner
  %wt = add i64 %base, %wt0
  %vp = getelementptr $T, ptr %values, i64 %wt
  store $T %wk, ptr %vp, align $bytes
  %pp = getelementptr i64, ptr %places, i64 %wt
  store i64 %wi, ptr %pp, align 8
  %w2 = add i64 %w, 1
  br label %put1
stored:
  %r2 = add i64 %r, 1
  br label %row
done:
  ret void
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


def _kernel(
    stem: str, text: str, dtype: DType, words: dict[str, str], operands: tuple, sizes: tuple
) -> Kernel:
    kind = memory_element(dtype)
    signed = {"i": "slt", "u": "ult", "b": "ult"}.get(dtype.kind, "")
    less = f"less_{dtype.name}"
    common = {"T": kind, "bytes": str(dtype.itemsize), "less": less, "sign": signed}
    compare = Template(_LESS_FLOAT if dtype.kind == "f" else _LESS_INT).substitute(common)
    body = Template(text).safe_substitute(common | words)
    name = f"{stem}_{hashlib.blake2b(body.encode(), digest_size=8).hexdigest()}"
    entry = Template(body).substitute(name=name)
    functions = ((less, compare), (name, entry))
    return Kernel(name, functions, (), operands, sizes, 1, 0)


@native_kernel("sort")
def _sort(node: Node, target: Target) -> NativeCall:
    x = node.inputs[0]
    shape, axis = x.type.shape, node.attrs["axis"]
    n, inner = shape[axis], product(shape[axis + 1 :])
    down = node.attrs["descending"]
    # Right goes first where it is strictly before left: equal elements keep their order.
    words = {"first": "%ak" if down else "%bk", "then": "%bk" if down else "%ak"}
    operands, sizes = ("x", "values", "places"), ("n", "inner")
    kernel = _kernel("sort", _SORT, x.type.dtype, words, operands, sizes)
    rows = product(shape[:axis]) * inner
    scratch: AnyDim = 2 * (n * (x.type.dtype.itemsize + 8) + 64)
    buffers = (base_of(x), *node.outputs)
    return NativeCall(kernel, buffers, (n, inner), 1e5, units=rows, scratch=scratch)


@native_kernel("searchsorted")
def _searchsorted(node: Node, target: Target) -> NativeCall:
    boundaries, values = node.inputs
    right = node.attrs["right"]
    # Left: past what is below v. Right: past what v is not below.
    words = {
        "first": "%v" if right else "%b",
        "then": "%b" if right else "%v",
        "flip": "true" if right else "false",
    }
    operands = ("boundaries", "values", "out")
    kernel = _kernel("search", _SEARCH, values.type.dtype, words, operands, ("n",))
    buffers = (base_of(boundaries), base_of(values), node.outputs[0])
    sizes = (boundaries.type.shape[0],)
    return NativeCall(kernel, buffers, sizes, 1e4, units=product(values.type.shape))
