"""Limits of the machine, and the part of them that workloads reach."""

import pytest

from benchmarks import machine
from benchmarks.machine import Found, Limit, limit_of, line
from benchmarks.machine_cases import CASES, MEMORY, PRODUCTS, conv, memory, product
from graphc import config

LIMITS = {
    "multiply-adds": Limit("multiply-adds", lambda: None, 1, 100e9),
    "copying": Limit("copying", lambda: None, 1, 25e9),
    "reading": Limit("reading", lambda: None, 1, 30e9),
    "streaming": Limit("streaming", lambda: None, 1, 40e9),
}


@pytest.fixture(scope="module")
def measured():
    with config.patch(num_threads=1):  # times are of one thread's CPU
        yield machine.measured_limits()


def test_limits_are_rates_of_this_machine(measured):
    assert set(LIMITS) < set(measured)
    for limit in measured.values():
        assert 1e8 < limit.rate < 1e13


def test_each_loop_does_what_it_says():
    import numpy as np

    source, target = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
    for kind in ("copying", "streaming"):
        target[:] = 0
        machine.loop(kind)(target.ctypes.data, source.ctypes.data, 16)
        assert (target == source).all()
    machine.loop("reading")(target.ctypes.data, source.ctypes.data, 16)
    assert target[:64].sum() == source.sum()


def test_bytes_are_those_of_inputs_and_results_once(measured):
    """An add of two arrays moves three; a kept weight is read like an input."""
    added = machine.measure(
        memory("add", lambda t, x, y: x + y, (64, 48), (64, 48)), measured, 0.01
    )
    assert (added.operations, added.moved) == (64 * 48, 3 * 4 * 64 * 48)
    case = machine.Case("products", "kept", lambda t, x, w: x @ w, ((32, 48),), ((48, 16),))
    kept = machine.measure(case, measured, 0.01)
    assert kept.operations == 2 * 32 * 48 * 16
    assert kept.moved == 4 * (32 * 48 + 48 * 16 + 32 * 16)


def test_taps_on_the_border_are_no_operations(measured):
    """A 3 x 3 of a 4 x 4 image: 2 of 12 places and taps are outside, each way."""
    padded = machine.measure(conv("3x3", (1, 4, 4, 4), (8, 4, 3, 3), padding=1), measured, 0.01)
    assert padded.operations == 2 * 8 * 4 * (12 - 2) ** 2
    kept = conv("3x3", (1, 4, 4, 4), (8, 4, 3, 3), padding=1, is_kept=True)
    assert machine.measure(kept, measured, 0.01).operations == padded.operations
    apart = conv("3x3", (1, 4, 9, 9), (8, 4, 3, 3), 2, 0)
    assert machine.measure(apart, measured, 0.01).operations == 2 * 8 * 4 * (4 * 3) ** 2


def test_a_product_is_measured_against_multiply_adds(measured):
    found = machine.measure(product("128", (128, 128), (128, 128)), measured, 0.05)
    assert found.limit == "multiply-adds" and found.goal == 0.90
    assert found.operations == 2 * 128**3 and 0.05 < found.share < 1.2


@pytest.mark.parametrize(
    ("operations", "read", "written", "limit", "held"),
    [
        (1e9, 1e6, 1e6, "multiply-adds", False),
        (1e6, 60e6, 40e6, "copying", False),
        (1e6, 100e6, 4, "reading", False),
        (1e6, 1e6, 1e6, "multiply-adds", True),  # the caches hold it
    ],
)
def test_the_limit_is_what_asks_for_more_time(operations, read, written, limit, held):
    found = limit_of(PRODUCTS[0], operations, read, written, LIMITS)
    assert (found[0].name, found[1]) == (limit, held)


def test_what_is_under_its_goal_is_marked():
    case, direct = PRODUCTS[0], conv("3x3", (1, 4, 8, 8), (4, 4, 3, 3))
    assert line(Found(case, 1.0, 10, 10, "multiply-adds", 0.894)).endswith("0.90 <")
    assert line(Found(case, 1.0, 10, 10, "multiply-adds", 0.896)).endswith("0.90")
    assert not Found(direct, 1.0, 10, 10, "multiply-adds", 0.86).is_under
    assert Found(MEMORY[0], 1.0, 10, 10, "copying", 0.8).is_under
    assert not Found(case, 1.0, 10, 10, "caches", 0.1).is_under


def test_the_command_lists_what_is_under_its_goal(monkeypatch, capsys):
    small = [product("64", (64, 64), (64, 64)), memory("add", lambda t, x: x + 1, (100, 100))]
    monkeypatch.setattr(machine, "CASES", small)
    monkeypatch.setattr(machine.os, "sched_setaffinity", lambda *given: None)
    with config.patch(winograd=True, num_threads=config.num_threads):
        assert machine.main(["products", "--seconds", "0.01"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("multiply-adds: ") and shown[0].endswith(" GFLOP/s")
    assert [text.split()[0] for text in shown if text.startswith("products/")][:1] == [
        "products/64"
    ]
    assert any("of 1 workloads are under their goals" in text for text in shown)
    with pytest.raises(SystemExit):
        machine.main(["nothing"])


@pytest.mark.parametrize("case", MEMORY, ids=lambda case: case.name)
def test_each_case_has_a_small_form(case):
    small = case.in_caches()
    arrays = small.inputs()
    assert 50_000 <= max([array.size for array in arrays]) <= 300_000 or small.shapes[0][1:] == (1,)
    call, graph = machine.prepared(small)
    call()
    assert machine.bytes_of([*graph.params, *graph.results]) < 4 << 20


def test_names_of_cases_are_distinct():
    names = [(case.group, case.name) for case in CASES]
    assert len(set(names)) == len(names)
