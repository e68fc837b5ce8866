"""What this machine offers, and its limits as measured: memory and arithmetic."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a second that all cores move together, and float32 operations a second."""

    bytes_per_s: float
    flops_per_s: float
    threads: int

    def floor_s(self, moved: float, computed: float) -> float:
        """The time that so many bytes and operations take at least."""
        return max(moved / self.bytes_per_s, computed / self.flops_per_s)

    def bound(self, moved: float, computed: float) -> str:
        """Which of the two limits: "memory" or "arithmetic"."""
        by_memory = moved / self.bytes_per_s >= computed / self.flops_per_s
        return "memory" if by_memory else "arithmetic"


@cache
def measure_limits() -> Limits:
    """Measures both in some 0.1 s: copies of arrays beyond the caches, and multiply-adds."""
    from graphc.backends.llvm.cores import usable_cores

    threads = usable_cores()
    return Limits(_bandwidth(threads), threads * _flops_of_a_thread(), threads)


def _bandwidth(threads: int) -> float:
    import numpy as np

    arrays = [np.ones(4 << 20, np.float32) for _ in range(2 * threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copies() -> None:
            list(pool.map(np.copyto, arrays[:threads], arrays[threads:]))

        return 2 * threads * arrays[0].nbytes / _best(copies)


def _flops_of_a_thread() -> float:
    function, operations = multiply_adds()
    steps = 100_000
    return operations * steps / _best(lambda: function(steps))


def multiply_adds() -> tuple[Callable[[int], float], int]:
    """A function that does so many steps of independent vector multiply-adds in registers, and
    the float32 operations of a step."""
    import ctypes

    from graphc.backends.llvm import jit
    from graphc.backends.llvm.target import host_target

    host = host_target()  # its limit, whatever target is compiled for
    lanes, chains = host.lanes(32), min(20, host.registers - 4)
    text = _multiply_adds(lanes, chains, host.has_fma)
    code = jit.load(text, ["multiply_adds"], target=host)
    function = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(code["multiply_adds"])
    code.keep()
    return function, 2 * lanes * chains


def _multiply_adds(lanes: int, chains: int, fma: bool) -> str:
    """LLVM IR: `chains` vectors, each multiplied and added to once a step, none waiting."""
    vector = f"<{lanes} x float>"
    half = "<" + ", ".join(["float 0.5"] * lanes) + ">"
    phis, steps = [], []
    for k in range(chains):
        phis.append(f"  %a{k} = phi {vector} [ zeroinitializer, %entry ], [ %b{k}, %loop ]")
        if fma:
            call = f"call {vector} @llvm.fma.v{lanes}f32"
            steps.append(f"  %b{k} = {call}({vector} %a{k}, {vector} {half}, {vector} {half})")
        else:
            steps.append(f"  %m{k} = fmul {vector} %a{k}, {half}")
            steps.append(f"  %b{k} = fadd {vector} %m{k}, {half}")
    sums, total = [], "%b0"
    for k in range(1, chains):
        sums.append(f"  %s{k} = fadd {vector} {total}, %b{k}")
        total = f"%s{k}"
    return "\n".join(
        [
            f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
            "define float @multiply_adds(i64 %n) {",
            "entry:",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *phis,
            *steps,
            "  %next = add i64 %i, 1",
            "  %more = icmp slt i64 %next, %n",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *sums,
            f"  %sum = extractelement {vector} {total}, i32 0",
            "  ret float %sum",
            "}",
            "",
        ]
    )


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(6):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def describe() -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections of (what, how it is), for `graphc doctor`."""
    return [
        ("system", _system()),
        ("processor", _processor()),
        ("code generation", _code_generation()),
        ("packages", _packages()),
    ]


def _system() -> list[tuple[str, str]]:
    import platform
    import sys

    from graphc import __version__

    return [
        ("graphc", __version__),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
    ]


def _processor() -> list[tuple[str, str]]:
    from graphc.backends.llvm.cores import usable_cores
    from graphc.backends.llvm.target import TARGETS, host_target, runs_here

    host = host_target()
    has = [
        name.removeprefix("has_")
        for name in ("has_fma", "has_f16c", "has_bf16", "has_rounding", "has_gather", "has_amx")
        if getattr(host, name)
    ]
    limits = measure_limits()
    return [
        ("cpu", host.cpu),
        ("cores", str(usable_cores())),
        ("vectors", f"{host.vector_bytes * 8} bits, {host.registers} registers"),
        ("instructions", " ".join(has) or "the base set"),
        ("targets that run here", ", ".join([n for n, t in TARGETS.items() if runs_here(t)])),
        ("memory (measured)", f"{limits.bytes_per_s / 1e9:.3g} GB/s on {limits.threads} threads"),
        ("arithmetic (measured)", f"{limits.flops_per_s / 1e9:.3g} GFLOP/s in float32"),
    ]


def _code_generation() -> list[tuple[str, str]]:
    from graphc.backends.llvm import cpython
    from graphc.backends.llvm.jit import object_cache
    from graphc.backends.llvm.settings import settings

    fault = cpython.fault()
    if not settings.cache:
        cache_text = "off (GRAPHC_CACHE=0)"
    else:
        folder = object_cache.directory()
        cache_text = str(folder) if folder is not None else f"refused: {settings.cache_dir}"
    return [
        ("entry points", "direct calls from CPython" if fault is None else f"by ctypes: {fault}"),
        ("object cache", cache_text),
        ("target", settings.target),
        ("threads", str(settings.num_threads) if settings.num_threads else "one a core"),
    ]


def _packages() -> list[tuple[str, str]]:
    from importlib.metadata import PackageNotFoundError, version

    needed = ("numpy", "llvmlite", "onnx", "networkx")
    optional = {
        "onnxruntime": "the demo then checks the exported model with it",
        "safetensors": "reading and writing .safetensors",
        "cupy-cuda12x": "the CUDA backend",
        "torch": "a peer in tests; never imported by graphc",
    }
    found = []
    for name in (*needed, *optional):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            why = optional.get(name)
            found.append((name, f"not installed ({why})" if why else "missing, but needed"))
    return found
