"""Products: matmul and its kin, einsum."""

from __future__ import annotations

from typing import Any

from ..frontends.function import function
from ..ir import ops
from ..ir.errors import DTypeError, ShapeError
from ..ir.graph import Value
from .promote import operands


def _same_dtype(a: Value, b: Value, name: str) -> None:
    if a.type.dtype is not b.type.dtype:
        names = {"f32": "float", "f64": "double", "i64": "long", "i32": "int", "f16": "Half"}
        left, right = [names.get(v.type.dtype.name, v.type.dtype.torch_name) for v in (a, b)]
        raise DTypeError(
            f"expected m1 and m2 to have the same dtype, but got: {left} != {right}",
            hint=f"{name} of {a.type.text} and {b.type.text}: convert one with .to(dtype).",
        )


def matmul_of(a: Value, b: Value) -> Value:
    """numpy's matmul: vectors, matrices, and batches that broadcast."""
    ra, rb = len(a.type.shape), len(b.type.shape)
    if not ra or not rb:
        raise ShapeError(
            f"both arguments to matmul need to be at least 1D, but they are {ra}D and {rb}D"
        )
    _same_dtype(a, b, "matmul")
    if a.type.shape[-1] != b.type.shape[max(rb - 2, 0)]:
        raise _mismatch(a, b)
    if rb <= 2:
        return ops.dot(a, b, contract=((ra - 1,), (max(rb - 2, 0),)))
    if ra == 1:
        made = ops.dot(b, a, contract=((rb - 2,), (0,)))
        return made
    batch = ops.broadcast_shapes(a.type.shape[:-2], b.type.shape[:-2])
    if ra == 2:  # a @ each of the batch: one product of all columns
        made = ops.dot(b, a, contract=((rb - 2,), (1,)))
        perm = (*range(rb - 2), rb - 1, rb - 2)
        return ops.permute(made, perm=perm)
    a = ops.broadcast_to(a, (*batch, *a.type.shape[-2:]))
    b = ops.broadcast_to(b, (*batch, *b.type.shape[-2:]))
    n = len(batch)
    axes = tuple(range(n))
    return ops.dot(a, b, contract=((n + 1,), (n,)), batch=(axes, axes))


def _mismatch(a: Value, b: Value) -> ShapeError:
    left = "x".join(map(str, a.type.shape[-2:]))
    right = "x".join(map(str, b.type.shape[-2:]))
    return ShapeError(
        f"mat1 and mat2 shapes cannot be multiplied ({left} and {right}): "
        f"cannot contract {a.type.text} with {b.type.text}"
    )


@function
def matmul(input, other):
    """The matrix product, with numpy's rules for vectors and batches."""
    return matmul_of(input, other)


@function
def mm(input, mat2):
    """The product of two matrices."""
    if len(input.type.shape) != 2 or len(mat2.type.shape) != 2:
        raise ShapeError(
            f"mm takes two matrices, not {input.type.text} and {mat2.type.text}",
            hint="matmul takes batches and vectors.",
        )
    return matmul_of(input, mat2)


@function
def bmm(input, mat2):
    """The products of two batches of matrices."""
    if len(input.type.shape) != 3 or len(mat2.type.shape) != 3:
        raise ShapeError(f"batch1 must be a 3D tensor: {input.type.text} and {mat2.type.text}")
    return matmul_of(input, mat2)


@function
def mv(input, vec):
    """A matrix times a vector."""
    return matmul_of(input, vec)


@function
def dot(input, tensor):
    """The inner product of two vectors."""
    if len(input.type.shape) != 1 or len(tensor.type.shape) != 1:
        raise ShapeError(
            f"1D tensors expected, but got {len(input.type.shape)}D and "
            f"{len(tensor.type.shape)}D tensors"
        )
    return matmul_of(input, tensor)


@function
def inner(input, other):
    """Products summed over the last axes."""
    if not input.type.shape or not other.type.shape:
        return ops.mul(*operands(input, other))
    last = (len(input.type.shape) - 1,), (len(other.type.shape) - 1,)
    return ops.dot(input, other, contract=last)


@function
def outer(input, vec2):
    """All products of two vectors' elements."""
    n, m = input.type.shape[0], vec2.type.shape[0]
    x, y = operands(ops.reshape(input, shape=(n, 1)), ops.reshape(vec2, shape=(1, m)))
    return ops.mul(x, y)


def _combined(base: Value, product: Value, beta: Any, alpha: Any) -> Value:
    if alpha != 1:
        product = ops.mul(*operands(product, alpha, dtype=product.type.dtype))
    if beta == 0:
        return product
    if beta != 1:
        base = ops.mul(*operands(base, beta, dtype=base.type.dtype))
    return ops.add(*operands(base, product))


@function
def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """beta * input + alpha * mat1 @ mat2."""
    return _combined(input, matmul_of(mat1, mat2), beta, alpha)


@function
def addmv(input, mat, vec, *, beta=1, alpha=1):
    """beta * input + alpha * mat @ vec."""
    return _combined(input, matmul_of(mat, vec), beta, alpha)


@function
def addr(input, vec1, vec2, *, beta=1, alpha=1):
    """beta * input + alpha * outer(vec1, vec2)."""
    return _combined(input, outer.body(vec1, vec2), beta, alpha)


