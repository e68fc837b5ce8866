"""Eager programs run under graphc and under torch: which lines raise, and what is left after.

Compared at the end: every tensor's values, dtype, shape, stride, `requires_grad`, `is_leaf`,
version and gradient, every numpy array, every number that a line looked at.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from .eager_program import EagerProgram, eager_program, execute, shares_memory, usable

ABSOLUTE, RELATIVE = 2e-4, 2e-4  # of float32 after some twenty lines
PUBLIC = ("", "RuntimeError", "TypeError", "ValueError", "IndexError")  # others are slips within
FACTS = ("requires_grad", "is_leaf", "_version")


def peer() -> Any:
    import torch

    return torch


def subject() -> Any:
    import graphc

    return graphc


def spaces(program: EagerProgram) -> tuple[dict, dict, list[str]]:
    """Both namespaces after the program, and the lines on which one raised and the other not."""
    here, there = ({"torch": module, "np": np} for module in (subject(), peer()))
    differences = []
    for number, line in enumerate(program.lines):
        raised, expected = execute(line, here), execute(line, there)
        if bool(raised) != bool(expected) or (raised != expected and raised not in PUBLIC):
            sides = f"graphc {raised or 'runs it'}, torch {expected or 'runs it'}"
            differences.append(f"line {number}, {line!r}: {sides}")
            break
    return here, there, differences


def difference(program: EagerProgram) -> str:
    """The first difference between graphc and torch; empty where there is none."""
    here, there, found = spaces(program)
    if found:
        return found[0]
    for name, want in there.items():
        if name in ("torch", "np") or name.startswith("__"):
            continue
        if name not in here:
            return f"{name} is missing"
        try:
            version, gradient = has_own_version(program, name), is_gradient(want, there)
            wrong = unlike(here[name], want, version, gradient)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            return f"{name}: {wrong}"
    return ""


def is_gradient(value: Any, space: dict) -> bool:
    """Whether a value is a gradient, or a view of one."""
    gradients = [g for name, g in space.items() if name[0] == "g" and isinstance(g, peer().Tensor)]
    return any(shares_memory(value, g) for g in gradients if isinstance(value, peer().Tensor))


def has_own_version(program: EagerProgram, name: str) -> bool:
    """What torch's own code computes in place starts with other versions than 0."""
    made = [line for line in program.lines if f"{name} = " in line]
    words = ("torch.tensor(", "from_numpy(")
    return bool(made) and any(word in made[0] for word in words)


def unlike(found: Any, want: Any, version: bool, gradient: bool) -> str:
    torch = peer()
    if isinstance(want, torch.Tensor):
        return tensors_unlike(found, want, version, gradient)
    if isinstance(want, np.ndarray):
        return arrays_unlike(np.asarray(found), want)
    if isinstance(want, (bool, int, str, torch.Size)):
        text = str(found).replace("graphc.", "torch."), str(want)
        return "" if text[0] == text[1] else f"{text[0]}, not {text[1]}"
    if isinstance(want, (float, list)):
        return arrays_unlike(np.asarray(found, float), np.asarray(want, float))
    return ""


def tensors_unlike(found: Any, want: Any, version: bool, gradient: bool) -> str:
    """Nobody is promised the strides of a gradient."""
    if not usable(want):
        return ""
    for fact in FACTS:
        if fact == "_version" and (want.is_inference() or not version):
            continue
        mine, theirs = getattr(found, fact), getattr(want, fact)
        if mine != theirs:
            return f"{fact} is {mine}, not {theirs}"
    expanded = 0 in want.stride()  # torch's gradients of sums are; here they have memory
    if (
        not gradient
        and want._base is not None
        and want._base.is_contiguous()
        and want.numel()
        and not expanded
    ):
        mine, theirs = [
            [n for n, d in zip(t.stride(), t.shape, strict=True) if d > 1] for t in (found, want)
        ]
        if mine != theirs:
            return f"the stride is {tuple(found.stride())}, not {tuple(want.stride())}"
    wrong = arrays_unlike(found.detach().numpy(), want.detach().numpy())
    if wrong or not want.is_leaf:
        return wrong
    if (found.grad is None) != (want.grad is None):
        return f"grad is {found.grad}, not {want.grad}"
    if want.grad is None:
        return ""
    wrong = arrays_unlike(found.grad.detach().numpy(), want.grad.detach().numpy())
    return f"grad: {wrong}" if wrong else ""


def arrays_unlike(found: np.ndarray, want: np.ndarray) -> str:
    if (found.dtype, found.shape) != (want.dtype, want.shape):
        return f"{found.dtype}{list(found.shape)}, not {want.dtype}{list(want.shape)}"
    if want.dtype.kind in "iub":
        same = found == want
    else:
        same = np.isclose(found, want, RELATIVE, ABSOLUTE, equal_nan=True)
    if np.all(same):
        return ""
    at = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"at {at} it is {found[at]!r}, not {want[at]!r}"


def minimised(program: EagerProgram, wrong: str) -> EagerProgram:
    """Lines left out, one at a time, for as long as graphc and torch differ."""
    lines = list(program.lines)
    at = len(lines) - 1
    while at >= 0:
        shorter = EagerProgram(program.seed, tuple(lines[:at] + lines[at + 1 :]))
        if difference(shorter):
            lines = list(shorter.lines)
        at -= 1
    return EagerProgram(program.seed, tuple(lines))


def shown(program: EagerProgram, wrong: str) -> str:
    small = minimised(program, wrong)
    return f"seed {program.seed}: {difference(small) or wrong}\n{small}"


def failures(seeds: Iterable[int]) -> tuple[list[tuple[EagerProgram, str]], Counter]:
    """The programs that differ, and how often each word of the lines occurred."""
    found, words = [], Counter()
    for seed in seeds:
        program = eager_program(seed, peer())
        words.update(kinds_of(program))
        wrong = difference(program)
        if wrong:
            found.append((program, wrong))
    return found, words


KINDS = {
    "writes": ("_(", "+=", "*=", "-=", "] ="),
    "views": ("[", "view", "transpose", "expand"),
    "numpy": (".numpy()", "from_numpy"),
    "modes": ("with torch.",),
    "backward": ("backward", "autograd.grad"),
    "looks": ("item()", "tolist()", "float(", "bool("),
    "create_graph": ("create_graph",),
}


def kinds_of(program: EagerProgram) -> set[str]:
    text = str(program)
    return {kind for kind, words in KINDS.items() if any(word in text for word in words)}


def main(seeds: Iterable[int], count: int) -> int:
    seeds = list(seeds)
    found, words = failures(seeds)
    print(f"{len(seeds)} eager programs")
    print("programs with " + ", ".join(f"{kind} {words[kind]}" for kind in KINDS))
    print(f"failures: {len(found)}")
    for program, wrong in found[:count]:
        print("\n" + shown(program, wrong))
    print("failing seeds:", *[program.seed for program, _ in found])
    return min(1, len(found))
