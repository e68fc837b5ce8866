"""Calls of traced functions and modules in compiled code: values, guards, references, threads."""

import copy
import gc
import inspect
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import graphc as torch
from graphc import nn
from graphc.backends.llvm.memory import RESERVE, heap
from graphc.backends.llvm.settings import settings
from graphc.frontends.record import Cell, recorder
from graphc.jit import direct
from graphc.jit.native_call import Description, native_call
from graphc.jit.tracing import TracedModule
from graphc.tensor import Storage, Tensor


def five(a, b, c, d, e):
    return a + b * c - d * e


def tensors(*shape):
    return [torch.randn(*shape) for _ in range(5)]


def traced(function, *args):
    """A trace that has been called, so that the next call needs no Python."""
    with torch.no_grad():
        made = torch.jit.trace(function, args)
        made(*args)
        made(*args)
        assert made._direct.description is not None
    return made


@pytest.fixture
def native(monkeypatch):
    """Counts the calls that compiled code did."""
    found, original = [], native_call(TracedModule)

    def counted(*args):
        made = original(*args)
        found.append(made is not None)
        return made

    def count(trace):
        """Calls go by way of `TracedModule._call`, which asks `DirectCalls`."""
        trace.native = None
        monkeypatch.setattr(trace._direct, "call", counted)
        monkeypatch.setattr(TracedModule, "__call__", TracedModule._call)
        return found

    return count


def test_values_are_those_of_eager_mode(native):
    torch.manual_seed(0)
    xs = tensors(3, 7)
    call = traced(five, *xs)
    count = native(call)
    for _ in range(5):
        ys = tensors(3, 7)
        with torch.no_grad():
            made = call(*ys)
            assert made.tolist() == five(*ys).tolist()
        assert made.shape == (3, 7) and type(made) is Tensor and not made.requires_grad
    assert count == [True] * 5


@pytest.mark.parametrize("shape", [(0,), (1,), (), (1000, 33)])
def test_sizes_of_all_kinds(shape, native):
    xs = tensors(*shape)
    call = traced(five, *xs)
    count = native(call)
    with torch.no_grad():
        assert call(*xs).tolist() == five(*xs).tolist()
    assert count == [True]


def test_the_builtin_calls_python_with_all_it_was_given():
    xs = tensors(4)
    call = traced(five, *xs)
    assert call.native is call._direct.description
    call(*xs)
    assert type(type(call).__call__).__name__ == "method_descriptor"
    assert str(inspect.signature(call)) == "(*args, **kwargs)"
    with pytest.raises(TypeError, match="other arguments than it was traced with"):
        call(*xs[:4], e=xs[4])
    by_name = torch.jit.trace(lambda a, b: a - b, (), example_kwarg_inputs={"a": xs[0], "b": xs[1]})
    assert by_name(a=xs[0], b=xs[1]).tolist() == (xs[0] - xs[1]).tolist()


def test_a_trace_that_was_called_can_be_copied():
    xs = tensors(4)
    call = traced(five, *xs)
    for other in (copy.copy(call), copy.deepcopy(call)):
        with torch.no_grad():
            for _ in range(3):
                assert other(*xs).tolist() == five(*xs).tolist()


def test_a_thread_without_a_recorder_calls():
    xs = tensors(4)
    call, found = traced(five, *xs), []
    with torch.no_grad():
        wanted = five(*xs).tolist()
    thread = threading.Thread(target=lambda: found.append([call(*xs).tolist() for _ in range(3)]))
    thread.start()
    thread.join()
    assert found == [[wanted] * 3]


def test_each_thread_has_modes_of_its_own():
    x = torch.ones(8, requires_grad=True)
    call = traced(lambda a: a * 2, torch.ones(8))
    turns, seen = threading.Barrier(2), []

    def work():
        call(torch.ones(8))
        for _ in range(3):
            turns.wait()
            seen.append(call(x).requires_grad)
            turns.wait()

    thread = threading.Thread(target=work)
    thread.start()
    with torch.no_grad():
        for _ in range(3):
            assert not call(x).requires_grad
            turns.wait()
            turns.wait()
            assert not call(x).requires_grad
    thread.join()
    assert seen == [True] * 3


def test_a_trace_within_a_trace_is_recorded():
    x, y = torch.ones(8), torch.arange(8.0)
    inner = traced(lambda a: a * 2, x)
    for _ in range(2):
        assert torch.equal(inner(x), x * 2)
        outer = torch.jit.trace(lambda a: inner(a) + 1, (x,))
        assert torch.equal(inner(x), x * 2)
        assert torch.equal(outer(y), y * 2 + 1)


