"""The trie of traces: what is recorded once, what makes a new trace, when values are computed."""

import gc
import math
import sys
import time

import pytest

import graphc as torch
from graphc.frontends import execute, record
from graphc.frontends.record import recorder


class Compiled:
    """Counts the entries that are compiled within."""

    def __enter__(self):
        self._before = recorder().compiled
        return self

    def __exit__(self, *_):
        self.count = recorder().compiled - self._before


def computed(*shape):
    x = torch.ones(*shape)
    x.tolist()
    return x


def states(root=None):
    """How many states the trie has."""
    todo, count = [root or recorder().root], 0
    while todo:
        state = todo.pop()
        count += 1
        todo += state.edges.values()
    return count


def test_a_repeated_program_builds_nothing():
    x = computed(5)

    def program():
        return ((x * 2 + 1).tanh().sum() / 3).item()

    first = program()
    before = states()
    with Compiled() as compiled:
        assert all(program() == first for _ in range(10))
    assert (states(), compiled.count) == (before, 0)


def test_modes_are_part_of_a_step():
    w = computed(4).requires_grad_()
    with torch.no_grad():
        assert not (w * 3).requires_grad
    assert (w * 3).requires_grad
    torch.set_default_dtype(torch.float64)
    try:
        assert (torch.arange(3) / 2).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (torch.arange(3) / 2).dtype is torch.float32


def test_a_thousand_learning_rates_compile_twice():
    w = computed(6)
    with Compiled() as compiled:
        for i in range(1000):
            rate = 0.00137 * (i + 3)
            assert (w * rate).sum().item() == pytest.approx(6 * rate, rel=1e-5)
    assert compiled.count <= 2


@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, math.inf, -math.inf, math.nan])
def test_special_numbers_stay_constants(number):
    x = computed(3)
    for other in (0.3, 0.4, 0.7):
        (x * other).tolist()
    found = (x * number).tolist()[0]
    assert repr(found) == repr(1.0 * number)


def test_numbers_that_are_equal_but_not_the_same():
    ints, floats = torch.tensor([2, 3]), computed(2)
    assert [(ints * v).dtype for v in (1, 1.0, True)] == [torch.int64, torch.float32, torch.int64]
    assert [math.copysign(1, v) for v in (floats * 0.0).tolist()] == [1, 1]
    assert [math.copysign(1, v) for v in (floats * -0.0).tolist()] == [-1, -1]
    assert [(floats > v).tolist() for v in (True, 1, 1.0, 0.0)] == [[False] * 2] * 3 + [[True] * 2]


def test_integers_that_change_become_operands_and_stay_exact():
    x = torch.tensor([2**40, -7])
    for i in (3, 5, 2**41 + 1, 11):
        assert (x + i).tolist() == [2**40 + i, -7 + i]


def test_an_entry_that_computes_more_is_used_again():
    x = computed(7)

    def program(keep):
        a = x * 1.25
        b = a.exp()
        c = (b + a).sum()
        kept = (a, b) if keep else ()
        del a, b
        return c.item(), kept

    value, _ = program(keep=True)
    with Compiled() as compiled:
        assert program(keep=False)[0] == value
    assert compiled.count == 0


def test_long_tapes_are_cut_where_they_recur():
    x, z = computed(16), computed(16)
    started, before = time.process_time(), recorder().compiled
    for _ in range(100_000):
        z = z + x
    assert time.process_time() - started < 2.5  # about 0.4 s on an idle machine
    assert z.tolist() == [100_001.0] * 16
    assert recorder().compiled - before <= 5


def test_long_tapes_of_a_loop_of_several_steps_are_all_cut_at_one_place_of_it():
    x, y = torch.zeros(4), torch.zeros(4)
    with Compiled() as compiled:
        for _ in range(7_000):
            x = x + 1.0
            y = x * y
            x = y - x
            y = x + y
        x.tolist()
    assert compiled.count <= 3  # the beginning, the loop, the end


