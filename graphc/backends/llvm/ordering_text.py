"""LLVM text that puts records in order: for `sort`, and for `topk` (see `topk_text`).

A record is an unsigned integer: an element's key above its position in the row. Keys compare as
the elements do, so records differ in pairs, and any way to order them is stable.
"""

from __future__ import annotations

from graphc.backends.llvm.vmath.emitter import memory_element
from graphc.ir.dtype import DType

DIGITS = 256  # values of a digit: a byte
FEW = 48  # records that insertion orders sooner than counting


INFINITY = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF0000000000000}


def record_bits(dtype: DType, n: object) -> int:
    """Bits of a record of rows of n: half of them hold the position."""
    return 64 if dtype.itemsize <= 4 and not (isinstance(n, int) and n >= 2**32) else 128


def record_text(dtype: DType, descending: bool, bits: int, stem: str = "") -> str:
    """Lines that make the record %{stem}record of the element %{stem}v at position i64 %{stem}i.

    Zeros of both signs have one key, all nans another, above that of infinity.
    """
    width = dtype.itemsize * 8
    key, memory, lowest = f"i{width}", memory_element(dtype), 1 << (width - 1)
    lines = [f"%key.bits = bitcast {memory} %v to {key}"]
    if dtype.kind == "f":
        lines += [
            f"%key.size = and {key} %key.bits, {lowest - 1}",
            f"%key.nan = icmp ugt {key} %key.size, {INFINITY[dtype.name]}",
            f"%key.zero = icmp eq {key} %key.size, 0",
            f"%key.sign = ashr {key} %key.bits, {width - 1}",
            f"%key.flip = or {key} %key.sign, {lowest}",
            f"%key.number = xor {key} %key.bits, %key.flip",
            f"%key.plain = select i1 %key.zero, {key} {lowest}, {key} %key.number",
            f"%key.up = select i1 %key.nan, {key} -1, {key} %key.plain",
        ]
    else:
        lines += [f"%key.up = xor {key} %key.bits, {lowest if dtype.kind == 'i' else 0}"]
    record, at = f"i{bits}", "%i" if bits == 64 else "%key.wide_i"
    lines += [f"%key.wide_i = zext i64 %i to {record}"] if bits != 64 else []
    lines += [
        f"%key = xor {key} %key.up, {-1 if descending else 0}",
        f"%key.wide = zext {key} %key to {record}",
        f"%key.high = shl {record} %key.wide, {bits // 2}",
        f"%record = or {record} %key.high, {at}",
    ]
    return "\n".join("  " + line.replace("%", f"%{stem}") for line in lines)


def position_text(bits: int, name: str) -> str:
    """A line that takes the position, i64 %{name}.at, out of the record %{name}."""
    if bits == 128:
        return f"  %{name}.at = trunc i128 %{name} to i64"
    return f"  %{name}.at = and i64 %{name}, {2**32 - 1}"


# The m records at %a put in order there, each by a walk to its place.
INSERT = """
define internal void @$insert(ptr noalias %a, i64 %m) nounwind {
entry:
  br label %insert
insert:
  %i = phi i64 [ 1, %entry ], [ %i2, %placed ]
  %ic = icmp slt i64 %i, %m
  br i1 %ic, label %take, label %inserted
take:
  %vp = getelementptr $R, ptr %a, i64 %i
  %v = load $R, ptr %vp, align 8
  br label %shift
shift:
  %j = phi i64 [ %i, %take ], [ %j1, %move ]
  %jc = icmp sgt i64 %j, 0
  br i1 %jc, label %before, label %placed
before:
  %j1 = sub i64 %j, 1
  %up = getelementptr $R, ptr %a, i64 %j1
  %u = load $R, ptr %up, align 8
  %uc = icmp ugt $R %u, %v
  br i1 %uc, label %move, label %placed
move:
  %jp = getelementptr $R, ptr %a, i64 %j
  store $R %u, ptr %jp, align 8
  br label %shift
placed:
  %pp = getelementptr $R, ptr %a, i64 %j
  store $R %v, ptr %pp, align 8
  %i2 = add i64 %i, 1
  br label %insert
inserted:
  ret void
}
"""

