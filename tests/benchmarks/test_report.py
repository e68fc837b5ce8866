"""Ratios, floors and means; the table, the file, two files side by side."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.compare import diff, plot, report
from benchmarks.compare.results import Entry, Measured, Run, geometric_mean, load


def timed(best):
    return Entry("timed", best=best, median=best * 1.5)


def measured(name, floor=0.8, **entries):
    named = {key.replace("_", "."): value for key, value in entries.items()}
    return Measured(f"micro/{name}", 1, floor, named, least_s=1e-6)


FAST = measured("fast", graphc=timed(2e-6), graphc_compile=timed(4e-6), torch=timed(6e-6))
SLOW = measured("slow", graphc=timed(4e-3), torch=timed(2e-3), jax_jit=timed(3e-3))
BROKEN = measured("broken", graphc=Entry("failed", "ValueError: no"), torch=timed(1.0))
ALONE = measured("alone", graphc=timed(1e-3), torch=Entry("wrong", "it differs"))


def run(*found):
    limits = {"1": {"flops_per_s": 1e11, "bytes_per_s": 1e10}}
    return Run("2026-01-01 00:00", {"cpu": "one"}, {"graphc": "0"}, limits, list(found))


def test_ratios_are_of_the_best_of_each_side():
    assert FAST.ratio() == pytest.approx(3.0) and FAST.of_limit == pytest.approx(0.5)
    assert SLOW.ratio() == pytest.approx(0.5) and SLOW.is_under
    assert BROKEN.ratio() == 0.0 and BROKEN.is_under
    assert ALONE.ratio() is None and not ALONE.is_under  # the peer was wrong: nothing to compare


def test_geometric_means_leave_out_what_has_no_ratio():
    assert geometric_mean([4.0, 1.0, None, 0.0]) == pytest.approx(2.0)
    assert geometric_mean([None]) is None


def test_the_report_lists_what_is_under_its_floor_the_worst_first():
    lines = list(report.whole(run(FAST, SLOW, BROKEN, ALONE)))
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("micro/")}
    assert rows["micro/fast"][1:9] == ["2", "us", "4", "us", "6", "us", "-", "3.00"]
    assert rows["micro/slow"][-1] == "<" and rows["micro/fast"][-1] != "<"
    assert "    graphc failed: ValueError: no" in lines and "    torch wrong: it differs" in lines
    start = lines.index("Under their floors: 2 of 4 workloads")
    assert lines[start + 1].startswith("  0.00 of 0.80  micro/broken: torch 1 s, failed")
    assert lines[start + 2].startswith("  0.50 of 0.80  micro/slow: torch 2 ms, graphc 4 ms")
    (mean,) = [line.split() for line in lines if line.startswith("micro ")]
    assert mean[1:5] == ["4", "1.30", "1.22", "1.22"]  # sqrt(3 * 0.5)


def test_a_workload_that_nobody_runs_says_why():
    one = measured("x", graphc=Entry("absent", "it was not fetched"))
    assert report.notes(one) == ["    not run: it was not fetched"]
    assert report.notes(SLOW) == []


def test_wall_times_under_load_are_told():
    limits = {"2": {"flops_per_s": 1e11, "bytes_per_s": 1e10}}
    rows = [Measured(f"micro/{load}", 2, 0.8, {"graphc": timed(1.0)}, load=load) for load in (0, 1)]
    told = list(report.summary(Run("", {}, {}, limits, rows)))
    assert "1 of 2 workloads were timed while others were busy: these wall times say little" in told


def test_a_saved_run_is_read_back_as_it_was(tmp_path):
    path, before = tmp_path / "run.json", run(FAST, BROKEN)
    before.save(path)
    after = load(path)
    assert after == before and math.isinf(after.measured[1].entries["graphc"].best)
    assert "Infinity" not in path.read_text(encoding="utf-8")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.json"
    for content in ("{}", "[1]", "no"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"other\.json"):
            load(path)


def test_two_runs_side_by_side():
    slower = measured("fast", graphc=timed(3e-6), torch=timed(6e-6))
    old, new = run(FAST, SLOW), run(slower, SLOW, ALONE)
    lines = list(diff.lines(old, new))
    assert lines[0].endswith("2 workloads in both")
    assert "geometric mean: 0.82 of" in lines[1]
    assert "x  0.67" in lines[2] and "3.00 -> 2.00" in lines[2] and lines[2].endswith("slower")
    assert lines[3] == "only in the new run: micro/alone"
    assert [change.is_regression for change in diff.changes(old, new)] == [True, False]


def test_what_stopped_working_is_a_regression():
    (change,) = diff.changes(run(measured("x", graphc=timed(1.0))), run(
        measured("x", graphc=Entry("failed", "no"))
    ))  # fmt: skip
    assert change.is_regression and change.speed is None


def test_the_plot_has_a_bar_for_each_ratio():
    drawn = plot.svg(run(FAST, SLOW, BROKEN, ALONE))
    root = ElementTree.fromstring(drawn)
    bars = [part for part in root.iter() if part.get("fill") in (plot.FASTER, plot.UNDER)]
    assert len(bars) == 3
    texts = [part.text for part in root.iter() if part.tag.endswith("text")]
    assert {"3.00 torch", "0.50 torch", "failed", "no peer"} <= set(texts)
