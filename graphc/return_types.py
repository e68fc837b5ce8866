"""torch.return_types: the named tuples that functions with several results return."""

from __future__ import annotations

from collections import namedtuple
from typing import Any


def _named(name: str, *fields: str) -> Any:
    made = namedtuple(name, fields)  # type: ignore[misc]

    def __repr__(self: Any) -> str:
        parts = [f"{field}={value!r}" for field, value in zip(fields, self, strict=True)]
        return f"torch.return_types.{name}(\n" + ",\n".join(parts) + ")"

    made.__repr__ = __repr__  # type: ignore[method-assign]
    made.__module__ = "torch.return_types"
    return made


_VALUES_INDICES = "max min sort topk kthvalue median nanmedian mode cummax cummin".split()
for _name in _VALUES_INDICES:
    globals()[_name] = _named(_name, "values", "indices")
aminmax = _named("aminmax", "min", "max")
slogdet = _named("slogdet", "sign", "logabsdet")
svd = _named("svd", "U", "S", "V")
qr = _named("qr", "Q", "R")
frexp = _named("frexp", "mantissa", "exponent")
histogram = _named("histogram", "hist", "bin_edges")
lu_unpack = _named("lu_unpack", "P", "L", "U")


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'graphc.return_types' has no attribute '{name}'")
