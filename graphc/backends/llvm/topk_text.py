"""LLVM text of `topk`: a look through each row for what comes before the k-th best so far."""

from __future__ import annotations

from graphc.backends.llvm.ordering_text import INFINITY
from graphc.backends.llvm.vmath.emitter import memory_element
from graphc.ir.dtype import DType

FEW = 24  # kept records: each new one is put in its place; more wait, and are ordered together
SPARE = 256  # records that may wait, besides as many as are kept


def _is_half(dtype: DType) -> bool:
    return dtype.kind == "f" and dtype.itemsize == 2


def threshold_text(dtype: DType, largest: bool) -> str:
    """Lines that make %t, what the elements %s of a row are compared with, of the record %kth."""
    if not _is_half(dtype):
        return """
  %tp = getelementptr $T, ptr %from, i64 %kth.at
  %t = load $T, ptr %tp, align $bytes"""
    # The bits of a half as a signed number that is in order: 0 for zeros, the largest for nan.
    return f"""
  %kth.high = lshr $R %kth, $half_bits
  %kth.key = trunc $R %kth.high to i16
  %t = xor i16 %kth.key, {0x7FFF if largest else 0x8000}"""


def better_text(dtype: DType, largest: bool, lanes: int) -> str:
    """Lines that make %better: which of the elements %s may come before %ts.

    More may pass than do, since the records decide; but none is missed. A nan of floats passes,
    and all elements pass where %ts are nan.
    """
    side, vector = "gt" if largest else "lt", f"<{lanes} x {memory_element(dtype)}>"
    if not _is_half(dtype):
        sign = {"f": "fcmp u", "i": "icmp s"}.get(dtype.kind, "icmp u")
        return f"  %better = {sign}{side} {vector} %s, %ts"
    lines = [
        f"%s.size = and {vector} %s, splat (i16 32767)",
        f"%s.sign = ashr {vector} %s, splat (i16 15)",
        f"%s.flip = lshr {vector} %s.sign, splat (i16 1)",
        f"%s.order = xor {vector} %s, %s.flip",
        f"%s.nan = icmp ugt {vector} %s.size, splat (i16 {INFINITY[dtype.name]})",
        f"%s.past = icmp s{side} {vector} %s.order, %ts",
        f"%better = or <{lanes} x i1> %s.past, {'%s.nan' if largest else 'zeroinitializer'}",
    ]
    return "\n".join("  " + line for line in lines)


# The first k of each row's order. The best so far stand in order at the front of scratch; a row
# is looked through some vectors at a time for what may come before the last of them.
TOPK = """
define void @$name(ptr noalias %x, ptr noalias %values, ptr noalias %places,
                   ptr noalias %scratch, i64 %lo, i64 %hi, i64 %n, i64 %inner, i64 %k) nounwind {
entry:
$enough
  %half = mul i64 %room, $size
  %b = getelementptr i8, ptr %scratch, i64 %half
  %both = mul i64 %half, 2
  %counts = getelementptr i8, ptr %scratch, i64 %both
  %copy = getelementptr i8, ptr %counts, i64 $tables
  %last = sub i64 %k, 1
  %lastp = getelementptr $R, ptr %scratch, i64 %last
  %some = icmp sgt i64 %k, 0
  %end = select i1 %some, i64 %hi, i64 %lo
  br label %row
row:
  %r = phi i64 [ %lo, %entry ], [ %r2, %stored ]
  %more = icmp slt i64 %r, %end
  br i1 %more, label %begin, label %done
begin:
$row
$contiguous

fill:
  %i = phi i64 [ 0, %filling ], [ %i2, %fill ]
  %vp = getelementptr $T, ptr %from, i64 %i
  %v = load $T, ptr %vp, align $bytes
$record
  %ap = getelementptr $R, ptr %scratch, i64 %i
  store $R %record, ptr %ap, align 8
  %i2 = add i64 %i, 1
  %ic = icmp slt i64 %i2, %room
  br i1 %ic, label %fill, label %filled
filled:
$first
  br label %limit

limit:
  %next = phi i64 [ %room, %filled ], [ %past, %offered ]
  %held = phi i64 [ %k, %filled ], [ %held2, %offered ]
  %kth = load $R, ptr %lastp, align 8
$kth_position
$threshold
  %t0 = insertelement <$lanes x $T> poison, $T %t, i32 0
  %ts = shufflevector <$lanes x $T> %t0, <$lanes x $T> poison, <$lanes x i32> zeroinitializer
  br label %step
step:
  %at = phi i64 [ %next, %limit ], [ %past, %look ]
  %left = sub i64 %n, %at
  %over = icmp sle i64 %left, 0
  br i1 %over, label %scanned, label %some_left
some_left:
  ; The last vectors of a row begin before what is left, and look at that alone.
  %missing = sub i64 $lanes, %left
  %part = icmp sgt i64 %missing, 0
  %back = select i1 %part, i64 %missing, i64 0
  %start = sub i64 %at, %back
  %past = add i64 %at, $lanes
  %short = icmp slt i64 %start, 0
  br i1 %short, label %all, label %look
all:
  %beyond = shl i64 -1, %left
  %rest = xor i64 %beyond, -1
  br label %lane
look:
  %sp = getelementptr $T, ptr %from, i64 %start
  %s = load <$lanes x $T>, ptr %sp, align $bytes
$better
  %better1 = bitcast <$lanes x i1> %better to i$lanes
  $widen
  %fresh = shl i64 -1, %back
  %seen = and i64 %better2, %fresh
  %none = icmp eq i64 %seen, 0
  br i1 %none, label %step, label %lane

lane:
  %origin = phi i64 [ %at, %all ], [ %start, %look ], [ %origin, %offered1 ]
  %mask = phi i64 [ %rest, %all ], [ %seen, %look ], [ %mask2, %offered1 ]
  %count = phi i64 [ %held, %all ], [ %held, %look ], [ %held2, %offered1 ]
  %bit = call i64 @llvm.cttz.i64(i64 %mask, i1 true)
  %new.i = add i64 %origin, %bit
  %new.p = getelementptr $T, ptr %from, i64 %new.i
  %new.v = load $T, ptr %new.p, align $bytes
$new_record
$offer
offered1:
  %mask1 = sub i64 %mask, 1
  %mask2 = and i64 %mask, %mask1
  %another = icmp ne i64 %mask2, 0
  br i1 %another, label %lane, label %offered
offered:
  br label %limit

scanned:
$last
  br label %ready
ready:
  %wide = mul i64 %o3, %k
  %out = add i64 %wide, %column
  br label %write
write:
  %w = phi i64 [ 0, %ready ], [ %w2, %write ]
  %op = getelementptr $R, ptr %scratch, i64 %w
  %o = load $R, ptr %op, align 8
$o_position
  %fp = getelementptr $T, ptr %from, i64 %o.at
  %fv = load $T, ptr %fp, align $bytes
  %to0 = mul i64 %w, %inner
  %to = add i64 %out, %to0
  %vop = getelementptr $T, ptr %values, i64 %to
  store $T %fv, ptr %vop, align $bytes
  %pop = getelementptr i64, ptr %places, i64 %to
  store i64 %o.at, ptr %pop, align 8
  %w2 = add i64 %w, 1
  %wc = icmp slt i64 %w2, %k
  br i1 %wc, label %write, label %stored
stored:
  %r2 = add i64 %r, 1
  br label %row
done:
  ret void
}
"""

