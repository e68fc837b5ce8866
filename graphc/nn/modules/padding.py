"""Padding of the last one, two or three dimensions."""

from graphc.nn import functional as F
from graphc.nn.modules.module import Module
from graphc.nn.modules.utils import _ntuple, _pair, _quadruple

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]

_sextuple = _ntuple(6)


class _Pad(Module):
    """Pads by (left, right[, top, bottom[, front, back]]), or by one number on all sides.

    Negative numbers crop.
    """

    _sides = None
    _mode = None

    def __init__(self, padding):
        super().__init__()
        self.padding = type(self)._sides(padding)

    def forward(self, input):
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self):
        return f"{self.padding}"


class _CircularPad(_Pad):
    _mode = "circular"
    _input_dims = ()

    def forward(self, input):
        if input.dim() not in self._input_dims:
            few, many = self._input_dims
            raise ValueError(f"expected {few}D or {many}D input (got {input.dim()}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPad):
    """Pads (N, C, L) or (C, L) with the other end."""

    _sides = staticmethod(_pair)
    _input_dims = (2, 3)


class CircularPad2d(_CircularPad):
    """Pads (N, C, H, W) or (C, H, W) with the other ends."""

    _sides = staticmethod(_quadruple)
    _input_dims = (3, 4)


class CircularPad3d(_CircularPad):
    """Pads (N, C, D, H, W) or (C, D, H, W) with the other ends."""

    _sides = staticmethod(_sextuple)
    _input_dims = (4, 5)


class _ConstantPad(_Pad):
    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Pads the last dimension with ``value``."""

    _sides = staticmethod(_pair)


class ConstantPad2d(_ConstantPad):
    """Pads the last two dimensions with ``value``."""

    _sides = staticmethod(_quadruple)


class ConstantPad3d(_ConstantPad):
    """Pads the last three dimensions with ``value``."""

    _sides = staticmethod(_sextuple)


class ZeroPad1d(ConstantPad1d):
    """Pads the last dimension with zeros."""

    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


class ZeroPad2d(ConstantPad2d):
    """Pads the last two dimensions with zeros."""

    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


class ZeroPad3d(ConstantPad3d):
    """Pads the last three dimensions with zeros."""

    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


class _ReflectionPad(_Pad):
    _mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """Pads (N, C, L) or (C, L) with its mirror image, the edge not repeated."""

    _sides = staticmethod(_pair)


class ReflectionPad2d(_ReflectionPad):
    """Pads (N, C, H, W) or (C, H, W) with its mirror image, the edge not repeated."""

    _sides = staticmethod(_quadruple)


class ReflectionPad3d(_ReflectionPad):
    """Pads (N, C, D, H, W) or (C, D, H, W) with its mirror image, the edge not repeated."""

    _sides = staticmethod(_sextuple)


class _ReplicationPad(_Pad):
    _mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """Pads (N, C, L) or (C, L) with its edge."""

    _sides = staticmethod(_pair)


class ReplicationPad2d(_ReplicationPad):
    """Pads (N, C, H, W) or (C, H, W) with its edge."""

    _sides = staticmethod(_quadruple)


class ReplicationPad3d(_ReplicationPad):
    """Pads (N, C, D, H, W) or (C, D, H, W) with its edge."""

    _sides = staticmethod(_sextuple)
