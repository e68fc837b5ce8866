"""Calling a module with other parameters than its own."""

from collections.abc import Mapping

__all__ = ["functional_call"]


def _merged(given):
    """Return one dictionary of one or several; a name may come only once."""
    if isinstance(given, Mapping):
        return dict(given)
    merged = {}
    for part in given:
        twice = merged.keys() & part.keys()
        if twice:
            raise ValueError(
                f"{sorted(twice)} appeared in multiple dictionaries; behavior of functional call "
                "is ambiguous"
            )
        merged.update(part)
    return merged


def _slots(module):
    """Return {dotted name: (dictionary, key)} of all parameters and buffers, repeated ones too."""
    slots = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        for members in (owner._parameters, owner._buffers):
            for key, tensor in members.items():
                if tensor is not None:
                    slots[f"{path}.{key}" if path else key] = members, key
    return slots


def _with_ties(given, slots):
    """Return ``given`` with its tensors also under the other names of the same tensors."""
    by_identity = {}
    for name, (members, key) in slots.items():
        by_identity.setdefault(id(members[key]), []).append(name)
    tied = dict(given)
    for names in by_identity.values():
        values = [given[name] for name in names if name in given]
        if any(value is not values[0] for value in values):
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(names)}, which are tied. "
                "Consider using tie_weights=False"
            )
        if values:
            tied.update(dict.fromkeys(names, values[0]))
    return tied


def functional_call(
    module, parameters_and_buffers, args=None, kwargs=None, *, tie_weights=True, strict=False
):
    """Call a module with tensors in place of its parameters and buffers.

    Args:
        module: the module; it is as before afterwards.
        parameters_and_buffers: a dictionary from dotted names to tensors, or several.
        args: arguments of the call, a tuple; a single one need not be in a tuple.
        kwargs: keyword arguments of the call.
        tie_weights: whether a tensor that has several names is replaced under all of them.
        strict: whether all parameters and buffers must be given.

    Raises:
        RuntimeError: a name is unknown, or with ``strict`` missing.
        ValueError: tied names are given different tensors.
    """
    slots = _slots(module)
    given = _merged(parameters_and_buffers)
    unknown = [name for name in given if name not in slots]
    known = {name: tensor for name, tensor in given.items() if name in slots}
    tied = _with_ties(known, slots) if tie_weights else known
    missing = [name for name in slots if name not in tied] if strict else []
    if unknown or missing:
        raise RuntimeError(f"Unexpected key(s): {unknown}. Missing key(s): {missing}.")
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    saved = {name: slots[name][0][slots[name][1]] for name in tied}
    try:
        for name, tensor in tied.items():
            members, key = slots[name]
            members[key] = tensor
        return module(*args, **(kwargs or {}))
    finally:
        for name, tensor in saved.items():
            members, key = slots[name]
            members[key] = tensor
