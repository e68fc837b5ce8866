"""Batches of examples of any structure."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import graphc
from graphc.utils.data import default_collate, default_convert
from graphc.utils.data.collate import collate

Point = namedtuple("Point", "x y")


def described(value):
    """The value with tensors as (name of the dtype, nested lists), to compare."""
    if isinstance(value, graphc.Tensor):
        return value.numpy().dtype.name, value.tolist()
    if isinstance(value, dict):
        return {key: described(inner) for key, inner in value.items()}
    if isinstance(value, Point):
        return Point(*map(described, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(described, value))
    return value


@pytest.mark.parametrize(
    "batch, expected",
    [
        ([1, 2], ("int64", [1, 2])),
        ([True, False], ("bool", [True, False])),
        ([0.5, 2.0], ("float64", [0.5, 2.0])),
        ([np.float32(0.5), np.float32(2)], ("float32", [0.5, 2.0])),
        ([np.float64(0.5), np.float64(2)], ("float64", [0.5, 2.0])),
        ([np.int16(3), np.int16(4)], ("int16", [3, 4])),
        ([np.arange(2), np.arange(2)], ("int64", [[0, 1], [0, 1]])),
        (["a", "b"], ["a", "b"]),
        ([b"a", b"b"], [b"a", b"b"]),
        ([(1, "a"), (2, "b")], [("int64", [1, 2]), ("a", "b")]),
        ([[1, 2], [3, 4]], [("int64", [1, 3]), ("int64", [2, 4])]),
        ([Point(1, 0.5), Point(2, 1.5)], Point(("int64", [1, 2]), ("float64", [0.5, 1.5]))),
        (
            [{"a": 1, "b": [2]}, {"a": 3, "b": [4]}],
            {"a": ("int64", [1, 3]), "b": [("int64", [2, 4])]},
        ),
    ],
)
def test_default_collate(batch, expected):
    assert described(default_collate(batch)) == expected


def test_tensors_are_stacked():
    batch = default_collate([graphc.ones(2), graphc.zeros(2)])
    assert described(batch) == ("float32", [[1.0, 1.0], [0.0, 0.0]])


def test_types_of_mappings_are_kept():
    batch = default_collate([OrderedDict(a=1), OrderedDict(a=2)])
    assert type(batch) is OrderedDict


@pytest.mark.parametrize("batch", [[object()], [None], [np.array(["a"])]])
def test_what_cannot_be_collated_is_refused(batch):
    with pytest.raises(TypeError, match="default_collate: batch must contain"):
        default_collate(batch)


def test_lengths_must_agree():
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1], [1, 2]])


def test_functions_by_type():
    def total(batch, *, collate_fn_map=None):
        return sum(batch)

    assert collate([(1, 2), (3, 4)], collate_fn_map={int: total}) == [4, 6]
    assert collate([True, True], collate_fn_map={int: total}) == 2  # a subclass of int


def test_default_convert():
    names = np.array(["a"])
    converted = default_convert({"a": np.arange(2), "b": (np.float32(0.5), "text"), "c": names})
    assert converted.pop("c") is names
    assert described(converted) == {
        "a": ("int64", [0, 1]),
        "b": [("float32", 0.5), "text"],
    }
    assert described(default_convert(Point(np.int8(1), 2))) == Point(("int8", 1), 2)
