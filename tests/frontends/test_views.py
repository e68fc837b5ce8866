"""Views: which writes are permitted, what they do, and how they are counted."""

import pytest

import graphc as torch


def test_a_write_to_an_expanded_view_raises() -> None:
    x = torch.zeros(3)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        x.expand(2, 3).add_(1)
    assert x.tolist() == [0, 0, 0]


def test_parts_of_expanded_views_whose_elements_are_apart_take_writes() -> None:
    x = torch.zeros(3)
    x.expand(2, 3)[1].add_(1)
    x.expand(1, 3).mul_(5)
    assert x.tolist() == [5, 5, 5]


def test_fill_of_an_expanded_view_sets_each_place() -> None:
    x = torch.zeros(2, 2)
    x[0].expand(3, 2).fill_(4)
    assert x.tolist() == [[4, 4], [0, 0]]


def test_versions_count_writes_and_data_has_its_own() -> None:
    x = torch.zeros(4)
    view, data = x[1:], x.data
    x.add_(1)
    view.zero_()
    data.mul_(2)
    data[0] = 3
    assert (x._version, view._version, x.detach()._version) == (2, 2, 2)
    assert (data._version, data[1:]._version) == (2, 2)
    assert (x.data._version, x.clone()._version) == (0, 0)
    assert x.tolist() == [3, 0, 0, 0]


def test_windows_that_do_not_overlap_write_to_their_base() -> None:
    x = torch.zeros(6)
    x.unfold(0, 2, 2).add_(torch.tensor([[1.0, 2.0]]))
    assert x.tolist() == [1, 2, 1, 2, 1, 2]
