"""torch.layout and torch.memory_format: how a tensor's elements lie in memory.

graphc knows one layout, strided. Memory formats are accepted wherever torch takes them; they do not
change how graphc stores a tensor.
"""

from __future__ import annotations


class layout:
    """torch.strided is the only one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"torch.{self._name}"

    def __reduce__(self) -> str:
        return self._name


class memory_format:
    """torch.contiguous_format, torch.channels_last and so on."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"torch.{self._name}"

    def __reduce__(self) -> str:
        return self._name


strided = layout("strided")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
