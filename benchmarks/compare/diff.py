"""Two saved runs side by side: where graphc became faster or slower, alone and against peers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .report import NAME, ratio_text, time_text
from .results import Measured, Run, geometric_mean

#: A change of less than this is not told: two runs of one program differ by some percent.
TOLD = 0.05
#: A time that grew by more than this is a regression.
REGRESSION = 0.10


@dataclass(frozen=True)
class Change:
    """A workload in both runs. `speed` is the old time of graphc's best over the new one."""

    old: Measured
    new: Measured

    @property
    def speed(self) -> float | None:
        before, after = self.old.fastest(True), self.new.fastest(True)
        if before is None or after is None:
            return None
        return before[1] / after[1]

    @property
    def is_regression(self) -> bool:
        """Slower by more than noise, or it worked and does not any more."""
        before, after = self.old.fastest(True), self.new.fastest(True)
        if before is None:
            return False
        return after is None or after[1] > before[1] * (1 + REGRESSION)


def changes(old: Run, new: Run) -> list[Change]:
    """The workloads that both runs have."""
    before = {(one.name, one.threads): one for one in old.measured}
    keys = ((one, before.get((one.name, one.threads))) for one in new.measured)
    return [Change(previous, one) for one, previous in keys if previous is not None]


def lines(old: Run, new: Run) -> Iterator[str]:
    """The report: geometric mean, changes from the worst to the best, what only one run has."""
    found = changes(old, new)
    yield f"{old.date} -> {new.date}: {len(found)} workloads in both"
    mean = geometric_mean([change.speed for change in found])
    yield f"graphc's speed, geometric mean: {ratio_text(mean)} of what it was"
    for change in sorted(found, key=lambda change: change.speed or 0.0):
        speed = change.speed
        if speed is not None and abs(speed - 1) < TOLD:
            continue
        times = [one.fastest(True) for one in (change.old, change.new)]
        texts = [time_text(time[1]) if time else "failed" for time in times]
        ratios = [ratio_text(one.ratio()) for one in (change.old, change.new)]
        mark = "  slower" if change.is_regression else ""
        yield (
            f"{change.new.name:{NAME}}{change.new.threads:>2} threads  "
            f"{texts[0]:>9} -> {texts[1]:>9}  x {ratio_text(speed):>5}   "
            f"against the best peer {ratios[0]} -> {ratios[1]}{mark}"
        )
    names = [{(one.name, one.threads) for one in run.measured} for run in (old, new)]
    for label, only in (("old", names[0] - names[1]), ("new", names[1] - names[0])):
        if only:
            listed = ", ".join(sorted({name for name, _ in only}))
            yield f"only in the {label} run: {listed}"
