"""The updates of all parameters of a group, recorded as one step of the program.

The arithmetic is that of the updates one by one, in their order, so the bits are the same; only
the Python between them is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from graphc.frontends.function import function
from graphc.functional.pointwise import add, addcdiv, addcmul, div, lerp, maximum, mul, sqrt


@dataclass(frozen=True)
class AdamOptions:
    """What does not change from step to step. Made by `adam_options`: equal ones are one object."""

    beta1: float
    beta2: float
    eps: float
    amsgrad: bool
    maximize: bool
    decoupled: bool
    weight_decay: float


adam_options = lru_cache(typed=True)(AdamOptions)


@function(register=False)
def adam(params, grads, averages, squares, largest, options, decay, correction, rate):
    """New (params, averages, squares, largest squares).

    decay: what decoupled weight decay multiplies parameters by; correction: the square root of
    the second bias correction; rate: minus the corrected learning rate.
    """
    made = ([], [], [], [])
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if options.maximize:
            grad = mul.body(grad, -1.0)
        if options.weight_decay:
            if options.decoupled:
                param = mul.body(param, decay)
            else:
                grad = add.body(grad, param, alpha=options.weight_decay)
        average = lerp.body(averages[i], grad, 1 - options.beta1)
        scaled = mul.body(squares[i], options.beta2)
        square = addcmul.body(scaled, grad, grad, value=1 - options.beta2)
        used = square
        if options.amsgrad:
            used = maximum.body(largest[i], square)
            made[3].append(used)
        denominator = add.body(div.body(sqrt.body(used), correction), options.eps)
        made[0].append(addcdiv.body(param, average, denominator, value=rate))
        made[1].append(average)
        made[2].append(square)
    return made


@dataclass(frozen=True)
class SgdOptions:
    """What does not change from step to step. Made by `sgd_options`: equal ones are one object."""

    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    maximize: bool


sgd_options = lru_cache(typed=True)(SgdOptions)


@function(register=False)
def sgd(params, grads, buffers, options, rate):
    """New (params, momentum buffers); rate is minus the learning rate."""
    made = ([], [])
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if options.maximize:
            grad = mul.body(grad, -1.0)
        if options.weight_decay:
            grad = add.body(grad, param, alpha=options.weight_decay)
        if options.momentum:
            if buffers:
                decayed = mul.body(buffers[i], options.momentum)
                buffer = add.body(decayed, grad, alpha=1 - options.dampening)
            else:
                buffer = add.body(grad, 0.0) if grad is grads[i] else grad
            made[1].append(buffer)
            grad = add.body(grad, buffer, alpha=options.momentum) if options.nesterov else buffer
        made[0].append(add.body(param, grad, alpha=rate))
    return made