@function
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta * input + alpha * batch1 @ batch2."""
    return _combined(input, matmul_of(batch1, batch2), beta, alpha)


@function
def addbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta * input + alpha * the sum of batch1 @ batch2 over the batch."""
    product = ops.reduce_sum(matmul_of(batch1, batch2), axes=(0,))
    return _combined(input, product, beta, alpha)


@function
def trace(input):
    """The sum of the diagonal."""
    from ..ir.dtype import I64

    n, m = input.type.shape
    rows, columns = ops.iota((n, m), 0, I64), ops.iota((n, m), 1, I64)
    return ops.reduce_sum(
        ops.select(ops.eq(rows, columns), input, ops.full_like(0, input)), axes=(0, 1)
    )


@function
def tensordot(a, b, dims=2, out=None):
    """Products summed over pairs of axes."""
    if isinstance(dims, int):
        ra = len(a.type.shape)
        left, right = tuple(range(ra - dims, ra)), tuple(range(dims))
    else:
        left, right = [tuple(d) if isinstance(d, (tuple, list)) else (d,) for d in dims]
        left = tuple([d % len(a.type.shape) for d in left])
        right = tuple([d % len(b.type.shape) for d in right])
    return ops.dot(a, b, contract=(left, right))


# --- einsum ------------------------------------------------------------------------------------


@function
def einsum(equation, *operands):
    """Einstein's sum of products: "bij,bjk->bik". Operands are contracted from left to right."""
    given = (
        operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    )
    terms, output = _parse_einsum(equation, given)
    done, value = terms[0], _diagonals(given[0], terms[0])
    done = _unique(done)
    for i in range(1, len(given)):
        other = _diagonals(given[i], terms[i])
        term = _unique(terms[i])
        later = set(output).union(*terms[i + 1 :]) if i + 1 < len(terms) else set(output)
        value, done = _pair(value, done, other, term, later)
    drop = tuple([i for i, letter in enumerate(done) if letter not in output])
    if drop:
        value = ops.reduce_sum(value, axes=drop)
        done = [letter for letter in done if letter in output]
    perm = tuple([done.index(letter) for letter in output])
    return value if perm == tuple(range(len(perm))) else ops.permute(value, perm=perm)


def _parse_einsum(equation: str, given: Any) -> tuple[list[list[str]], list[str]]:
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(given):
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(parts)}) does not match the "
            f"number of operands ({len(given)})"
        )
    widest = 0
    for part, value in zip(parts, given, strict=True):
        if "..." in part:
            widest = max(widest, len(value.type.shape) - (len(part) - 3))
    terms = []
    for part, value in zip(parts, given, strict=True):
        n = len(value.type.shape) - len(part.replace("...", ""))
        dots = [f"<{i}>" for i in range(widest - n, widest)]
        before, has, after = part.partition("...")
        term = [*before, *dots, *after] if has else list(part)
        if len(term) != len(value.type.shape):
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(term)}) does not match "
                f"the number of dimensions ({len(value.type.shape)}) for an operand"
            )
        terms.append(term)
    everything = [letter for term in terms for letter in term]
    dots = [f"<{i}>" for i in range(widest)]
    if not arrow:
        once = sorted({c for c in everything if everything.count(c) == 1 and c[0] != "<"})
        return terms, [*dots, *once]
    before, has, after = right.partition("...")
    output = [*before, *dots, *after] if has else list(right)
    for letter in output:
        if letter not in everything:
            raise RuntimeError(f"einsum(): output subscript {letter} does not appear in the inputs")
    return terms, output


def _unique(term: list[str]) -> list[str]:
    return list(dict.fromkeys(term))


def _diagonals(value: Value, term: list[str]) -> Value:
    """Takes the diagonal where a letter repeats within one operand."""
    from ..ir.dtype import I64

    letters = list(term)
    while len(set(letters)) != len(letters):
        first = next(i for i, c in enumerate(letters) if c in letters[i + 1 :])
        second = letters.index(letters[first], first + 1)
        shape = value.type.shape
        same = ops.eq(ops.iota(shape, first, I64), ops.iota(shape, second, I64))
        value = ops.select(same, value, ops.full_like(0, value))
        value = ops.reduce_sum(value, axes=(second,))
        letters.pop(second)
    return value


def _pair(
    a: Value, la: list[str], b: Value, lb: list[str], later: set[str]
) -> tuple[Value, list[str]]:
    """One product: letters of both that are needed later are batch axes, others are summed."""
    sizes = dict(zip(la, a.type.shape, strict=True))
    for letter, n in zip(lb, b.type.shape, strict=True):
        if sizes.get(letter, 1) == 1:
            sizes[letter] = n
    a, la = _grown(a, la, lb, sizes)
    b, lb = _grown(b, lb, la, sizes)
    batch = [c for c in la if c in lb and c in later]
    summed = [c for c in la if c in lb and c not in later]
    made = ops.dot(
        a, b,
        contract=(tuple([la.index(c) for c in summed]), tuple([lb.index(c) for c in summed])),
        batch=(tuple([la.index(c) for c in batch]), tuple([lb.index(c) for c in batch])),
    )  # fmt: skip
    rest = [c for c in la if c not in lb] + [c for c in lb if c not in la]
    return made, batch + rest


def _grown(value: Value, letters: list[str], others: list[str], sizes: dict) -> tuple:
    """Axes of size 1 that the other operand has larger are broadcast."""
    shape = tuple([sizes[c] if c in others else d for c, d in zip(letters, value.type.shape)])
    return ops.broadcast_to(value, shape), letters
