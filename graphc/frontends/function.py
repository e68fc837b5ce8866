"""`@function`: a PyTorch function written over IR values, called on tensors.

The body takes `Value`s where the caller gave tensors, and numbers, sizes, strings as they are. It
runs once for each new step of a trace; a repeated call only compares a key. A Python float that
changes from call to call becomes a run-time operand: the body then sees a `Number`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

from ..ir import ops
from ..ir.build import Builder
from ..ir.dims import AnyDim, Dim
from ..ir.dtype import DType
from ..ir.errors import GraphcError
from ..ir.graph import Value
from . import modes, record
from .locate import located, user_site
from .record import Cell, Number, Recorder, recorder
from .saved import keeps_any
from .steps import steps
from .symbolic import SMALLEST, expression
from .views import chain_between

FUNCTIONS: dict[str, Function] = {}
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}  # accepted as in torch
_ALWAYS_CONSTANT = (0.0, 1.0, -1.0, 2.0, 0.5, float("inf"), float("-inf"))


class _Tensors:
    """What this module needs to know of tensors; `graphc.tensor` fills it in."""

    cls: Any = None
    storage: Any = None
    cell: Callable[[Any], Cell]
    wrap: Callable[..., Any]
    wrap_view: Callable[..., Any]
    predicted: Callable[..., Any] | None = None  # of `predict`: a call that is expected


tensors = _Tensors


class Function:
    """A callable of torch's name. See `function` for the options."""

    def __init__(
        self,
        body: Callable,
        view: bool | str = False,
        floats: bool = True,
        ints: bool = False,
        sizes: tuple[int, ...] = (),
        parts: str = "",
    ) -> None:
        self.body, self.view, self.floats, self.ints, self.sizes = body, view, floats, ints, sizes
        self.parts = parts
        self.predictable = not (sizes or parts)
        self.name = body.__name__
        update_wrapper(self, body)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            out = kwargs.pop("out", None)
            if out is not None:
                result = self(*args, **kwargs)
                _check_operands(out, result, (*args, *kwargs.values()))
                return _into(out, result, self.name)
            for name in _NUMPY_NAMES:
                if name in kwargs:
                    kwargs[_NUMPY_NAMES[name]] = kwargs.pop(name)
        if self.predictable:
            rec = recorder()
            made = steps.predict(rec, self, args, kwargs)
            if made is not None:
                if made.__class__ is tensors.cls:
                    return made
                owner = args[0]  # of a view: what was made is its cell
                return tensors.wrap_view(owner, owner._read(), [made], rec.state.extra, self)
        return self._call(args, kwargs)

    def _call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        if self.predictable and tensors.predicted is not None:
            return tensors.predicted(self, args, kwargs)
        return Call(self, args, kwargs).record()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: the instance is the first argument."""
        if instance is None:
            return self
        return _bound(self, instance)

    def __repr__(self) -> str:
        return f"<built-in function {self.name}>"

    def __reduce__(self):
        return _named, (self.name,)


class Composed(Function):
    """A function in plain Python over tensors: it calls others, or looks at values."""

    def __init__(self, body: Callable) -> None:
        super().__init__(body)
        self.predictable = False

    def _call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        return self.body(*args, **kwargs)


def composed(body: Callable) -> Composed:
    """Makes a torch function of a Python function over tensors, under its name."""
    made = FUNCTIONS[body.__name__] = Composed(body)
    return made


def _named(name: str) -> Function:
    return FUNCTIONS[name]


def _bound(function: Function, instance: Any) -> Callable:
    def method(*args: Any, **kwargs: Any) -> Any:
        return function(instance, *args, **kwargs)

    method.__name__ = function.name
    method.__doc__ = function.__doc__
    return method


def function(
    body: Callable | None = None,
    *,
    view: bool | str = False,
    floats: bool = True,
    ints: bool = False,
    sizes: tuple[int, ...] = (),
    parts: str = "",
    register: bool = True,
) -> Any:
    """Makes a torch function of a body over values.

    view     the result may share the first operand's storage (it does where the body only moves);
             "strict": where strides do not permit that, torch's error is raised
    floats   a float argument may become a run-time operand
    ints     an int may too: the function's ints are numbers to compute with, not sizes or dims
    sizes    positions of arguments that are sizes: they become symbols where they vary
    parts    torch's name of a view whose results may not be written while gradients are recorded
    """

    def make(body: Callable) -> Function:
        made = Function(body, view, floats, ints, sizes, parts)
        if register:
            FUNCTIONS[made.name] = made
        return made

    return make(body) if body is not None else make


class Call:
    """One call: tensors found, and the rest turned into a key."""

    __slots__ = (
        "args", "cells", "dims", "floats", "function", "kwargs", "owners", "plain_ints", "read",
        "tape", "unread",
    )  # fmt: skip

    def __init__(
        self,
        function: Function,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        read: Sequence[Cell] = (),
    ) -> None:
        """read: the cells of the first tensors among the arguments, where somebody has them."""
        self.function, self.args, self.kwargs, self.read = function, args, kwargs, read
        self.cells: list[Cell] = []
        self.owners: list[Any] = []
        self.floats: list[float] = []  # and the ints of a function that computes with them
        self.dims: list[AnyDim] = []  # in a trace with symbols: every int, as an expression of them
        self.plain_ints = False  # no int is taken for an expression of the symbols

    def record(self) -> Any:
        rec = recorder()
        self.tape, self.unread = rec.tape, iter(self.read)
        shape = tuple([self._part(a) for a in self.args])
        if self.kwargs:
            shape += tuple([(k, self._part(v)) for k, v in self.kwargs.items()])
        before = rec.state
        if rec.tape.sizes and before.refused:
            if self._signature() in before.refused:
                rec.go_static()
                return self._again(rec)
            if not self.plain_ints and ("ints", *self._signature()) in before.refused:
                self.plain_ints = True
                return self._again(rec)
        slots = [rec.slot_of(cell) for cell in self.cells]
        ints_are_sizes = rec.tape.sizes and not self.dims and not self.function.ints
        if rec.tape is not self.tape or (ints_are_sizes and _has_ints(shape)):
            return self._again(rec)  # a symbol, or a tape, is there only now
        mode = modes.word()
        key = (self.function, mode, shape, *slots)
        if self.function.sizes and key not in rec.state.edges and self._name_sizes(rec):
            return self._again(rec)
        if self.floats and self.function.floats and key not in rec.state.edges:
            key, slots = self._with_numbers(rec, key, mode, shape, slots)
        try:
            made = rec.step(key, slots, self._build)
        except Exception as error:
            if rec.tape.sizes:  # not with symbols, then
                signature = self._signature()
                if any([dim.__class__ is Dim for dim in self.dims]):
                    # The k of topk may be the number of rows by chance.
                    before.refused |= {("ints", *signature)}
                    self.plain_ints = True
                    return self._again(rec)
                guesses = rec.guesses_since(before)
                rec.go_static()
                result = self._again(rec)  # an error of the user's is raised again here
                if guesses:
                    record.forget(guesses)
                else:
                    rec.refuse(before, signature, self.function.name, error)
                return result
            if isinstance(error, GraphcError):
                raise located(error) from None
            if isinstance(error, AttributeError) and _is_argument(error.obj):
                raise TypeError(
                    f"{self.function.name}(): an argument must be Tensor, "
                    f"not {type(error.obj).__name__}"
                ) from None
            raise
        result = self._wrap(rec, made)
        rec.cut_if_long()
        return result

    def _name_sizes(self, rec: Recorder) -> bool:
        """Makes symbols of sizes that were others when the program was here; whether there were."""
        if not rec.eager or rec.tape.static:
            return False
        sizes: list[int] = []
        for position in self.function.sizes:
            size = self.args[position]
            sizes += size if isinstance(size, (tuple, list)) else (size,)
        place = (self.function, len(sizes), user_site())
        (known,) = rec.state.numbers.setdefault(place, [sizes])
        bound = rec.tape.sizes.values()
        varying = {
            n: other
            for n, other in zip(sizes, known, strict=True)
            if n != other and n >= SMALLEST and n not in bound
        }
        for n, other in varying.items():
            rec.name_size(n, other)
        return bool(varying)

    def _signature(self) -> tuple:
        """What a refusal to be recorded with symbols is remembered by."""
        return (self.function, *[(c.type.dtype, len(c.type.shape)) for c in self.cells])

    def _again(self, rec: Recorder) -> Any:
        self.cells, self.owners, self.floats, self.dims = [], [], [], []
        return self.record()

    # --- the key -------------------------------------------------------------------------------

    def _part(self, value: Any) -> Any:
        """The key's part for one argument; collects the tensors within it."""
        cls = value.__class__
        if cls is float:
            self.floats.append(value)
            return (float, value, str(value)) if value == 0 or value != value else (float, value)
        if cls is int:
            if self.function.ints:
                self.floats.append(value)
                return (int, value)
            sizes = self.tape.sizes
            if not sizes:
                return (int, value)
            if self.plain_ints:
                self.dims.append(value)
                return (int, value)
            factors = [n for cell in self.cells for n in cell.type.shape if n.__class__ is int]
            dim = expression(value, sizes, factors)
            self.dims.append(dim)
            return (int, value) if dim.__class__ is int else (Dim, dim)
        if cls is str or cls is DType or value is None:
            return value
        if cls is bool:
            return (bool, value)
        if isinstance(value, tensors.cls):
            self.cells.append(next(self.unread, None) or tensors.cell(value))
            self.owners.append(value)
            return TENSOR
        if isinstance(value, (list, tuple)):
            return (cls.__name__, *[self._part(item) for item in value])
        if isinstance(value, slice):
            return ("slice", *[self._part(v) for v in (value.start, value.stop, value.step)])
        if isinstance(value, dict):
            return ("dict", *[(k, self._part(v)) for k, v in value.items()])
        if cls.__module__.partition(".")[0] == "torch":
            raise _foreign(self.function.name, value)
        return value

    def _with_numbers(self, rec: Recorder, key: Any, mode: Any, shape: Any, slots: list[int]):
        """Where other floats were seen in this place, they become operands from now on."""
        ints = self.function.ints
        erased = (self.function, mode, _erase(shape, ints), *slots)
        seen = rec.state.numbers.setdefault(erased, [])
        changing = [f for f in self.floats if not _stays_constant(f)]
        if not changing:
            return key, slots
        if not seen:
            seen.append(tuple(changing))
            return key, slots
        device = self.cells[0].type.device if self.cells else "cpu"
        slots = [*slots, *[rec.number_slot(f, device) for f in changing]]
        return (self.function, "numbers", mode, _erase(shape, ints), *slots), slots

    # --- building ------------------------------------------------------------------------------

    def _build(self, *values: Value) -> tuple[list[Value], list[bool], Any]:
        n = len(self.cells)
        numbers = None
        if len(values) > n:
            kinds = {"f": float, "i": int}
            numbers = iter([Number(v, kinds[v.type.dtype.kind]) for v in values[n:]])
        dims = iter(self.dims) if self.dims else None
        put = _Put(iter(values[:n]), numbers, dims, self.function.ints)
        args = [put(a) for a in self.args]
        kwargs = {k: put(v) for k, v in self.kwargs.items()}
        result = self.function.body(*args, **kwargs)
        leaves: list[Value] = []
        structure = _structure(result, leaves)
        wants = modes.grad_enabled() and any(cell.requires_grad for cell in self.cells)
        given = set(values)  # (one of these may be returned as it is)
        grads = [
            wants and v.type.dtype.kind in "fc" and (v in given or not _stopped(v)) for v in leaves
        ]
        if any(grads) and any([cell.inference for cell in self.cells]):
            self._check_not_saved(values)
        if self.function.view:
            nodes = Builder.current().nodes  # a view that changes nothing is still a view
            base = values[0]
            leaves = [ops.reshape(v, shape=v.type.shape) if v is base else v for v in leaves]
            structure = (structure, [chain_between(nodes, values[0], v) for v in leaves], {})
        if not wants and any(cell.requires_grad for cell in self.cells):
            leaves = [ops.detach(v) if v.type.dtype.kind in "fc" else v for v in leaves]
        return leaves, grads, structure

    def _check_not_saved(self, values: Sequence[Value]) -> None:
        """Values made in inference mode cannot be kept for a backward."""
        made = {v for v, cell in zip(values, self.cells) if cell.inference}
        wanted = {v for v, cell in zip(values, self.cells) if cell.requires_grad is True}
        if keeps_any(Builder.current().nodes, made, wanted):
            raise RuntimeError(
                "Inference tensors cannot be saved for backward. Please do not use Tensors "
                "created in inference mode in computation tracked by autograd. To work "
                "around this, you can make a clone to get a normal tensor and use it in "
                "autograd, or use `torch.no_grad()` instead of `torch.inference_mode()`."
            )

    def _wrap(self, rec: Recorder, made: list[Cell]) -> Any:
        state = rec.state
        structure = state.extra
        if self.function.view:
            read = self.cells[0]
            return tensors.wrap_view(self.owners[0], read, made, structure, self.function)
        return _restore(structure, iter([tensors.wrap(cell) for cell in made]))


