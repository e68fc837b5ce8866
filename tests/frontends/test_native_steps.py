"""Predicted steps in compiled code: the same traces and values as Python's, and no leaks."""

import gc
import sys
import threading
import tracemalloc
import weakref
from contextlib import contextmanager

import numpy as np
import pytest

import graphc as torch
from graphc import nn
from graphc.frontends import native_cells, native_steps, predict
from graphc.frontends.record import Cell, recorder
from graphc.frontends.steps import steps
from graphc.ir.errors import GraphcError
from graphc.tensor import Storage, Tensor

OFTEN = 30  # from then on all is predicted


@pytest.fixture(autouse=True)
def native(fresh_recorder):
    torch.zeros(1).add(1).tolist()  # something is compiled
    assert steps.is_native
    recorder().flush()


@contextmanager
def predictions():
    """Counts calls of the compiled function that gave something."""
    found, compiled = [], steps.predict

    def counted(*args):
        made = compiled(*args)
        if made is not None:
            found.append(args[1].name)
        return made

    steps.predict = counted
    try:
        yield found
    finally:
        steps.predict = compiled


def trace_of_now():
    return [
        ("param", s.types) if s.is_param else (s.key[0], s.types) for s in recorder().state.path()
    ]


def arithmetic():
    x, w = torch.arange(6.0).reshape(2, 3), torch.full((3, 2), 0.5)
    y = (x @ w).tanh() * 2.0 - 1
    z = y.sum(1, keepdim=True) + y.reshape(2, 2).permute(1, 0)[0]
    return torch.nn.functional.softmax(z * -0.0 + y, dim=-1)


def views():
    x = torch.ones(4, 6, requires_grad=True)
    rows = (x * 2).reshape(2, 12)
    first = rows.detach()
    return rows.unsqueeze(0).sum() + first.flatten().sum() + x.view(-1).mean()


def writes():
    x = torch.zeros(3, 4)
    part = x[1]
    part += 1
    x.mul_(2)
    return x + part


@pytest.mark.parametrize("program", [arithmetic, views, writes])
def test_traces_and_values_are_those_of_python(program, python_steps):
    def run():
        recorder().flush()
        made = program()
        trace = trace_of_now()
        return trace, made.tolist()

    for _ in range(OFTEN):
        compiled = run()
    before = recorder().compiled
    with predictions() as count:
        assert run() == compiled and recorder().compiled == before
    assert count
    python_steps()
    assert [run() for _ in range(3)] == [compiled] * 3
    assert recorder().compiled == before


@pytest.mark.parametrize(
    "operation",
    [
        lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a @ b, lambda a, b: a / 3,
        lambda a, b: a * 2.5, lambda a, b: a**2, lambda a, b: -a, lambda a, b: a.tanh(),
        nn.functional.linear, lambda a, b: a.sum(0), lambda a, b: a.view(9),
    ],
)  # fmt: skip
def test_operators_functions_and_methods_are_predicted(operation):
    a, b = torch.ones(3, 3), torch.full((3, 3), 2.0)
    for _ in range(OFTEN):
        wanted = operation(a, b).tolist()
        recorder().flush()
    with predictions() as count:
        assert operation(a, b).tolist() == wanted
    assert len(count) == 1


def model_and_step(update=torch.optim.SGD, look=False, **options):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = update(model.parameters(), lr=0.05, **options)
    x, labels = torch.randn(5, 6), torch.randint(0, 3, (5,))

    def step():
        loss = nn.functional.cross_entropy(model(x), labels)
        if look:
            loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return model, step


UPDATES = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {}),
    (torch.optim.AdamW, {"amsgrad": True}),
]


