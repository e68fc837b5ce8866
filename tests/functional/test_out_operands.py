"""`out=` that is an operand too."""

import pytest

import graphc as torch


@pytest.mark.parametrize("name", ["add", "mul", "maximum", "pow", "lt"])
def test_an_operand_that_is_broadcast_is_not_resized(name):
    x, y = torch.ones(3), torch.ones(2, 3)
    for operands in ((x, y), (y, x)):
        with pytest.raises(RuntimeError, match=r"output with shape \[3\] doesn't match the broad"):
            getattr(torch, name)(*operands, out=x)
    assert tuple(x.shape) == (3,)


def test_an_operand_of_the_shape_of_the_result_is_written():
    x = torch.ones(3)
    assert torch.add(x, torch.ones(1), out=x) is x and x.tolist() == [2.0, 2.0, 2.0]


def test_another_tensor_is_resized():
    x, out = torch.ones(3), torch.ones(2, 3)
    assert tuple(torch.add(x, 1, out=out).shape) == (3,)
