"""The memory plan and the order of kernels, checked against what the kernels touch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphc.backends.llvm.emit.printer import Buffer
from graphc.backends.llvm.emit.program import Call, Program
from graphc.backends.llvm.regions import buffer_bytes, reads_of
from graphc.ir.dims import AnyDim
from graphc.ir.errors import VerifyError
from graphc.passes.loop.ir import Partial


def check_program(program: Program) -> None:
    """VerifyError where two buffers share memory while both are in use, where a buffer is read
    before it is written, where kernels that run side by side touch the same, or where a buffer is
    more or less than its parts."""
    for region in program.regions:
        for call in region:
            for block in call.blocks:
                check_program(block)
    _check_parts(program)
    _check_order(program)
    _check_places(program)


def _check_parts(program: Program) -> None:
    assembled = program.assembled
    for whole, parts in assembled.parts.items():
        end: AnyDim = 0
        for part in sorted(parts, key=lambda part: assembled.within[part][1]):
            if assembled.within[part] != (whole, end):
                raise _error(f"{_name(part)} is not where the part before it ends", [part])
            end = end + buffer_bytes(part)
        if end != buffer_bytes(whole):  # type: ignore[arg-type]
            raise _error("the parts of a buffer are not all of it", parts)


def _check_order(program: Program) -> None:
    written = set(program.table)
    for number, region in enumerate(program.regions):
        new: set[Buffer] = set()
        for call in region:
            missing = [buffer for buffer in _reads(program, call) if buffer not in written]
            if missing:
                raise _error(f"{_name(missing[0])} is read before it is written", missing)
            twice = [buffer for buffer in call.writes if buffer in new]
            if twice:
                raise _error(f"two kernels of region {number} write {_name(twice[0])}", twice)
            new |= call.writes
        read = {buffer for call in region for buffer in _reads(program, call)}
        if read & new:
            raise _error(
                f"a kernel of region {number} reads what another one writes", list(read & new)
            )
        written |= new


def _reads(program: Program, call: Call) -> set[Buffer]:
    """What a kernel reads; instead of what was written in parts, those."""
    return reads_of(call, program.assembled) - program.assembled.parts.keys()


def _check_places(program: Program) -> None:
    """By slot, buffers in the order of their first use."""
    first, last = _uses(program)
    by_slot: dict[int, list[Buffer]] = {}
    for buffer in first:
        place = program.arena.places.get(buffer)
        if place is None:
            raise _error(f"the memory plan has no place for {_name(buffer)}", [buffer])
        by_slot.setdefault(place.slot, []).append(buffer)
    for slot, buffers in by_slot.items():
        whole = program.arena.slots[slot]
        alive: list[Buffer] = []
        for buffer in sorted(buffers, key=first.__getitem__):
            alive = [other for other in alive if last[other] >= first[buffer]]
            for other in alive:
                if _overlap(program, buffer, other) and not (
                    last[other] == first[buffer] and _written_over(program, buffer, other, first)
                ):
                    raise _error(
                        f"the memory plan puts {_name(buffer)} over {_name(other)}, which is "
                        "still in use",
                        [buffer, other],
                    )
            end = _end(program, buffer)
            if isinstance(end, int) and isinstance(whole, int) and end > whole:
                raise _error(f"{_name(buffer)} ends after its slot of the arena", [buffer])
            alive.append(buffer)


def _written_over(
    program: Program, result: Buffer, operand: Buffer, first: Mapping[Buffer, int]
) -> bool:
    """Whether a kernel writes the result over an operand that it alone still reads, all of it, and
    by one pointer."""
    region, places = program.regions[first[result]], program.arena.places
    readers = [call for call in region if operand in call.reads]
    if len(readers) != 1 or (result, operand) not in readers[0].over:
        return False
    same = places[result] == places[operand] and buffer_bytes(result) == buffer_bytes(operand)
    return same and list(readers[0].buffers).count(operand) == 1


def _uses(program: Program) -> tuple[dict[Buffer, int], dict[Buffer, int]]:
    """The first and the last region that touches each buffer of the arena."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, region in enumerate(program.regions):
        for call in region:
            for part in (*call.writes, *call.buffers, *call.reads):
                buffer = program.assembled.whole(part)
                if buffer not in program.table:
                    first.setdefault(buffer, number)
                    last[buffer] = number
    for copy in program.copies:
        if copy.source not in program.table:
            last[copy.source] = len(program.regions)
    return first, last


def _overlap(program: Program, a: Buffer, b: Buffer) -> bool:
    """Buffers in one slot: of symbolic size they begin at the same place."""
    size_a, size_b = buffer_bytes(a), buffer_bytes(b)
    if not isinstance(size_a, int) or not isinstance(size_b, int):
        return True
    at_a, at_b = program.arena.places[a].offset, program.arena.places[b].offset
    return at_a < at_b + size_b and at_b < at_a + size_a


def _end(program: Program, buffer: Buffer) -> object:
    size = buffer_bytes(buffer)
    return program.arena.places[buffer].offset + size if isinstance(size, int) else size


def _name(buffer: Buffer) -> str:
    if isinstance(buffer, Partial):
        return f"the partial results {buffer.name}"
    made = f"the result of {buffer.node.op.name}" if buffer.node is not None else "a parameter"
    return f"{made} ({buffer.type.text})"


def _error(message: str, buffers: Iterable[Buffer]) -> VerifyError:
    nodes = [buffer.node for buffer in buffers if not isinstance(buffer, Partial)]
    lines = dict.fromkeys([node.loc for node in nodes if node is not None and node.loc])
    return VerifyError(message, at="\n".join(lines))
