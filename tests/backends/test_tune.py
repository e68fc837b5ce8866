"""Autotuning: the fastest candidate is taken and remembered, and nothing of it breaks a program."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import graphc as torch
from graphc import config, nn
from graphc.backends.base import build
from graphc.backends.llvm import tune
from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.backends.llvm.pool import get_num_threads, set_num_threads
from graphc.backends.llvm.regions import buffer_bytes
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.text import parse
from graphc.ir.types import parse_type

PRODUCT = "f32[40, 300]", "f32[300, 70]"


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Caches of the test's own, and tuning on; what this process knew is forgotten."""
    with config.patch(cache=True, cache_dir=tmp_path / "cache", autotune=True):
        tune.forget()
        monkeypatch.setattr(tune, "LEAST_WORK", 0.0)
        monkeypatch.setattr(tune, "LOOK_S", 0.0)  # so five are tried
        yield
    tune.forget()


@pytest.fixture
def measured():
    """The kernels that were measured."""
    found = []
    with tune.watched(lambda done, total, what: found.append(what)):
        yield found


def fastest(monkeypatch, number):
    """Pretends that this candidate of each kernel (0: the default) takes half of the time."""
    counts = {}

    def sample(trial):
        known = counts.setdefault(trial.memory, {})
        took = 0.5 if known.setdefault(trial.name, len(known)) == number else 1.0
        trial.best = min(trial.best, took)
        return took

    monkeypatch.setattr(tune._Trial, "sample", sample)


def product():
    return trace(lambda a, b: ops.dot(a, b, contract=((1,), (0,))), *map(parse_type, PRODUCT))


def operands(seed=0):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in ((40, 300), (300, 70))]


def tuned_of(graph, **options):
    """What was found for the first kernel of a graph."""
    return prepare(graph, **options).reports[0].tuned


def test_the_fastest_is_taken_with_the_bits_of_the_default(monkeypatch, measured):
    with config.patch(autotune=False):
        plain = compile_graph(product())
    fastest(monkeypatch, 1)
    made = compile_graph(product())
    (report,) = made.kernels
    assert report.tuned.schedule and report.tuned.gain == 2.0 and not report.tuned.remembered
    assert report.text != plain.kernels[0].text
    assert measured == ["gemm"]
    (found,), (wanted,) = made(*operands()), plain(*operands())
    assert found.tobytes() == wanted.tobytes()


def test_where_nothing_is_faster_the_default_stays(monkeypatch):
    with config.patch(autotune=False):
        plain = prepare(product()).reports[0]
    fastest(monkeypatch, 0)
    report = prepare(product()).reports[0]
    assert (report.tuned.schedule, report.tuned.gain) == ("", 1.0) and report.tuned.tried > 2
    assert report.text == plain.text


def test_a_small_gain_is_taken_for_noise(monkeypatch):
    def sample(trial):
        trial.best = 1.0 if trial.name == "" else 0.99
        return trial.best

    monkeypatch.setattr(tune._Trial, "sample", sample)
    assert tuned_of(product()).schedule == ""


def test_one_lucky_run_does_not_win(monkeypatch):
    runs = []

    def sample(trial):
        runs.append(trial)
        lucky = trial.name and len([run for run in runs if run is trial]) == 1
        trial.best = min(trial.best, 0.5 if lucky else 1.0)
        return 0.5 if lucky else 1.0

    monkeypatch.setattr(tune._Trial, "sample", sample)
    assert tuned_of(product()).schedule == ""


def test_it_is_off_by_default_and_then_nothing_remembered_is_taken(monkeypatch, measured):
    fastest(monkeypatch, 1)
    assert tuned_of(product()).schedule
    with config.patch(autotune=False):
        assert tuned_of(product()) is None
    assert measured == ["gemm"]


def test_another_process_remembers(monkeypatch, measured):
    fastest(monkeypatch, 2)
    first = tuned_of(product())
    tune.forget()
    second = tuned_of(product())
    assert second.remembered and second.schedule == first.schedule
    assert measured == ["gemm"]


