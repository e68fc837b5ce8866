"""Parametrizations: a parameter that is computed from others whenever it is read."""

import contextlib
import copy

import graphc as torch
from graphc.nn.modules.container import ModuleDict, ModuleList
from graphc.nn.parameter import Parameter

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
]

_cache_depth = 0
_cache: dict = {}


@contextlib.contextmanager
def cached():
    """Compute each parametrized tensor only once inside this context."""
    global _cache_depth
    _cache_depth += 1
    try:
        yield
    finally:
        _cache_depth -= 1
        if _cache_depth == 0:
            _cache.clear()


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, applied in order, and the tensors they start from.

    These are ``original``, or ``original0``, ``original1``, ... where the ``right_inverse`` of
    the first parametrization returns several.

    Args:
        modules: the parametrizations.
        original: the tensor as it was.
        unsafe: whether dtype and shape may differ from the original's, unchecked.
    """

    def __init__(self, modules, original, unsafe=False):
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        value = original
        with torch.no_grad():
            for module in reversed(self):
                if not hasattr(module, "right_inverse"):
                    continue
                value = module.right_inverse(value)
        self.is_tensor = isinstance(value, torch.Tensor)
        self.ntensors = 1 if self.is_tensor else len(value)
        if self.is_tensor:
            self._adopt("original", original, value)
        else:
            for place, part in enumerate(value):
                if not isinstance(part, torch.Tensor):
                    raise ValueError(
                        "right_inverse must return a Tensor or a Sequence of tensors (list, "
                        f"tuple...). Got element {place} of the sequence with type "
                        f"{type(part).__name__}."
                    )
                kind = Parameter if isinstance(original, Parameter) else torch.Tensor
                self._register(f"original{place}", part, kind, original.requires_grad)
        if not unsafe:
            self._check(original)

    def _adopt(self, name, original, value):
        """Keep the original parameter itself, with a new value, so that optimizers keep it."""
        if value is not original and not self.unsafe and value.dtype != original.dtype:
            raise ValueError(
                "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                f"original.dtype: {original.dtype!r}\nright_inverse(original).dtype: "
                f"{value.dtype!r}"
            )
        with torch.no_grad():
            if value is not original:
                original.data = value.detach().clone()
        if isinstance(original, Parameter):
            self.register_parameter(name, original)
        else:
            self.register_buffer(name, original)

    def _register(self, name, value, kind, requires_grad):
        value = value.detach()
        if kind is Parameter:
            floating = value.is_floating_point() or value.is_complex()
            self.register_parameter(name, Parameter(value.clone(), floating and requires_grad))
        else:
            self.register_buffer(name, value)

    def _check(self, original):
        value = self()
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
        if value.dtype != original.dtype:
            raise ValueError(
                "Registering a parametrization may not change the dtype of the tensor, unless "
                f"`unsafe` flag is enabled.\nunparametrized dtype: {original.dtype!r}\n"
                f"parametrized dtype: {value.dtype!r}"
            )
        if self.is_tensor and value.shape != original.shape:
            raise ValueError(
                "Registering a parametrization may not change the shape of the tensor, unless "
                f"`unsafe` flag is enabled.\nunparametrized shape: {original.shape}\n"
                f"parametrized shape: {value.shape}"
            )

    def _originals(self):
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{place}") for place in range(self.ntensors)]

    @torch.no_grad()
    def right_inverse(self, value):
        """Set the original tensors so that the parametrized one becomes ``value``.

        Raises:
            RuntimeError: a parametrization has no ``right_inverse``.
        """
        for module in reversed(self):
            if not hasattr(module, "right_inverse"):
                raise RuntimeError(
                    f"parametrization {type(module).__name__} does not implement right_inverse."
                )
            value = module.right_inverse(value)
        parts = [value] if self.is_tensor else list(value)
        if len(parts) != self.ntensors:
            raise ValueError(
                f"'right_inverse' must return a sequence of tensors of length {self.ntensors}."
            )
        for original, part in zip(self._originals(), parts, strict=True):
            original.data = part.detach().to(original.dtype).clone()

    def forward(self):
        first, *rest = self
        value = first(*self._originals())
        for module in rest:
            value = module(value)
        return value


def _make_parametrized_class(module):
    """Give the module a class of its own, which can take properties."""
    base = type(module)

    def refuse(self):
        raise RuntimeError(
            "Serialization of parametrized modules is only supported through state_dict()."
        )

    def deepcopy(self, memo):
        # The default would go through __reduce_ex__, and so through __getstate__.
        replica = type(self).__new__(type(self))
        memo[id(self)] = replica
        replica.__dict__ = copy.deepcopy(self.__dict__, memo)
        return replica

    members = {"__getstate__": refuse, "__module__": base.__module__}
    if not hasattr(base, "__deepcopy__"):
        members["__deepcopy__"] = deepcopy
    module.__class__ = type(f"Parametrized{base.__name__}", (base,), members)


def _make_property(module, name):
    def get(self):
        if _cache_depth == 0:
            return self.parametrizations[name]()
        key = id(self), name
        if key not in _cache:
            _cache[key] = self.parametrizations[name]()
        return _cache[key]

    def set(self, value):
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(get, set))


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Let a parameter or buffer be ``parametrization(original)`` whenever it is read.

    Args:
        module: has the tensor.
        tensor_name: its name.
        parametrization: a module; its ``right_inverse``, if there is one, gives the first
            original and makes assignment possible.
        unsafe: whether dtype and shape may change, unchecked.

    Returns:
        The module.

    Raises:
        ValueError: there is no such tensor, or dtype or shape change.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        chain = module.parametrizations[tensor_name]
        if not unsafe:
            _check_next(module, tensor_name, parametrization)
        with torch.no_grad():
            value = getattr(module, tensor_name)
        chain.append(parametrization)
        chain.unsafe |= unsafe
        if all(hasattr(part, "right_inverse") for part in chain):
            chain.right_inverse(value)
        return module
    if tensor_name not in module._parameters and tensor_name not in module._buffers:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element "
            f"with name '{tensor_name}'"
        )
    original = getattr(module, tensor_name)
    chain = ParametrizationList([parametrization], original, unsafe=unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        _make_parametrized_class(module)
        module.parametrizations = ModuleDict()
    _make_property(module, tensor_name)
    module.parametrizations[tensor_name] = chain
    return module


def _check_next(module, tensor_name, parametrization):
    """Check that one more parametrization keeps dtype and shape."""
    value = getattr(module, tensor_name)
    changed = parametrization(value)
    if not isinstance(changed, torch.Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(changed).__name__}.")
    if changed.dtype != value.dtype or changed.shape != value.shape:
        raise ValueError(
            "Registering a parametrization may not change the dtype or shape of the tensor, "
            f"unless the `unsafe` flag is enabled.\nmodule.{tensor_name}: {value.dtype!r}, "
            f"{value.shape}\nparametrization(module.{tensor_name}): {changed.dtype!r}, "
            f"{changed.shape}"
        )


def is_parametrized(module, tensor_name=None):
    """Return whether the module, or its tensor ``tensor_name``, is parametrized."""
    parametrizations = getattr(module, "parametrizations", None)
    if not isinstance(parametrizations, ModuleDict):
        return False
    return len(parametrizations) > 0 if tensor_name is None else tensor_name in parametrizations


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Make a parametrized tensor an ordinary one again.

    Args:
        module: has the tensor.
        tensor_name: its name.
        leave_parametrized: whether it keeps its present value, rather than the original's.

    Returns:
        The module.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    chain = module.parametrizations[tensor_name]
    if not chain.is_tensor and not leave_parametrized:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is "
            "parametrized in terms of a sequence of tensors."
        )
    with torch.no_grad():
        value = getattr(module, tensor_name)
    originals = chain._originals()
    if chain.is_tensor:
        tensor = originals[0]
        if leave_parametrized:
            tensor.data = value.detach().clone()
    elif isinstance(originals[0], Parameter):
        tensor = Parameter(value.detach().clone(), originals[0].requires_grad)
    else:
        tensor = value.detach().clone()
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    if isinstance(tensor, Parameter):
        module.register_parameter(tensor_name, tensor)
    else:
        module.register_buffer(tensor_name, tensor)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module):
    """Return the class that the module had before it was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module, to_module, tensor_name=None):
    """Copy parametrizations and the tensors they start from to another module; return it."""
    if not is_parametrized(from_module):
        return to_module
    names = [tensor_name] if tensor_name is not None else list(from_module.parametrizations)
    for name in names:
        chain = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            with torch.no_grad():
                setattr(to_module, name, Parameter(getattr(from_module, name).detach().clone()))
        for parametrization in chain:
            copied = copy.deepcopy(parametrization)
            register_parametrization(to_module, name, copied, unsafe=True)
        target = to_module.parametrizations[name]
        for own, other in zip(target._originals(), chain._originals(), strict=True):
            own.data = other.detach().clone()
    return to_module
