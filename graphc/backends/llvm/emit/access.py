"""Memory: addresses, guards, vector loads and stores, whole or under a mask."""

from __future__ import annotations

from graphc.backends.llvm.vmath.emitter import Vec, memory_element
from graphc.backends.llvm.vmath.lanes import LLVM_TYPES
from graphc.ir.dims import AnyDim
from graphc.ir.dtype import I32, I64, DType
from graphc.passes.fuse.affine import Affine, Guard, Guards, bounds
from graphc.passes.fuse.expr import Expr
from graphc.passes.loop.rows import LINE

from .printer import Buffer, Printer, dtype_of, vector_of

Rows = list[tuple[Expr, Vec, AnyDim]]  # computed positions: expression, vector, stride

#: Distances of lanes at which whole vectors are loaded and shuffled, which is faster than a gather.
SHORT_STRIDES = frozenset([2, 3, 4])

# --- lanes of a form -----------------------------------------------------------------------------


def lane_stride(p: Printer, form: Affine, u: int) -> AnyDim | tuple[int, ...]:
    """By how much the form grows from lane to lane; or, where that differs, the offsets."""
    terms = dict(p.form(form).terms)
    if p.kernel.pair is None:
        (lane,) = p.kernel.lanes
        return terms.get(lane, 0)
    offsets = _pair_offsets(p, terms, u)
    offsets = tuple([offset - offsets[0] for offset in offsets])
    stride = offsets[1]
    return stride if offsets == tuple([stride * j for j in range(p.width)]) else offsets


def _pair_offsets(p: Printer, terms: dict, u: int) -> tuple[int, ...]:
    """Offsets of the lanes of vector u where the lanes run over two variables together."""
    assert p.kernel.pair is not None
    outer, inner, extent = p.kernel.pair
    places = [divmod(u * p.width + j, extent) for j in range(p.width)]
    a, b = terms.get(outer, 0), terms.get(inner, 0)
    return tuple([a * row + b * column for row, column in places])


def vector_offset(p: Printer, form: Affine, u: int) -> AnyDim:
    """What vector u of a step adds to the form's place."""
    if u == 0:
        return 0
    terms = dict(p.form(form).terms)
    if p.kernel.pair is not None:
        return _pair_offsets(p, terms, u)[0]
    (lane,) = p.kernel.lanes
    return terms.get(lane, 0) * (u * p.width)


def index_vector(p: Printer, form: Affine, u: int, dtype: DType) -> str:
    """The form's values in the lanes of vector u, as integers of that type."""
    kind = LLVM_TYPES[dtype.name]
    stride = lane_stride(p, form, u)
    scalar = p.add(p.scalar(form), p.size(vector_offset(p, form, u)))
    if kind != "i64" and scalar[0] == "%":
        scalar = p.let(f"trunc i64 {scalar} to {kind}")
    base = p.vec.splat(scalar, dtype).name
    if stride == 0:
        return base
    if isinstance(stride, tuple):
        steps = vector_of([f"{kind} {offset}" for offset in stride])
    else:
        steps = p.steps(stride, dtype)
    return p.let(f"add {p.kind(dtype)} {base}, {steps}")


# --- guards --------------------------------------------------------------------------------------


def guard_mask(p: Printer, guards: Guards, u: int) -> bool | str:
    """True or False where the declared ranges decide, else the lanes in which all guards hold."""
    open_guards = undecided(p, guards)
    if open_guards is None:
        return False
    mask: bool | str = True
    for guard in open_guards:
        found = _one_guard(p, guard, u)
        mask = found if mask is True else p.let(f"and {p.mask_kind} {mask}, {found}")
    return mask


def undecided(p: Printer, guards: Guards) -> list[Guard] | None:
    """The guards that the declared ranges do not decide; None where one of them never holds."""
    found = []
    ranges = p.ranges()
    at_most = p.sizes.at_most
    for guard in guards:
        span = bounds(p.form(guard.form), ranges, p.sizes)
        if span is not None:
            low, high = span
            if at_most(high + 1, guard.low) or at_most(guard.high, low):
                return None
            if at_most(guard.low, low) and at_most(high + 1, guard.high):
                continue
        found.append(guard)
    return found


