"""torch.testing: assert_close and make_tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .ir.dtype import BOOL, DTYPES, DType
from .tensor import Tensor, from_array

__all__ = ["assert_close", "make_tensor"]

_TOLERANCES = {  # element type -> (relative, absolute)
    "f16": (1e-3, 1e-5), "bf16": (1.6e-2, 1e-5), "f32": (1.3e-6, 1e-5), "f64": (1e-7, 1e-7),
    "c64": (1.3e-6, 1e-5), "c128": (1e-7, 1e-7),
}  # fmt: skip


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: Any = None,
) -> None:
    """AssertionError unless actual and expected are close: tensors, arrays, numbers, or containers.

    Without tolerances they are those of the less exact element type: rtol 1.3e-6 and atol 1e-5
    for float32.
    """
    if (rtol is None) != (atol is None):
        raise ValueError(
            "rtol and atol must both be specified or both be unspecified, but got "
            f"rtol={rtol} and atol={atol} instead."
        )
    check = _Check(rtol, atol, equal_nan, check_device, check_dtype, check_stride)
    problem = check.compare(actual, expected, "")
    if problem:
        shown = msg(problem) if callable(msg) else msg
        raise AssertionError(problem if shown is None else shown)


class _Check:
    def __init__(
        self, rtol: Any, atol: Any, equal_nan: bool, device: bool, dtype: bool, stride: bool
    ) -> None:
        self.rtol, self.atol, self.equal_nan = rtol, atol, equal_nan
        self.device, self.dtype, self.stride = device, dtype, stride

    def compare(self, a: Any, b: Any, where: str) -> str:
        """What is wrong, or nothing. `where` says which item of a container it is."""
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            if a.keys() != b.keys():
                return f"The keys of the mappings do not match:\n{sorted(a)} and {sorted(b)}{where}"
            pairs = [(a[key], b[key], f"{where}\nItem [{key!r}]") for key in a]
        elif _is_sequence(a) and _is_sequence(b):
            if len(a) != len(b):
                return f"The length of the sequences mismatch: {len(a)} != {len(b)}{where}"
            pairs = [(x, y, f"{where}\nItem [{i}]") for i, (x, y) in enumerate(zip(a, b))]
        else:
            return self.leaves(a, b, where)
        return next((text for text in (self.compare(*pair) for pair in pairs) if text), "")

    def leaves(self, a: Any, b: Any, where: str) -> str:
        if a is None or b is None:
            return "" if a is b else f"None mismatch: {a} is not {b}{where}"
        if isinstance(a, Tensor) != isinstance(b, Tensor):
            return f"None of the pairs fits: {type(a).__name__} and {type(b).__name__}{where}"
        if isinstance(a, Tensor):
            return self.tensors(a, b) + where if self.tensors(a, b) else ""
        x, y = np.asarray(a), np.asarray(b)
        if x.shape != y.shape:
            return f"The values for attribute 'shape' do not match: {x.shape} != {y.shape}.{where}"
        kind = "Scalars" if not x.shape else "Tensor-likes"
        text = self.values(x, y, _number_dtype(x), _number_dtype(y), kind)
        return text + where if text else ""

    def tensors(self, a: Tensor, b: Tensor) -> str:
        named = [("shape", a.shape, b.shape)]
        if self.device:
            named.append(("device", a.device, b.device))
        if self.dtype:
            named.append(("dtype", repr(a.dtype), repr(b.dtype)))
        if self.stride:
            named.append(("stride()", a.stride(), b.stride()))
        for name, x, y in named:
            if x != y:
                return f"The values for attribute '{name}' do not match: {x} != {y}."
        return self.values(a._array(), b._array(), a.dtype, b.dtype, "Tensor-likes")

    def values(self, x: np.ndarray, y: np.ndarray, dx: DType, dy: DType, kind: str) -> str:
        rtol, atol = self.tolerances(dx, dy)
        wide = complex if "c" in dx.kind + dy.kind else float
        if {dx.kind, dy.kind} <= {"i", "u", "b"} and not rtol and not atol:
            wide = object
        x, y = x.astype(wide), y.astype(wide)
        difference, bad = _mismatches(x, y, rtol, atol, self.equal_nan)
        count = int(bad.sum())
        if not count:
            return ""
        exact = not rtol and not atol
        head = f"{kind} are not {'equal' if exact else 'close'}!\n"
        relative = np.where(y == 0, math.inf, difference / np.where(y == 0, 1, np.abs(y)))
        allowed = ("", "") if exact else (f" (up to {atol} allowed)", f" (up to {rtol} allowed)")
        if kind == "Scalars":
            return (
                f"{head}\nExpected {y.item()} but got {x.item()}.\n"
                f"Absolute difference: {difference.item()}{allowed[0]}\n"
                f"Relative difference: {relative.item()}{allowed[1]}"
            )
        lines = [f"\nMismatched elements: {count} / {x.size} ({100 * count / x.size:.1f}%)"]
        for name, values, limit in (
            ("absolute", difference, allowed[0]), ("relative", relative, allowed[1])
        ):  # fmt: skip
            worst = np.where(bad, np.nan_to_num(values.astype(float), nan=math.inf), -1)
            at = tuple([int(i) for i in np.unravel_index(int(np.argmax(worst)), x.shape)])
            lines.append(f"Greatest {name} difference: {values[at]} at index {at}{limit}")
        return head + "\n".join(lines)

    def tolerances(self, a: DType, b: DType) -> tuple[float, float]:
        if self.rtol is not None:
            return self.rtol, self.atol
        found = [_TOLERANCES.get(d.name, (0.0, 0.0)) for d in (a, b)]
        return max(f[0] for f in found), max(f[1] for f in found)


def _mismatches(x: Any, y: Any, rtol: float, atol: float, equal_nan: bool) -> tuple:
    """|x - y|, and where that is more than is allowed."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(x - y)
        close = (x == y) | (difference <= atol + rtol * np.abs(y)).astype(bool)
    if x.dtype != object:
        close &= np.isfinite(y) | (x == y)
        if equal_nan:
            close |= np.isnan(x) & np.isnan(y)
    return difference, ~close.astype(bool)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _number_dtype(array: np.ndarray) -> DType:
    from .ir.dtype import from_numpy

    return from_numpy(array.dtype)


