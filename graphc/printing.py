"""`repr(tensor)` as torch prints it, and the options for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .frontends import modes
from .ir.dtype import BOOL, C64, C128, F64, I64, DType
from .tensor import Tensor


@dataclass
class Options:
    """precision: digits after the point. threshold: elements from which only edges are shown.
    edgeitems: how many at each edge. linewidth: characters a line. sci_mode: None chooses."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


options = Options()
_PROFILES = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Sets how tensors print. A profile ("default", "short", "full") comes before the rest."""
    chosen: dict[str, Any] = dict(_PROFILES.get(profile or "", {}))
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    chosen.update({name: value for name, value in given.items() if value is not None})
    for name, value in chosen.items():
        setattr(options, name, value)
    options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The options, as set_printoptions takes them."""
    return asdict(options)


@contextmanager
def printoptions(**changed: Any) -> Iterator[None]:
    """Other options within a `with` block."""
    before = get_printoptions()
    set_printoptions(**changed)
    try:
        yield
    finally:
        set_printoptions(**before)


# --- numbers -------------------------------------------------------------------------------------


def plain_format(elements: np.ndarray) -> Callable[[Any], str]:
    """How integers and bool print: as wide as the widest."""
    width = max([1, *[len(str(v)) for v in elements.reshape(-1).tolist()]])
    return lambda value: str(value).rjust(width)


def float_format(elements: np.ndarray) -> tuple[Callable[[Any], str], int]:
    """How floats print, and how wide: whole numbers as "2.", others with `precision` digits, and in
    scientific notation where sizes differ by more than 1000 or are extreme."""
    flat = elements.reshape(-1)
    seen = flat[np.isfinite(flat) & (flat != 0)].astype(np.float64)
    if not seen.size:
        return _fixed(1, whole=True), 1
    whole = bool((seen == np.ceil(seen)).all())
    scientific = options.sci_mode
    if scientific is None:
        least, most = np.abs(seen).min(), np.abs(seen).max()
        with np.errstate(over="ignore"):
            scientific = bool(most / least > 1000.0 or most > 1.0e8 or least < 1.0e-4)
    digits = options.precision
    if scientific:
        width = max([len(f"{v:.{digits}e}") for v in seen.tolist()])
        return lambda value: f"{value:{width}.{digits}e}", max(width, 1)
    if whole:
        width = max([len(f"{v:.0f}") + 1 for v in seen.tolist()])
    else:
        width = max([len(f"{v:.{digits}f}") for v in seen.tolist()])
    return _fixed(width, whole), width


def _fixed(width: int, whole: bool) -> Callable[[Any], str]:
    digits = 0 if whole else options.precision

    def form(value: float) -> str:
        point = "." if whole and math.isfinite(value) else ""
        return (f"{value:.{digits}f}" + point).rjust(width)

    return form


def _complex_format(elements: np.ndarray) -> tuple[Callable[[Any], str], int]:
    real, real_width = float_format(elements.real)
    imag, imag_width = float_format(elements.imag)

    def form(value: complex) -> str:
        second = (imag(value.imag) + "j").lstrip()
        return real(value.real) + ("" if second[0] in "+-" else "+") + second

    return form, real_width + imag_width + 1


def _format_of(elements: np.ndarray, dtype: DType) -> tuple[Callable[[Any], str], int]:
    if dtype.kind == "c":
        return _complex_format(elements)
    if dtype.kind == "f":
        return float_format(elements)
    form = plain_format(elements)
    return form, len(form(0 if elements.dtype.kind != "b" else True))


# --- layout --------------------------------------------------------------------------------------


def _edges(array: np.ndarray) -> np.ndarray:
    """The elements that a summary shows."""
    edge = options.edgeitems
    for axis, n in enumerate(array.shape):
        if n > 2 * edge:
            shown = [*range(edge), *range(n - edge, n)]
            array = np.take(array, shown, axis)
    return array


def _vector(array: np.ndarray, indent: int, summary: bool, form: Callable, width: int) -> str:
    per_line = max(1, (options.linewidth - indent) // (width + 2))
    edge = options.edgeitems
    if summary and not edge:
        cells = ["..."]
    elif summary and len(array) > 2 * edge:
        first, last = array[:edge].tolist(), array[-edge:].tolist()
        cells = [*map(form, first), " ...", *map(form, last)]
    else:
        cells = [form(value) for value in array.tolist()]
    lines = [", ".join(cells[i : i + per_line]) for i in range(0, len(cells), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _body(array: np.ndarray, indent: int, summary: bool, form: Callable, width: int) -> str:
    if array.ndim == 0:
        return form(array.item())
    if array.ndim == 1:
        return _vector(array, indent, summary, form, width)
    edge = options.edgeitems
    if summary and len(array) > 2 * edge:
        rows = [_body(array[i], indent + 1, summary, form, width) for i in range(edge)]
        rows.append("...")
        rows += [
            _body(array[i], indent + 1, summary, form, width)
            for i in range(len(array) - edge, len(array))
        ]
    else:
        rows = [_body(row, indent + 1, summary, form, width) for row in array]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def contents(array: np.ndarray, dtype: DType, indent: int = 0) -> str:
    """The elements in brackets, as torch lays them out."""
    if array.size == 0:
        return "[]"
    if dtype.kind == "f" and dtype is not F64:
        array = array.astype(np.float64)
    summary = array.size > options.threshold
    form, width = _format_of(_edges(array) if summary else array, dtype)
    return _body(array, indent, summary, form, width)


def _suffixes(tensor: Tensor, grad_fn: str | None) -> list[str]:
    dtype, default = tensor.dtype, modes.default_dtype()
    shape, place = tuple(tensor.shape), tensor._type.device
    known = (default, C128 if default is F64 else C64, I64, BOOL)
    found = []
    if place.partition(":")[0] != "cpu":
        found.append(f"device='{place}'")
    if place == "meta":
        found.append(f"size={shape}")
        known = (default,)
    elif 0 in shape:
        if len(shape) != 1:
            found.append(f"size={shape}")
        known = (default,)
    elif not options.edgeitems:
        found.append(f"size={shape}")
    if dtype not in known:
        found.append(f"dtype={dtype!r}")
    if grad_fn is not None:
        found.append(f"grad_fn=<{grad_fn}>")
    elif tensor.requires_grad:
        found.append("requires_grad=True")
    return found


def _with_suffixes(text: str, suffixes: Sequence[str], indent: int) -> str:
    last = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if last + len(suffix) + 2 > options.linewidth:
            text += ",\n" + " " * indent + suffix
            last = indent + len(suffix)
        else:
            text += ", " + suffix
            last += len(suffix) + 2
    return text + ")"


def tensor_repr(tensor: Tensor) -> str:
    """tensor([1., 2.], requires_grad=True). Looks at the values."""
    from .nn.parameter import Parameter

    plain = type(tensor) is Tensor or type(tensor) is Parameter
    prefix = "tensor(" if plain else f"{type(tensor).__name__}("
    grad_fn = None
    if tensor._origin is not None and tensor._overtaken(tensor._origin):
        grad_fn = "Invalid"
    elif tensor.grad_fn is not None:
        grad_fn = tensor.grad_fn.name()
    suffixes = _suffixes(tensor, grad_fn)
    if tensor._type.device == "meta":
        text = "..."
    else:
        text = contents(tensor._array(), tensor.dtype, len(prefix))
    return _with_suffixes(prefix + text, suffixes, len(prefix))