# Where a row's elements lie side by side, and where they are first put so.
TOGETHER = """
  br label %filling
filling:
  %from = getelementptr i8, ptr %row0, i64 0
  br label %fill
"""
APART = """
  br label %gather
gather:
  %g = phi i64 [ 0, %begin ], [ %g2, %gather ]
  %g0 = mul i64 %g, %inner
  %gp = getelementptr $T, ptr %row0, i64 %g0
  %gv = load $T, ptr %gp, align $bytes
  %hp = getelementptr $T, ptr %copy, i64 %g
  store $T %gv, ptr %hp, align $bytes
  %g2 = add i64 %g, 1
  %gc = icmp slt i64 %g2, %n
  br i1 %gc, label %gather, label %filling
filling:
  %from = getelementptr i8, ptr %copy, i64 0
  br label %fill
"""

# A new record goes to its place among few, and the last of them falls out.
OFFER_FEW = """
  %worst = load $R, ptr %lastp, align 8
  %held2 = add i64 %count, 0
  %enters = icmp ult $R %new.record, %worst
  br i1 %enters, label %shift, label %offered1
shift:
  %j = phi i64 [ %last, %lane ], [ %j1, %move ]
  %jc = icmp sgt i64 %j, 0
  br i1 %jc, label %before, label %put
before:
  %j1 = sub i64 %j, 1
  %up = getelementptr $R, ptr %scratch, i64 %j1
  %u = load $R, ptr %up, align 8
  %uc = icmp ugt $R %u, %new.record
  br i1 %uc, label %move, label %put
move:
  %jp = getelementptr $R, ptr %scratch, i64 %j
  store $R %u, ptr %jp, align 8
  br label %shift
put:
  %putp = getelementptr $R, ptr %scratch, i64 %j
  store $R %new.record, ptr %putp, align 8
  br label %offered1
"""
# Or waits behind the best, until there is no more room and all are put in order.
OFFER_MANY = """
  %waits = getelementptr $R, ptr %scratch, i64 %count
  store $R %new.record, ptr %waits, align 8
  %count1 = add i64 %count, 1
  %full = icmp eq i64 %count1, %room
  br i1 %full, label %settle, label %settled
settle:
  call void @$settle(ptr %scratch, ptr %b, ptr %counts, i64 %room, i64 %k)
  br label %settled
settled:
  %held2 = phi i64 [ %count1, %lane ], [ %k, %settle ]
  br label %offered1
"""
FIRST_FEW = "  call void @$insert(ptr %scratch, i64 %k)"
FIRST_MANY = "  call void @$settle(ptr %scratch, ptr %b, ptr %counts, i64 %room, i64 %k)"
LAST_MANY = """
  %waiting = icmp ne i64 %held, %k
  br i1 %waiting, label %tidy, label %tidied
tidy:
  call void @$settle(ptr %scratch, ptr %b, ptr %counts, i64 %held, i64 %k)
  br label %tidied
tidied:
"""
ROOM_MANY = """
  %k2 = mul i64 %k, 2
  %enough = add i64 %k2, $spare
  %whole = icmp slt i64 %n, %enough
  %room = select i1 %whole, i64 %n, i64 %enough
"""

# The first k of m records, in order, at %a.
SETTLE = """
define internal void @$settle(ptr noalias %a, ptr noalias %b, ptr noalias %counts,
                              i64 %m, i64 %k) nounwind {
entry:
  %in = call ptr @$order(ptr %a, ptr %b, ptr %counts, i64 %m)
  %there = icmp eq ptr %in, %a
  br i1 %there, label %done, label %copy
copy:
  %i = phi i64 [ 0, %entry ], [ %i2, %copy ]
  %fp = getelementptr $R, ptr %b, i64 %i
  %v = load $R, ptr %fp, align 8
  %tp = getelementptr $R, ptr %a, i64 %i
  store $R %v, ptr %tp, align 8
  %i2 = add i64 %i, 1
  %ic = icmp slt i64 %i2, %k
  br i1 %ic, label %copy, label %done
done:
  ret void
}
"""