def make_tensor(
    *shape: Any,
    dtype: DType,
    device: Any = "cpu",
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Random numbers in [low, high): by default [-9, 9), in [0, 10) for uint8, both of bool.

    The numbers are reproducible by manual_seed; they are not those of torch.
    """
    from .device import name_of
    from .functional.create import sizes_of
    from .functional.random import rand, randint

    if dtype.name not in DTYPES:
        raise TypeError(f"make_tensor does not make {dtype}")
    sizes = sizes_of(shape)
    usual = (0, 2) if dtype is BOOL else ((0, 10) if dtype.kind == "u" else (-9, 9))
    low, high = usual[0] if low is None else low, usual[1] if high is None else high
    if low >= high:
        raise ValueError(f"make_tensor: low must be less than high, got {low} and {high}")
    if dtype.kind in "iub":
        array = randint(math.ceil(low), math.ceil(high), sizes)._array()
    else:
        parts = [rand(sizes, dtype=DTYPES["f64"])._array() * (high - low) + low for _ in range(2)]
        array = parts[0] + 1j * parts[1] if dtype.kind == "c" else parts[0]
    array = array.astype(dtype.numpy)
    if exclude_zero:
        array[array == 0] = 1
    made = from_array(array, name_of(device))
    if noncontiguous and made.numel() > 1:
        made = made.repeat_interleave(2, -1)[..., ::2]
    return made.requires_grad_(True) if requires_grad else made
