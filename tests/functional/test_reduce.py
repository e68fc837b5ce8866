"""Reductions of which a program takes one result of two."""

import pytest

import graphc as torch


@pytest.mark.parametrize("name", ["max", "min"])
def test_an_extreme_without_its_place_is_a_reduction(name):
    x = torch.randn(6, 5)
    traced = torch.jit.trace(lambda x: getattr(x, name)(1)[0], x)
    assert {node.op.name for node in traced.graph.nodes} == {f"{name}_first"}
    assert traced(x).tolist() == getattr(x, name)(1).values.tolist()


@pytest.mark.parametrize("name", ["max", "min"])
def test_the_gradient_goes_to_the_first_of_equals(name):
    x = torch.tensor([[1.0, 3.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]], requires_grad=True)
    values, places = getattr(x, name)(1)
    values.sum().backward()
    first = torch.zeros(2, 4).scatter(1, places[:, None], torch.ones(2, 1))
    assert x.grad.tolist() == first.tolist()
