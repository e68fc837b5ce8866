"""The same Python expression evaluated with graphc and with torch, and the two results compared."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc

DEFAULTS = {
    "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4) % 7 - 2.5,
    "m": np.arange(12, dtype=np.float32).reshape(3, 4) ** 2 % 11,
    "v": np.array([3.0, -1.0, 2.0, 3.0, 0.5], np.float32),
    "s": np.array(1.5, np.float32),
    "n": np.arange(24, dtype=np.int64).reshape(2, 3, 4) % 5 - 1,
    "i": np.array([1, 0, 1], np.int64),
    "j": np.array([[2, 0], [-1, 1]], np.int64),
    "b": np.arange(24).reshape(2, 3, 4) % 3 == 0,
    "e": np.zeros((2, 0, 3), np.float32),
}


def evaluate(expression: str, torch: Any, grad: bool = False, arrays: Any = None) -> tuple:
    """(result, tensors by name): "a; b; c" runs statements, the last one is the result."""
    names: dict[str, Any] = {}
    for name, array in (arrays or DEFAULTS).items():
        made = torch.tensor(array.copy())
        if grad and array.dtype.kind == "f":
            made.requires_grad_(True)
        names[name] = made
    inputs = dict(names)
    names.update(torch=torch, F=torch.nn.functional, np=np)
    *statements, last = expression.split("; ")
    for statement in statements:
        exec(statement, names)
    return eval(last, names), inputs


def plain(result: Any) -> Any:
    """A result as numpy arrays and Python values."""
    if hasattr(result, "detach"):
        return result.detach().numpy()
    if isinstance(result, (tuple, list)):
        return [plain(part) for part in result]
    return result


def leaves(result: Any) -> list:
    if isinstance(result, (tuple, list)):
        return [leaf for part in result for leaf in leaves(part)]
    return [result]


def same(ours: Any, theirs: Any, where: str, tolerance: float = 1e-6) -> None:
    a, b = leaves(plain(ours)), leaves(plain(theirs))
    assert len(a) == len(b), where
    for x, y in zip(a, b, strict=True):
        assert type(x) is type(y), where
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, f"{where}: {x.dtype} instead of {y.dtype}"
            assert x.shape == y.shape, f"{where}: {x.shape} instead of {y.shape}"
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=where)
        else:
            assert x == y, where


def check(expression: str, torch: Any, arrays: Any = None) -> None:
    """Values, element types and shapes are torch's; so are the inputs afterwards."""
    ours, our_inputs = evaluate(expression, graphc, arrays=arrays)
    theirs, their_inputs = evaluate(expression, torch, arrays=arrays)
    same(ours, theirs, expression)
    same(list(our_inputs.values()), list(their_inputs.values()), f"inputs after {expression}")


def check_gradient(expression: str, torch: Any, arrays: Any = None) -> None:
    """The gradients of a weighted sum of the results are torch's."""
    found = []
    for library in (graphc, torch):
        result, inputs = evaluate(expression, library, grad=True, arrays=arrays)
        total = None
        for k, leaf in enumerate(leaves(result)):
            if not hasattr(leaf, "requires_grad") or not leaf.requires_grad:
                continue
            weights = np.arange(1, leaf.numel() + 1, dtype=np.float32).reshape(tuple(leaf.shape))
            part = (leaf * library.tensor(np.sin(weights + k))).sum()
            total = part if total is None else total + part
        assert total is not None, f"{expression} has no result with a gradient"
        total.backward()
        found.append([None if t.grad is None else t.grad.numpy() for t in inputs.values()])
    same(*found, f"gradient of {expression}")


def error_of(expression: str, torch: Any, arrays: Any = None) -> Exception:
    try:
        result = evaluate(expression, torch, arrays=arrays)[0]
        plain(result)
    except Exception as error:
        return error
    raise AssertionError(f"{expression} raised nothing")


def check_error(expression: str, torch: Any, text: bool = True) -> None:
    """The error is of torch's type (or a subclass) and begins with torch's text."""
    ours, theirs = error_of(expression, graphc), error_of(expression, torch)
    assert isinstance(ours, type(theirs)), f"{expression}: {ours!r} instead of {theirs!r}"
    if text:
        first = str(theirs).splitlines()[0].strip()
        assert str(ours).splitlines()[0].strip() == first, expression