@pytest.mark.parametrize(("update", "options"), UPDATES)
@pytest.mark.parametrize("whole", [False, True], ids=["eager", "compiled"])
def test_training_has_the_bits_of_python(update, options, whole, python_steps):
    def train():
        model, step = model_and_step(update, **options)
        step = torch.compile(step) if whole else step
        losses = [step().item() for _ in range(OFTEN)]
        return losses, [p.tolist() for p in model.parameters()]

    compiled = train()
    assert compiled[0][-1] < compiled[0][0]
    python_steps()
    assert train() == compiled


def test_a_look_before_backward_changes_no_bit(python_steps):
    def train(look):
        model, step = model_and_step(look=look)
        losses = [step().item() for _ in range(OFTEN)]
        return losses, [p.tolist() for p in model.parameters()]

    compiled = train(True)
    assert compiled == train(False)
    python_steps()
    assert train(True) == compiled


def test_cells_have_the_slots_of_python():
    x, y = torch.ones(3, requires_grad=True), torch.zeros(3)
    for _ in range(OFTEN):
        (x + y).tolist()
    rec = recorder()
    rec.flush()
    cells = [x._read(), y._read()]
    found = steps.slots_of_cells(rec, [*cells, cells[0]])
    assert found == (0, 1, 0) and found == tuple([rec.slot_of(c) for c in (*cells, cells[0])])
    other = torch.ones(3, 5, 7)
    other.tolist()
    rec.flush()
    assert steps.slots_of_cells(rec, [other._read()]) is None  # of no type seen there
    assert len(rec.tape.cells) == rec.state.slots == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x * 3.0, lambda x: x * 3),
        (lambda x: (x * 0.0) / 1.0, lambda x: (x * -0.0) / 1.0),
        (lambda x: x.sum(1), lambda x: x.sum(0)),
        (lambda x: x.sum(1, keepdim=True), lambda x: x.sum(1, keepdim=False)),
        (lambda x: x.reshape((1, 4)), lambda x: x.reshape((4, 1))),
        (lambda x: x.softmax(dim=0), lambda x: x.softmax(0)),
        (lambda x: x + 1, lambda x: x + True),
        (lambda x: x.to(torch.float64), lambda x: x.to(torch.int32)),
    ],
)
def test_calls_that_differ_in_an_argument_are_told_apart(one, other):
    x = torch.tensor([[-1.0, 2.0], [3.0, 4.0]])
    wanted = [(repr(f(x).tolist()), f(x).dtype) for f in (one, other)]
    for _ in range(OFTEN):
        assert (repr(one(x).tolist()), one(x).dtype) == wanted[0]
    for _ in range(OFTEN):
        made = [(repr(f(x).tolist()), f(x).dtype) for f in (one, other)]
        assert made == wanted


def test_the_mode_is_compared():
    w = torch.ones(3, requires_grad=True)
    for _ in range(OFTEN):
        assert (w * 2).requires_grad
        with torch.no_grad():
            assert not (w * 2).requires_grad
        with torch.inference_mode():
            assert (w * 2).is_inference()
        recorder().flush()


def test_a_leaf_that_was_written_keeps_its_hooks():
    w, seen = torch.ones(3, requires_grad=True), []
    w.register_hook(lambda g: seen.append(g.tolist()))
    optimizer = torch.optim.SGD([w], lr=0.5)
    for n in range(OFTEN):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
        assert len(seen) == n + 1
    assert w.tolist() == [0.0] * 3


def test_an_update_between_forward_and_backward_is_noticed():
    for _ in range(OFTEN):
        w = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.5)
        loss = (w * w).sum()
        w.grad = torch.ones(3)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_memory_that_numpy_sees_is_left_to_python_steps():
    x = torch.zeros(4)
    for _ in range(OFTEN):
        (x + 1).tolist()
    array = x.numpy()
    for n in range(OFTEN):
        array[:] = n
        assert (x + 1).tolist() == [n + 1.0] * 4
        with torch.no_grad():
            optimizer = torch.optim.SGD([x], lr=1.0)
            x.grad = torch.ones(4)
            optimizer.step()
        assert array.tolist() == [n - 1.0] * 4


