"""Many IR programs: statistics of what ran, and the failures."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .compare import LEVELS, WAYS, check
from .minimise import fails_in, minimised, report
from .program import Program, program
from .steps import STEPS


@dataclass
class Totals:
    """What a run has seen."""

    programs: int = 0
    ops: Counter = field(default_factory=Counter)  # op -> nodes, blocks included
    reached: Counter = field(default_factory=Counter)  # way -> programs
    refused: Counter = field(default_factory=Counter)  # (way, reason) -> programs
    determined: float = 0.0
    failures: list[tuple[Program, str, str]] = field(default_factory=list)

    def add(self, made: Program) -> None:
        found = check(made)
        self.programs += 1
        self.ops += made.count()
        self.reached.update(found.reached)
        self.refused.update(found.refused.items())
        self.determined += found.determined
        self.failures += [(made, way, wrong) for way, wrong in found.failures.items()]

    def share(self, way: str) -> float:
        return self.reached[way] / max(1, self.programs)

    def summary(self) -> str:
        count = max(1, self.programs)
        rare = sorted((self.ops[name], name) for name in STEPS)
        lines = [
            f"{self.programs} programs, {sum(self.ops.values())} nodes of {len(self.ops)} ops",
            "ways: " + ", ".join(f"{way} {self.share(way):.1%}" for way in WAYS),
            f"elements with a finite bound: {self.determined / count:.1%}",
            "rarest ops: " + ", ".join(f"{name} {n}" for n, name in rare[:12]),
            f"ops below 50: {sum(n < 50 for n, _ in rare)} of {len(rare)}",
        ]
        lines += [f"  {n} x {way}: {why}" for (way, why), n in self.refused.most_common(12)]
        lines.append(f"failures: {len(self.failures)}")
        return "\n".join(lines)


def ran(seeds: Iterable[int]) -> Totals:
    totals = Totals()
    for seed in seeds:
        totals.add(program(seed))
    return totals


def shown(failure: tuple[Program, str, str]) -> str:
    """A failure, minimised."""
    made, way, wrong = failure
    small = minimised(made, fails_in(way))
    return report(small, way, check(small, (way,)).failures.get(way, wrong))


def main(seeds: Iterable[int], count: int) -> int:
    totals = ran(seeds)
    print(f"levels of instructions: {', '.join(LEVELS)}")
    print(totals.summary())
    print("failing seeds:", *sorted({made.seed for made, _, _ in totals.failures}), flush=True)
    for failure in totals.failures[:count]:
        print("\n" + shown(failure))
    return min(1, len(totals.failures))