def _foreign(name: str, value: Any) -> Exception:
    """The error of a value of PyTorch's own."""
    text = f"{name.strip('_')} was given a {type(value).__name__} of PyTorch's own"
    if not hasattr(value, "__dlpack__"):
        return TypeError(f"{text}: {value!r}. Use graphc's.")
    return TypeError(f"{text}. graphc.from_dlpack(tensor) makes a graphc tensor on its memory.")


def _stopped(value: Value) -> bool:
    return value.node is not None and value.node.op is ops.detach


class _TensorMark:
    def __repr__(self) -> str:
        return "TENSOR"


TENSOR = _TensorMark()


def _stays_constant(number: float) -> bool:
    """Numbers that code is specialised to: those of _ALWAYS_CONSTANT, and nan."""
    return number in _ALWAYS_CONSTANT or number != number or abs(number) >= 2.0**63


def _erase(part: Any, ints: bool) -> Any:
    """A key's part without the numbers that may become operands."""
    if isinstance(part, tuple):
        if len(part) >= 2 and (part[0] is float or (ints and part[0] is int)):
            return part if _stays_constant(part[1]) else part[0]
        return tuple([_erase(item, ints) for item in part])
    return part


def _is_argument(value: Any) -> bool:
    """Whether a body that failed took a user's value, which is not a tensor, for one."""
    return value is None or isinstance(value, (str, bool, int, float, complex, list, tuple, dict))


