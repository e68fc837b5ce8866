"""Random tensors, from torch's CPU stream bit for bit, and the generators behind them.

Draws happen at once, in the order of the program, under a lock: a draw that nobody reads still
advances the stream, as in torch.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np

from ..device import device as device_class
from ..device import name_of
from ..frontends import modes
from ..frontends.random_stream import RandomStream
from ..frontends.record import recorder
from ..ir.dtype import I64, U8, DType
from ..tensor import Tensor, from_array
from .create import _finish, empty, sizes_of

_generators: weakref.WeakSet[Generator] = weakref.WeakSet()
_registry = threading.Lock()  # around changes of that set


class Generator:
    """A source of random numbers: torch.Generator()."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device = device_class(device)
        self.stream = RandomStream()
        self.lock = threading.RLock()
        with _registry:
            _generators.add(self)

    def manual_seed(self, seed: int) -> Generator:
        """Starts the stream anew from a seed."""
        with self.lock:
            self.stream.manual_seed(int(seed))
        return self

    def initial_seed(self) -> int:
        """The seed that the stream was started from."""
        return self.stream.initial_seed()

    def seed(self) -> int:
        """Starts the stream from a seed that nobody can foresee, and returns it."""
        with self.lock:
            return self.stream.seed()

    def get_state(self) -> Tensor:
        """The state as 5,056 bytes, as torch has it."""
        with self.lock:
            return from_array(np.array(self.stream.get_state(), np.uint8))

    def set_state(self, new_state: Tensor) -> Generator:
        """Continues from a state of `get_state`, graphc's or torch's."""
        if not isinstance(new_state, Tensor) or new_state.dtype is not U8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        with self.lock:
            self.stream.set_state(new_state._array())
        return self

    def clone_state(self) -> Generator:
        """Another generator that continues as this one does."""
        return Generator().set_state(self.get_state())


default_generator = Generator()

_held: list[Generator] = []


def _hold_for_fork() -> None:
    """A child must not find a generator in the middle of a draw of a thread that it lacks."""
    _registry.acquire()
    _held.extend(_generators)
    for generator in _held:
        generator.lock.acquire()


def _release_after_fork() -> None:
    for generator in _held:
        generator.lock.release()
    _held.clear()
    _registry.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_for_fork,
        after_in_parent=_release_after_fork,
        after_in_child=_release_after_fork,
    )


def manual_seed(seed: int) -> Generator:
    """Starts the default stream anew from a seed."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Starts the default stream from a seed that nobody can foresee."""
    return default_generator.seed()


def initial_seed() -> int:
    """The default stream's seed."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The default stream's state."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Continues the default stream from a state."""
    default_generator.set_state(new_state)


def draw(generator: Generator | None, fill: str, *args: Any, **kwargs: Any) -> np.ndarray:
    """One fill of the stream, under the generator's lock."""
    generator = generator or default_generator
    on_draw = recorder().on_draw
    if on_draw is not None:
        on_draw()
    with generator.lock:
        return getattr(generator.stream, fill)(*args, **kwargs)


def _made(draw_it: Callable[[], Any], shape: tuple, dtype: DType, device: Any) -> Tensor:
    """A tensor with drawn numbers; one without memory draws nothing."""
    place = name_of(device)
    if place == "meta":
        return empty(shape, dtype=dtype, device=place)
    drawn = np.asarray(draw_it()).astype(dtype.numpy, copy=False)
    return from_array(drawn.reshape(shape), place)


def _count(shape: tuple) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def rand(*size, generator=None, out=None, dtype=None, layout=None, device=None,
         requires_grad=False, pin_memory=False):  # fmt: skip
    """Uniform numbers in [0, 1)."""
    shape, dtype = sizes_of(size), dtype or modes.default_dtype()
    fill = partial(draw, generator, "uniform", _count(shape), dtype.numpy)
    made = _made(fill, shape, dtype, device)
    return _finish(made, requires_grad) if out is None else out._write_out(made)


