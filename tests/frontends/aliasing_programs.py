"""Random programs of views and in-place writes, run by graphc and by torch side by side."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPES = ((4, 6), (2, 3, 4), (24,), (6, 4), (2, 2, 2, 3))


class Differ(AssertionError):
    """graphc and torch did not do the same."""


class Program:
    """Tensors of two libraries that underwent the same operations; `lines` says which."""

    def __init__(self, seed: int, ours: Any, theirs: Any) -> None:
        self.rng = random.Random(seed)
        self.libraries = (ours, theirs)
        self.pools: tuple[list, list] = ([], [])
        self.lines: list[str] = []
        shape = self.rng.choice(SHAPES)
        data = np.arange(24, dtype=np.float32)
        self.both(f"start {shape}", lambda lib, pool: lib.tensor(data.copy()).reshape(shape))

    def both(self, line: str, action: Callable[[Any, list], Any]) -> None:
        """Runs an action with each library: both succeed, or both raise."""
        self.lines.append(line)
        made, errors = [], []
        for library, pool in zip(self.libraries, self.pools, strict=True):
            try:
                made.append(action(library, pool))
                errors.append(None)
            except Exception as error:  # whatever torch raises, graphc must too
                errors.append(error)
        if (errors[0] is None) != (errors[1] is None):
            raise Differ(f"{self.lines}: graphc {errors[0]!r}, torch {errors[1]!r}")
        if errors[0] is None and made[0] is not None:
            for pool, tensor in zip(self.pools, made, strict=True):
                pool.append(tensor)

    def step(self) -> None:
        """One random operation on a random tensor."""
        i = self.rng.randrange(len(self.pools[1]))
        name = self.rng.choice(OPERATIONS)
        OPERATIONS_BY_NAME[name](self, i, self.pools[1][i])

    def compare(self) -> None:
        """Values, shapes, versions, and strides where they matter."""
        for ours, theirs in zip(*self.pools, strict=True):
            same_shape = tuple(ours.shape) == tuple(theirs.shape)
            if not same_shape or not np.array_equal(_array(ours), theirs.numpy()):
                raise Differ(f"{self.lines}: {ours} is not {theirs}")
            if ours._version != theirs._version:
                raise Differ(f"{self.lines}: version {ours._version}, not {theirs._version}")
            if theirs.numel() > 1 and _strides(ours) != _strides(theirs):
                raise Differ(f"{self.lines}: strides {ours.stride()}, not {theirs.stride()}")


def _array(tensor: Any) -> np.ndarray:
    return np.array(tensor.tolist(), np.float32).reshape(tuple(tensor.shape))


def _strides(tensor: Any) -> list[int]:
    return [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]


def _copied(library: Any, tensor: Any) -> Any:
    return tensor.clone(memory_format=library.contiguous_format)


def _slice(p: Program, i: int, t: Any) -> None:
    if t.dim():
        axis, step = p.rng.randrange(t.dim()), p.rng.choice([1, 1, 2, 3])
        start, stop = p.rng.randint(-3, 4), p.rng.choice([None, p.rng.randint(-3, 8)])
        index = (*[slice(None)] * axis, slice(start, stop, step))
        p.both(f"{i}[{index}]", lambda _, pool: pool[i][index])


def _transpose(p: Program, i: int, t: Any) -> None:
    if t.dim() >= 2:
        a, b = p.rng.sample(range(t.dim()), 2)
        p.both(f"{i}.transpose({a}, {b})", lambda _, pool: pool[i].transpose(a, b))


def _shape(p: Program, i: int, t: Any) -> None:
    n = t.numel()
    shape = p.rng.choice([(n,), *[(k, n // k) for k in (2, 3, 4) if n and n % k == 0]])
    name = p.rng.choice(["reshape", "view"])
    p.both(f"{i}.{name}{shape}", lambda _, pool: getattr(pool[i], name)(*shape))


def _expand(p: Program, i: int, t: Any) -> None:
    if t.dim():
        p.both(f"{i}.expand(2, ...)", lambda _, pool: pool[i].expand(2, *t.shape))


def _select(p: Program, i: int, t: Any) -> None:
    if t.dim() and t.numel():
        axis = p.rng.randrange(t.dim())
        at = p.rng.randrange(t.shape[axis])
        p.both(f"{i}.select({axis}, {at})", lambda _, pool: pool[i].select(axis, at))


def _unsqueeze(p: Program, i: int, t: Any) -> None:
    axis = p.rng.randint(0, t.dim())
    p.both(f"{i}.unsqueeze({axis})", lambda _, pool: pool[i].unsqueeze(axis))


def _diagonal(p: Program, i: int, t: Any) -> None:
    if t.dim() == 2:
        p.both(f"{i}.diagonal()", lambda _, pool: pool[i].diagonal())


def _narrow(p: Program, i: int, t: Any) -> None:
    if t.dim() and t.shape[0] > 1:
        p.both(f"{i}.narrow", lambda _, pool: pool[i].narrow(0, 1, t.shape[0] - 1))


def _chunk(p: Program, i: int, t: Any) -> None:
    if t.dim() and t.shape[0] > 1:
        p.both(f"{i}.chunk(2)[1]", lambda _, pool: pool[i].chunk(2)[1])


def _plain(name: str) -> Callable[[Program, int, Any], None]:
    def method(p: Program, i: int, t: Any) -> None:
        p.both(f"{i}.{name}()", lambda _, pool: getattr(pool[i], name)())

    return method


def _data(p: Program, i: int, t: Any) -> None:
    p.both(f"{i}.data", lambda _, pool: pool[i].data)


def _clone(p: Program, i: int, t: Any) -> None:
    p.both(f"{i}.clone()", lambda library, pool: _copied(library, pool[i]))


def _write(name: str, *values: Any) -> Callable[[Program, int, Any], None]:
    def method(p: Program, i: int, t: Any) -> None:
        given = [p.rng.choice(values)] if values else []

        def write(_: Any, pool: list) -> None:
            getattr(pool[i], name)(*given)

        p.both(f"{i}.{name}{given}", write)

    return method


def _write_other(name: str) -> Callable[[Program, int, Any], None]:
    """A write of another tensor's copy (what overlaps in memory is undefined in torch)."""

    def method(p: Program, i: int, t: Any) -> None:
        same = [j for j, other in enumerate(p.pools[1]) if other.shape == t.shape]
        j = p.rng.choice(same)

        def write(library: Any, pool: list) -> None:
            getattr(pool[i], name)(_copied(library, pool[j]))

        p.both(f"{i}.{name}({j}.clone())", write)

    return method