def _one_guard(p: Printer, guard, u: int) -> str:
    """low <= form < high as one unsigned comparison."""
    width = guard.high - guard.low
    if lane_stride(p, guard.form, u) == 0:
        scalar = p.add(p.scalar(guard.form), p.size(vector_offset(p, guard.form, u) - guard.low))
        return p.splat_mask(p.let(f"icmp ult i64 {scalar}, {p.size(width)}"))
    dtype = I32 if _fits_i32(p, guard) else I64
    kind = p.kind(dtype)
    place = index_vector(p, guard.form, u, dtype)
    if guard.low != 0:
        place = p.let(f"sub {kind} {place}, {p.size_vector(guard.low, dtype)}")
    return p.let(f"icmp ult {kind} {place}, {p.size_vector(width, dtype)}")


def _fits_i32(p: Printer, guard) -> bool:
    span = bounds(p.form(guard.form), p.ranges(), p.sizes)
    if span is None or not all(isinstance(x, int) for x in (*span, guard.low, guard.high)):
        return False
    return max(map(abs, (*span, guard.low, guard.high))) < 1 << 30  # type: ignore[arg-type]


# --- addresses -----------------------------------------------------------------------------------


def address(p: Printer, base: str, form: Affine, kind: str, u: int, row: str = "0") -> str:
    """The address of the form's element for vector u; one address part for each loop level."""
    form = p.form(form)
    levels: dict[int, list] = {}
    for variable, k in form.terms:
        binding = p.env[variable]
        levels.setdefault(binding.depth, []).append((binding.name, k))
    pointer, key = base, (base, kind)
    for depth in sorted(levels):
        key = (*key, depth, tuple(levels[depth]))
        cache = p.scopes[depth].cache
        found = cache.get(key)
        if found is None:
            with p.at(depth):
                offset = "0"
                for name, k in levels[depth]:
                    offset = p.add(offset, p.mul(name, p.size(k)))
                found = cache[key] = p.element(pointer, offset, kind)
        pointer = found
    pointer = p.element(pointer, row, kind)
    return p.element(pointer, p.size(form.const + vector_offset(p, form, u)), kind)


# --- loads ---------------------------------------------------------------------------------------


def load(
    p: Printer, buffer: Buffer, form: Affine, guards: Guards, u: int, rows: Rows | None = None
) -> Vec:
    """The elements of a buffer at the form's places; anything where a guard does not hold."""
    dtype = dtype_of(buffer)
    guard = guard_mask(p, guards, u)
    if guard is False:
        return p.vec.const(0, dtype)
    condition = None if guard is True else str(guard)
    scalar_row, vector_row = _computed_row(p, rows or [])
    base, kind = p.buffer(buffer), memory_element(dtype)
    stride = lane_stride(p, form, u)
    if vector_row is not None:
        name = _gather(p, base, form, dtype, u, stride, vector_row, condition, scalar_row)
    elif stride == 0:
        name = _load_splat(p, address(p, base, form, kind, u, scalar_row), dtype, condition)
    else:
        mask = p.both(condition, p.mask)
        name = _load_lanes(p, base, form, dtype, u, stride, mask, scalar_row)
    return p.vec.unpack(name, dtype)


def _computed_row(p: Printer, rows: Rows) -> tuple[str, str | None]:
    """Offsets of computed positions: the sum of those equal in all lanes, and of the others."""
    scalar, vector = "0", None
    for expr, vec, stride in rows:
        if lane_dependent(p, expr):
            wide = widen_to_i64(p, vec)
            if stride != 1:
                wide = p.let(f"mul {p.kind(I64)} {wide}, {p.size_vector(stride, I64)}")
            vector = wide if vector is None else p.let(f"add {p.kind(I64)} {vector}, {wide}")
        else:
            with p.at(scope_depth(p, expr)):
                first = first_lane(p, vec)
                offset = p.mul(first, p.size(stride))
            scalar = p.add(scalar, offset)
    return scalar, vector


def widen_to_i64(p: Printer, vec: Vec) -> str:
    """Integers as i64."""
    if vec.dtype.itemsize == 8:
        return vec.name
    extend = "sext" if vec.dtype.kind == "i" else "zext"
    return p.let(f"{extend} {p.kind(vec.dtype)} {vec.name} to {p.kind(I64)}")