def test_threads_sizes_and_epilogues_are_tuned_apart(measured):
    compile_graph(product())
    before = get_num_threads()
    set_num_threads(before + 1)
    try:
        compile_graph(product())
    finally:
        set_num_threads(before)
    types = map(parse_type, PRODUCT)
    compile_graph(trace(lambda a, b: ops.neg(ops.dot(a, b, contract=((1,), (0,)))), *types))
    assert measured == ["gemm"] * 3


BROKEN = {
    "no json": b"{",
    "another type": b"7",
    "too few": json.dumps(["rows=1", 3]).encode(),
    "no number": json.dumps(["", "x", 1.0, 1.0]).encode(),
    "no schedule of its name": json.dumps(["__import__('os')", 3, 1.0, 0.5]).encode(),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_malformed_is_measured_again(what, measured, caplog):
    first = tuned_of(product())
    (key,) = [path.name for path in tune.tune_cache.directory().iterdir() if path.name[0] != "."]
    tune.tune_cache.put(key, BROKEN[what])
    tune.forget()
    with caplog.at_level(logging.WARNING, "graphc.tune"):
        again = tuned_of(product())
    assert not again.remembered and again.tried > 1 and first.tried > 1
    assert "measured again" in caplog.text and len(measured) == 2
    tune.forget()
    assert tuned_of(product()).remembered


def test_a_candidate_that_fails_is_left_out(monkeypatch, caplog):
    made = tune._Trial.__init__

    def init(self, name, *rest):
        if name:
            raise RuntimeError("no such registers")
        made(self, name, *rest)

    monkeypatch.setattr(tune._Trial, "__init__", init)
    with caplog.at_level(logging.WARNING, "graphc.tune"):
        found = tuned_of(product())
    assert (found.schedule, found.tried) == ("", 1)
    assert "no such registers" in caplog.text


def test_a_candidate_of_other_bits_is_left_out(monkeypatch, caplog):
    results = tune._Trial.results

    def other(trial):
        found = results(trial)
        found[0][0] += trial.name != ""
        return found

    monkeypatch.setattr(tune._Trial, "results", other)
    with caplog.at_level(logging.WARNING, "graphc.tune"):
        assert tuned_of(product()).tried == 1
    assert "other bits" in caplog.text


def test_where_tuning_itself_fails_the_program_runs(monkeypatch, caplog):
    def fails(*_):
        raise MemoryError("no memory for operands")

    monkeypatch.setattr(tune._Memory, "address", fails)
    with caplog.at_level(logging.WARNING, "graphc.tune"):
        (found,) = compile_graph(product())(*operands())
    a, b = operands()
    assert np.allclose(found, a @ b, atol=1e-3)
    assert "no memory for operands" in caplog.text


def test_symbolic_sizes_are_those_of_the_first_run(monkeypatch):
    seen = []
    address = tune._Memory.address

    def watched(memory, buffer, written):
        found = address(memory, buffer, written)
        seen.append(memory.size(buffer_bytes(buffer)))
        return found

    monkeypatch.setattr(tune._Memory, "address", watched)
    weight = torch.randn(64, 48)
    for rows in (31, 47, 53):
        (torch.randn(rows, 64) @ weight).sum().item()
    assert 31 * 64 * 4 in seen and 47 * 64 * 4 in seen  # static, then with a symbol
    assert 256 * 64 * 4 not in seen  # what a symbol counts as where nothing is known


def test_threads_tune_at_the_same_time():
    sizes, found = [(16 * k, 96, 80) for k in range(2, 6)], {}

    def run(m, n, k):
        a, b = parse_type(f"f32[{m}, {k}]"), parse_type(f"f32[{k}, {n}]")
        graph = trace(lambda a, b: ops.dot(a, b, contract=((1,), (0,))), a, b)
        found[m] = compile_graph(graph)(np.ones((m, k), np.float32), np.ones((k, n), np.float32))

    threads = [threading.Thread(target=run, args=size) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((found[m][0] == k).all() for m, n, k in sizes)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        self.body = nn.Conv2d(24, 32, 3, padding=1)
        self.up = nn.ConvTranspose2d(32, 24, 2, stride=2)
        self.mix = nn.Conv2d(24, 40, 1)
        self.head = nn.Linear(40, 33)

    def forward(self, x):
        y = self.mix(self.up(self.body(self.stem(x).relu()).relu()))
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("threads, number", [(1, 1), (2, 1), (2, 2), (2, 3)])
def test_a_network_and_its_training_keep_their_bits(threads, number, monkeypatch):
    """Whichever candidate wins: eager, compiled and traced, forward and gradients."""
    before = get_num_threads()
    set_num_threads(threads)
    try:
        with config.patch(autotune=False):
            wanted = results()
        fastest(monkeypatch, number)
        assert results() == wanted
    finally:
        set_num_threads(before)


def results():
    torch.manual_seed(0)
    model, x = Net(), torch.randn(2, 3, 22, 22)
    found = []

    def step(x):
        model.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        return loss, [param.grad for param in model.parameters()]

    for way in (step, torch.compile(lambda x: step(x))):
        loss, grads = way(x)
        found += [value.detach().numpy().tobytes() for value in (loss, *grads)]
    with torch.no_grad():
        model.eval()
        traced = torch.jit.trace(model, (x,))
        found.append(traced(x).numpy().tobytes())
    return found


def test_tuned_kernels_are_verified(monkeypatch):
    fastest(monkeypatch, 1)
    build(product(), verify="numeric")


def test_packed_weights_go_with_the_schedule(monkeypatch):
    """Where the winner has another width the kernel that packs the weights is another too."""
    graph = parse(
        "graph @main(%x: f32[4, 3, 20, 20], %w: f32[48, 3, 3, 3]) -> (f32[4, 48, 18, 18]) {\n"
        "  %y = conv(%x, %w) [stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1]"
        " : f32[4, 48, 18, 18]\n  return %y\n}"
    )
    random = np.random.default_rng(1)
    x = random.standard_normal((4, 3, 20, 20)).astype(np.float32)
    w = random.standard_normal((48, 3, 3, 3)).astype(np.float32)
    with config.patch(autotune=False):
        (wanted,) = compile_graph(graph)(x, w)
    packing = set()
    for number in range(4):
        tune.forget()
        config.cache_dir = config.cache_dir.parent / f"cache{number}"
        fastest(monkeypatch, number)
        made = compile_graph(graph)
        packing.add(made.kernels[0].name)
        (found,) = made(x, w)
        assert found.tobytes() == wanted.tobytes()
    assert len(packing) > 1


def test_the_environment_switches_it_on(monkeypatch):
    from graphc.backends.llvm.settings import Settings

    assert Settings().autotune is False
    monkeypatch.setenv("GRAPHC_AUTOTUNE", "1")
    assert Settings().autotune is True


PROGRAM = """
import numpy as np
from graphc import config
from graphc.backends.llvm import tune
from graphc.backends.llvm.compile import compile_graph
from tests.backends.test_tune import operands, product

tune.LEAST_WORK = 0.0
(found,) = compile_graph(product())(*operands())
a, b = operands()
assert config.autotune and np.allclose(found, a @ b, atol=1e-3)
"""


def test_processes_tune_at_the_same_time(measured):
    environment = {
        **os.environ,
        "GRAPHC_AUTOTUNE": "1",
        "GRAPHC_CACHE_DIR": str(config.cache_dir),
        "GRAPHC_NUM_THREADS": str(get_num_threads()),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", PROGRAM]
    started = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    assert tuned_of(product()).remembered
    assert measured == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_wait_for_a_thread_that_measures():
    with tune._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if tune._lock.acquire(blocking=False) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
