"""Making one batch of a list of examples."""

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence

import numpy as np

import graphc as torch
from graphc.functional.memory_part import computed_arrays
from graphc.tensor import Tensor, from_array

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]


def _is_text_array(array):
    """Return whether an array holds strings, bytes or objects, of which no tensor is made."""
    return array.dtype.kind in "SUO"


def _map_mapping(data, fn):
    """Return ``data`` with ``fn(key)`` as the value of each key, of its type where possible."""
    try:
        if isinstance(data, MutableMapping):
            # Copied rather than made anew: its type may have attributes of its own.
            result = copy.copy(data)
            result.update({key: fn(key) for key in data})
            return result
        return type(data)({key: fn(key) for key in data})
    except TypeError:  # the type's constructor takes something else
        return {key: fn(key) for key in data}


def _rebuild_sequence(data, values):
    """Return the list ``values`` in the type of the sequence ``data`` where possible."""
    try:
        if isinstance(data, MutableSequence):
            result = copy.copy(data)
            for place, value in enumerate(values):
                result[place] = value
            return result
        return type(data)(values)
    except TypeError:  # the type's constructor takes something else
        return values


def default_convert(data):
    """Return ``data`` with its numpy arrays and scalars as tensors, in any nesting."""
    if isinstance(data, torch.Tensor):
        return data
    if isinstance(data, np.ndarray):
        return data if _is_text_array(data) else torch.as_tensor(data)
    if isinstance(data, np.generic) and not isinstance(data, (np.str_, np.bytes_)):
        return torch.as_tensor(data)
    if isinstance(data, Mapping):
        return _map_mapping(data, lambda key: default_convert(data[key]))
    if isinstance(data, tuple) and hasattr(data, "_fields"):  # a named tuple
        return type(data)(*(default_convert(item) for item in data))
    if isinstance(data, tuple):
        return [default_convert(item) for item in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rebuild_sequence(data, [default_convert(item) for item in data])
    return data


def _refuse(found):
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {found}"
    )


def collate(batch, *, collate_fn_map=None):
    """Make one batch of a list of examples of the same structure.

    Args:
        batch: the examples.
        collate_fn_map: functions by type, called as ``fn(values, collate_fn_map=...)`` on the
            list of the examples' values; a subclass counts as its base.

    Raises:
        RuntimeError: sequences differ in length.
        TypeError: there is no function for the type of a value.
    """
    first = batch[0]
    functions = collate_fn_map or {}
    if type(first) in functions:
        return functions[type(first)](batch, collate_fn_map=collate_fn_map)
    for kind, function in functions.items():
        if isinstance(first, kind):
            return function(batch, collate_fn_map=collate_fn_map)

    def inner(values):
        return collate(values, collate_fn_map=collate_fn_map)

    if isinstance(first, Mapping):
        return _map_mapping(first, lambda key: inner([example[key] for example in batch]))
    if isinstance(first, tuple) and hasattr(first, "_fields"):  # a named tuple
        return type(first)(*(inner(values) for values in zip(*batch)))
    if isinstance(first, Sequence):
        if any(len(example) != len(first) for example in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [inner(values) for values in zip(*batch)]
        return columns if isinstance(first, tuple) else _rebuild_sequence(first, columns)
    _refuse(type(first))


def collate_tensor_fn(batch, *, collate_fn_map=None):
    """Stack tensors along a new first dimension."""
    if batch[0].is_sparse:
        raise RuntimeError(
            "Batches of sparse tensors are not currently supported by the default collate_fn; "
            "please provide a custom collate_fn to handle them appropriately."
        )
    arrays = computed_arrays(batch)
    if arrays and len({(array.dtype, array.shape) for array in arrays}) == 1:
        return from_array(np.stack(arrays), str(batch[0].device))  # nothing to compile
    return torch.stack(list(batch), 0)


def collate_numpy_array_fn(batch, *, collate_fn_map=None):
    """Stack arrays along a new first dimension."""
    if _is_text_array(batch[0]):
        _refuse(batch[0].dtype)
    return collate([torch.as_tensor(array) for array in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch, *, collate_fn_map=None):
    """Make a tensor of numpy scalars, of their dtype."""
    return torch.as_tensor(np.asarray(batch))


def collate_float_fn(batch, *, collate_fn_map=None):
    """Make a float64 tensor of Python floats."""
    return torch.tensor(batch, dtype=torch.float64)


def collate_int_fn(batch, *, collate_fn_map=None):
    """Make an int64 tensor of Python integers, a bool one of booleans."""
    return torch.tensor(batch)


def collate_str_fn(batch, *, collate_fn_map=None):
    """Return strings and bytes as they are."""
    return batch


default_collate_fn_map = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}


def default_collate(batch):
    """Make one batch of a list of examples: numbers and tensors become tensors.

    Tensors and arrays are stacked, Python floats become float64, integers int64; mappings, tuples
    and lists are batched element by element, strings and bytes stay.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)
