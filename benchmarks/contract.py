"""Times of matrix products and convolutions against torch, on one thread.

    python -m benchmarks.contract [gemm] [bf16] [conv] [grad] [--seconds 0.3]

Both are called in turns on the same data; times are of the thread's own CPU, best of all.
A ratio above 1 means that graphc is faster.
"""

import sys
import time
from collections.abc import Callable

import ml_dtypes
import numpy as np

from graphc.backends.llvm.contract import (
    ConvProblem,
    GemmProblem,
    conv,
    conv_grad_input,
    conv_grad_weight,
    gemm,
)
from graphc.backends.llvm.target import host_target
from tests.backends.contract_runner import Compiled, aligned

from .interleave import peer

torch = peer()


def interleaved(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The best time of each, in seconds."""
    clock, turns = time.thread_time, {}
    for name, call in calls.items():
        call()
        start = clock()
        call()
        turns[name] = max(1, min(2000, int(2e-4 / max(clock() - start, 1e-7))))
    best = dict.fromkeys(calls, float("inf"))
    end, rounds = time.perf_counter() + seconds * len(calls), 0
    while time.perf_counter() < end or rounds < 5:
        rounds += 1
        for name, call in calls.items():
            call()
            start = clock()
            for _ in range(turns[name]):
                call()
            best[name] = min(best[name], (clock() - start) / turns[name])
    return best


def report(label: str, best: dict[str, float], operations: float, compile_ms: float) -> None:
    rate = operations / best["graphc"] / 1e9
    ratio = best["torch"] / best["graphc"]
    print(
        f"{label:44s} torch {best['torch'] * 1e6:9.1f} us  graphc {best['graphc'] * 1e6:9.1f} us"
        f"  {rate:6.1f} GF/s  ratio {ratio:5.2f}  compile {compile_ms:5.1f} ms",
        flush=True,
    )


GEMMS = [
    *((size, size, size, 1, "") for size in (64, 128, 256, 512, 768, 1000, 1024)),
    *((512, 512, 512, 1, form) for form in ("ta", "tb")),
    *((2048, n, k, 1, form) for n, k in ((384, 128), (128, 128), (128, 512), (512, 128))
      for form in ("", "tb")),
    (128, 384, 2048, 1, "ta"), (128, 512, 2048, 1, "ta"), (512, 128, 2048, 1, "ta"),
    *((32, 32, 32, 256, form) for form in ("", "ta", "tb")),
    (64, 32, 64, 96, ""), (64, 64, 32, 96, "tb"),
    *((m, 1024, 1024, 1, form) for m in (1, 4, 16, 64) for form in ("", "tb")),
    (2048, 1, 2048, 1, ""), (2048, 1, 2048, 1, "ta"), (4, 4096, 1024, 1, ""),
    *((1024, n, 1024, 1, form) for n in (2, 8, 24) for form in ("", "ta", "tb")),
    (64, 10, 128, 1, "tb"), (128, 768, 3072, 1, ""), (3136, 64, 64, 1, ""), (17, 31, 63, 1, ""),
]  # fmt: skip


OF_BF16 = [
    *((size, size, size, 1, "") for size in (256, 511, 512, 1024)),
    *((512, 512, 512, 1, form) for form in ("ta", "tb")),
    *((m, 1024, 1024, 1, form) for m in (1, 4, 16, 64) for form in ("", "tb")),
    (128, 768, 768, 1, "tb"), (2000, 10, 512, 1, "tb"), (1024, 64, 1024, 1, ""),
    (64, 64, 64, 16, ""), (128, 128, 64, 8, "tb"), (128, 64, 128, 8, ""),
]  # fmt: skip


def bench_gemm(seconds: float) -> None:
    for case in GEMMS:
        time_gemm(*case, seconds)


def bench_bf16(seconds: float) -> None:
    for case in OF_BF16:
        time_gemm(*case, seconds, dtype="bf16")


def of_torch(array: np.ndarray) -> "torch.Tensor":
    """A tensor on the memory of the array."""
    if array.dtype != ml_dtypes.bfloat16:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)


def time_gemm(
    m: int, n: int, k: int, batch: int, form: str, seconds: float, dtype: str = "f32"
) -> None:
    numpy, error = (np.float32, 1e-3) if dtype == "f32" else (ml_dtypes.bfloat16, 0.02)
    random = np.random.default_rng(0)
    ta, tb = form == "ta", form == "tb"
    a = aligned((batch, k, m) if ta else (batch, m, k), numpy)
    b = aligned((batch, n, k) if tb else (batch, k, n), numpy)
    out, expected = aligned((batch, m, n), numpy), aligned((batch, m, n), numpy)
    a[:], b[:] = random.standard_normal(a.shape), random.standard_normal(b.shape)
    out[:], expected[:] = 0, 0
    left, right, into = map(of_torch, (a, b, expected))
    left = left.mT if ta else left
    right = right.mT if tb else right
    start = time.thread_time()
    problem = GemmProblem(m, n, k, batch, dtype, ta, tb)
    kernel = Compiled(gemm(problem, host_target()))
    compile_ms = (time.thread_time() - start) * 1e3
    arguments = kernel.arguments((a, b, out))
    if batch == 1:
        left, right, into = left[0], right[0], into[0]
    product = torch.mm if batch == 1 else torch.bmm
    best = interleaved(
        {
            "torch": lambda: product(left, right, out=into),
            "graphc": lambda: kernel.function(*arguments),
        },
        seconds,
    )
    found, wanted = out.astype(np.float32), expected.astype(np.float32)
    assert np.allclose(found, wanted, rtol=error, atol=error * k**0.5)
    label = f"gemm {dtype} {batch} x {m} x {n} x {k} {form}"
    report(label, best, 2.0 * batch * m * n * k, compile_ms)


square = ConvProblem.square
CONVS = [
    square(1, 64, 64, 56, 3, padding=1),
    square(1, 128, 128, 28, 3, padding=1),
    square(1, 256, 256, 14, 3, padding=1),
    square(1, 512, 512, 7, 3, padding=1),
    square(1, 3, 64, 224, 7, stride=2, padding=3),
    square(1, 64, 128, 56, 3, stride=2, padding=1),
    square(1, 64, 256, 56, 1),
    square(1, 256, 512, 56, 1, stride=2),
    square(64, 1, 16, 8, 3, padding=1),
    square(64, 16, 32, 8, 3, padding=1),
    square(64, 32, 64, 8, 3, padding=1),
    square(64, 32, 64, 8, 3, stride=2, padding=1),
    square(8, 64, 64, 28, 3, padding=1, groups=4),
    square(1, 128, 128, 56, 3, padding=1, groups=32),
    square(1, 256, 256, 28, 3, padding=1, groups=32),
    square(1, 512, 512, 14, 3, padding=1, groups=32),
    square(1, 32, 32, 112, 3, padding=1, groups=32),
    square(1, 128, 128, 56, 3, stride=2, padding=1, groups=128),
]


def conv_label(p: ConvProblem) -> str:
    return (
        f"{p.batch} x {p.in_channels}->{p.out_channels} @{p.size[0]} k{p.kernel[0]}"
        f" s{p.stride[0]} p{p.padding[0][0]} g{p.groups}"
    )


def bench_conv(seconds: float) -> None:
    for problem in CONVS:
        time_conv(problem, seconds)


def bench_grad(seconds: float) -> None:
    for problem in CONVS:
        time_grad(problem, 0, seconds)
        time_grad(problem, 1, seconds)


def conv_operands(p: ConvProblem) -> list[np.ndarray]:
    """x, w, and an array like the result."""
    random = np.random.default_rng(0)
    x = aligned((p.batch, p.in_channels, *p.size))
    w = aligned((p.out_channels, p.in_channels // p.groups, *p.kernel))
    y = aligned((p.batch, p.out_channels, *p.out_size))
    for array in (x, w, y):
        array[:] = random.standard_normal(array.shape)
    return [x, w, y]


def operations(p: ConvProblem) -> float:
    return 2.0 * p.batch * np.prod(p.out_size) * p.out_channels * p.in_channels // p.groups * p.taps


def time_conv(p: ConvProblem, seconds: float) -> None:
    x, w, y = conv_operands(p)
    start = time.thread_time()
    kernel = Compiled(conv(p, host_target()))
    compile_ms = (time.thread_time() - start) * 1e3
    arguments = kernel.arguments((x, w, y))
    left, right = torch.from_numpy(x), torch.from_numpy(w)
    padding = [before for before, _ in p.padding]

    def peer() -> torch.Tensor:
        return torch.conv2d(left, right, None, p.stride, padding, p.dilation, p.groups)

    calls = {"torch": peer, "graphc": lambda: kernel.function(*arguments)}
    best = interleaved(calls, seconds)
    assert np.allclose(y, peer().numpy(), rtol=1e-3, atol=1e-2)
    report(f"conv {conv_label(p)}", best, operations(p), compile_ms)


def time_grad(p: ConvProblem, which: int, seconds: float) -> None:
    x, w, y = conv_operands(p)
    start = time.thread_time()
    emit = (conv_grad_input, conv_grad_weight)[which]
    kernel = Compiled(emit(p, host_target()))
    compile_ms = (time.thread_time() - start) * 1e3
    out = np.empty_like((x, w)[which])
    arguments = kernel.arguments((y, w, out) if which == 0 else (x, y, out))
    tensors = [torch.from_numpy(array) for array in (y, x, w)]
    padding = [before for before, _ in p.padding]
    mask = [which == 0, which == 1, False]
    zeros = [0] * len(p.size)

    def peer() -> torch.Tensor:
        return torch.ops.aten.convolution_backward(
            *tensors, None, p.stride, padding, p.dilation, False, zeros, p.groups, mask
        )[which]

    calls = {"torch": peer, "graphc": lambda: kernel.function(*arguments)}
    best = interleaved(calls, seconds)
    assert np.allclose(out, peer().numpy(), rtol=1e-3, atol=1e-1)
    report(f"{('dx', 'dw')[which]} {conv_label(p)}", best, operations(p), compile_ms)


BENCHES = {"gemm": bench_gemm, "bf16": bench_bf16, "conv": bench_conv, "grad": bench_grad}


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    seconds = 0.3
    if "--seconds" in arguments:
        at = arguments.index("--seconds")
        seconds = float(arguments[at + 1])
        del arguments[at : at + 2]
    for name in arguments or BENCHES:
        BENCHES[name](seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
