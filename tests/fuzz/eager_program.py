"""Random eager programs, as lines of Python over a module called `torch`.

They mix what is hard together: views and writes through them, memory that numpy sees, modes,
looks at values, and autograd with `retain_graph` and `create_graph`. torch itself runs each line
while the program is made, so that shapes fit and numbers stay in a range; some lines are kept
because they raise.
"""

import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGE = 50.0
Line = str
# What graphc is known to do otherwise than torch, and why: such lines are not made. An entry goes
# when its difference does.
OPEN: dict[str, str] = {}
_OPEN = [re.compile(pattern) for pattern in OPEN]


@dataclass(frozen=True)
class EagerProgram:
    seed: int
    lines: tuple[Line, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def execute(line: Line, space: dict[str, Any]) -> str:
    """Runs one line; the name of the kind of error that it raised, or nothing."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            exec(line, space)
    except RuntimeError:
        return "RuntimeError"
    except Exception as error:
        return type(error).__name__
    return ""


def usable(tensor: Any) -> bool:
    """False for what torch forbids from now on: one of several views whose base was written."""
    try:
        return tensor.grad_fn is None or True
    except RuntimeError:
        return False


class Maker:
    """Makes one program; `space` is torch's namespace after the lines so far."""

    def __init__(self, seed: int, torch: Any) -> None:
        self.random = random.Random(seed)
        self.torch = torch
        self.space: dict[str, Any] = {"torch": torch, "np": np}
        self.lines: list[Line] = []
        self.count = 0

    # --- values ------------------------------------------------------------------------------

    def name(self, prefix: str = "v") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def tensors(self, admits: Callable[[Any], bool] = lambda t: True) -> list[str]:
        return [
            name
            for name, value in self.space.items()
            if name[0] in "vg"
            and isinstance(value, self.torch.Tensor)
            and usable(value)
            and admits(value)
        ]

    def pick(self, admits: Callable[[Any], bool] = lambda t: True) -> str | None:
        found = self.tensors(admits)
        return self.random.choice(found[-8:]) if found else None

    def floating(self) -> str | None:
        return self.pick(lambda t: t.is_floating_point() and t.numel() > 0)

    def __getitem__(self, name: str) -> Any:
        return self.space[name]

    def choice(self, *options: Any) -> Any:
        return self.random.choice(options)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # --- lines -------------------------------------------------------------------------------

    def try_line(self, line: Line) -> bool:
        """Adds the line if torch runs it and its numbers stay in range; rarely one that raises."""
        if any(pattern.search(line) for pattern in _OPEN):
            return False
        before = dict(self.space)
        raised = execute(line, self.space)
        self.space.pop("__builtins__", None)
        if raised:
            self.space = before
            if raised == "RuntimeError" and self.chance(0.25):
                self.lines.append(line)
                return True
            return False
        self.lines.append(line)
        wild = self._wild()
        if (
            wild
            and ("/" in line or "divide" in line)
            and set(wild) <= set(self.space) - set(before)
        ):
            self.space = before  # a division by zero: the signs of zeros are another matter
            self.lines.pop()
            return False
        if wild:
            self._tame()
        return True

    def _wild(self) -> list[str]:
        found = []
        for name in self.tensors(lambda t: t.is_floating_point() and t.numel() > 0):
            peak = float(self.space[name].detach().abs().max())
            if not peak < LARGE:
                found.append(name)
        return found

    def _tame(self) -> None:
        """Squashes what has grown, under a new name or in place."""
        for name in self._wild():
            line = f"{name} = torch.tanh({name}.detach().nan_to_num(0.5, 1.0, -1.0))"
            execute(line, self.space)
            self.lines.append(line)
        self.space.pop("__builtins__", None)


def numbers(maker: Maker, shape: tuple) -> str:
    """Multiples of a quarter, which every dtype holds."""
    count = int(np.prod(shape))
    flat = [maker.random.randint(-8, 8) / 4 for _ in range(count)]
    return repr(np.array(flat).reshape(shape).tolist())


SHAPES = ((), (3,), (4,), (2, 3), (3, 4), (2, 2, 3), (1, 3), (3, 1), (5,), (4, 4))


def create(maker: Maker) -> Line:
    name, shape = maker.name(), maker.choice(*SHAPES)
    dtype = maker.choice("float32", "float32", "float64", "int64", "int32")
    values = numbers(maker, shape)
    if dtype.startswith("int"):
        values = repr((np.array(eval(values)) * 4).astype(int).tolist())
    if maker.chance(0.35):
        array = maker.name("n")
        grad = ".requires_grad_()" if dtype[0] == "f" and maker.chance(0.3) else ""
        return f"{array} = np.array({values}, np.{dtype}); {name} = torch.from_numpy({array}){grad}"
    grad = ", requires_grad=True" if dtype[0] == "f" and maker.chance(0.5) else ""
    return f"{name} = torch.tensor({values}, dtype=torch.{dtype}{grad})"


UNARY = ("tanh", "sin", "cos", "exp", "neg", "abs", "relu", "sigmoid", "square")
FLAT = ("floor", "sign", "round")  # open: their gradient is None instead of zeros
BINARY = ("add", "sub", "mul", "maximum", "minimum", "true_divide")


def unary(maker: Maker) -> Line | None:
    x = maker.floating()
    if x is None:
        return None
    names = UNARY if maker[x].requires_grad else UNARY + FLAT
    return f"{maker.name()} = torch.{maker.choice(*names)}({x})"


def binary(maker: Maker) -> Line | None:
    x, y = maker.pick(), maker.pick()
    if maker.chance(0.3):
        y = maker.choice("2", "0.5", "-1", "3.0", "True")
    op = maker.choice("+", "-", "*", "/")
    if maker.chance(0.5):
        return f"{maker.name()} = {x} {op} {y}"
    return f"{maker.name()} = torch.{maker.choice(*BINARY)}({x}, {y})" if y in maker.space else None


def compare(maker: Maker) -> Line | None:
    x = maker.pick()
    y = maker.choice(maker.pick(), "0", "0.5")
    made, mask = maker.name(), maker.name("m")
    op = maker.choice("<", "<=", "==", ">", "!=")
    return f"{mask} = {x} {op} {y}; {made} = torch.where({mask}, {x}, {maker.choice(y, '1.0')})"


def viewed(maker: Maker, x: str) -> str:
    """An expression for a view of x."""
    t = maker[x]
    rank = t.dim()
    # flatten() of one axis is left out: torch returns the tensor itself
    flat = "reshape(-1)" if rank == 1 else "flatten()"
    options = [f"{x}.view(-1)", f"{x}.unsqueeze(0)", f"{x}.unsqueeze(-1)", f"{x}.reshape(-1)",
               f"{x}.detach()", f"{x}[...]", f"{x}.{flat}", f"{x}.squeeze()"]  # fmt: skip
    if rank >= 1:
        n = t.shape[0]
        a = maker.random.randrange(n) if n else 0
        options += [f"{x}[{a}:]", f"{x}[::2]", f"{x}[{a}]", f"{x}[-1]", f"{x}.narrow(0, {a}, 1)",
                    f"{x}[None]", f"{x}.expand(2, *{x}.shape)", f"{x}.chunk(2)[0]",
                    f"{x}.unbind(0)[{a}]", f"{x}[..., 0]"]  # fmt: skip
    if rank >= 2:
        options += [f"{x}.t()" if rank == 2 else f"{x}.transpose(0, -1)", f"{x}[:, 1:]",
                    f"{x}.permute({', '.join(map(str, reversed(range(rank))))})",
                    f"{x}.transpose(0, 1)[1:]", f"{x}[1:, ::2]", f"{x}.mT",
                    f"{x}.diagonal()", f"{x}.select(1, 0)"]  # fmt: skip
    return maker.random.choice(options)


def view(maker: Maker) -> Line | None:
    x = maker.pick()
    return x and f"{maker.name()} = {viewed(maker, x)}"


def shares_memory(x: Any, y: Any) -> bool:
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


def sharing(maker: Maker, x: str) -> list[str]:
    """The other tensors on the memory of x."""
    return [y for y in maker.tensors(lambda t: shares_memory(t, maker[x])) if y != x]


def write(maker: Maker) -> Line | None:
    """In place: a method, an augmented assignment, or an assignment to a part."""
    x = maker.pick(lambda t: 0 not in t.stride())
    if x is None:
        return None
    target = x if maker.chance(0.5) else viewed(maker, x)
    if "expand" in target:
        return None  # several elements in one place: torch refuses some writes, by the op
    y = maker.choice(maker.pick(), maker.pick(), "2", "0.5", "-1")
    if y in maker.space and shares_memory(maker[x], maker[y]):
        y = "2"  # what is read and written at once, in another order, is nobody's promise
    if y in maker.space and maker[y].requires_grad and not maker[x].is_floating_point():
        y = "2"  # open: torch says that the ints require grad then
    how = maker.random.randrange(6)
    if how == 0:
        return f"{target}.{maker.choice('add_', 'mul_', 'sub_', 'copy_')}({y})"
    if how == 1:
        return f"{target}.{maker.choice('zero_()', 'fill_(0.25)', 'neg_()', 'tanh_()', 'abs_()')}"
    if how == 2:
        return f"{x} {maker.choice('+=', '*=', '-=')} {y}"
    if how == 3:
        return f"{x}[{maker.choice('0', '1:', '::2', '...', '-1', ':, 0')}] = {y}"
    if how == 4:
        return f"{x}[{x} > {maker.choice('0', '0.5')}] = {maker.choice('0', '1', '-0.5')}"
    return f"torch.add({x}, {y}, out={x})"


def reduce(maker: Maker) -> Line | None:
    x = maker.floating()
    if x is None:
        return None
    rank = maker[x].dim()
    options = [f"{x}.sum()", f"{x}.mean()", f"{x}.max()", f"torch.softmax({x}, -1)",
               f"{x}.cumsum(0)", f"{x}.norm()"]  # fmt: skip
    if rank:
        options += [f"{x}.sum(0)", f"{x}.mean(-1, keepdim=True)", f"{x}.amax(0)", f"{x}.argmax(-1)",
                    f"{x}.max(0).values", f"{x}.sort(-1).values", f"{x}.var(0)",
                    f"{x}.prod(0)"]  # fmt: skip
    return f"{maker.name()} = {maker.random.choice(options)}"


def join(maker: Maker) -> Line | None:
    x, y = maker.pick(), maker.pick()
    if x is None or y is None:
        return None
    call = maker.choice("cat(({0}, {1}))", "stack(({0}, {0}))", "matmul({0}, {1})",
                        "cat(({0}, {0}), -1)", "hstack(({0}, {1}))")  # fmt: skip
    return f"{maker.name()} = torch.{call.format(x, y)}"


def lookup(maker: Maker) -> Line | None:
    x = maker.pick(lambda t: t.dim() >= 1 and t.shape[0] > 1)
    if x is None:
        return None
    index = f"torch.tensor([{maker.choice(0, 1)}, 0, 1])"
    options = [f"{x}[{index}]", f"{x}.index_select(0, {index})", f"{x}[{x} > 0]",
               f"{x}.index_add(0, {index[:-2]}]), {x}[:3])", f"torch.flip({x}, (0,))",
               f"torch.roll({x}, 1, 0)"]  # fmt: skip
    return f"{maker.name()} = {maker.random.choice(options)}"


def to_numpy(maker: Maker) -> Line | None:
    x = maker.pick()
    return x and f"{maker.name('n')} = {x}{maker.choice('.detach()', '.detach()', '')}.numpy()"


def numpy_write(maker: Maker) -> Line | None:
    """Not where a leaf lies: backward would read torch's changed memory, and graphc's snapshot."""
    leaves = [maker[t].detach().numpy() for t in maker.tensors(lambda t: t.requires_grad)]
    found = [
        name
        for name, array in maker.space.items()
        if name[0] == "n" and name != "np"
        if not any(np.may_share_memory(array, leaf) for leaf in leaves)
    ]
    if not found:
        return None
    n = maker.random.choice(found)
    return maker.choice(f"{n}[...] = {n} + 1", f"{n} *= 2", f"{n}.flat[0] = 3", f"{n}[...] = 0",
                        f"{maker.name()} = torch.from_numpy({n})",
                        f"{maker.name()} = torch.as_tensor({n})")  # fmt: skip


def look(maker: Maker) -> Line | None:
    x = maker.pick()
    how = maker.choice("{0}.sum().item()", "{0}.tolist()", "float({0}.sum())",
                       "bool(({0} > 0).any())", "{0}.shape",
                       "repr({0}.shape)")  # fmt: skip
    return x and f"{maker.name('r')} = {how.format(x)}"


def number_is_freed(maker: Maker) -> bool:
    """Open: in torch a product with a number keeps it, and a second backward finds it gone."""
    text = "\n".join(maker.lines)
    freed = re.search(r"(backward|grad)\((?!.*_graph)", text)
    return bool(freed and re.search(r"[*/] (2|0.5|-1|3.0|True)\b", text))


def backward(maker: Maker) -> Line | None:
    x = maker.pick(lambda t: t.requires_grad)
    if x is None or number_is_freed(maker):
        return None
    scalar = maker.choice("({0} * {0}).sum()", "torch.tanh({0}).sum()").format(x)
    keep = maker.choice("", "retain_graph=True", "create_graph=True")
    return f"{scalar}.backward({keep})"


def gradient(maker: Maker) -> Line | None:
    leaves = maker.tensors(lambda t: t.requires_grad and t.is_leaf)
    x = maker.pick(lambda t: t.requires_grad)
    if not leaves or x is None or number_is_freed(maker):
        return None
    leaf, made = maker.random.choice(leaves), maker.name("g")
    options = maker.choice("", ", create_graph=True", ", retain_graph=True", ", allow_unused=True")
    scalar = maker.choice("({0} * {0}).sum()", "torch.sin({0}).sum()").format(x)
    return f"({made},) = torch.autograd.grad({scalar}, {leaf}{options})"


def grads(maker: Maker) -> Line | None:
    x = maker.pick(lambda t: t.requires_grad and t.is_leaf)
    if x is None or maker[x].grad is None:
        return None
    return maker.choice(f"{x}.grad = None", f"{x}.grad.zero_()", f"{maker.name()} = {x}.grad",
                        f"{maker.name()} = {x}.grad.clone()")  # fmt: skip


def state(maker: Maker) -> Line | None:
    x = maker.pick()
    if x is None:
        return None
    calls = ("clone()", "contiguous()", "to(torch.float64)", "to(torch.float32)", "int()",
             "double()",
             # on a copy: a leaf on the memory of older views makes those require grad too
             "detach().clone().requires_grad_()")  # fmt: skip
    if maker[x]._base is None and not maker[x].is_contiguous():
        calls = calls[:1] + calls[2:]  # open: here a result is contiguous, whatever the operand
    options = [f"{maker.name()} = {x}.{call}" for call in calls]
    options += [f"{x}.retain_grad()", f"del {x}"]
    # Nobody is promised that a gradient is no view. Open: a view made in no_grad of a leaf that is
    # detached in place requires grad still.
    ends = [y for y in sharing(maker, x) if maker[y].requires_grad and maker[y].is_leaf]
    if x[0] != "g" and not ends:
        options.append(f"{x}.detach_()")
    if maker[x].is_leaf and not maker[x].requires_grad:
        # open: what a backward has saved stays what it was; in torch it is written here
        options += [f"{x}.data.add_(1)", f"{maker.name()} = {x}.data"]
    return maker.random.choice(options)


def in_mode(maker: Maker) -> Line | None:
    """Another line under a mode."""
    inner = maker.random.choice((binary, unary, write, view, reduce))(maker)
    mode = maker.choice("no_grad()", "no_grad()", "enable_grad()", "set_grad_enabled(False)",
                        "inference_mode()")  # fmt: skip
    if inner is None:
        return None
    return f"with torch.{mode}: {inner}"


KINDS: dict[Callable[[Maker], Line | None], int] = {
    create: 3, unary: 4, binary: 6, compare: 2, view: 6, write: 7, reduce: 4, join: 2, lookup: 2,
    to_numpy: 2, numpy_write: 3, look: 2, backward: 3, gradient: 2, grads: 2, state: 3, in_mode: 3,
}  # fmt: skip


def eager_program(seed: int, torch: Any) -> EagerProgram:
    """The program of that seed: 8 to 24 lines."""
    maker = Maker(seed, torch)
    while not maker.tensors():
        maker.try_line(create(maker))
    wanted = maker.random.randint(8, 24)
    for _ in range(20 * wanted):
        if len(maker.lines) >= wanted:
            break
        if not maker.tensors():
            maker.try_line(create(maker))
        (kind,) = maker.random.choices(list(KINDS), list(KINDS.values()))
        line = kind(maker)
        if line:
            maker.try_line(line)
    return EagerProgram(seed, tuple(maker.lines))
