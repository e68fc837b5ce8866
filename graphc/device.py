"""`device`: where a tensor lives. "cpu", "cpu:1" (a second CPU device), "meta" (no memory)."""

from __future__ import annotations

from typing import Any

from .ir.errors import DeviceError

_KNOWN = ("cpu", "meta", "cuda")


class device:
    """torch.device("cpu"), torch.device("cpu", 1), torch.device("meta")."""

    __slots__ = ("index", "type")
    type: str
    index: int | None

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index if index is None else index
        name, colon, number = str(type).partition(":")
        if colon:
            if index is not None or not number.isdigit():
                raise RuntimeError(f"Invalid device string: '{type}'")
            index = int(number)
        if name not in _KNOWN:
            raise RuntimeError(
                f"Expected one of cpu, cuda, meta device type at start of device string: {name}"
            )
        self.type, self.index = name, index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self):
        return device, (self.type, self.index)

    def __enter__(self) -> device:
        from .frontends import modes

        self_before = modes.default_device()
        _stack.append(self_before)
        modes.set_default_device(name_of(self))
        return self

    def __exit__(self, *_: object) -> None:
        from .frontends import modes

        modes.set_default_device(_stack.pop())


_stack: list[str] = []


def name_of(where: Any) -> str:
    """The IR's name of a device; DeviceError where this machine has none such."""
    from .frontends import modes

    if where is None:
        return modes.default_device()
    found = where if isinstance(where, device) else device(where)
    if found.type == "cuda":
        raise DeviceError(
            "Torch not compiled with CUDA enabled: no CUDA device is available",
            hint="Use device='cpu'; cuda.is_available() tells.",
        )
    if found.type == "cpu" and found.index in (None, 0):
        return "cpu"
    return str(found)