def test_copies_of_memory_that_numpy_sees_are_predicted():
    array = np.zeros(6, np.float32)
    x, y = torch.from_numpy(array), torch.ones(2, 3)
    for n in range(OFTEN):
        array[:] = n
        part = x[:3]
        assert (y * part + part).tolist() == [[2.0 * n] * 3] * 2
    with predictions() as found:
        array[:] = 7
        assert (y * x[:3] + x[3:]).tolist() == [[14.0] * 3] * 2
    assert len(found) == 2
    for _ in range(OFTEN):  # what shares its memory goes on doing so
        same, row = x.contiguous(), x.view(2, 3)
    array[:] = 9
    assert same is x and row.tolist() == [[9.0] * 3] * 2
    row[0] = 1.0
    assert array.tolist() == [1.0] * 3 + [9.0] * 3


def test_sizes_that_become_symbols_are_left_to_python_steps():
    wanted = [[2.0 * n] * n for n in range(2, 40)]
    assert [(torch.full((n,), float(n)) * 2).tolist() for n in range(2, 40)] == wanted


def test_long_programs_are_cut():
    y, flushes = torch.zeros(3), recorder().flushes
    for _ in range(7000):
        y = y + 1
    assert recorder().flushes > flushes
    assert y.tolist() == [7000.0] * 3


def _counts():
    gc.collect()
    kinds = [type(o) for o in gc.get_objects()]
    return {cls: sum(issubclass(k, cls) for k in kinds) for cls in (Cell, Storage, Tensor)}


@pytest.mark.parametrize("whole", [False, True], ids=["eager", "compiled"])
def test_steps_leave_no_objects_behind(whole):
    _, step = model_and_step(momentum=0.9)
    step = torch.compile(step) if whole else step
    held = [step() for _ in range(OFTEN)][-1:]
    recorder().flush()
    before = _counts()
    for _ in range(200):
        held[0] = step()
    recorder().flush()
    assert _counts() == before


@pytest.mark.parametrize("whole", [False, True], ids=["eager", "compiled"])
def test_references_to_shared_objects_are_counted(whole):
    model, step = model_and_step(momentum=0.9)
    step = torch.compile(step) if whole else step
    state = [*model.parameters(), *[p._storage for p in model.parameters()]]
    shared = [None, True, False, 0, 1, -1, (), Cell, Storage, Tensor, *state]

    def counts():
        gc.collect()
        return [sys.getrefcount(one) for one in shared]

    for _ in range(OFTEN):
        step()
    spare = [None] * 100_000  # a reference that is dropped too often takes from these
    before = counts()
    for _ in range(1000):
        step()
    after = counts()
    assert len(spare) == 100_000
    assert max(abs(a - b) for a, b in zip(after, before)) < 100, list(zip(shared, before, after))


def test_memory_does_not_grow():
    _, step = model_and_step(torch.optim.Adam)
    x = torch.ones(5)

    def rounds(count):
        for _ in range(count):
            step()
            ((x + x) * 2.0).reshape(5, 1).detach().tolist()

    rounds(100)
    gc.collect()
    tracemalloc.start()
    try:
        rounds(20)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        rounds(500)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


class Records:
    """Garbage that records when the collector finds it."""

    def __init__(self, x, found):
        self.me, self.x, self.found = self, x, found

    def __del__(self):
        y = self.x + 1
        self.found.append(y if len(self.found) % 2 else y.tolist())


def test_the_collector_may_record_in_the_middle_of_a_step():
    x, found = torch.ones(3), []
    _, step = model_and_step(momentum=0.9)
    wanted = [step().item() for _ in range(2 * OFTEN)]
    _, step = model_and_step(momentum=0.9)
    thresholds, losses = gc.get_threshold(), []
    try:
        for n in range(2 * OFTEN):
            gc.set_threshold(1 + n % 7, 2, 2)
            for _ in range(3):
                Records(x, found)
            losses.append(step().item())
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert losses == wanted
    assert len(found) >= 2 * OFTEN
    assert all([(y if isinstance(y, list) else y.tolist()) == [2.0] * 3 for y in found])


