"""Workloads for the tests of the harness: one that is right, and others that go wrong."""

import os
import signal
import time

from benchmarks.compare.workload import Workload, normal


def is_reference(torch):
    """Whether this is the numpy interpreter, which is right in each of these."""
    return torch.config.backend == "reference"


def right(torch):
    return lambda x: x * 2 + 1


def wrong(torch):
    gap = 0.0 if is_reference(torch) else 0.1
    return lambda x: x * 2 + gap


def keeping(torch):
    """A trace of it has the example's sum as a number."""
    return lambda x: x * x.sum().item()


def failing(torch):
    raise ValueError("this op is not there\nand a second line")


def crashing(torch):
    os.kill(os.getpid(), signal.SIGKILL)


def hanging(torch):
    time.sleep(60)


def named(name, make):
    return Workload(f"micro/{name}", normal((8, 16)), make)


WORKLOADS = [
    named("right", right), named("wrong", wrong), named("failing", failing),
    named("crashing", crashing), named("keeping", keeping), named("hanging", hanging),
]  # fmt: skip