def randn(*size, generator=None, out=None, dtype=None, layout=None, device=None,
          requires_grad=False, pin_memory=False):  # fmt: skip
    """Normal numbers of mean 0 and variance 1."""
    shape, dtype = sizes_of(size), dtype or modes.default_dtype()
    made = _made(partial(_normals, generator, shape, dtype), shape, dtype, device)
    return _finish(made, requires_grad) if out is None else out._write_out(made)


def _normals(generator: Any, shape: tuple, dtype: DType) -> np.ndarray:
    if dtype.kind != "c":
        return draw(generator, "normal", _count(shape), dtype.numpy)
    real = dtype.to_real().numpy
    pairs = draw(generator, "normal", 2 * _count(shape), real, 0.0, float(np.sqrt(0.5)))
    return np.ascontiguousarray(pairs).view(dtype.numpy)


def randint(low=0, high=None, size=None, *, generator=None, out=None, dtype=I64, layout=None,
            device=None, requires_grad=False, pin_memory=False):  # fmt: skip
    """Integers in [low, high)."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if low >= high:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        )
    shape = sizes_of((size,))
    fill = partial(draw, generator, "randint", low, high, _count(shape))
    made = _made(fill, shape, dtype, device)
    return made if out is None else out._write_out(made)


def randperm(n, *, generator=None, out=None, dtype=I64, layout=None, device=None,
             requires_grad=False, pin_memory=False):  # fmt: skip
    """0 to n - 1 in random order."""
    made = _made(partial(draw, generator, "randperm", n), (n,), dtype, device)
    return made if out is None else out._write_out(made)


def rand_like(input, *, generator=None, dtype=None, layout=None, device=None,
              pin_memory=False, requires_grad=False, memory_format=None):  # fmt: skip
    """Uniform numbers in the shape and type of another tensor."""
    return rand(*input.shape, generator=generator, dtype=dtype or input.dtype,
                device=device or input.device, requires_grad=requires_grad)  # fmt: skip


def randn_like(input, *, generator=None, dtype=None, layout=None, device=None,
               pin_memory=False, requires_grad=False, memory_format=None):  # fmt: skip
    """Normal numbers in the shape and type of another tensor."""
    return randn(*input.shape, generator=generator, dtype=dtype or input.dtype,
                 device=device or input.device, requires_grad=requires_grad)  # fmt: skip


def randint_like(input, low, high=None, *, generator=None, dtype=None, layout=None, device=None,
                 pin_memory=False, requires_grad=False, memory_format=None):  # fmt: skip
    """Integers in [low, high) in the shape of another tensor."""
    if high is None:
        low, high = 0, low
    return randint(low, high, tuple(input.shape), generator=generator, dtype=dtype or input.dtype,
                   device=device or input.device, requires_grad=requires_grad)  # fmt: skip


def normal(mean, std=None, size=None, *, generator=None, out=None):
    """Normal numbers of given means and standard deviations."""
    std = 1.0 if std is None else std
    if size is not None:
        made = randn(size, generator=generator) * std + mean
        return made if out is None else out._write_out(made)
    like = mean if isinstance(mean, Tensor) else std
    shape = like.shape if not (isinstance(mean, Tensor) and isinstance(std, Tensor)) else None
    if shape is None:
        shape = (mean + std).shape
    made = randn(*shape, generator=generator, dtype=like.dtype) * std + mean
    return made if out is None else out._write_out(made)


def bernoulli(input, p=None, *, generator=None, out=None):
    """1 with the probability that the input says (or p), else 0."""
    if p is not None:
        made = bernoulli_(input.detach().clone(), p, generator=generator)
    else:
        shape = tuple(input.shape)
        made = _made(
            lambda: draw(generator, "bernoulli_each", input._array()), shape, input.dtype,
            input.device,
        )  # fmt: skip
    return made if out is None else out._write_out(made)


def multinomial(input, num_samples, replacement=False, *, generator=None, out=None):
    """Places drawn with the probabilities of each row."""
    array = draw(generator, "multinomial", input._array(), num_samples, replacement)
    made = from_array(np.asarray(array, np.int64))
    return made if out is None else out._write_out(made)


def poisson(input, generator=None):
    """Not offered: torch's stream for it is not known."""
    from ..ir.errors import UnsupportedError

    raise UnsupportedError("poisson is not offered yet", hint="numpy.random.poisson has one.")


