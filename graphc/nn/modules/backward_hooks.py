"""Full backward hooks: two identity functions around a module's forward see its gradients."""

import warnings

import graphc as torch
from graphc.autograd import Function

__all__ = ["BackwardHooks"]


class _Identity(Function):
    """Pass tensors through; in backward pass their gradients through ``on_grads``."""

    @staticmethod
    def forward(ctx, on_grads, zeros_for_missing, *tensors):
        ctx.on_grads = on_grads
        ctx.set_materialize_grads(zeros_for_missing)
        ctx.mark_non_differentiable(*[t for t in tensors if not t.requires_grad])
        return tensors

    @staticmethod
    def backward(ctx, *grads):
        return None, None, *ctx.on_grads(grads)


class BackwardHooks:
    """The backward hooks of one call of a module.

    Args:
        module: handed to the hooks.
        hooks: called with (module, grad_input, grad_output) when the input gradients are known.
        pre_hooks: called with (module, grad_output) when the output gradients are known.
    """

    def __init__(self, module, hooks, pre_hooks):
        self.module = module
        self.hooks = hooks
        self.pre_hooks = pre_hooks
        self.grad_output = None
        self.input_positions = None
        self.input_count = 0
        self.output_positions = None
        self.output_count = 0

    def wrap_inputs(self, args):
        """Return ``args`` with its tensors passed through the input identity."""
        self.input_count = len(args)
        args, self.input_positions = _pass_through(self._on_input_grads, True, args)
        return args

    def wrap_outputs(self, result):
        """Return ``result``, a tensor or a tuple, passed through the output identity."""
        if not isinstance(result, (torch.Tensor, tuple)):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple "
                f"of Tensors but received {type(result)}",
                stacklevel=5,
            )
        outputs = result if isinstance(result, tuple) else (result,)
        self.output_count = len(outputs)
        outputs, self.output_positions = _pass_through(self._on_output_grads, False, outputs)
        return outputs if isinstance(result, tuple) else outputs[0]

    def _on_input_grads(self, grads):
        if self.grad_output is None:  # a second backward to an inner input only
            return grads
        grad_input = _scatter(self.input_positions, grads, self.input_count)
        for hook in self.hooks:
            changed = hook(self.module, grad_input, self.grad_output)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                _check_count("hook", "grad_input", changed, grad_input)
                grad_input = changed
        self.grad_output = None
        return tuple(grad_input[i] for i in self.input_positions)

    def _on_output_grads(self, grads):
        grad_output = _scatter(self.output_positions, grads, self.output_count)
        for hook in self.pre_hooks:
            changed = hook(self.module, grad_output)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                _check_count("pre hook", "grad_output", changed, grad_output)
                grad_output = changed
        if self.input_positions is None:
            self._run_without_input_grads(grad_output)
        else:
            self.grad_output = grad_output
        return tuple(grad_output[i] for i in self.output_positions)

    def _run_without_input_grads(self, grad_output):
        if self.hooks:
            warnings.warn(
                "Full backward hook is firing when gradients are computed with respect to "
                "module outputs since no inputs require gradients.",
                stacklevel=5,
            )
        grad_input = (None,) * self.input_count
        for hook in self.hooks:
            changed = hook(self.module, grad_input, grad_output)
            if changed is not None and not all(grad is None for grad in changed):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always "
                    "return None or None for all gradients."
                )


def _pass_through(on_grads, zeros_for_missing, args):
    """Return (args with tensors replaced by identities, their positions or None)."""
    positions = [i for i, arg in enumerate(args) if isinstance(arg, torch.Tensor)]
    tensors = [args[i] for i in positions]
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors):
        return args, None
    replaced = list(args)
    for i, tensor in zip(
        positions, _Identity.apply(on_grads, zeros_for_missing, *tensors), strict=True
    ):
        replaced[i] = tensor
    # A named tuple is built from positional values, a tuple from one iterable.
    return tuple(replaced) if type(args) is tuple else type(args)(*replaced), positions


def _scatter(positions, values, count):
    placed = [None] * count
    for i, value in zip(positions, values, strict=True):
        placed[i] = value
    return tuple(placed)


def _check_count(kind, what, changed, expected):
    if len(changed) != len(expected):
        raise RuntimeError(
            f"Backward {kind} returned an invalid number of {what}, got {len(changed)}, "
            f"but expected {len(expected)}"
        )
