"""What the tiles of a matrix product fetch ahead: a callback in its place sees the addresses."""

import ctypes
import re
from dataclasses import replace

import numpy as np
import pytest

from graphc.backends.llvm.contract import GemmProblem, GemmSchedule, gemm
from graphc.backends.llvm.contract.gemm_schedule import schedule_gemm
from graphc.backends.llvm.target import TARGETS, get_target
from tests.backends.contract_runner import Compiled, guarded

# Into the second cache, to be read.
FETCH = re.compile(r"call void @llvm\.prefetch\.p0\(ptr (%\S+), i32 0, i32 2, i32 1\)")


class Watched:
    """A product of schedule's, of which `fetched` tells the addresses, unit by unit."""

    def __init__(self, problem: GemmProblem, schedule: GemmSchedule) -> None:
        self.seen: list[int] = []
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(self.seen.append)
        address = ctypes.cast(self._callback, ctypes.c_void_p).value
        call = rf"call void inttoptr (i64 {address} to ptr)(ptr \1)"
        kernel = gemm(problem, get_target(), schedule=schedule)
        functions = tuple((name, FETCH.sub(call, text)) for name, text in kernel.functions)
        self._kernel = Compiled(replace(kernel, functions=functions))
        batch, m, n, k = problem.batch, problem.m, problem.n, problem.k
        self.a = guarded((batch, m, k))
        self.b = guarded((batch, n, k) if problem.transpose_b else (batch, k, n))
        self._out = np.zeros((batch, m, n), np.float32)
        self.units = self._kernel.units()

    def fetched(self, low: int, high: int) -> set[int]:
        """What units [low, high) fetch."""
        self.seen.clear()
        pointers = self._kernel.arguments((self.a, self.b, self._out))[:4]
        self._kernel.function(*pointers, low, high)
        return set(self.seen)


def lines(block: np.ndarray, along: int) -> set[int]:
    """The addresses of every sixteenth element of the rows (along 1) or the columns of a block."""
    start, strides = block.ctypes.data, block.strides
    first = range(0, block.shape[along], 16)
    other = range(block.shape[1 - along])
    return {start + i * strides[along] + j * strides[1 - along] for i in first for j in other}


def fetching(ahead: str, k_block: int, **more: bool) -> GemmSchedule:
    lanes = get_target().lanes(32)
    vectors, fields = 16 // lanes, {"pack_a": False, "pack_b": True, "columns_first": False}
    return GemmSchedule(3, vectors, k_block, 12, 48, **(fields | more), ahead=ahead)


@pytest.mark.parametrize("more", [{}, {"pack_b": False}, {"pack_b": False, "columns_first": True}])
def test_the_next_columns_and_the_next_matrix(more):
    watched = Watched(GemmProblem(24, 96, 20, 2), fetching("b", 20, **more))
    assert watched.units == 2 * 2 * 2  # a pair of blocks of rows after the other
    one, two = watched.b
    assert lines(one[:, 48:], 1) <= watched.fetched(0, 2)
    assert lines(two[:, :48], 1) <= watched.fetched(2, 4)
    assert lines(two[:, 48:], 1) <= watched.fetched(4, 6)


def test_the_next_block_of_k():
    watched = Watched(GemmProblem(24, 96, 40, 2), fetching("b", 20))
    one, two = watched.b
    fetched = watched.fetched(0, 2)
    assert lines(one[20:, :48], 1) | lines(one[:20, 48:], 1) <= fetched
    assert not lines(one[20:, 48:], 1) & fetched
    assert lines(one[20:, 48:], 1) | lines(two[:20, :48], 1) <= watched.fetched(2, 4)


def test_a_transposed_b():
    watched = Watched(GemmProblem(30, 96, 32, 2, transpose_b=True), fetching("b", 32))
    one, two = watched.b
    rows = watched.units // 4
    assert lines(one[48:], 1) <= watched.fetched(0, rows)
    assert lines(two[:48], 1) <= watched.fetched(rows, 2 * rows)


def test_rows_of_a_in_place():
    watched = Watched(GemmProblem(24, 96, 20, 2), fetching("a", 20))
    fetched = watched.fetched(0, 2)
    whole = watched.a.reshape(-1, 20)
    assert lines(whole[3:25].reshape(1, -1), 1) <= fetched
    assert watched.a.ctypes.data not in fetched


def test_nothing_that_is_computed_or_copied_or_in_panels():
    lanes = get_target().lanes(32)
    copied = replace(fetching("a", 20), pack_a=True)
    assert not Watched(GemmProblem(24, 96, 20, 2), copied).fetched(0, 8)
    cut = Watched(GemmProblem(24, 96, 40, 2, transpose_b=True), fetching("b", 20))
    assert not cut.fetched(0, cut.units)
    panels = GemmProblem(24, 96, 20, b_batched=False, panel=max(16, lanes))
    text = gemm(panels, get_target(), schedule=fetching("b", 20, pack_b=False)).text
    assert not FETCH.search(text)


def test_the_rule():
    def schedule(m, n, k, batch=1, **more):
        return schedule_gemm(GemmProblem(m, n, k, batch, **more), TARGETS["avx512"]).ahead

    assert schedule(256, 256, 256) == "" and schedule(256, 256, 256, 16) == "ab"
    assert schedule(512, 512, 512) == "" and schedule(2048, 2048, 2048) == "a"
    assert schedule(64, 1024, 1024) == schedule(128, 3072, 768, transpose_b=True) == "b"
    assert schedule(2048, 512, 512, panel=32, b_batched=False) == "a"
    assert schedule(1, 8192, 8192) == schedule(4, 8192, 8192) == schedule(None, 2048, 2048) == ""
    assert schedule(2048, 2048, 2048, dtype="bf16") == ""