def test_several_results_and_modules_with_weights():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
    x = torch.randn(5, 6)
    call = traced(lambda x: (model(x), {"half": x * 0.5}), x)
    with torch.no_grad():
        for _ in range(3):
            y = torch.randn(5, 6)
            found, parts = call(y)
            assert found.tolist() == model(y).tolist()
            assert parts["half"].tolist() == (y * 0.5).tolist()


def test_a_written_weight_is_noticed(native):
    model = nn.Linear(6, 4)
    x = torch.randn(3, 6)
    call = traced(model, x)
    count = native(call)
    with torch.no_grad():
        for n in range(3):
            assert call(x).tolist() == model(x).tolist()
            model.weight.mul_(1.5)
            model.bias.data[0] = n
            assert call(x).tolist() == model(x).tolist()
        weight = model.weight.detach().numpy()
        for n in range(3):
            weight[0, 0] = n
            assert call(x).tolist() == model(x).tolist()
    assert True in count and False in count


def test_what_is_unusual_is_left_to_python(native):
    xs = tensors(4)
    call = traced(five, *xs)
    count = native(call)
    array = np.arange(4, dtype=np.float32)
    shared = torch.from_numpy(array)
    wide = torch.randn(2, 4)
    pending = xs[0] + 1
    for odd in (pending, shared, wide[1], wide.t()[:, 0], xs[0].detach()):
        with torch.no_grad():
            made = call(odd, *xs[1:])
            assert count[-1] is False
            assert made.tolist() == five(odd, *xs[1:]).tolist()
    array[:] = 7
    with torch.no_grad():
        assert call(shared, *xs[1:]).tolist() == five(shared, *xs[1:]).tolist()


def test_gradients_flow_through_calls_that_record_them(native):
    xs = tensors(4)
    call = traced(five, *xs)
    count = native(call)
    w = nn.Parameter(torch.ones(4))
    assert call(xs[0], w, *xs[2:]).requires_grad
    (gradient,) = torch.autograd.grad(call(xs[0], w, *xs[2:]).sum(), w)
    assert gradient.tolist() == xs[2].tolist()
    assert not any(count)
    with torch.no_grad():
        made = call(xs[0], w, *xs[2:])
    assert count[-1] and not made.requires_grad
    with torch.inference_mode():
        made = call(*xs)
    assert count[-1] and made.is_inference()


def test_within_other_recordings_calls_are_recorded(native):
    xs = tensors(4)
    call = traced(five, *xs)
    count = native(call)
    with torch.no_grad():
        outer = torch.jit.trace(lambda *xs: call(*xs) * 2, tuple(xs))
        assert outer(*xs).tolist() == (five(*xs) * 2).tolist()
        compiled = torch.compile(lambda *xs: call(*xs) + 1)
        assert compiled(*xs).tolist() == (five(*xs) + 1).tolist()
    assert not any(count)


def test_other_arguments_are_errors_as_before():
    xs = tensors(4)
    call = traced(five, *xs)
    with torch.no_grad():
        for bad in (torch.randn(5), torch.ones(4, dtype=torch.float64)):
            with pytest.raises(RuntimeError, match="traced with"):
                call(bad, *xs[1:])
        for args in (xs[:4], [*xs, xs[0]], [1.0, *xs[1:]], [None, *xs[1:]]):
            with pytest.raises((TypeError, AttributeError)):
                call(*args)
        assert call(*xs).tolist() == five(*xs).tolist()


def test_settings_are_compared(monkeypatch, native):
    xs = tensors(4)
    call = traced(five, *xs)
    count = native(call)
    monkeypatch.setattr(settings, "winograd", not settings.winograd)
    with torch.no_grad():
        for _ in range(3):
            assert call(*xs).tolist() == five(*xs).tolist()
        assert not any(count)
        monkeypatch.undo()
        assert call(*xs).tolist() == five(*xs).tolist() and call._direct.description is not None


def test_a_failed_check_raises_and_leaves_nothing_behind():
    table, index = torch.randn(10, 3), torch.tensor([1, 2])
    call = traced(lambda t, i: t[i], table, index)
    wrong = torch.tensor([1, 12])

    def fails(times):
        for _ in range(times):
            with torch.no_grad(), pytest.raises(IndexError, match="index 12 is out of bounds"):
                call(table, wrong)

    fails(20)
    gc.collect()
    before = heap.allocated, sys.getrefcount(table._storage.cell), sys.getrefcount(wrong)
    fails(50)
    gc.collect()
    after = heap.allocated, sys.getrefcount(table._storage.cell), sys.getrefcount(wrong)
    assert after == before
    with torch.no_grad():
        assert call(table, index).tolist() == table[index].tolist()