def first_lane(p: Printer, vec: Vec) -> str:
    """The element of lane 0, integers as an i64."""
    kind = LLVM_TYPES[vec.dtype.name]
    scalar = p.let(f"extractelement {p.kind(vec.dtype)} {vec.name}, i64 0")
    if vec.dtype.kind in "iu" and kind != "i64":
        extend = "sext" if vec.dtype.kind == "i" else "zext"
        scalar = p.let(f"{extend} {kind} {scalar} to i64")
    return scalar


def lane_dependent(p: Printer, expr: Expr) -> bool:
    """Whether the expression differs between lanes, or between the vectors of a step."""
    return not p.kernel.lanes.isdisjoint(expr.variables) or (p.wide and bool(expr.reads))


def scope_depth(p: Printer, expr: Expr) -> int:
    """The depth of the innermost loop that the expression depends on."""
    depth = 0
    dropped = p.kernel.dropped
    for variable in expr.variables:
        if variable not in dropped:
            depth = max(depth, p.env[variable].depth)
    for value in expr.reads:
        depth = max(depth, p.result_depth[value])
    return depth


def _load_splat(p: Printer, pointer: str, dtype: DType, condition: str | None) -> str:
    """One element in all lanes; under a condition it is read only where that holds somewhere."""
    kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
    if condition is not None:
        some = any_lane(p, condition)
        pointer = p.let(f"select i1 {some}, ptr {pointer}, ptr {_harmless(p)}")
    scalar = p.let(f"load {kind}, ptr {pointer}, align {dtype.itemsize}")
    return splat(p, scalar, kind, vector)


def _harmless(p: Printer) -> str:
    """Memory that may always be read."""
    found = p._prelude_cache.get("harmless")
    if found is None:
        found = p._prelude_cache["harmless"] = p.slot("i64", 2)
        p.prelude.append(f"  store <2 x i64> zeroinitializer, ptr {found}, align 16")
    return found


def any_lane(p: Printer, mask: str) -> str:
    bits = p.let(f"bitcast {p.mask_kind} {mask} to i{p.width}")
    return p.let(f"icmp ne i{p.width} {bits}, 0")


def active_lanes(p: Printer) -> str:
    """How many lanes are active: the first ones are."""
    if p.mask is None:
        return str(p.width)
    bits = p.let(f"bitcast {p.mask_kind} {p.mask} to i{p.width}")
    wide = p.let(f"zext i{p.width} {bits} to i64")
    p.declare("i64 @llvm.ctpop.i64(i64)")
    return p.let(f"call i64 @llvm.ctpop.i64(i64 {wide})")


def splat(p: Printer, scalar: str, kind: str, vector: str) -> str:
    first = p.let(f"insertelement {vector} poison, {kind} {scalar}, i64 0")
    zeros = f"<{p.width} x i32> zeroinitializer"
    return p.let(f"shufflevector {vector} {first}, {vector} poison, {zeros}")


def _load_lanes(
    p: Printer,
    base: str,
    form: Affine,
    dtype: DType,
    u: int,
    stride: AnyDim | tuple[int, ...],
    mask: str | None,
    row: str,
) -> str:
    kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
    if stride == 1:
        return load_vector(p, address(p, base, form, kind, u, row), dtype, mask)
    if stride == -1:
        pointer = p.element(address(p, base, form, kind, u, row), str(1 - p.width), kind)
        if mask is not None:
            mask = reverse(p, mask, p.mask_kind)
        return reverse(p, load_vector(p, pointer, dtype, mask), vector)
    if isinstance(stride, tuple) and mask is None and max(stride) - min(stride) < 2 * p.width:
        return _load_pattern(p, address(p, base, form, kind, u, row), dtype, stride)
    if stride in SHORT_STRIDES and (mask is None or p.target.has_masked):
        assert isinstance(stride, int)
        return _load_strided(p, address(p, base, form, kind, u, row), dtype, stride, mask)
    return _gather(p, base, form, dtype, u, stride, None, mask, row)


def load_vector(
    p: Printer, pointer: str, dtype: DType, mask: str | None, lanes: int | None = None
) -> str:
    """Consecutive elements; inactive lanes read nothing. lanes: of the vector, if not all."""
    lanes = lanes or p.width
    vector, mask_kind = f"<{lanes} x {memory_element(dtype)}>", f"<{lanes} x i1>"
    if mask is None:
        return p.let(f"load {vector}, ptr {pointer}, align {dtype.itemsize}")
    name = f"llvm.masked.load.v{lanes}{_suffix(dtype)}.p0"
    p.declare(f"{vector} @{name}(ptr, {mask_kind}, {vector})")
    return p.let(
        f"call {vector} @{name}(ptr align {dtype.itemsize} {pointer}, "
        f"{mask_kind} {mask}, {vector} zeroinitializer)"
    )


