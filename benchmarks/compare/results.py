"""What was measured: times of each contender, ratios, floors, geometric means; as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .contenders import OURS

FORMAT = 1


@dataclass
class Entry:
    """One contender at one workload. `state` is "timed", "failed", "wrong" or "absent"."""

    state: str
    note: str = ""
    best: float = math.inf  # seconds of a call
    median: float = math.inf
    prepared_s: float = 0.0  # building, compiling and the first call

    @property
    def is_timed(self) -> bool:
        return self.state == "timed"


@dataclass
class Measured:
    """A workload with the entries of all contenders.

    least_s  what the machine's limits allow; 0 where it is not known
    load     CPUs that other processes kept busy just before
    """

    name: str
    threads: int
    floor: float
    entries: dict[str, Entry]
    flops: float = 0.0
    bytes: float = 0.0
    least_s: float = 0.0
    load: float = 0.0

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]

    def fastest(self, ours: bool, median: bool = False) -> tuple[str, float] | None:
        """(contender, seconds) of graphc's best or of the best peer; None where none was timed."""
        which = "median" if median else "best"
        times = [
            (getattr(entry, which), name)
            for name, entry in self.entries.items()
            if entry.is_timed and (name in OURS) is ours
        ]
        if not times:
            return None
        seconds, name = min(times)
        return name, seconds

    def ratio(self, median: bool = False) -> float | None:
        """The best peer's time over graphc's best; 0 where graphc failed; None without a peer."""
        peer, mine = self.fastest(False, median), self.fastest(True, median)
        if peer is None:
            return None
        return 0.0 if mine is None else peer[1] / mine[1]

    @property
    def of_limit(self) -> float | None:
        """The part of the machine's limit that graphc's best reaches."""
        mine = self.fastest(True)
        return self.least_s / mine[1] if mine and self.least_s else None

    @property
    def is_under(self) -> bool:
        ratio = self.ratio()
        return ratio is not None and ratio < self.floor


@dataclass
class Run:
    """All of a run. `limits` by number of threads; `system` has the rows of `system.py`."""

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    limits: dict[str, dict[str, float]] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    system: list[dict[str, Any]] = field(default_factory=list)

    def groups(self, threads: int) -> dict[str, list[Measured]]:
        found: dict[str, list[Measured]] = {}
        for one in self.with_threads(threads):
            found.setdefault(one.group, []).append(one)
        return found

    def with_threads(self, threads: int) -> list[Measured]:
        return [one for one in self.measured if one.threads == threads]

    @property
    def threads(self) -> list[int]:
        return sorted({one.threads for one in self.measured})

    @property
    def has_failed(self) -> bool:
        """Whether graphc failed or was wrong anywhere."""
        states = [
            m.entries[name].state for m in self.measured for name in OURS if name in m.entries
        ]
        return "failed" in states or "wrong" in states

    def save(self, path: Path) -> None:
        content = {"format": FORMAT, **asdict(self)}
        path.write_text(json.dumps(finite(content), indent=1) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """JSON has no infinity: null."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def load(path: Path) -> Run:
    """A saved run. ValueError for what is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise ValueError(f"{path} has no results of this benchmark (format {FORMAT})")
    measured = []
    for one in content.pop("measured"):
        entries = {}
        for name, entry in one.pop("entries").items():
            times = {k: math.inf if entry[k] is None else entry[k] for k in ("best", "median")}
            entries[name] = Entry(**{**entry, **times})
        measured.append(Measured(entries=entries, **one))
    return Run(measured=measured, **content)


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Of those that are there and above 0; None for none."""
    logs = [math.log(ratio) for ratio in ratios if ratio]
    return math.exp(sum(logs) / len(logs)) if logs else None


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
