"""What the parts of a matrix product's emission share."""

from dataclasses import replace

from graphc.backends.llvm.contract.amx_tile import SIDE, amx_function
from graphc.backends.llvm.contract.element import PAIR, element
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.gemm_form import (
    DOT_FEW,
    DOT_PACKED,
    GemmProblem,
    dot_serves,
    in_pairs,
    is_turned,
    turn,
)
from graphc.backends.llvm.contract.gemm_schedule import REST_ROWS, GemmSchedule
from graphc.backends.llvm.contract.gemm_tile import TileContext, TileShape, tile_function
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine, entry_emitter
from graphc.backends.llvm.contract.pairs import pair_step, sum_vector
from graphc.backends.llvm.contract.prologue import Prologue
from graphc.backends.llvm.target import Target

#: What computes A and B where they are read; None where they are in memory.
Prologues = tuple[Prologue | None, Prologue | None]
NONE: Prologues = (None, None)


def computed_operands(schedule: GemmSchedule, prologues: Prologues) -> GemmSchedule:
    """The schedule where an operand with a prologue is copied into scratch."""
    if prologues == NONE:
        return schedule
    map_a, map_b = [made is not None for made in prologues]
    return replace(
        schedule,
        pack_a=schedule.pack_a or map_a,
        pack_b=schedule.pack_b or map_b,
        columns_first=False,
    )