# --- in place ----------------------------------------------------------------------------------


def _nothing_on_meta(fill: Callable) -> Callable:
    """A tensor without memory is not filled: nothing is drawn for it."""

    @wraps(fill)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self if self._type.device == "meta" else fill(self, *args, **kwargs)

    return method


def _fill(self: Tensor, array: np.ndarray) -> Tensor:
    """Writes drawn numbers in the order in which the elements lie in memory, as torch does."""
    shape, strides = tuple(self.shape), self.stride()
    order = sorted(range(len(shape)), key=lambda i: -strides[i])
    laid = np.asarray(array).astype(self.dtype.numpy).reshape([shape[i] for i in order])
    back = sorted(range(len(order)), key=order.__getitem__)
    made = from_array(np.ascontiguousarray(laid.transpose(back)).reshape(shape), self._type.device)
    return self._write(made)


@_nothing_on_meta
def uniform_(self, from_=0, to=1, *, generator=None, **named):
    """Fills with uniform numbers in [from, to)."""
    low, high = named.get("from", from_), to
    if low > high:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={low} > to={high}"
        )
    return _fill(self, draw(generator, "uniform", self.numel(), self.dtype.numpy, low, high))


@_nothing_on_meta
def normal_(self, mean=0, std=1, *, generator=None):
    """Fills with normal numbers."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    array = draw(
        generator, "normal", self.numel(), self.dtype.numpy, mean, std,
        contiguous=self.is_contiguous(),
    )  # fmt: skip
    return _fill(self, array)


@_nothing_on_meta
def log_normal_(self, mean=1, std=2, *, generator=None):
    """Fills with exp of normal numbers."""
    return _fill(self, draw(generator, "log_normal", self.numel(), self.dtype.numpy, mean, std))


@_nothing_on_meta
def bernoulli_(self, p=0.5, *, generator=None):
    """Fills with 1 with probability p, else 0."""
    if isinstance(p, Tensor):
        shaped = p.expand(self.shape) if tuple(p.shape) != tuple(self.shape) else p
        return _fill(self, draw(generator, "bernoulli_each", shaped._array()))
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    return _fill(self, draw(generator, "bernoulli", self.numel(), p))


@_nothing_on_meta
def random_(self, from_=None, to=None, *, generator=None, **named):
    """Fills with integers: of the element type's range, below `to`, or in [from, to)."""
    low = named.get("from", from_)
    if low is None and to is None:
        return _fill(self, draw(generator, "random_", self.numel(), self.dtype.numpy))
    if to is None:
        low, to = 0, low
    return _fill(self, draw(generator, "randint", low or 0, to, self.numel()))


@_nothing_on_meta
def exponential_(self, lambd=1, *, generator=None):
    """Fills with exponentially distributed numbers."""
    if lambd <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    return _fill(self, draw(generator, "exponential", self.numel(), self.dtype.numpy, lambd))


@_nothing_on_meta
def geometric_(self, p, *, generator=None):
    """Fills with geometrically distributed numbers."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    return _fill(self, draw(generator, "geometric", self.numel(), p))


@_nothing_on_meta
def cauchy_(self, median=0, sigma=1, *, generator=None):
    """Fills with Cauchy distributed numbers."""
    return _fill(self, draw(generator, "cauchy", self.numel(), self.dtype.numpy, median, sigma))


def install(cls: type) -> None:
    """Puts the in-place fills on Tensor."""
    fills = (
        uniform_, normal_, log_normal_, bernoulli_, random_, exponential_, geometric_, cauchy_,
        bernoulli, multinomial,
    )  # fmt: skip
    for function in fills:
        setattr(cls, function.__name__, function)


class fork_rng:
    """Restores the default stream's state at the end of the block."""

    def __init__(self, devices: Any = None, enabled: bool = True, device_type: str = "cpu") -> None:
        self.enabled = enabled

    def __enter__(self) -> None:
        self.state = get_rng_state() if self.enabled else None

    def __exit__(self, *_: object) -> None:
        if self.state is not None:
            set_rng_state(self.state)
