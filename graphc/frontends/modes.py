"""The modes of a thread's recording: gradients, inference, default dtype and device.

A step's key holds the mode word, so that a trace never mixes modes.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from ..ir.dtype import F32, DType

_process: dict[str, Any] = {"dtype": F32}
_words: dict[tuple, tuple] = {}


class Modes:
    """One thread's modes.

    known  their word, None where one has changed since
    words  the words with and without gradients, while the other modes stay
    """

    __slots__ = ("__weakref__", "anomaly", "default_device", "grad", "inference", "known", "words")

    def __init__(self) -> None:
        self.grad, self.inference, self.anomaly = True, False, False
        self.default_device = "cpu"
        self.known: Any = None
        self.words: dict[bool, tuple] = {}
        _everywhere.add(self)


_everywhere: weakref.WeakSet[Modes] = weakref.WeakSet()


class _Local(threading.local):
    def __init__(self) -> None:
        self.modes = Modes()


_local = _Local()


def of_thread() -> Modes:
    """This thread's modes."""
    return _local.modes


def word() -> tuple:
    """What a step depends on besides its operands. Interned: equal modes are one object."""
    modes = _local.modes
    found = modes.known
    if found is None:
        now = (modes.grad, modes.inference, _process["dtype"], modes.default_device)
        found = modes.known = modes.words[modes.grad] = _words.setdefault(now, now)
    return found


def _other(modes: Modes) -> None:
    """A mode has changed, and it was not that of gradients."""
    modes.known = None
    modes.words.clear()


def grad_enabled() -> bool:
    modes = _local.modes
    return modes.grad and not modes.inference


def set_grad(enabled: bool) -> bool:
    """Switches the recording of gradients; returns what it was."""
    modes = _local.modes
    before, modes.grad, modes.known = modes.grad, enabled, modes.words.get(enabled)
    return before


def inference() -> bool:
    return _local.modes.inference


def set_inference(enabled: bool) -> bool:
    modes = _local.modes
    before, modes.inference = modes.inference, enabled
    _other(modes)
    return before


def default_dtype() -> DType:
    return _process["dtype"]


def set_default_dtype(dtype: DType) -> None:
    _process["dtype"] = dtype
    for modes in list(_everywhere):
        _other(modes)


def default_device() -> str:
    return _local.modes.default_device


def set_default_device(device: str) -> None:
    modes = _local.modes
    modes.default_device = device
    _other(modes)


def anomaly() -> bool:
    return _local.modes.anomaly


def set_anomaly(enabled: bool) -> bool:
    modes = _local.modes
    before, modes.anomaly = modes.anomaly, enabled
    return before
