"""Stochastic gradient descent."""

from graphc.frontends.updates import update
from graphc.optim.per_parameter import (
    PerParameterOptimizer,
    can_go_together,
    check_fused,
    check_lr,
    check_option,
    decayed,
    number,
)
from graphc.optim.together import sgd, sgd_options

__all__ = ["SGD"]


class SGD(PerParameterOptimizer):
    """``param -= lr * grad``, with momentum where asked.

    The momentum buffer is ``momentum * buffer + (1 - dampening) * grad``; the first one is the
    gradient itself.

    Args:
        params: parameters, or dictionaries of groups.
        lr: learning rate.
        momentum: decay of the momentum buffer; 0 for none.
        dampening: share of the gradient that the buffer leaves out.
        weight_decay: multiple of the parameter that is added to its gradient.
        nesterov: whether the gradient is taken where the momentum leads.
        maximize: whether the objective is maximized.
        foreach, fused: accepted; they change nothing.
        differentiable: whether autograd records the step.

    Raises:
        ValueError: an option is out of its range.
    """

    _counts_steps = False

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0,
        dampening=0,
        weight_decay=0,
        nesterov=False,
        *,
        maximize=False,
        foreach=None,
        differentiable=False,
        fused=None,
    ):
        check_lr(lr)
        check_option(momentum >= 0.0, "momentum value", momentum)
        check_option(weight_decay >= 0.0, "weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        check_fused(fused, foreach, differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _check_grad(self, grad):
        """Sparse gradients are added like dense ones."""

    def _keeps_state(self, group):
        return group["momentum"] != 0

    def _init_state(self, param, state, group):
        pass  # the first buffer is the first gradient

    def _step_together(self, params, group, counters):
        if not can_go_together(params, group):
            return False
        buffers = []
        if group["momentum"] != 0:
            buffers = [self.state[param].get("momentum_buffer") for param in params]
            if any([buffer is None for buffer in buffers]):
                if any(buffer is not None for buffer in buffers):
                    return False
                buffers = []
        options = sgd_options(
            group["momentum"], group["dampening"], number(group["weight_decay"]),
            group["nesterov"], group["maximize"],
        )  # fmt: skip
        grads = [param._grad for param in params]
        if group["momentum"] != 0 and not buffers:
            made, moved = sgd(params, grads, buffers, options, -group["lr"])
            for param, new, buffer in zip(params, made, moved, strict=True):
                self.state[param]["momentum_buffer"] = buffer
                param._write(new)
        else:
            update(sgd, (params, buffers), (params, grads, buffers), options, -group["lr"])
        return True

    def _update(self, param, grad, state, group, step):
        grad = decayed(param, grad, group)
        momentum = group["momentum"]
        if momentum != 0:
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = grad.detach().clone()
            else:
                buffer.mul_(momentum).add_(grad, alpha=1 - group["dampening"])
            grad = grad.add(buffer, alpha=momentum) if group["nesterov"] else buffer
        param.add_(grad, alpha=-number(group["lr"]))
