"""The modes of a thread's recording: gradients, inference, default dtype and device.

A step's key holds the mode word, so that a trace never mixes modes.
"""

from __future__ import annotations

import threading
from typing import Any

from ..ir.dtype import F32, DType


class _Modes(threading.local):
    grad = True
    inference = False
    anomaly = False
    default_device = "cpu"


_modes = _Modes()
_process: dict[str, Any] = {"dtype": F32}


def word() -> tuple:
    """What a step depends on besides its operands."""
    return (_modes.grad, _modes.inference, _process["dtype"], _modes.default_device)


def grad_enabled() -> bool:
    return _modes.grad and not _modes.inference


def set_grad(enabled: bool) -> bool:
    """Switches the recording of gradients; returns what it was."""
    before, _modes.grad = _modes.grad, enabled
    return before


def inference() -> bool:
    return _modes.inference


def set_inference(enabled: bool) -> bool:
    before, _modes.inference = _modes.inference, enabled
    return before


def default_dtype() -> DType:
    return _process["dtype"]


def set_default_dtype(dtype: DType) -> None:
    _process["dtype"] = dtype


def default_device() -> str:
    return _modes.default_device


def set_default_device(device: str) -> None:
    _modes.default_device = device


def anomaly() -> bool:
    return _modes.anomaly


def set_anomaly(enabled: bool) -> bool:
    before, _modes.anomaly = _modes.anomaly, enabled
    return before
