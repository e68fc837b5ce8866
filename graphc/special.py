"""torch.special: functions of mathematics under their names there."""

from __future__ import annotations

import math

from .frontends.function import FUNCTIONS, function
from .functional import install
from .functional.activation import log_softmax, softmax
from .functional.promote import floating, operands
from .ir import ops
from .tensor import Tensor

__all__ = [
    "digamma", "entr", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln",
    "log1p", "log_softmax", "logit", "logsumexp", "multigammaln", "ndtr", "ndtri",
    "psi", "round", "sinc", "softmax", "xlog1py", "xlogy",
]  # fmt: skip

assert install is not None  # registers what follows
digamma = psi = FUNCTIONS["digamma"]
erf, erfc, erfinv = FUNCTIONS["erf"], FUNCTIONS["erfc"], FUNCTIONS["erfinv"]
exp2, expm1, log1p = FUNCTIONS["exp2"], FUNCTIONS["expm1"], FUNCTIONS["log1p"]
expit = FUNCTIONS["sigmoid"]
gammaln = FUNCTIONS["lgamma"]
logit, logsumexp = FUNCTIONS["logit"], FUNCTIONS["logsumexp"]
round, sinc, xlogy = FUNCTIONS["round"], FUNCTIONS["sinc"], FUNCTIONS["xlogy"]


@function(register=False)
def entr(input):
    """-x log x, 0 at 0, -inf below."""
    x = floating(input)
    zero = ops.full_like(0.0, x)
    safe = ops.select(ops.lt(zero, x), x, ops.full_like(1.0, x))
    made = ops.neg(ops.mul(safe, ops.log(safe)))
    made = ops.select(ops.lt(x, zero), ops.full_like(-math.inf, x), made)
    return ops.select(ops.isnan(x), x, made)


@function(register=False)
def ndtr(input):
    """The distribution function of the standard normal distribution."""
    x = floating(input)
    half, scale = ops.full_like(0.5, x), ops.full_like(-math.sqrt(0.5), x)
    return ops.mul(half, ops.erfc(ops.mul(x, scale)))


@function(register=False)
def ndtri(input):
    """The inverse of ndtr."""
    x = floating(input)
    two, one = ops.full_like(2.0, x), ops.full_like(1.0, x)
    made = ops.erfinv(ops.sub(ops.mul(two, x), one))
    return ops.mul(made, ops.full_like(math.sqrt(2.0), x))


@function(register=False)
def xlog1py(input, other):
    """input * log1p(other), 0 where input is 0."""
    x, y = operands(input, other)
    x, y = floating(x), floating(y)
    zero = ops.full_like(0.0, x)
    is_zero = ops.eq(x, zero)
    safe = ops.select(is_zero, ops.full_like(1.0, y), y)
    made = ops.select(is_zero, zero, ops.mul(x, ops.log1p(safe)))
    return ops.select(ops.isnan(y), y, made)


def multigammaln(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension p."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    total = input.mul(0) + p * (p - 1) / 4 * math.log(math.pi)
    for j in range(p):
        total = total + (input - j / 2).lgamma()
    return total