def _has_ints(part: Any) -> bool:
    if isinstance(part, tuple):
        return (len(part) == 2 and part[0] is int) or any([_has_ints(item) for item in part])
    return False


class _Put:
    """An argument with values in place of tensors, Numbers of floats, expressions of ints."""

    def __init__(self, values: Any, numbers: Any, dims: Any, ints: bool) -> None:
        self.values, self.numbers, self.dims = values, numbers, dims
        self.kinds = (float, int) if ints else (float,)

    def __call__(self, argument: Any) -> Any:
        cls = argument.__class__
        if isinstance(argument, tensors.cls):
            return next(self.values)
        if cls is int and self.dims is not None:
            return next(self.dims)
        if cls in self.kinds and self.numbers is not None and not _stays_constant(argument):
            return next(self.numbers)
        if isinstance(argument, (list, tuple)):
            items = [self(item) for item in argument]
            return cls(items) if cls in (list, tuple) else tuple(items)
        if isinstance(argument, slice):
            return slice(*[self(v) for v in (argument.start, argument.stop, argument.step)])
        if isinstance(argument, dict):
            return {k: self(v) for k, v in argument.items()}
        return argument


def _structure(result: Any, leaves: list[Value]) -> Any:
    """The shape of a result: None for one value, else (constructor, parts)."""
    if isinstance(result, Value):
        leaves.append(result)
        return None
    if isinstance(result, (list, tuple)):
        make = result.__class__ if hasattr(result, "_fields") else tuple
        if isinstance(result, list):
            make = list
        return (make, [_structure(item, leaves) for item in result])
    return ("constant", result)


def _restore(structure: Any, tensors_made: Any) -> Any:
    if structure is None:
        return next(tensors_made)
    make, parts = structure
    if make == "constant":
        return parts
    items = [_restore(part, tensors_made) for part in parts]
    return make(*items) if hasattr(make, "_fields") else make(items)


def _check_operands(out: Any, result: Any, operands: Sequence[Any]) -> None:
    """An operand that is broadcast is not resized to become the output too."""
    if not any([x is out for x in operands]):
        return
    shape, wanted = tuple(out.shape), tuple(result.shape)
    shapes = [tuple(x.shape) for x in operands if isinstance(x, tensors.cls)]
    if shape != wanted and all([_broadcasts(one, wanted) for one in shapes]):
        raise RuntimeError(
            f"output with shape {list(shape)} doesn't match the broadcast shape {list(wanted)}"
        )


def _broadcasts(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) <= len(wanted) and all(
        [n in (1, m) for n, m in zip(reversed(shape), reversed(wanted))]
    )


def _into(out: Any, result: Any, name: str) -> Any:
    """`out=`: writes a result into given tensors."""
    if isinstance(out, (tuple, list)):
        for target, value in zip(out, result, strict=True):
            target._write_out(value, name)
        return out
    return out._write_out(result, name)
