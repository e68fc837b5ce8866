"""torch.cuda where graphc has no CUDA device: questions are answered, work is refused."""

from __future__ import annotations

from typing import Any, NoReturn

from ..ir.errors import DeviceError

__all__ = [
    "current_device", "current_stream", "device", "device_count", "empty_cache", "get_arch_list",
    "get_device_capability", "get_device_name", "get_device_properties", "get_rng_state",
    "get_rng_state_all", "init", "is_available", "is_bf16_supported", "is_initialized",
    "manual_seed", "manual_seed_all", "max_memory_allocated", "max_memory_reserved", "mem_get_info",
    "memory_allocated", "memory_reserved", "reset_peak_memory_stats", "seed", "seed_all",
    "set_device", "set_rng_state", "set_rng_state_all", "stream", "synchronize",
]  # fmt: skip


def is_available() -> bool:
    """Whether a CUDA device can be used: False."""
    return False


def device_count() -> int:
    """How many CUDA devices there are: 0."""
    return 0


def is_initialized() -> bool:
    """Whether CUDA is in use: False."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the device computes in bfloat16: there is none."""
    return False


def get_arch_list() -> list[str]:
    """The architectures that code is made for: none."""
    return []


def empty_cache() -> None:
    """Nothing is cached on a device."""


def _none(*_: Any, **__: Any) -> int:
    return 0


memory_allocated = max_memory_allocated = memory_reserved = max_memory_reserved = _none


def reset_peak_memory_stats(device: Any = None) -> None:
    """Nothing is allocated on a device."""


# Seeding every device is what programs do without asking whether there is one.


def manual_seed(seed: int) -> None:
    """Seeds the current device; there is none."""


def manual_seed_all(seed: int) -> None:
    """Seeds all devices; there are none."""


def seed() -> None:
    """Seeds the current device at random; there is none."""


def seed_all() -> None:
    """Seeds all devices at random; there are none."""


def get_rng_state_all() -> list:
    """The states of all devices' generators: none."""
    return []


def set_rng_state_all(new_states: Any) -> None:
    """Sets the states of all devices' generators; there are none."""


def _refuse(name: str) -> NoReturn:
    raise DeviceError(
        f"cuda.{name}: Torch not compiled with CUDA enabled: no CUDA device is available",
        hint="Use device='cpu'; cuda.is_available() tells.",
    )


def _refused(name: str) -> Any:
    def function(*_: Any, **__: Any) -> NoReturn:
        _refuse(name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "DeviceError: there is no CUDA device."
    return function


current_device = _refused("current_device")
current_stream = _refused("current_stream")
default_stream = _refused("default_stream")
get_device_capability = _refused("get_device_capability")
get_device_name = _refused("get_device_name")
get_device_properties = _refused("get_device_properties")
get_rng_state = _refused("get_rng_state")
init = _refused("init")
mem_get_info = _refused("mem_get_info")
set_device = _refused("set_device")
set_rng_state = _refused("set_rng_state")
set_stream = _refused("set_stream")
synchronize = _refused("synchronize")


class _Refused:
    """A class whose instances need a device."""

    def __init__(self, *_: Any, **__: Any) -> None:
        _refuse(type(self).__name__)


class device(_Refused):
    """Makes a device the current one within a block; DeviceError: there is none."""


class Stream(_Refused):
    """A queue of work on a device; DeviceError: there is none."""


class Event(_Refused):
    """A mark in a stream; DeviceError: there is none."""


class CUDAGraph(_Refused):
    """Recorded work of a device; DeviceError: there is none."""


def __getattr__(name: str) -> Any:
    if name == "amp":
        import importlib

        return importlib.import_module("graphc.cuda.amp")
    raise AttributeError(f"module 'graphc.cuda' has no attribute '{name}'")


def stream(stream: Any) -> Any:
    """A context in which work goes to a stream; None is no stream."""
    from contextlib import nullcontext

    return nullcontext() if stream is None else _refuse("stream")