def test_no_memory_for_a_result_raises_and_leaves_nothing_behind():
    xs = tensors(300_017)  # of a size class that nothing else here has
    call = traced(five, *xs)
    heap.release_free()

    def refuses(nbytes):
        raise MemoryError(f"{nbytes} bytes")

    def fails(times):
        for _ in range(times):
            with torch.no_grad(), pytest.raises(MemoryError, match="bytes"):
                call(*xs)

    reserve = heap.words[RESERVE]
    heap.words[RESERVE] = id(refuses)
    try:
        fails(5)
        before = heap.allocated, [sys.getrefcount(x._storage.cell) for x in xs]
        fails(50)
        after = heap.allocated, [sys.getrefcount(x._storage.cell) for x in xs]
    finally:
        heap.words[RESERVE] = reserve
    assert after == before
    with torch.no_grad():
        assert call(*xs).tolist() == five(*xs).tolist()


def test_references_are_counted():
    xs = tensors(4)
    call = traced(five, *xs)
    shared = [None, True, False, 0, -1, (), Cell, Storage, Tensor, heap.native_type]
    shared += [*xs, *[x._storage for x in xs], *[x._storage.cell for x in xs]]
    shared += [x._storage.cell.buffer for x in xs] + [call._direct.description]

    def counts():
        gc.collect()
        return [sys.getrefcount(one) for one in shared]

    def calls(times):
        with torch.no_grad():
            for _ in range(times):
                call(*xs)

    calls(100)
    before = counts()
    calls(20_000)
    after = counts()
    assert max(abs(a - b) for a, b in zip(after, before)) < 50, list(zip(shared, before, after))


def test_calls_do_not_leak():
    xs = tensors(4)
    call = traced(lambda *xs: (five(*xs), xs[0] + 1), *xs)

    def calls(times):
        with torch.no_grad():
            for _ in range(times):
                call(*xs)

    calls(100)
    gc.collect()
    allocated = heap.allocated
    tracemalloc.start()
    try:
        calls(10)
        before = tracemalloc.get_traced_memory()[0]
        calls(5000)
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    assert heap.allocated == allocated


@pytest.mark.parametrize("size", [8, 200_000], ids=["short", "without-the-lock"])
def test_threads_call_one_model(size):
    torch.manual_seed(2)
    call = traced(five, *tensors(size))
    assert call._direct._splits
    code = next(iter(call._direct._splits.values())).late
    assert code.releases_lock == (size > 1000)
    inputs = [tensors(size) for _ in range(8)]
    with torch.no_grad():
        wanted = [five(*xs).numpy().tobytes() for xs in inputs]
    wrong = []

    def work(mark):
        with torch.no_grad():
            for n in range(200 if size < 1000 else 20):
                if call(*inputs[mark]).numpy().tobytes() != wanted[mark]:
                    wrong.append((mark, n))

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_weights_may_change_while_threads_call():
    model = nn.Linear(64, 64)
    x = torch.randn(32, 64)
    call = traced(model, x)
    stop, failed = threading.Event(), []

    def work():
        with torch.no_grad():
            while not stop.is_set():
                try:
                    made = call(x)
                    if not torch.isfinite(made).all().item():
                        failed.append("not finite")
                except Exception as error:
                    failed.append(error)
                    return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    with torch.no_grad():
        for _ in range(60):
            model.weight.copy_(torch.randn(64, 64))
            model.weight.sum().item()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    with torch.no_grad():
        assert call(x).tolist() == model(x).tolist()


def test_a_result_outlives_the_trace():
    xs = tensors(4)
    call = traced(five, *xs)
    with torch.no_grad():
        wanted = five(*xs).tolist()
        made = call(*xs)
    del call
    gc.collect()
    assert made.tolist() == wanted
    assert (made + 0).tolist() == wanted


AT_EXIT = """
import graphc as torch, threading, weakref
torch.set_num_threads(2)

class Cycle: pass

w = torch.randn(300, 300, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
for _ in range(20):
    optimizer.zero_grad()
    (w @ w).sum().backward()
    optimizer.step()
with torch.no_grad():
    call = torch.jit.trace(lambda x: x @ w, (w.detach(),))
    held = [call(w) for _ in range(5)]
cycle = Cycle()
cycle.me, cycle.held, cycle.pending = cycle, held, w * 2
refs = [weakref.ref(x._storage.cell.buffer) for x in held]
torch.keep = cycle, refs, optimizer
"""


def test_a_process_ends_well_with_tensors_in_its_modules():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", AT_EXIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_python_calls_where_the_builtin_cannot_be_trusted(monkeypatch):
    from graphc.jit import native_call as module

    monkeypatch.setattr(module, "is_possible", lambda *args: False)
    xs = tensors(4)
    with torch.no_grad():
        call = torch.jit.trace(five, tuple(xs))
        for _ in range(3):
            assert call(*xs).tolist() == five(*xs).tolist()
    assert isinstance(call._direct, direct.DirectCalls) and call._direct.description is None
    assert not isinstance(call._direct.description, Description) and recorder().eager