def prefetch(p: Printer, pointer: str, ahead: str, kind: str) -> None:
    """Brings the line so many elements further into the caches; there may be none."""
    p.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    place = p.let(f"getelementptr {kind}, ptr {pointer}, i64 {ahead}")
    p.do(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")


def reverse(p: Printer, name: str, kind: str) -> str:
    return p.shuffle(kind, name, "poison", list(range(p.width - 1, -1, -1)))


def _load_pattern(p: Printer, pointer: str, dtype: DType, offsets: tuple[int, ...]) -> str:
    """Elements at constant offsets within two vectors: two masked loads and a shuffle."""
    kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
    lowest = min(offsets)
    pointer = p.element(pointer, str(lowest), kind)
    picks = [offset - lowest for offset in offsets]
    halves = []
    for half in (0, p.width):
        if max(picks) < half:
            halves.append("poison")
            continue
        inside = vector_of([f"i1 {int(half + j <= max(picks))}" for j in range(p.width)])
        halves.append(load_vector(p, p.element(pointer, str(half), kind), dtype, inside))
    return p.shuffle(vector, halves[0], halves[1], picks)


def _load_strided(p: Printer, pointer: str, dtype: DType, stride: int, mask: str | None) -> str:
    """Elements a few places apart: all vectors in which they lie, and a shuffle for each."""
    kind, vector, width = memory_element(dtype), p.vec.memory_type(dtype), p.width
    last = (width - 1) * stride + 1 - width  # the vector that ends with the last element
    made = ""
    for k in range(stride):
        start = k * width if mask is not None else min(k * width, last)
        part = None if mask is None else _spread_mask(p, mask, stride, k)
        found = load_vector(p, p.element(pointer, str(start), kind), dtype, part)
        if k == 0:
            made = found
            continue
        picks = []
        for j, place in enumerate(range(0, stride * width, stride)):
            if place < k * width:  # found before: by the first shuffle, or in its lane since
                picks.append(place if k == 1 else j)
            else:  # a lane of a later vector takes anything
                picks.append(width + min(place - start, width - 1))
        made = p.shuffle(vector, made, found, picks)
    return made


def _spread_mask(p: Printer, mask: str, stride: int, part: int) -> str:
    """The lanes of vector `part` of a strided load that hold an element of an active lane."""
    lines = p.vec.lines
    cache = next(scope.cache for scope in p.scopes if scope.lines is lines)
    key = ("spread", mask, stride, part)
    found = cache.get(key)
    if found is None:
        places = [part * p.width + j for j in range(p.width)]
        lanes = [p.width if place % stride else place // stride for place in places]
        found = cache[key] = p.shuffle(p.mask_kind, mask, "zeroinitializer", lanes)
    return found


def _gather(
    p: Printer,
    base: str,
    form: Affine,
    dtype: DType,
    u: int,
    stride: AnyDim | tuple[int, ...],
    rows: str | None,
    mask: str | None,
    row: str,
) -> str:
    """Elements at any places."""
    kind = memory_element(dtype)
    if rows is not None:
        mask = p.both(mask, p.mask)
    offsets = rows
    if stride != 0:
        if isinstance(stride, tuple):
            offsets = vector_of([f"i64 {offset}" for offset in stride])
        else:
            offsets = p.steps(stride, I64)
        if rows is not None:
            offsets = p.let(f"add {p.kind(I64)} {rows}, {offsets}")
    start = address(p, base, form, kind, u, row)
    if rows is not None and mask is None:
        return _one_by_one(p, start, dtype, str(offsets))
    return gather_at(p, start, dtype, str(offsets), mask)


def _one_by_one(p: Printer, start: str, dtype: DType, offsets: str) -> str:
    """Elements at computed offsets: a load each takes less time than a gather instruction."""
    kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
    made = "poison"
    for lane in range(p.width):
        offset = p.let(f"extractelement {p.kind(I64)} {offsets}, i64 {lane}")
        one = p.let(f"load {kind}, ptr {p.element(start, offset, kind)}, align {dtype.itemsize}")
        made = p.let(f"insertelement {vector} {made}, {kind} {one}, i64 {lane}")
    return made


def gather_constant(p: Printer, start: str, dtype: DType, offsets: list[int]) -> str:
    """Elements at constant offsets from an address."""
    return gather_at(p, start, dtype, vector_of([f"i64 {offset}" for offset in offsets]), None)


def gather_at(p: Printer, start: str, dtype: DType, offsets: str, mask: str | None) -> str:
    """Elements at a vector of offsets from an address."""
    kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
    pointers = p.let(f"getelementptr {kind}, ptr {start}, {p.kind(I64)} {offsets}")
    name = f"llvm.masked.gather.v{p.width}{_suffix(dtype)}.v{p.width}p0"
    wide = f"<{p.width} x ptr>"
    p.declare(f"{vector} @{name}({wide}, {p.mask_kind}, {vector})")
    return p.let(
        f"call {vector} @{name}({wide} align {dtype.itemsize} {pointers}, "
        f"{p.mask_kind} {mask or 'splat (i1 true)'}, {vector} zeroinitializer)"
    )


def _suffix(dtype: DType) -> str:
    kind = memory_element(dtype)
    return {"float": "f32", "double": "f64"}.get(kind, kind)


# --- stores --------------------------------------------------------------------------------------


def store(p: Printer, buffer: Buffer, form: Affine, vec: Vec, u: int) -> None:
    """Writes the active lanes of a vector at the form's places."""
    dtype = dtype_of(buffer)
    kind, packed = memory_element(dtype), p.vec.pack(vec)
    pointer = address(p, p.buffer(buffer), form, kind, u)
    mask = p.mask
    if lane_stride(p, form, u) == -1:
        pointer = p.element(pointer, str(1 - p.width), kind)
        packed = reverse(p, packed, p.vec.memory_type(dtype))
        mask = mask and reverse(p, mask, p.mask_kind)
    store_vector(p, pointer, packed, dtype, mask)


def store_streamed(p: Printer, buffer: Buffer, form: Affine, vecs: list[Vec]) -> None:
    """Writes the vectors of a step, whole lines together, past the caches where lines begin there.

    A line that is written in parts would be read and written once a part.
    """
    dtype = dtype_of(buffer)
    kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
    packed = [p.vec.pack(vec) for vec in vecs]
    pointers = [address(p, p.buffer(buffer), form, kind, u) for u in range(len(vecs))]
    stores = [f"store {vector} {name}, ptr {at}" for name, at in zip(packed, pointers)]
    place = p.let(f"ptrtoint ptr {pointers[0]} to i64")
    begins = p.let(f"icmp eq i64 {p.let(f'and i64 {place}, {LINE - 1}')}, 0")
    align = min(LINE, p.width * dtype.itemsize)
    p.streams = True
    p.either(
        begins,
        [f"{store}, align {align}, !nontemporal !{{i32 1}}" for store in stores],
        [f"{store}, align {dtype.itemsize}" for store in stores],
    )


def store_vector(p: Printer, pointer: str, packed: str, dtype: DType, mask: str | None) -> None:
    vector = p.vec.memory_type(dtype)
    if mask is None:
        p.do(f"store {vector} {packed}, ptr {pointer}, align {dtype.itemsize}")
        return
    name = f"llvm.masked.store.v{p.width}{_suffix(dtype)}.p0"
    p.declare(f"void @{name}({vector}, ptr, {p.mask_kind})")
    p.do(
        f"call void @{name}({vector} {packed}, ptr align {dtype.itemsize} {pointer}, "
        f"{p.mask_kind} {mask})"
    )


def store_one(p: Printer, buffer: Buffer, form: Affine, vec: Vec) -> None:
    """Writes lane 0 at the form's place."""
    dtype = dtype_of(buffer)
    kind, packed = memory_element(dtype), p.vec.pack(vec)
    pointer = address(p, p.buffer(buffer), form, kind, 0)
    scalar = p.let(f"extractelement {p.vec.memory_type(dtype)} {packed}, i64 0")
    p.do(f"store {kind} {scalar}, ptr {pointer}, align {dtype.itemsize}")
