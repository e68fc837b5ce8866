"""torch.amp: gradient scaling works; autocast is there for programs that switch it off."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any

from .autograd import no_grad
from .ir.dtype import BF16, F16, DType
from .ir.errors import UnsupportedError
from .tensor import Tensor

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


class autocast(ContextDecorator):
    """Computes in a shorter element type within; UnsupportedError unless enabled=False."""

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if enabled and device_type == "cuda":
            warnings.warn(
                "User provided device_type of 'cuda', but CUDA is not available. Disabling",
                stacklevel=2,
            )
        elif enabled:
            raise UnsupportedError(
                f"autocast on {device_type!r}",
                hint="Convert the model with .to(torch.bfloat16), or pass enabled=False.",
            )

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *_: object) -> None: ...


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast works on a kind of device: False."""
    return False


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on: False."""
    return False


def get_autocast_dtype(device_type: str) -> DType:
    """What autocast would compute in."""
    return BF16 if device_type == "cpu" else F16


def custom_fwd(
    fwd: Callable | None = None, *, device_type: str, cast_inputs: DType | None = None
) -> Any:
    """Of a Function's forward: how autocast treats it. There is none, so it stays as it is."""
    return (lambda function: function) if fwd is None else fwd


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Any:
    """Of a Function's backward: it runs as its forward did. It stays as it is."""
    return (lambda function: function) if bwd is None else bwd


class GradScaler:
    """Multiplies losses so that small gradients survive in a short element type.

    Steps whose gradients are not finite are left out, and the scale shrinks; after
    growth_interval good steps it grows.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        if enabled and device == "cuda":
            warnings.warn(
                "torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.",
                stacklevel=2,
            )
            enabled = False
        self._enabled, self._device = enabled, device
        self._scale, self._growth, self._backoff = init_scale, growth_factor, backoff_factor
        self._interval, self._good_steps = growth_interval, 0
        self._found: dict[int, bool] = {}  # optimizer -> whether a gradient was not finite

    def scale(self, outputs: Any) -> Any:
        """The outputs times the scale: a tensor, or nested ones."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, (list, tuple)):
            return type(outputs)([self.scale(x) for x in outputs])
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def unscale_(self, optimizer: Any) -> None:
        """Divides the gradients of an optimizer's parameters by the scale, once a step."""
        if not self._enabled:
            return
        if id(optimizer) in self._found:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        bad = False
        with no_grad():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.mul_(1.0 / self._scale)
                        bad = bad or not bool(p.grad.isfinite().all())
        self._found[id(optimizer)] = bad

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(), unless a gradient is not finite."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        if id(optimizer) not in self._found:
            self.unscale_(optimizer)
        return None if self._found[id(optimizer)] else optimizer.step(*args, **kwargs)

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Sets the scale for the next step."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        elif any(self._found.values()):
            self._scale, self._good_steps = self._scale * self._backoff, 0
        else:
            self._good_steps += 1
            if self._good_steps == self._interval:
                self._scale, self._good_steps = self._scale * self._growth, 0
        self._found.clear()

    def get_scale(self) -> float:
        """The scale; 1 where scaling is off."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        return self._growth

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff = new_factor

    def get_growth_interval(self) -> int:
        return self._interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._interval = new_interval

    def is_enabled(self) -> bool:
        """Whether losses are scaled."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; empty where scaling is off."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale, "growth_factor": self._growth, "backoff_factor": self._backoff,
            "growth_interval": self._interval, "_growth_tracker": self._good_steps,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a state_dict."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled "
                "instance of GradScaler."
            )
        self._scale, self._growth = state_dict["scale"], state_dict["growth_factor"]
        self._backoff, self._interval = state_dict["backoff_factor"], state_dict["growth_interval"]
        self._good_steps = state_dict["_growth_tracker"]
