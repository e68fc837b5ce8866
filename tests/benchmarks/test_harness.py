"""Contenders in their own processes: timed, compared, and reported where they fail."""

import os
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.compare.__main__ import contenders_of, main
from benchmarks.compare.contenders import CONTENDERS
from benchmarks.compare.harness import Budget, Harness, difference
from benchmarks.compare.results import load
from benchmarks.compare.workload import Workload, chosen, normal, workloads_in

TINY = "tests.benchmarks.tiny"
BUDGET = Budget(rounds=2, turn_s=0.005, prepare_s=20.0, rounds_s=2.0)
LIMITS = {"flops_per_s": 1e11, "bytes_per_s": 1e10}


@pytest.fixture(scope="module")
def harness():
    cpus = sorted(os.sched_getaffinity(0))[:1]
    with Harness(["graphc"], 1, cpus, BUDGET, LIMITS) as found:
        yield found


def entry(harness, name):
    return harness.run(TINY, workloads_in(TINY)[f"micro/{name}"]).entries["graphc"]


def test_a_workload_is_timed_and_its_operations_counted(harness):
    found = harness.run(TINY, workloads_in(TINY)["micro/right"])
    graphc = found.entries["graphc"]
    assert graphc.state == "timed", graphc.note
    assert 0 < graphc.best <= graphc.median < 1
    assert found.flops == 2 * 8 * 16 and found.bytes == 2 * 8 * 16 * 4
    assert found.least_s == found.flops / 1e11


def test_a_wrong_result_is_reported_as_wrong_and_not_timed(harness):
    found = entry(harness, "wrong")
    assert found.state == "wrong" and "differs by" in found.note
    assert "graphc.reference is the judge" in found.note and found.best == float("inf")


def test_a_trace_that_keeps_a_result_of_its_example_is_wrong(harness, monkeypatch):
    monkeypatch.setattr(harness, "contenders", ["graphc", "graphc.jit"])
    found = harness.run(TINY, workloads_in(TINY)["micro/keeping"]).entries
    assert (found["graphc"].state, found["graphc.jit"].state) == ("timed", "wrong")


def test_an_error_is_reported_by_its_first_line(harness):
    found = entry(harness, "failing")
    assert (found.state, found.note) == ("failed", "ValueError: this op is not there")


def test_a_crash_is_reported_and_the_next_workload_runs(harness):
    found = entry(harness, "crashing")
    assert (found.state, found.note[:17]) == ("failed", "killed by SIGKILL")
    assert entry(harness, "right").is_timed


def test_what_hangs_is_ended(harness, monkeypatch):
    monkeypatch.setattr(harness, "budget", Budget(prepare_s=0.5))
    found = entry(harness, "hanging")
    assert (found.state, found.note) == ("failed", "no answer within 0 s")
    assert not harness.workers["graphc"].is_alive


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([1.0, 2.0], ""),
        ([1.0, 2.001], ""),
        ([1.0, 2.01], "differs by 5.0e-03"),
        ([1.0, np.nan], "not finite"),
        ([1.0], "shape"),
    ],
)
def test_differences(found, says):
    workload = Workload("micro/x", normal((2,)))
    told = difference([np.array(found)], [np.array([1.0, 2.0])], workload)
    assert told == "" if not says else says in told


def test_numbers_that_are_drawn_are_compared_by_their_statistics():
    random = np.random.default_rng(0)
    a, b = random.standard_normal(100_000), random.standard_normal(100_000)
    workload = Workload("micro/x", normal((2,)), tolerance=0.02, statistics=True)
    assert difference([a], [b], workload) == ""
    assert "differs" in difference([a * 2], [b], workload)


def test_workloads_are_chosen_by_group_name_and_pattern():
    names = [w.name for _, w in chosen(["right", "micro/*ing"], [TINY])]
    every = [w.name for _, w in chosen(["micro"], [TINY])]
    assert names == ["micro/right", *[name for name in every if name.endswith("ing")]]
    assert len(names) == 5 and len(every) == 6
    with pytest.raises(ValueError, match="'nothing'"):
        chosen(["nothing"], [TINY])


def test_the_command_prints_saves_and_draws(tmp_path, capsys):
    saved, drawn = tmp_path / "run.json", tmp_path / "run.svg"
    command = ["--module", TINY, "--quick", "--contenders", "graphc", "right", "failing"]
    assert main([*command, "--json", str(saved), "--plot", str(drawn)]) == 1
    shown = capsys.readouterr().out
    assert "graphc failed: ValueError: this op is not there" in shown
    assert [one.name for one in load(saved).measured] == ["micro/right", "micro/failing"]
    assert drawn.read_text(encoding="utf-8").startswith("<svg ")
    assert main(["--diff", str(saved), str(saved)]) == 0


def test_a_peer_that_is_missing_says_what_of_it(monkeypatch, capsys):
    assert CONTENDERS["graphc"].missing == ""
    absent = replace(CONTENDERS["tinygrad"], package="not_there")
    assert absent.missing.startswith("not_there is not installed; the extra brings it")
    no_clang = replace(CONTENDERS["tinygrad"], package="graphc", program="no-clang")
    assert no_clang.missing == "it needs the program no-clang: apt-get install no-clang"
    monkeypatch.setitem(CONTENDERS, "tinygrad", no_clang)
    assert "tinygrad" not in contenders_of(None)
    assert main(["--module", TINY, "--list"]) == 0
    assert "tinygrad: it needs the program no-clang" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--module", TINY, "--contenders", "tinygrad"])
    assert "error: tinygrad: it needs the program no-clang" in capsys.readouterr().err


@pytest.fixture
def with_tinygrad(harness, monkeypatch):
    missing = CONTENDERS["tinygrad"].missing
    if missing:
        pytest.skip(f"tinygrad: {missing}")
    monkeypatch.setattr(harness, "contenders", ["graphc", "tinygrad"])
    monkeypatch.setattr(harness, "budget", replace(BUDGET, prepare_s=60.0))
    return harness


def test_tinygrad_computes_the_exported_file(with_tinygrad):
    found = with_tinygrad.run(TINY, workloads_in(TINY)["micro/right"]).entries["tinygrad"]
    assert found.state == "timed", found.note
    assert 0 < found.best <= found.median < 1


def test_what_tinygrad_does_not_take_is_reported(with_tinygrad):
    found = with_tinygrad.run(TINY, workloads_in(TINY)["micro/failing"]).entries["tinygrad"]
    assert (found.state, found.note) == ("failed", "ValueError: this op is not there")


@pytest.mark.parametrize("wrong", [["nothing"], ["--contenders", "numpy"], ["--threads", "0"]])
def test_misuse_is_told(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--module", TINY, *wrong])
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err
