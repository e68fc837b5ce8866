"""How many processor cores this process may use."""

import os
from functools import cache
from pathlib import Path

_CPU = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@cache
def usable_cores() -> int:
    """Cores that the process may run on: hardware threads of one core count once.

    A container's share of processor time, rounded up, is a limit as well. At least 1.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _quota(len(cores))))


def _siblings(cpu: int) -> str:
    """The hardware threads of `cpu`'s core, in the kernel's spelling, or `cpu` itself."""
    try:
        return (_CPU / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota(otherwise: int) -> int:
    try:
        allowed, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        return otherwise
    return otherwise if allowed == "max" else -(-int(allowed) // int(period))
