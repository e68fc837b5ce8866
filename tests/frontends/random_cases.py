"""Draws that torch and graphc make of one seed, side by side.

Each case has two functions of a size n: `ours(stream, n)`, a numpy array, and `theirs(torch, n)`, a
tensor. tests/data/random_torch.npz holds what `theirs` gave for small n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
EDGE = {"float32": 2.0**-20, "float64": 2.0**-49, "float16": 2.0**-7, "bfloat16": 2.0**-4}
SEED = 1234567890123


@dataclass(frozen=True)
class Case:
    name: str
    ours: Callable[[Any, int], np.ndarray]
    theirs: Callable[[Any, int], Any]


def numpy_type(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def fill(method: str, name: str, torch: Any, n: int, *arguments: Any) -> Any:
    return getattr(torch.empty(n, dtype=getattr(torch, name)), method)(*arguments)


def weights(n: int, dtype: str = "float32") -> np.ndarray:
    return ((np.arange(1, n + 1) ** 2 % 101 + 1) / 7).astype(dtype)


def float_cases(name: str) -> list[Case]:
    dtype = numpy_type(name)

    def case(method: str, ours: Callable, *arguments: Any) -> Case:
        text = ",".join(map(str, arguments))

        def theirs(torch: Any, n: int) -> Any:
            return fill(method, name, torch, n, *arguments)

        return Case(f"{method}({text}) {name}", ours, theirs)

    return [
        Case(
            f"rand {name}",
            lambda s, n: s.uniform(n, dtype),
            lambda torch, n: torch.rand(n, dtype=getattr(torch, name)),
        ),
        Case(
            f"randn {name}",
            lambda s, n: s.normal(n, dtype),
            lambda torch, n: torch.randn(n, dtype=getattr(torch, name)),
        ),
        Case(
            f"strided normal_ {name}",
            lambda s, n: s.normal(n, dtype, contiguous=False),
            lambda torch, n: torch.empty(n, 2, dtype=getattr(torch, name))[:, 0].normal_(),
        ),
        case("uniform_", lambda s, n: s.uniform(n, dtype, -2, 3.7), -2, 3.7),
        # Of few values, so that some are rounded to the excluded end.
        case("uniform_", lambda s, n: s.uniform(n, dtype, 1, 1 + EDGE[name]), 1, 1 + EDGE[name]),
        case("normal_", lambda s, n: s.normal(n, dtype, 0.3, 0.02), 0.3, 0.02),
        case("log_normal_", lambda s, n: s.log_normal(n, dtype, 0.3, 0.7), 0.3, 0.7),
        case("exponential_", lambda s, n: s.exponential(n, dtype, 0.7), 0.7),
        case("cauchy_", lambda s, n: s.cauchy(n, dtype, 0.3, 1.7), 0.3, 1.7),
        case("geometric_", lambda s, n: s.geometric(n, 0.3, dtype), 0.3),
        case("random_", lambda s, n: s.random_(n, dtype)),
        case("bernoulli_", lambda s, n: s.bernoulli(n, 0.3).astype(dtype), 0.3),
        Case(
            f"bernoulli of a tensor {name}",
            lambda s, n: s.bernoulli_each((np.arange(n) % 11 / 10).astype(dtype)).astype(dtype),
            lambda torch, n: torch.bernoulli(
                torch.from_numpy(np.arange(n) % 11 / 10).to(getattr(torch, name))
            ),
        ),
    ]


def integer_cases(name: str) -> list[Case]:
    dtype = np.dtype(name)
    return [
        Case(
            f"random_() {name}",
            lambda s, n: s.random_(n, dtype),
            lambda torch, n: fill("random_", name, torch, n),
        )
    ]


def randint_case(low: int, high: int) -> Case:
    return Case(
        f"randint({low}, {high})",
        lambda s, n: s.randint(low, high, n),
        lambda torch, n: torch.randint(low, high, (n,)),
    )


def multinomial_case(samples: int | None, replacement: bool, dtype: str) -> Case:
    """samples: None for as many as there are categories."""
    return Case(
        f"multinomial {samples} {'with' if replacement else 'without'} {dtype}",
        lambda s, n: s.multinomial(weights(n, dtype), samples or n, replacement),
        lambda torch, n: torch.multinomial(
            torch.from_numpy(weights(n, dtype)), samples or n, replacement
        ),
    )


CASES = [
    *(case for name in FLOATS for case in float_cases(name)),
    *(case for name in INTEGERS for case in integer_cases(name)),
    *(
        randint_case(low, high)
        for low, high in [
            (0, 1),
            (0, 2),
            (-5, 10),
            (0, 2**28 - 1),
            (0, 2**28),
            (0, 2**32 + 5),
            (-(2**62), 2**62 + 2**61),
            (-(2**63), 2**63 - 1),
        ]
    ),
    Case("randperm", lambda s, n: s.randperm(n), lambda torch, n: torch.randperm(n)),
    Case(
        "dropout",
        lambda s, n: s.dropout_mask(n, 0.3),
        lambda torch, n: torch.nn.functional.dropout(torch.ones(n), 0.3) != 0,
    ),
    Case(
        "complex randn",
        lambda s, n: s.normal(2 * n, np.float32, 0, 0.5**0.5).view(np.complex64),
        lambda torch, n: torch.randn(n, dtype=torch.complex64),
    ),
    *(multinomial_case(1, flag, "float32") for flag in (False, True)),
    *(multinomial_case(None, flag, d) for flag in (False, True) for d in ("float32", "float64")),
]


def raw_bytes(array: np.ndarray) -> np.ndarray:
    """The bits of an array of any dtype, comparable and storable."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def torch_bytes(torch: Any, value: Any) -> np.ndarray:
    value = value.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    return value.view(torch.uint8).numpy() if value.numel() else np.empty(0, np.uint8)
