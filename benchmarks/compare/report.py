"""A run as text: a row for each workload, geometric means, what is under its floor, failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .contenders import OURS
from .harness import QUIET
from .results import Entry, Measured, Run, geometric_mean
from .workload import GOALS

NAME = 32
CELL = 10
SHORT = {
    "graphc.compile": "compiled",
    "graphc.inexact": "inexact",
    "graphc.jit": "traced",
    "torch.compile": "inductor",
    "onnxruntime": "ort",
}


def time_text(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 999.5:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def cell(entry: Entry | None) -> str:
    if entry is None or entry.state == "absent":
        return "-"
    return time_text(entry.best) if entry.is_timed else entry.state


def ratio_text(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def contenders_of(measured: Sequence[Measured]) -> list[str]:
    """Those of all workloads, in the order in which they ran."""
    return list(dict.fromkeys([name for one in measured for name in one.entries]))


def head(contenders: Sequence[str]) -> str:
    """The line above the rows: best times, then best peer / graphc by best times and by medians,
    the floor of the former, the part of the machine's limit that graphc reaches, and the CPUs that
    other processes kept busy just before."""
    cells = "".join([f"{SHORT.get(name, name):>{CELL}}" for name in contenders])
    return f"{'workload':{NAME}}{cells}{'ratio':>8}{'median':>8}{'floor':>7}{'limit':>7}{'load':>6}"


def row(one: Measured, contenders: Sequence[str]) -> str:
    cells = "".join([f"{cell(one.entries.get(name)):>{CELL}}" for name in contenders])
    reached = "-" if one.of_limit is None else f"{one.of_limit:.2f}"
    return (
        f"{one.name:{NAME}}{cells}{ratio_text(one.ratio()):>8}{ratio_text(one.ratio(True)):>8}"
        f"{one.floor:>7.2f}{reached:>7}{one.load:>6.2f}{' <' if one.is_under else ''}"
    )


def notes(one: Measured) -> list[str]:
    """A line for each contender that failed or was wrong, and why a workload did not run at all."""
    lines = [
        f"    {name} {entry.state}: {entry.note}"
        for name, entry in one.entries.items()
        if entry.state in ("failed", "wrong")
    ]
    if all(entry.state == "absent" for entry in one.entries.values()):
        lines += [f"    not run: {entry.note}" for entry in list(one.entries.values())[:1]]
    return lines


def against(measured: Sequence[Measured], peer: str) -> float | None:
    """The geometric mean of one peer's time over graphc's best, where both were timed."""
    ratios = []
    for one in measured:
        entry, mine = one.entries.get(peer), one.fastest(True)
        if entry is not None and entry.is_timed and mine is not None:
            ratios.append(entry.best / mine[1])
    return geometric_mean(ratios)


def means(run: Run, threads: int) -> Iterator[str]:
    """The geometric means of each group: against the best peer, and against each."""
    every = run.with_threads(threads)
    peers = [name for name in contenders_of(every) if name not in OURS]
    cells = "".join([f"{name:>{CELL + 4}}" for name in peers])
    yield f"{'geometric mean':16}{'workloads':>10}{'goal':>6}{'best peer':>11}{cells}"
    for group, measured in run.groups(threads).items():
        ratios = [one.ratio() for one in measured]
        cells = "".join([f"{ratio_text(against(measured, p)):>{CELL + 4}}" for p in peers])
        mean, goal = ratio_text(geometric_mean(ratios)), ratio_text(GOALS.get(group))
        yield f"{group:16}{len(measured):>10}{goal:>6}{mean:>11}{cells}"


def under_floor(measured: Sequence[Measured]) -> Iterator[str]:
    """Workloads under their floors, the worst first."""
    found = sorted((one for one in measured if one.is_under), key=lambda one: one.ratio() or 0.0)
    if not found:
        yield "No workload is under its floor."
        return
    yield f"Under their floors: {len(found)} of {len(measured)} workloads"
    for one in found:
        peer, mine = one.fastest(False), one.fastest(True)
        assert peer is not None
        ours = f"{mine[0]} {time_text(mine[1])}" if mine else "failed"
        ratio = ratio_text(one.ratio())
        yield f"  {ratio} of {one.floor:.2f}  {one.name}: {peer[0]} {time_text(peer[1])}, {ours}"


def system_lines(run: Run) -> Iterator[str]:
    for line in run.system:
        parts = []
        for name, value in line["entries"].items():
            if isinstance(value, str):
                parts.append(f"{name} failed: {value}")
            elif line["unit"] == "s":
                parts.append(f"{name} {time_text(value)}")
            else:
                parts.append(f"{name} {value:.0f} {line['unit']}")
        yield f"{line['name']:{NAME}}{'   '.join(parts)}"


def limits_line(run: Run, threads: int) -> str:
    limits = run.limits[str(threads)]
    clock = "CPU time of a pinned process" if threads == 1 else "wall time"
    return (
        f"{threads} thread{'s' * (threads > 1)}, {clock}; the machine: "
        f"{limits['flops_per_s'] / 1e9:.0f} GFLOP/s, {limits['bytes_per_s'] / 1e9:.1f} GB/s"
    )


def summary(run: Run) -> Iterator[str]:
    """What stands below the rows."""
    for threads in run.threads:
        measured = run.with_threads(threads)
        yield ""
        yield limits_line(run, threads)
        loads = [one.load for one in measured]
        yield f"load of other processes: {min(loads):.2f} to {max(loads):.2f} CPUs"
        disturbed = sum(load > QUIET for load in loads)
        if threads > 1 and disturbed:
            yield (
                f"{disturbed} of {len(loads)} workloads were timed while others were busy: "
                "these wall times say little"
            )
        yield from means(run, threads)
        yield from under_floor(measured)
    if run.system:
        yield ""
        yield "System, best of fresh processes (CPU seconds)"
        yield from system_lines(run)


def whole(run: Run) -> Iterator[str]:
    """The whole report of a saved run."""
    for threads in run.threads:
        measured = run.with_threads(threads)
        contenders = contenders_of(measured)
        yield limits_line(run, threads)
        yield head(contenders)
        for one in measured:
            yield row(one, contenders)
            yield from notes(one)
    yield from summary(run)