def test_threads_record_each_for_itself():
    shared, wrong = torch.full((8,), 2.0), []

    def work(mark):
        x = torch.full((8,), float(mark))
        for n in range(300):
            y = ((x + shared) * 3.0).reshape(2, 4).sum(1)
            if y.tolist() != [(mark + 2) * 12.0] * 2:
                wrong.append((mark, n))

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_tensor_lives_as_long_as_it_is_held():
    x = torch.ones(3)
    for _ in range(OFTEN):
        y = x + x
        cell, tensor = weakref.ref(y._storage.cell), weakref.ref(y)
        y.tolist()
        del y
        assert tensor() is None and cell() is None


def test_errors_are_those_of_python_steps():
    x, y = torch.ones(3), torch.ones(4)
    for _ in range(OFTEN):
        (x + x).tolist()
    for _ in range(3):
        with pytest.raises(GraphcError):
            x + y
        with pytest.raises(TypeError):
            torch.add(x, object())
    assert (x + x).tolist() == [2.0] * 3


def _without_memory(capi, at, call, *args):
    """Calls with one allocation that fails: the result, or MemoryError."""
    capi.set_nomemory(at, at + 1)
    try:
        return call(*args)
    except MemoryError:
        return MemoryError
    finally:
        capi.remove_mem_hooks()


def test_any_allocation_may_fail():
    capi = pytest.importorskip("_testcapi")
    x, y, w = torch.ones(4), torch.full((4,), 2.0), torch.ones(4)
    with torch.no_grad():
        traced = torch.jit.trace(lambda a, b: a * b + a, (x, y))
        for _ in range(3):
            traced(x, y)
    for _ in range(OFTEN):
        (x + y).tolist()
    rec, add, found = recorder(), torch.add, {"predict": [], "traced": [], "slots": [], "write": []}
    args, tensors, none = (x, y), [x, y], {}
    cells_of = [x._read(), y._read()]

    def attempts():
        for at in range(12):
            rec.flush()
            made = _without_memory(capi, at, steps.predict, rec, add, args, none)
            found["predict"].append(type(made))
            assert len(rec.tape.cells) == rec.state.slots
            del made
            for slots, given in ((steps.slots, tensors), (steps.slots_of_cells, cells_of)):
                rec.flush()
                found["slots"].append(type(_without_memory(capi, at, slots, rec, given)))
                assert len(rec.tape.cells) == rec.state.slots
            rec.flush()
            cells = [(x + y)._storage.cell]
            found["write"].append(_without_memory(capi, at, steps.write, rec, cells, [w]))
            with torch.no_grad():
                made = _without_memory(capi, at, traced, x, y)
                found["traced"].append(made if made is MemoryError else made.tolist())
            del made, cells
            assert (x + y).tolist() == [3.0] * 4 and w.tolist() in ([1.0] * 4, [3.0] * 4)

    attempts()
    recorder().flush()
    before = _counts()
    attempts()
    recorder().flush()
    assert _counts() == before
    assert {type(None), Tensor} <= set(found["predict"])
    assert MemoryError in found["traced"] and [3.0] * 4 in found["traced"]
    assert MemoryError in found["write"] and 1 in found["write"]


def test_python_predicts_where_slots_are_not_plain(monkeypatch):
    def refuses(cls, name):
        raise TypeError(f"{cls.__name__}.{name} is no slot")

    monkeypatch.setattr(native_cells, "offset_of", refuses)
    native_steps.fault.cache_clear()
    predict.use_native_steps.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="predicted by Python: Cell.buffer is no slot"):
            predict.use_native_steps()
    finally:
        monkeypatch.undo()
        native_steps.fault.cache_clear()
        predict.use_native_steps.cache_clear()
        predict.use_native_steps()