def kept_by_a_generator(x):
    y = x * 4.5
    yield None
    yield y.tolist()


def test_values_in_frames_generators_and_exceptions_are_live():
    x = computed(2)
    generator = kept_by_a_generator(x)
    next(generator)
    try:
        local = x * 6.5
        raise ValueError(local)
    except ValueError as error:
        kept = error
    del local
    closure = (lambda y: lambda: y.tolist())(x * 7.5)
    box = {"a": [x * 8.5]}
    (x + 1).tolist()  # flushes
    assert next(generator) == [4.5, 4.5]
    assert kept.args[0].tolist() == [6.5, 6.5]
    assert closure() == [7.5, 7.5] and box["a"][0].tolist() == [8.5, 8.5]


def test_values_that_nobody_holds_are_not_computed(monkeypatch):
    ran = []
    run = execute.Entry.run
    monkeypatch.setattr(execute.Entry, "run", lambda e, tape: (ran.append(e.live), run(e, tape)))
    x = computed(2, 3, 1)
    y = (x * 9.25).exp()
    y.tolist()
    assert [len(live) for live in ran] == [1, 1]  # x, and y without what it was computed from


def test_liveness_under_a_tracer():
    x, seen = computed(2), []

    def tracer(frame, event, argument):
        seen.append(event)
        return tracer

    def program():
        y = x * 3.25
        z = y + 1
        (z * 2).tolist()
        return y.tolist(), z.tolist()

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        found = program()
    finally:
        sys.settrace(before)
    assert seen and found == ([3.25, 3.25], [4.25, 4.25])


class Stop(BaseException):
    """What a signal handler may raise between any two lines."""


def interrupted_at(line_number, program):
    """Runs a program and raises Stop at the n-th line executed within graphc's recording."""
    files = (record.__file__, sys.modules["graphc.frontends.function"].__file__)
    left = [line_number]

    def tracer(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                raise Stop
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        program()
    except Stop:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("native", [True, False], ids=["compiled", "python"])
def test_interrupts_between_any_two_lines_leave_tape_and_state_in_step(native, python_steps):
    if not native:
        python_steps()
    x, w = computed(3), computed(3)

    def program():
        y = x + w
        for _ in range(3):
            y = y + x
        return ((y * 1.5 + w).sum() - 2.0).item()

    expected = program()
    at = 1
    while interrupted_at(at, program):
        rec = recorder()
        assert len(rec.tape.cells) == rec.state.slots
        assert program() == expected
        at += 1 if at < 60 else 5
    assert at > (60 if native else 120)


def test_a_value_error_does_not_take_other_values_along():
    x = computed(3)
    good = x * 5.5
    bad = x[torch.tensor([7])]
    with pytest.raises(IndexError):
        bad.tolist()
    assert good.tolist() == [5.5] * 3
    with pytest.raises(IndexError):
        bad.tolist()


def test_an_error_of_shape_leaves_the_recording_as_it_was():
    x = computed(3)
    y = x * 2.75
    with pytest.raises(RuntimeError):
        y @ torch.ones(4, 2)
    assert (y + 1).tolist() == [3.75] * 3


def test_memory_is_freed_by_reference_counts():
    from graphc.backends.llvm.memory import heap

    def program():
        w = torch.ones(5000).requires_grad_()
        y = (w * 1.5).tanh()
        loss = (y * y).sum()
        loss.item()
        loss.backward()
        assert w.grad is not None

    program()
    torch.ones(1).tolist()
    gc.collect()
    gc.disable()
    try:
        before = heap.allocated
        for _ in range(5):
            program()
        torch.ones(1).tolist()
        assert heap.allocated <= before
    finally:
        gc.enable()


def test_a_flush_of_nothing_keeps_the_tape_but_ends_static_recording():
    rec = recorder()
    rec.flush()
    tape = rec.tape
    rec.flush()
    assert rec.tape is tape
    rec.go_static()
    assert rec.tape.static
    rec.flush()
    assert not rec.tape.static
