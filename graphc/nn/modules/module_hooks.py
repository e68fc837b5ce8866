"""Hooks around a module's forward and backward, and the call that runs them."""

import functools
import warnings
import weakref
from collections import OrderedDict

from graphc.frontends.locate import scope
from graphc.utils.hooks import RemovableHandle

__all__ = [
    "register_module_backward_hook",
    "register_module_buffer_registration_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
]

# Hooks of all modules.
_global_buffer_registration_hooks: OrderedDict = OrderedDict()
_global_module_registration_hooks: OrderedDict = OrderedDict()
_global_parameter_registration_hooks: OrderedDict = OrderedDict()
_global_backward_pre_hooks: OrderedDict = OrderedDict()
_global_backward_hooks: OrderedDict = OrderedDict()
_global_is_full_backward_hook: bool | None = None
_global_forward_pre_hooks: OrderedDict = OrderedDict()
_global_forward_hooks: OrderedDict = OrderedDict()
_global_forward_hooks_always_called: OrderedDict = OrderedDict()
_global_forward_hooks_with_kwargs: OrderedDict = OrderedDict()


def _register(hooks, hook, *marks, prepend=False):
    """Add ``hook`` to ``hooks`` and its id to the ``marks`` that are given as (dict, wanted)."""
    handle = RemovableHandle(hooks, extra_dict=[companion for companion, _ in marks])
    hooks[handle.id] = hook
    for companion, wanted in marks:
        if wanted:
            companion[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def register_module_buffer_registration_hook(hook):
    """Call ``hook(module, name, buffer)`` when any module registers a buffer."""
    return _register(_global_buffer_registration_hooks, hook)


def register_module_module_registration_hook(hook):
    """Call ``hook(module, name, submodule)`` when any module registers a submodule."""
    return _register(_global_module_registration_hooks, hook)


def register_module_parameter_registration_hook(hook):
    """Call ``hook(module, name, parameter)`` when any module registers a parameter."""
    return _register(_global_parameter_registration_hooks, hook)


def register_module_forward_pre_hook(hook):
    """Call ``hook(module, args)`` before the forward of every module."""
    return _register(_global_forward_pre_hooks, hook)


def register_module_forward_hook(hook, *, with_kwargs=False, always_call=False):
    """Call ``hook(module, args, output)`` after the forward of every module."""
    return _register(
        _global_forward_hooks,
        hook,
        (_global_forward_hooks_with_kwargs, with_kwargs),
        (_global_forward_hooks_always_called, always_call),
    )


def register_module_full_backward_pre_hook(hook):
    """Call ``hook(module, grad_output)`` before the backward of every module."""
    return _register(_global_backward_pre_hooks, hook)


def _register_global_backward(hook, full):
    global _global_is_full_backward_hook
    if _global_is_full_backward_hook is not None and _global_is_full_backward_hook is not full:
        raise RuntimeError(
            "Cannot use both regular backward hooks and full backward hooks as a "
            "global Module hook. Please use only one of them."
        )
    _global_is_full_backward_hook = full
    return _register(_global_backward_hooks, hook)


def register_module_backward_hook(hook):
    """Call ``hook(module, grad_input, grad_output)`` after the last node of every module."""
    return _register_global_backward(hook, False)


def register_module_full_backward_hook(hook):
    """Call ``hook(module, grad_input, grad_output)`` after the backward of every module."""
    return _register_global_backward(hook, True)


class _WrappedHook:
    """A hook bound weakly to its module, so that a module in its own hooks is no cycle."""

    def __init__(self, hook, module=None):
        self.hook = hook
        functools.update_wrapper(self, hook)
        self.with_module = module is not None
        if module is not None:
            self.module = weakref.ref(module)

    def __call__(self, *args, **kwargs):
        if not self.with_module:
            return self.hook(*args, **kwargs)
        module = self.module()
        if module is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        return self.hook(module, *args, **kwargs)

    def __getstate__(self):
        state = {"hook": self.hook, "with_module": self.with_module}
        if self.with_module:
            state["module"] = self.module()
        return state

    def __setstate__(self, state):
        self.hook = state["hook"]
        self.with_module = state["with_module"]
        if self.with_module:
            if state["module"] is None:
                raise RuntimeError("You are trying to revive the hook of a dead Module!")
            self.module = weakref.ref(state["module"])


class CallHooks:
    """The part of ``Module`` that registers call hooks and runs them around ``forward``."""

    _compiled_call_impl = None

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call ``hook(module, args[, kwargs])`` before ``forward``; it may return new arguments."""
        mark = (self._forward_pre_hooks_with_kwargs, with_kwargs)
        return _register(self._forward_pre_hooks, hook, mark, prepend=prepend)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """Call ``hook(module, args[, kwargs], output)`` after ``forward``.

        It may return another output. With ``always_call`` it runs even if ``forward`` raises.
        """
        marks = (
            (self._forward_hooks_with_kwargs, with_kwargs),
            (self._forward_hooks_always_called, always_call),
        )
        return _register(self._forward_hooks, hook, *marks, prepend=prepend)

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """Call ``hook(module, grad_output)`` before the module's backward."""
        return _register(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook, prepend=False):
        """Call ``hook(module, grad_input, grad_output)`` once the input gradients are known."""
        self._choose_backward_kind(True)
        return _register(self._backward_hooks, hook, prepend=prepend)

    def register_backward_hook(self, hook):
        """Deprecated in favour of :meth:`register_full_backward_hook`.

        The hook sees the gradients of the node that made the output, not of the whole module.
        """
        self._choose_backward_kind(False)
        return _register(self._backward_hooks, hook)

    def _choose_backward_kind(self, full):
        if self._is_full_backward_hook is not None and self._is_full_backward_hook is not full:
            raise RuntimeError(
                "Cannot use both regular backward hooks and full backward hooks on a "
                "single Module. Please use only one of them."
            )
        self._is_full_backward_hook = full

    def _get_backward_hooks(self):
        """Return (full hooks, hooks of the last node only), global ones first."""
        full, last_node = [], []
        if _global_backward_hooks:
            chosen = full if _global_is_full_backward_hook else last_node
            chosen += _global_backward_hooks.values()
        if self._backward_hooks:
            chosen = full if self._is_full_backward_hook else last_node
            chosen += self._backward_hooks.values()
        return full, last_node

    def _wrapped_call_impl(self, *args, **kwargs):
        if self._compiled_call_impl is not None:
            return self._compiled_call_impl(*args, **kwargs)
        if not (
            self._forward_hooks
            or self._forward_pre_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
            or _global_forward_hooks
            or _global_forward_pre_hooks
            or _global_backward_hooks
            or _global_backward_pre_hooks
        ):
            modules = scope.modules  # so that recorded nodes and errors say where they are
            modules.append(self)
            try:
                return self.forward(*args, **kwargs)
            finally:
                modules.pop()
        return self._call_impl(*args, **kwargs)

    __call__ = _wrapped_call_impl

    def _call_impl(self, *args, **kwargs):
        call = _HookedCall(self, args, kwargs)
        scope.modules.append(self)
        try:
            return call.run()
        except Exception:
            call.run_always_called()
            raise
        finally:
            scope.modules.pop()


class _HookedCall:
    """One call of a module that has hooks; remembers which hooks have run if it raises."""

    def __init__(self, module, args, kwargs):
        self.module = module
        self.args = args
        self.kwargs = kwargs
        self.result = None
        self.already_called: set[int] = set()

    def run(self):
        module = self.module
        self._run_pre_hooks()
        full, last_node = module._get_backward_hooks()
        pre = [*_global_backward_pre_hooks.values(), *module._backward_pre_hooks.values()]
        backward = None
        if full or pre:
            # Imported on first use: it subclasses autograd's Function.
            from graphc.nn.modules.backward_hooks import BackwardHooks

            backward = BackwardHooks(module, full, pre)
            self.args = backward.wrap_inputs(self.args)
        self.result = module.forward(*self.args, **self.kwargs)
        for hook_id, hook in [*_global_forward_hooks.items(), *module._forward_hooks.items()]:
            self.already_called.add(hook_id)
            self._run_forward_hook(hook_id, hook)
        if backward is not None:
            self.result = backward.wrap_outputs(self.result)
        if last_node:
            _hook_last_node(module, last_node, self.result)
        return self.result

    def _run_pre_hooks(self):
        module = self.module
        hooks = [*_global_forward_pre_hooks.items(), *module._forward_pre_hooks.items()]
        for hook_id, hook in hooks:
            if hook_id in module._forward_pre_hooks_with_kwargs:
                changed = hook(module, self.args, self.kwargs)
                if changed is None:
                    continue
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        "forward pre-hook must return None or a tuple of "
                        f"(new_args, new_kwargs), but got {changed}."
                    )
                self.args, self.kwargs = changed
            else:
                changed = hook(module, self.args)
                if changed is not None:
                    self.args = changed if isinstance(changed, tuple) else (changed,)

    def _run_forward_hook(self, hook_id, hook):
        module = self.module
        with_kwargs = (
            hook_id in module._forward_hooks_with_kwargs
            or hook_id in _global_forward_hooks_with_kwargs
        )
        arguments = (self.args, self.kwargs) if with_kwargs else (self.args,)
        changed = hook(module, *arguments, self.result)
        if changed is not None:
            self.result = changed

    def run_always_called(self):
        """Run the ``always_call`` hooks that an exception has kept from running."""
        module = self.module
        always = {**_global_forward_hooks_always_called, **module._forward_hooks_always_called}
        for hook_id, hook in [*_global_forward_hooks.items(), *module._forward_hooks.items()]:
            if hook_id not in always or hook_id in self.already_called:
                continue
            try:
                self._run_forward_hook(hook_id, hook)
            except Exception as error:
                # The first exception is the one to report; this one must not replace it.
                warnings.warn(
                    "module forward hook with ``always_call=True`` raised an exception that was "
                    f"silenced as another error was raised in forward: {error}",
                    stacklevel=4,
                )


def _hook_last_node(module, hooks, result):
    first = result
    while not hasattr(first, "grad_fn"):
        first = next(iter(first.values() if isinstance(first, dict) else first))
    if first.grad_fn is not None:
        for hook in hooks:
            first.grad_fn.register_hook(_WrappedHook(hook, module))
