"""Optimizers that update each parameter from its own gradient and state."""

import numpy as np

import graphc as torch
from graphc.frontends import modes
from graphc.frontends.record import recorder
from graphc.optim.optimizer import Optimizer
from graphc.tensor import from_array

# What options meant in checkpoints that are older than the options.
_BEFORE = {
    "amsgrad": False,
    "capturable": False,
    "centered": False,
    "decoupled_weight_decay": False,
    "differentiable": False,
    "foreach": None,
    "fused": None,
    "maximize": False,
    "momentum": 0,
    "nesterov": False,
}


def number(value):
    """Return a Python number of a number or a tensor with one element."""
    return value.item() if isinstance(value, torch.Tensor) else value


def check_option(condition, name, value):
    """Raise a ValueError that names the option unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"Invalid {name}: {value}")


def check_lr(lr):
    """Raise a ValueError unless ``lr`` is a number, or a tensor with one element, from 0 on."""
    if isinstance(lr, torch.Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    check_option(lr >= 0.0, "learning rate", lr)


def check_betas(betas):
    """Raise a ValueError unless both decay rates are in [0, 1)."""
    for index, beta in enumerate(betas):
        check_option(0.0 <= beta < 1.0, f"beta parameter at index {index}", beta)


def check_fused(fused, foreach, differentiable):
    """Raise a RuntimeError if options exclude each other."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def count_dtype():
    """Return the dtype of counters of steps."""
    double = torch.get_default_dtype() == torch.float64
    return torch.float64 if double else torch.float32


class _Counters:
    """Counts on: one new 0-d tensor for all parameters that are at the same step.

    The value is kept as a Python number too, so that bias corrections wait for no tensor, and the
    next step need not look: `last` is what this optimizer's last step kept.
    """

    def __init__(self, last=None):
        self._next, self._made = {}, {}
        self.last = last

    def read(self, counter):
        """Return the number in a counter."""
        last = self.last
        if last is not None and last.tensor is counter and last.is_current():
            return last.count
        return float(counter)

    def advance(self, state):
        """Replace ``state["step"]`` by its successor; return that as a Python number."""
        old = state["step"]
        known = self._next.get(id(old))
        if known is None:
            key = self.read(old) + 1, old.dtype
            if key not in self._made:
                self._made[key] = _Count(*key)
            # The old tensor is kept too: its id must not be used again meanwhile.
            known = self._next[id(old)] = old, self._made[key]
        made = self.last = known[1]
        state["step"] = made.tensor
        return made.count


class _Count:
    """A counter that was made, with its number."""

    def __init__(self, count, dtype):
        self._is_exact = count < 1 << 24 and dtype in (torch.float32, torch.float64)
        if self._is_exact and modes.default_device() == "cpu":
            self.tensor = from_array(np.asarray(count, dtype.numpy))  # a third of torch.tensor
        else:
            self.tensor = torch.tensor(count, dtype=dtype)
        self.count, self._storage = count, self.tensor._storage
        self._version = self._storage.version

    def is_current(self):
        """Whether it holds the number: nobody wrote to it since, and numpy does not see it."""
        storage = self.tensor._storage
        unwritten = storage is self._storage and storage.version == self._version
        return unwritten and storage.export is None and self._is_exact


def _as_real(value):
    if isinstance(value, torch.Tensor) and value.is_complex():
        return torch.view_as_real(value)
    return value


class PerParameterOptimizer(Optimizer):
    """An optimizer that is given by the first state and the update of one parameter.

    The options ``foreach``, ``fused`` and ``capturable`` are accepted and change nothing: all
    updates are compiled together in any case. With ``differentiable`` updates are recorded for
    autograd.
    """

    _counts_steps = True
    _last_count = None

    def _keeps_state(self, group):
        return True

    def _init_state(self, param, state, group):
        """Fill the empty ``state`` of ``param``; the counter "step" is there already."""
        raise NotImplementedError

    def _update(self, param, grad, state, group, step):
        """Update ``param`` and ``state`` in place; ``step`` counts from 1.

        All tensors are real; ``grad`` is negated already where the group maximizes.
        """
        raise NotImplementedError

    def _check_grad(self, grad):
        if grad.is_sparse:
            raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")

    def _start_state(self, param, state, group):
        if self._counts_steps:
            state["step"] = torch.tensor(0.0, dtype=count_dtype())
        self._init_state(param, state, group)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in _BEFORE.items():
                if name in self.defaults:
                    group.setdefault(name, value)
        for values in self.state.values():
            if isinstance(values, dict) and isinstance(values.get("step"), (int, float)):
                values["step"] = torch.tensor(float(values["step"]), dtype=count_dtype())

    def step(self, closure=None):
        """Update all parameters that have a gradient.

        Args:
            closure: computes the loss anew, with gradients enabled, and returns it.

        Returns:
            The loss of ``closure``, or None.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        counters = _Counters(self._last_count)
        before = modes.set_grad(bool(self.defaults.get("differentiable", False)))
        try:
            for group in self.param_groups:
                params = [param for param in group["params"] if param._grad is not None]
                if not self._step_together(params, group, counters):
                    for param in params:
                        self._step_one(param, group, counters)
        finally:
            modes.set_grad(before)
        self._last_count = counters.last
        recorder().step_ends()
        return loss

    def state_dict(self):
        """Return the state as `Optimizer.state_dict`; each counter of steps is a tensor of its own.

        Who loads it may count on in place.
        """
        seen = set()
        for state in self.state.values():
            step = state.get("step")
            if id(step) in seen and isinstance(step, torch.Tensor):
                state["step"] = step.clone()
            seen.add(id(step))
        return super().state_dict()

    def _step_together(self, params, group, counters):
        """Update all of a group at once, if this optimizer can: tell whether it did."""
        return False

    def _start_missing(self, params, group):
        """Give each parameter that has none its first state."""
        for param in params:
            self._check_grad(param.grad)
            if not self.state[param]:
                self._start_state(param, self.state[param], group)

    def _step_one(self, param, group, counters):
        grad = param.grad
        self._check_grad(grad)
        state = self.state[param] if self._keeps_state(group) else {}
        if not state:
            self._start_state(param, state, group)
        count = counters.advance(state) if self._counts_steps else None
        if group.get("maximize", False):
            grad = -grad
        if param.is_complex():
            self._update_complex(param, grad, state, group, count)
        else:
            self._update(param, grad, state, group, count)

    def _update_complex(self, param, grad, state, group, count):
        """Update a complex parameter as pairs of reals, which are copies: they are put back."""
        pairs = {name: _as_real(value) for name, value in state.items()}
        real = _as_real(param)
        self._update(real, _as_real(grad), pairs, group, count)
        param.copy_(torch.view_as_complex(real))
        for name, value in pairs.items():
            is_pair = isinstance(value, torch.Tensor) and value.dim() == real.dim()
            state[name] = torch.view_as_complex(value) if is_pair else value


def can_go_together(params, group):
    """Whether one recorded step may update all of these: real, dense, and not differentiated."""
    if group["differentiable"] or isinstance(group["lr"], torch.Tensor):
        return False
    return bool(params) and "c" not in [p._storage.cell.type.dtype.kind for p in params]


def decayed(param, grad, group):
    """Apply the group's weight decay: to ``param`` if decoupled, else to the gradient."""
    weight_decay = group["weight_decay"]
    if weight_decay == 0:
        return grad
    if group.get("decoupled_weight_decay", False):
        param.mul_(1 - number(group["lr"]) * number(weight_decay))
        return grad
    return grad.add(param, alpha=number(weight_decay))