class GemmState:
    """One kernel being written: its entry, its sizes as indices, its scratch, its tiles."""

    def __init__(
        self,
        problem: GemmProblem,
        target: Target,
        schedule: GemmSchedule,
        epilogue: Epilogue | None,
        prologues: Prologues,
        b_first: bool,
    ) -> None:
        self.target = target
        self.epilogue = epilogue
        self.stored = element(problem.dtype)
        self.sums = self.stored.accumulator
        self.builder = KernelBuilder()
        self.turned = is_turned(problem, target)
        self._enter(problem.sizes, prologues, b_first)
        self.schedule = computed_operands(schedule, (self.map_a, self.map_b))
        self.dot = dot_serves(self.entry, problem, target)
        # What is packed, and how much of k an element of it holds.
        self.pairs = in_pairs(problem, target)
        self.packed = PAIR if self.pairs else self.sums
        self.each = 2 if self.pairs else 1
        self.amx = self.pairs and target.has_amx
        self.vector = sum_vector(self.entry, self.packed, target)
        names = ("m", "n", "k", "batch")
        self.m, self.n, self.k, self.batch = (problem.size(name) for name in names)
        if self.turned:
            self.m, self.n, problem = self.n, self.m, turn(problem)
        self.problem = problem
        self.steps = self.k  # in packed elements
        if self.pairs:
            step = pair_step(target)
            self.steps = self.entry.mul(self.entry.ceil_div(self.k, step), step // 2)
        self.columns = self.schedule.vectors * self.vector.lanes
        self._size_panel_of_a()
        columns = self._size_block_of_b()
        self._size_copies_for_dots()
        self._size_sums(columns)
        self.tiles: dict[TileShape, Subroutine] = {}

    def _enter(self, sizes: tuple[str, ...], prologues: Prologues, b_first: bool) -> None:
        """The entry and its operands, in the order in which they are given."""
        self.sizes = sizes
        self.extra = self.epilogue.operands if self.epilogue else ()
        left, right = [
            (name,) if made is None else made.operands for name, made in zip("ab", prologues)
        ]
        given = (*right, *left) if b_first else (*left, *right)
        self.operands = (*given, "out", *self.extra)
        if self.turned:
            prologues = prologues[::-1]
            swapped = {"a": "b", "b": "a"}
            given = tuple([swapped.get(name, name) for name in given])
        shared = self.epilogue.shared("out") if self.epilogue else ()
        self.entry = entry_emitter((*given, "out", *self.extra), sizes, shared)
        self.map_a, self.map_b = prologues

    def _size_panel_of_a(self) -> None:
        problem, schedule, lanes = self.problem, self.schedule, self.vector.lanes
        by_tile = self.pairs or self.map_a or schedule.columns_first
        strip = schedule.pack_a and problem.transpose_a and not by_tile
        self.strip = schedule.strip if strip else 0
        if self.strip:
            # The last vectors written reach into the space after a panel.
            self.a_panel_row, self.a_panel_k = 1, schedule.rows
            self.a_strip = schedule.rows * schedule.k_block + -(-lanes // 16) * 16
            panel = -(-self.strip // schedule.rows) * self.a_strip
        elif problem.transpose_a and not self.amx:
            self.a_panel_row, self.a_panel_k = 1, -(-schedule.rows // lanes) * lanes
            panel = self.a_panel_k * schedule.k_block
        else:
            # The last 16 elements keep rows from sharing one set of the first cache.
            self.a_panel_row, self.a_panel_k = -(-schedule.k_block // 16) * 16 + 16, 1
            panel = self.a_panel_row * schedule.rows
        # AMX has its rows along k always: they are turned from a copy in pairs.
        self.a_turned = panel
        if problem.transpose_a and self.amx:
            panel += schedule.k_block * -(-schedule.rows // lanes) * lanes
        self.a_panel = panel if schedule.pack_a else 0

    def _size_block_of_b(self) -> int:
        """Returns how many columns a block has."""
        n, schedule = self.problem.n, self.schedule
        self.b_panel = schedule.k_block * self.columns
        widest = schedule.column_block if n is None else min(schedule.column_block, n)
        panels = -(-widest // self.columns)
        self.b_block = panels * self.b_panel if schedule.pack_b else 0
        return panels * self.columns

    def _size_copies_for_dots(self) -> None:
        """Room for what the sums across lanes copy of A and B."""
        problem = self.problem
        # A multiple of a cache's sets apart, rows would share one; a transposed square may write
        # past k.
        self.dot_row = self.entry.add(self.k, 16)
        if self.dot is False:
            return
        if self.dot is True:
            self.a_panel = self.b_block = 0
        if not (problem.transpose_b or self.pairs):
            most = DOT_PACKED + DOT_FEW * 16
            if isinstance(self.dot_row, int) and problem.n is not None:
                most = problem.n * self.dot_row
            self.b_block = max(self.b_block, most)
        # Rows of a tile, or all of the few.
        copied = DOT_FEW * self.dot_row if isinstance(self.dot_row, int) else 0
        if self.map_a:
            self.a_panel = max(self.a_panel, copied)
        if self.map_b and problem.transpose_b:
            self.b_block = max(self.b_block, copied)

    def _size_sums(self, columns: int) -> None:
        """Room for sums that are not yet what is stored; columns: of a block."""
        # Halves are summed into a block of f32, which is rounded when it is complete, if not a tile
        # at once; a turned product into a block which is then transposed.
        rounded = self.stored.is_half and (self.blocked or not self.pairs)
        self.apart = rounded or (self.turned and self.problem.m != 1)
        self.c_row = columns if self.apart else self.n
        in_block = self.apart and self.dot is not True
        self.c_block = self.schedule.row_block * self.c_row if in_block else 0
        in_tile = self.amx and not self.apart
        self.tile_sums = self.schedule.rows * self.columns if in_tile else 0

    def scratch(self, part: str) -> str:
        """The address of a part of scratch: "a", "b", "c" or "tile"."""
        return self.vector.address("%scratch", self._scratch_offsets()[part])

    @property
    def scratch_bytes(self) -> int:
        return self._scratch_offsets()["end"] * self.sums.bytes

    def _scratch_offsets(self) -> dict[str, int]:
        align = 64 // self.sums.bytes
        offsets, at = {}, 0
        sizes = {"a": self.a_panel, "b": self.b_block, "c": self.c_block, "tile": self.tile_sums}
        for part, size in sizes.items():
            offsets[part] = at
            at += -(-size // align) * align
        return offsets | {"end": at + align}

    @property
    def tile_epilogue(self) -> Epilogue | None:
        """The epilogue of tiles: none where it is a pass of its own over complete sums.

        Halves are rounded in that pass. Of a turned product the tile's rows are columns.
        """
        return None if self.stored.is_half or self.turned else self.epilogue

    @property
    def over(self) -> tuple[str, ...]:
        """`Kernel.over`: of a symbolic number of rows, tiles repeat their last row; where the
        epilogue is a pass of its own, or k in blocks, the sums come to lie in the output first."""
        if self.epilogue is None or (self.tile_epilogue and self.problem.m is None):
            return ()
        at_once = self.dot is False and self.tile_epilogue is not None and not self.blocked
        return self.epilogue.over(out=at_once)

    @property
    def rest_rows(self) -> int:
        """Rows of the tile that serves the rest of a symbolic number of rows."""
        return min(SIDE if self.amx else REST_ROWS, self.schedule.rows)

    @property
    def ahead(self) -> str:
        """The operands that tiles fetch ahead: of the schedule's those that are in memory, in lines
        one after the other or row by row."""
        problem, schedule = self.problem, self.schedule
        fits = {
            "a": not (schedule.pack_a or problem.transpose_a),
            "b": not (self.map_b or problem.panel or (problem.transpose_b and self.blocked)),
        }
        return "".join(name for name in schedule.ahead if fits[name] and not self.stored.is_half)

    @property
    def blocked(self) -> bool:
        return isinstance(self.steps, str) or self.steps > self.schedule.k_block

    def tile(self, shape: TileShape) -> Subroutine:
        if shape not in self.tiles:
            problem, pack_a, pack_b = self.problem, self.schedule.pack_a, self.schedule.pack_b
            if pack_a:
                a_row, a_k = self.a_panel_row, self.a_panel_k
            else:
                a_row, a_k = (1, problem.m) if problem.transpose_a else (problem.k, 1)
                a_row = a_row and a_row // self.each
            context = TileContext(
                self.builder,
                self.target,
                self.sums,
                self.packed,
                self.sums if self.apart else self.stored,
                a_row,
                a_k,
                self.columns if pack_b else problem.panel or problem.n,
                self.c_row if isinstance(self.c_row, int) else None,
                mask_b=not pack_b and not problem.panel,
                blocked=self.blocked,
                ahead=self.ahead,
                epilogue=self.tile_epilogue,
            )
            if self.amx:
                self.tiles[shape] = amx_function(context, shape, self.schedule.rows)
            else:
                self.tiles[shape] = tile_function(context, shape)
        return self.tiles[shape]
