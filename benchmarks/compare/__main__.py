"""The command line: chooses workloads and contenders, runs them, prints and saves."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import diff, plot, report, results, system
from .contenders import CONTENDERS, OURS, REFERENCE
from .harness import Budget, Failed, Harness
from .results import Run
from .workload import GROUPS, Workload, chosen, module_of
from .workloads import trained

EXAMPLE = """\
examples:
  python -m benchmarks.compare --quick                       everything, in turns that are short
  python -m benchmarks.compare micro 'inference/resnet*'     a group, and what a pattern fits
  python -m benchmarks.compare training --threads 1,2 --json new.json --plot new.svg
  python -m benchmarks.compare --diff old.json new.json      two runs side by side
  python -m benchmarks.compare --fetch                       the wheels that `trained` reads

Workloads are named by group (inference, trained, training, micro, scripts, system), by name or by
pattern. exit codes: 0 done, 1 graphc failed or was wrong somewhere (--diff: something became
slower), 2 misuse.
"""
QUICK = Budget(rounds=3, turn_s=0.02, prepare_s=60.0, rounds_s=6.0)
PEERS = ("torch", "jax", "jaxlib", "onnxruntime", "openvino", "tinygrad")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="graphc beside the peers that are installed: times, ratios, floors.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("patterns", nargs="*", metavar="WORKLOAD", help="which ones (default: all)")
    add("--threads", default="1", help="numbers of threads, as 1,2 (default: 1)")
    add("--contenders", help="some of " + ", ".join(n for n in CONTENDERS if n != REFERENCE))
    add("--rounds", type=int, help="turns of each contender (default: 7, --quick: 3)")
    add("--quick", action="store_true", help="short turns and limits")
    add("--cpu", type=int, help="the CPU for one thread (default: the last)")
    add("--json", type=Path, metavar="FILE", help="saves the results after each workload")
    add("--plot", type=Path, metavar="FILE", help="draws the ratios as SVG")
    add("--list", action="store_true", help="prints the workloads and what is installed")
    add("--show", type=Path, metavar="FILE", help="prints the report of a saved run")
    add("--diff", nargs=2, type=Path, metavar=("OLD", "NEW"), help="compares two saved runs")
    add("--fetch", action="store_true", help="downloads the wheels with trained models")
    add("--module", help=argparse.SUPPRESS)  # workloads of this module only: for the tests
    return parser


def main(given: Sequence[str] | None = None) -> int:
    parser = arguments()
    options = parser.parse_args(given)
    if options.fetch:
        trained.fetch()
        return 0
    try:
        if options.diff:
            return show_diff(*options.diff)
        if options.show:
            print(*report.whole(results.load(options.show)), sep="\n")
            return 0
        measures, workloads = choose(options.patterns, options.module)
        contenders = contenders_of(options.contenders)
        threads = [int(part) for part in options.threads.split(",")]
        if min(threads) < 1 or (options.rounds is not None and options.rounds < 1):
            raise ValueError("--threads and --rounds are at least 1")
        if max(threads) > len(usable_cpus()):
            raise ValueError(f"this process may use {len(usable_cpus())} CPUs")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if options.list:
        show_list(workloads, measures)
        return 0
    budget = QUICK if options.quick else Budget()
    if options.rounds:
        budget = Budget(options.rounds, budget.turn_s, budget.prepare_s, budget.rounds_s)
    run = Run(now(), machine(), versions())
    for number in threads:
        if workloads:
            measure(run, number, workloads, contenders, budget, options)
    for measure_name in measures:
        rounds = options.rounds or (1 if options.quick else 3)
        run.system += system.measured([measure_name], rounds, [one_cpu(options.cpu)], tell)
        save(run, options.json, None)
    tell("")
    print(*report.summary(run), sep="\n")
    save(run, options.json, options.plot)
    return 1 if run.has_failed else 0


def choose(
    patterns: Sequence[str], module: str | None
) -> tuple[list[str], list[tuple[str, Workload]]]:
    """Measures of the system, and (module, workload) of the rest."""
    modules = [module] if module else [module_of(group) for group in GROUPS]
    every = [] if module else list(system.MEASURES)
    if not patterns:
        return every, chosen([], modules)
    measures = [
        name
        for name in every
        if any(pattern in ("system", name, f"system/{name}") for pattern in patterns)
    ]
    rest = [p for p in patterns if p != "system" and p.removeprefix("system/") not in every]
    return measures, chosen(rest, modules) if rest else []


def contenders_of(given: str | None) -> list[str]:
    """Those that were asked for, or all that are installed. ValueError for others."""
    known = [name for name in CONTENDERS if name != REFERENCE]
    if given is None:
        return [name for name in known if CONTENDERS[name].is_installed]
    names = given.split(",")
    for name in names:
        if name not in known:
            raise ValueError(f"no contender {name!r}; there are {', '.join(known)}")
        if CONTENDERS[name].missing:
            raise ValueError(f"{name}: {CONTENDERS[name].missing}")
    return names


def measure(
    run: Run,
    threads: int,
    workloads: Sequence[tuple[str, Workload]],
    contenders: Sequence[str],
    budget: Budget,
    options: argparse.Namespace,
) -> None:
    """Runs the workloads with so many threads; prints a row for each as it is done."""
    cpus = [one_cpu(options.cpu)] if threads == 1 else usable_cpus()[:threads]
    with Harness(contenders, threads, cpus, budget, told=tell) as harness:
        run.limits[str(threads)] = harness.limits
        print(report.limits_line(run, threads), report.head(contenders), sep="\n", flush=True)
        group = workloads[0][1].group
        for module, workload in workloads:
            if workload.group != group:
                harness.stop()  # what one group left in memory is not the next one's burden
                group = workload.group
            try:
                found = harness.run(module, workload)
            except Failed as why:
                raise SystemExit(f"{workload.name}: {why}") from None
            run.measured.append(found)
            tell("")
            print(report.row(found, contenders), *report.notes(found), sep="\n", flush=True)
            save(run, options.json, None)


def save(run: Run, path: Path | None, picture: Path | None) -> None:
    if path:
        run.save(path)
    if picture and run.measured:
        picture.write_text(plot.svg(run), encoding="utf-8")


def show_list(workloads: Sequence[tuple[str, Workload]], measures: Sequence[str]) -> None:
    for _, workload in workloads:
        print(f"{workload.name:36} floor {workload.least:.2f}")
    for name in measures:
        print(f"system/{name}")
    for name, contender in CONTENDERS.items():
        if name not in (*OURS, REFERENCE):
            print(f"{name}: {contender.missing or 'installed'}")


def show_diff(old: Path, new: Path) -> int:
    before, after = results.load(old), results.load(new)
    print(*diff.lines(before, after), sep="\n")
    return 1 if any(change.is_regression for change in diff.changes(before, after)) else 0


def tell(line: str) -> None:
    """Progress on a terminal, in one line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[:100]}", end="", file=sys.stderr, flush=True)


def usable_cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def one_cpu(given: int | None) -> int:
    return usable_cpus()[-1] if given is None else given


def now() -> str:
    return datetime.datetime.now().isoformat(" ", "minutes")


def machine() -> dict[str, object]:
    """The CPU's name, how many there are, and the Python."""
    name, info = platform.processor(), Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
    return {"cpu": name, "cores": os.cpu_count(), "python": platform.python_version()}


def versions() -> dict[str, str]:
    import graphc

    found = {"graphc": graphc.__version__}
    for name in PEERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    # An end from outside ends the workers too, which a default handler would leave at their work.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; what was done is in the file of --json")