# The m records at %a in order: by insertion where they are few, else by counting, one digit of
# the keys after the other, from %a to %b and back. Returns where they are. A digit that is the
# same everywhere is passed over.
ORDER = """
define internal ptr @$order(ptr noalias %a, ptr noalias %b, ptr noalias %counts, i64 %m) nounwind {
entry:
  %few = icmp sle i64 %m, $few
  br i1 %few, label %insert, label %clear

insert:
  call void @$insert(ptr %a, i64 %m)
  ret ptr %a

clear:
  %z = phi i64 [ 0, %entry ], [ %z2, %clear ]
  %zp = getelementptr i64, ptr %counts, i64 %z
  store <8 x i64> zeroinitializer, ptr %zp, align 8
  %z2 = add i64 %z, 8
  %zc = icmp slt i64 %z2, $counters
  br i1 %zc, label %clear, label %count
count:
  %c = phi i64 [ 0, %clear ], [ %c2, %count ]
  %cp = getelementptr $R, ptr %a, i64 %c
$tally
  %c2 = add i64 %c, 1
  %cc = icmp slt i64 %c2, %m
  br i1 %cc, label %count, label %digit

digit:
  %from = phi ptr [ %a, %count ], [ %from2, %next ]
  %to = phi ptr [ %b, %count ], [ %to2, %next ]
  %d = phi i64 [ 0, %count ], [ %d2, %next ]
  %dc = icmp slt i64 %d, $digits
  br i1 %dc, label %look, label %done
look:
  %places0 = mul i64 %d, $table
  %places = getelementptr i8, ptr %counts, i64 %places0
  %byte = add i64 %d, $low
  %bytes = getelementptr i8, ptr %from, i64 %byte
  %first = load i8, ptr %bytes, align 1
  %first64 = zext i8 %first to i64
  %firstp = getelementptr i64, ptr %places, i64 %first64
  %same0 = load i64, ptr %firstp, align 8
  %same = icmp eq i64 %same0, %m
  br i1 %same, label %next, label %start
start:
  %s = phi i64 [ 0, %look ], [ %s2, %start ]
  %sum = phi i64 [ 0, %look ], [ %sum2, %start ]
  %sp = getelementptr i64, ptr %places, i64 %s
  %sn = load i64, ptr %sp, align 8
  store i64 %sum, ptr %sp, align 8
  %sum2 = add i64 %sum, %sn
  %s2 = add i64 %s, 1
  %sc = icmp slt i64 %s2, 256
  br i1 %sc, label %start, label %deal
deal:
  %r = phi i64 [ 0, %start ], [ %r2, %deal ]
  %rb0 = mul i64 %r, $size
  %rp = getelementptr i8, ptr %from, i64 %rb0
  %rbp = getelementptr i8, ptr %bytes, i64 %rb0
  %record = load $R, ptr %rp, align 8
  %rd = load i8, ptr %rbp, align 1
  %rd64 = zext i8 %rd to i64
  %rcp = getelementptr i64, ptr %places, i64 %rd64
  %at = load i64, ptr %rcp, align 8
  %tp = getelementptr $R, ptr %to, i64 %at
  store $R %record, ptr %tp, align 8
  %at2 = add i64 %at, 1
  store i64 %at2, ptr %rcp, align 8
  %r2 = add i64 %r, 1
  %rc = icmp slt i64 %r2, %m
  br i1 %rc, label %deal, label %dealt
dealt:
  br label %next
next:
  %from2 = phi ptr [ %from, %look ], [ %to, %dealt ]
  %to2 = phi ptr [ %to, %look ], [ %from, %dealt ]
  %d2 = add i64 %d, 1
  br label %digit
done:
  ret ptr %from
}
"""


def tally_text(itemsize: int, low: int) -> str:
    """Lines that count every digit of the key of the record at %cp; it begins at byte `low`."""
    lines = []
    for d in range(itemsize):
        lines += [
            f"%bp{d} = getelementptr i8, ptr %cp, i64 {low + d}",
            f"%b{d} = load i8, ptr %bp{d}, align 1",
            f"%w{d} = zext i8 %b{d} to i64",
            f"%e{d} = add i64 %w{d}, {DIGITS * d}",
            f"%np{d} = getelementptr i64, ptr %counts, i64 %e{d}",
            f"%n{d} = load i64, ptr %np{d}, align 8",
            f"%m{d} = add i64 %n{d}, 1",
            f"store i64 %m{d}, ptr %np{d}, align 8",
        ]
    return "\n".join(f"  {line}" for line in lines)


# A row's place: its first element, from which the others are `inner` apart.
ROW = """
  %outer = sdiv i64 %r, %inner
  %o3 = mul i64 %outer, %inner
  %column = sub i64 %r, %o3
  %o1 = mul i64 %o3, %n
  %base = add i64 %o1, %column
  %row0 = getelementptr $T, ptr %x, i64 %base
"""

# Rows of length n, elements `inner` apart.
SORT = """
define void @$name(ptr noalias %x, ptr noalias %values, ptr noalias %places,
                   ptr noalias %scratch, i64 %lo, i64 %hi, i64 %n, i64 %inner) nounwind {
entry:
  %half = mul i64 %n, $size
  %b = getelementptr i8, ptr %scratch, i64 %half
  %both = mul i64 %half, 2
  %counts = getelementptr i8, ptr %scratch, i64 %both
  br label %row
row:
  %r = phi i64 [ %lo, %entry ], [ %r2, %stored ]
  %more = icmp slt i64 %r, %hi
  br i1 %more, label %begin, label %done
begin:
$row
  br label %read
read:
  %i = phi i64 [ 0, %begin ], [ %i2, %read1 ]
  %ic = icmp slt i64 %i, %n
  br i1 %ic, label %read1, label %sort
read1:
  %at = mul i64 %i, %inner
  %vp = getelementptr $T, ptr %row0, i64 %at
  %v = load $T, ptr %vp, align $bytes
$record
  %ap = getelementptr $R, ptr %scratch, i64 %i
  store $R %record, ptr %ap, align 8
  %i2 = add i64 %i, 1
  br label %read
sort:
  %in = call ptr @$order(ptr %scratch, ptr %b, ptr %counts, i64 %n)
  br label %write
write:
  %w = phi i64 [ 0, %sort ], [ %w2, %write1 ]
  %wc = icmp slt i64 %w, %n
  br i1 %wc, label %write1, label %stored
write1:
  %sp = getelementptr $R, ptr %in, i64 %w
  %s = load $R, ptr %sp, align 8
$position
  %f0 = mul i64 %s.at, %inner
  %fp = getelementptr $T, ptr %row0, i64 %f0
  %fv = load $T, ptr %fp, align $bytes
  %t0 = mul i64 %w, %inner
  %t1 = add i64 %base, %t0
  %op = getelementptr $T, ptr %values, i64 %t1
  store $T %fv, ptr %op, align $bytes
  %pp = getelementptr i64, ptr %places, i64 %t1
  store i64 %s.at, ptr %pp, align 8
  %w2 = add i64 %w, 1
  br label %write
stored:
  %r2 = add i64 %r, 1
  br label %row
done:
  ret void
}
"""
