"""``Module``: a tree of parameters, buffers and submodules with a ``forward``."""

import inspect
from collections import OrderedDict

import graphc as torch
from graphc.nn.modules import module_hooks
from graphc.nn.modules.module_hooks import (
    CallHooks,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from graphc.nn.modules.module_state import StateDict, _IncompatibleKeys
from graphc.nn.modules.module_tree import Tree
from graphc.nn.parameter import Buffer, Parameter

__all__ = [
    "Module",
    "_IncompatibleKeys",
    "register_module_backward_hook",
    "register_module_buffer_registration_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
]


def _typename(value):
    if isinstance(value, torch.Tensor):
        return value.type()
    kind = value if isinstance(value, type) else type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _check_name(kind, name, owner, members):
    if not isinstance(name, str):
        raise TypeError(f"{kind} name should be a string. Got {_typename(name)}")
    if "." in name:
        got = f", got: {name}" if kind == "module" else ""
        raise KeyError(f'{kind} name can\'t contain "."{got}')
    if name == "":
        raise KeyError(f'{kind} name can\'t be empty string ""')
    if hasattr(owner, name) and name not in members:
        raise KeyError(f"attribute '{name}' already exists")


def _run_registration_hooks(hooks, module, name, value):
    for hook in hooks.values():
        changed = hook(module, name, value)
        if changed is not None:
            value = changed
    return value


def _addindent(text, spaces):
    first, *rest = text.split("\n")
    return "\n".join([first, *(" " * spaces + line if line.strip() else "" for line in rest)])


# The attributes that every module has, with the type of their first value.
_CONTAINERS = {
    "_parameters": dict,
    "_buffers": dict,
    "_non_persistent_buffers_set": set,
    "_backward_pre_hooks": OrderedDict,
    "_backward_hooks": OrderedDict,
    "_forward_hooks": OrderedDict,
    "_forward_hooks_with_kwargs": OrderedDict,
    "_forward_hooks_always_called": OrderedDict,
    "_forward_pre_hooks": OrderedDict,
    "_forward_pre_hooks_with_kwargs": OrderedDict,
    "_state_dict_hooks": OrderedDict,
    "_state_dict_pre_hooks": OrderedDict,
    "_load_state_dict_pre_hooks": OrderedDict,
    "_load_state_dict_post_hooks": OrderedDict,
    "_modules": dict,
}


def _forward_unimplemented(self, *input):
    raise NotImplementedError(
        f'Module [{type(self).__name__}] is missing the required "forward" function'
    )


class Module(CallHooks, StateDict, Tree):
    """Base class of all layers and models.

    A subclass assigns parameters and submodules as attributes in ``__init__`` (after
    ``super().__init__()``) and defines ``forward``; calling the module runs it with its hooks.

    Attributes:
        training: whether the module is in training or evaluation mode.
        call_super_init: whether ``__init__`` passes its arguments on to the next class.
    """

    dump_patches = False
    _version = 1
    training: bool
    call_super_init = False
    forward = _forward_unimplemented

    def __init__(self, *args, **kwargs):
        if not self.call_super_init and (args or kwargs):
            name = f"{type(self).__name__}.__init__()"
            if kwargs:
                raise TypeError(f"{name} got an unexpected keyword argument '{next(iter(kwargs))}'")
            raise TypeError(f"{name} takes 1 positional argument but {len(args) + 1} were given")
        state = self.__dict__  # past __setattr__, which needs these
        state["training"] = True
        state["_is_full_backward_hook"] = None
        for name, kind in _CONTAINERS.items():
            state[name] = kind()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def register_buffer(self, name, tensor, persistent=True):
        """Add a tensor that is state but no parameter, such as a running mean.

        Args:
            name: attribute name, without dots.
            tensor: the tensor, or None.
            persistent: whether it is part of ``state_dict``.
        """
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        _check_name("buffer", name, self, self._buffers)
        if tensor is not None and not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"cannot assign '{_typename(tensor)}' object to buffer '{name}' "
                "(torch Tensor or None required)"
            )
        hooks = module_hooks._global_buffer_registration_hooks
        self._buffers[name] = _run_registration_hooks(hooks, self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_parameter(self, name, param):
        """Add a parameter, or None for a parameter that this module goes without."""
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        _check_name("parameter", name, self, self._parameters)
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{_typename(param)}' object to parameter '{name}' "
                    "(torch.nn.Parameter or None required)"
                )
            if param.grad_fn is not None:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model "
                    "parameters must be created explicitly. To express "
                    f"'{name}' as a function of another Tensor, compute the value in "
                    "the forward() method."
                )
            hooks = module_hooks._global_parameter_registration_hooks
            param = _run_registration_hooks(hooks, self, name, param)
        self._parameters[name] = param

    def add_module(self, name, module):
        """Add a submodule (or None) under ``name``."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{_typename(module)} is not a Module subclass")
        _check_name("module", name, self, self._modules)
        hooks = module_hooks._global_module_registration_hooks
        self._modules[name] = _run_registration_hooks(hooks, self, name, module)

    def register_module(self, name, module):
        """Alias of :meth:`add_module`."""
        self.add_module(name, module)

    def __getattr__(self, name):
        state = self.__dict__
        members = state.get("_parameters")  # most often
        if members is not None and name in members:
            return members[name]
        for kind in ("_buffers", "_modules"):
            members = state.get(kind)
            if members is not None and name in members:
                return members[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name, value):
        state = self.__dict__
        parameters = state.get("_parameters")
        if isinstance(value, Parameter):
            if parameters is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, "_buffers", "_modules")
            self.register_parameter(name, value)
        elif parameters is not None and name in parameters:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_typename(value)}' as parameter '{name}' "
                    "(torch.nn.Parameter or None expected)"
                )
            self.register_parameter(name, value)
        elif isinstance(value, Module) or name in state.get("_modules", ()):
            self._set_module(name, value)
        elif isinstance(value, Buffer) or name in state.get("_buffers", ()):
            self._set_buffer(name, value)
        else:
            super().__setattr__(name, value)

    def _set_module(self, name, value):
        if "_modules" not in self.__dict__:
            raise AttributeError("cannot assign module before Module.__init__() call")
        if isinstance(value, Module):
            self._forget(name, "_parameters", "_buffers")
        elif value is not None:
            raise TypeError(
                f"cannot assign '{_typename(value)}' as child module '{name}' "
                "(torch.nn.Module or None expected)"
            )
        hooks = module_hooks._global_module_registration_hooks
        self._modules[name] = _run_registration_hooks(hooks, self, name, value)

    def _set_buffer(self, name, value):
        if value is not None and not isinstance(value, torch.Tensor):
            raise TypeError(
                f"cannot assign '{_typename(value)}' as buffer '{name}' "
                "(torch.nn.Buffer, torch.Tensor or None expected)"
            )
        if isinstance(value, Buffer):
            persistent = value.persistent
        else:
            persistent = name not in self._non_persistent_buffers_set
        if type(self).register_buffer is Module.register_buffer:
            self.register_buffer(name, value, persistent)
        elif "persistent" in inspect.signature(self.register_buffer).parameters:
            self.register_buffer(name, value, persistent)
        elif persistent:
            self.register_buffer(name, value)
        else:
            raise RuntimeError(
                "Registering a non-persistent buffer on a Module subclass that implements "
                "register_buffer() without the persistent argument is not allowed."
            )

    def _forget(self, name, *kinds):
        """Drop ``name`` as an ordinary attribute and as a member of the given kinds."""
        self.__dict__.pop(name, None)
        for kind in kinds:
            self.__dict__[kind].pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name):
        for members in (self._parameters, self._buffers, self._modules):
            if name in members:
                del members[name]
                self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)

    def __dir__(self):
        members = [*self._parameters, *self._modules, *self._buffers]
        names = [*dir(type(self)), *self.__dict__, *members]
        return sorted(name for name in names if not name[0].isdigit())

    def __getstate__(self):
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)  # compiled again by the next compile()
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        # Modules pickled by older versions lack the newer containers.
        for name, kind in _CONTAINERS.items():
            self.__dict__.setdefault(name, kind())
        self.__dict__.setdefault("_is_full_backward_hook", None)

    def _get_name(self):
        return type(self).__name__

    def extra_repr(self):
        """Return what ``repr`` shows between the parentheses; subclasses override it."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [
            f"({name}): {_addindent(repr(module), 2)}" for name, module in self._modules.items()
        ]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        body = "\n  ".join(lines + children)
        return f"{self._get_name()}(\n  {body}\n)"

    def compile(self, *args, **kwargs):
        """Compile this module's call in place; arguments as of ``graphc.compile``."""
        self._compiled_call_impl = torch.compile(self._call_impl, *args, **kwargs)

    def _replicate_for_data_parallel(self):
        replica = type(self).__new__(type(self))
        replica.__dict__ = self.__dict__.copy()
        replica._parameters = {}
        replica._buffers = replica._buffers.copy()
        replica._modules = replica._modules.copy()
        replica._is_replica = True
        return replica
