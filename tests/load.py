"""Many processes of many threads at a time, and children that are forked while threads work.

    python -m tests.load                                      8 processes of 4 threads, 30 rounds
    python -m tests.load --processes 16 --threads 8 --rounds 100
    python -m tests.load --forks 20                           and 20 times 4 forked children

Every process computes the same; what comes out must be the bits of one process with one thread, in
time. It prints what was wrong, and ends with 1 if anything was.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import graphc as torch
from graphc import nn

CHILDREN = 4
FORK_TIMEOUT_S = 60


def training(seed: int) -> list[torch.Tensor]:
    """Steps of a small convolutional network by Adam."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    images, labels = torch.randn(16, 3, 24, 24), torch.randint(0, 10, (16,))
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


def reductions(seed: int) -> list[torch.Tensor]:
    """Sums, extremes and orders of rows and columns."""
    torch.manual_seed(seed)
    x = torch.randn(700, 900)
    return [x.softmax(1), x.sum(0), x.var(1), x.max(0).values, x.cumsum(1), x[:40].sort(1).values]


def convolutions(seed: int) -> list[torch.Tensor]:
    """Convolutions of several kinds; the sizes differ from round to round, so code is compiled."""
    torch.manual_seed(seed)
    images = torch.randn(2, 16, 28 + seed % 5, 30)
    return [
        nn.functional.conv2d(images, torch.randn(32, 16, 3, 3), padding=1),
        nn.functional.conv2d(images, torch.randn(32, 16, 1, 1)).relu(),
        nn.functional.conv2d(images, torch.randn(16, 1, 5, 5), padding=2, groups=16),
    ]


def products(seed: int) -> list[torch.Tensor]:
    """Matrix products, wide and narrow."""
    torch.manual_seed(seed)
    a, b = torch.randn(300, 200 + seed % 3), torch.randn(200 + seed % 3, 260)
    return [a @ b, a @ b[:, 0], a.T[:7] @ a, (a @ b).tanh()]


WORK: tuple[Callable[[int], list[torch.Tensor]], ...] = (
    training, reductions, convolutions, products,
)  # fmt: skip


def digests(rounds: int) -> dict[str, str]:
    """A digest of the bits of each piece of work, by its name and round."""
    found = {}
    for seed in range(rounds):
        for work in WORK:
            made = hashlib.sha256()
            for tensor in work(seed):
                made.update(tensor.numpy().tobytes())
            found[f"{work.__name__} {seed}"] = made.hexdigest()
    return found


def _process(threads: int, rounds: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.load", "--threads", str(threads), "--rounds"]
    return subprocess.Popen(
        [*command, str(rounds), "--worker"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _answer(process: subprocess.Popen, deadline: float) -> dict[str, str]:
    out, errors = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    if process.returncode:
        raise RuntimeError(f"it ended with {process.returncode}: {errors[-500:]}")
    return json.loads(out)


def many_processes(processes: int, threads: int, rounds: int, timeout_s: float) -> list[str]:
    """What is wrong with `processes` at a time, each of so many threads; nothing if all is well."""
    deadline = time.monotonic() + timeout_s
    expected = _answer(_process(1, rounds), deadline)
    running = [_process(threads, rounds) for _ in range(processes)]
    wrong = []
    for number, process in enumerate(running):
        try:
            found = _answer(process, deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            wrong.append(f"process {number} had not ended after {timeout_s:.0f} s")
        except RuntimeError as error:
            wrong.append(f"process {number}: {error}")
        else:
            other = [name for name in expected if found[name] != expected[name]]
            wrong += [f"process {number} has other bits in {name}" for name in other]
    return wrong


def forks(rounds: int, threads: int) -> list[str]:
    """What is wrong with children that compute, forked while other threads draw and compile."""
    torch.set_num_threads(threads)
    expected = digests(1)
    wrong = []
    with _busy_threads():
        for number in range(rounds):
            children = [_child(expected) for _ in range(CHILDREN)]
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            wrong += [f"fork {number}: a child ended with {code}" for code in codes if code]
    return wrong


@contextlib.contextmanager
def _busy_threads() -> Iterator[None]:
    ended = threading.Event()

    def work() -> None:
        length = 5
        while not ended.is_set():
            length += 1
            torch.randn(200, 1000)
            torch.ones(400, 300 + length % 2).softmax(1).sum().item()
            if length % 8 == 0:
                (torch.ones(length, 3) @ torch.ones(3, length)).tolist()  # compiles

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _child(expected: dict[str, str]) -> int:
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(FORK_TIMEOUT_S, exit=True)
        right = False
        try:
            right = digests(1) == expected
        finally:
            os._exit(0 if right else 2)
    return child


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=4, help="of each process")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--forks", type=int, default=0, help=f"rounds of {CHILDREN} forked children"
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds for all processes")
    parser.add_argument("--worker", action="store_true", help="compute, and print the digests")
    options = parser.parse_args()
    if options.worker:
        torch.set_num_threads(options.threads)
        print(json.dumps(digests(options.rounds)))
        return 0
    began = time.monotonic()
    wrong = many_processes(options.processes, options.threads, options.rounds, options.timeout)
    wrong += forks(options.forks, options.threads) if options.forks else []
    print("\n".join(wrong) or f"all the same, in {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