def _set(p: Program, i: int, t: Any) -> None:
    if t.dim() and t.shape[0]:
        index = p.rng.choice([p.rng.randrange(t.shape[0]), slice(None, None, 2)])

        def write(_: Any, pool: list) -> None:
            pool[i][index] = 5.0

        p.both(f"{i}[{index}] = 5", write)


def _look(p: Program, i: int, t: Any) -> None:
    p.pools[0][i].tolist()


OPERATIONS_BY_NAME: dict[str, Callable[[Program, int, Any], None]] = {
    "slice": _slice, "transpose": _transpose, "shape": _shape, "expand": _expand,
    "select": _select, "unsqueeze": _unsqueeze, "diagonal": _diagonal, "narrow": _narrow,
    "chunk": _chunk, "detach": _plain("detach"), "flatten": _plain("flatten"), "data": _data,
    "clone": _clone, "add_": _write("add_", 1.0, 2.5, 3), "mul_": _write("mul_", 2.0, -1, 0.5),
    "relu_": _write("relu_"), "fill_": _write("fill_", 7.0), "copy_": _write_other("copy_"),
    "add other": _write_other("add_"), "set": _set, "look": _look,
}  # fmt: skip
OPERATIONS = tuple(OPERATIONS_BY_NAME)


def run(seed: int, ours: Any, theirs: Any, steps: int = 12) -> None:
    """One program; Differ where the libraries do."""
    program = Program(seed, ours, theirs)
    for _ in range(steps):
        program.step()
    program.compare()
