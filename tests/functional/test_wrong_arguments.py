"""What is no tensor where one is asked for, masks in a subtraction, and absent modules."""

import pytest

import graphc as torch


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.softmax(None, -1),
        lambda: torch.nn.Linear(2, 2)("a"),
        lambda: torch.sin("a"),
        lambda: torch.sum({}),
    ],
)
def test_what_is_no_tensor_is_a_type_error(call):
    with pytest.raises(TypeError, match="must be Tensor, not"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, mask: x - mask,
        lambda x, mask: mask - x,
        lambda x, mask: x - True,
        lambda x, mask: 1 - mask,
        lambda x, mask: mask - mask,
    ],
)
def test_masks_are_not_subtracted(call):
    with pytest.raises(RuntimeError, match="Subtraction, the `-` operator, with"):
        call(torch.ones(2), torch.tensor([True, False]))


def test_absent_modules_say_so():
    assert not hasattr(torch, "fft")
    with pytest.raises(AttributeError, match="torch.fft is not in graphc yet"):
        torch.fft


def test_the_magnitude_of_complex_numbers_and_its_derivative():
    z = torch.tensor([3 + 4j, 0j], requires_grad=True)
    abs(z).sum().backward()
    assert abs(z).tolist() == [5.0, 0.0]
    assert z.grad.tolist() == pytest.approx([0.6 + 0.8j, 0j], rel=1e-6)


def test_a_leaf_is_detached_in_place():
    x = torch.ones(2, requires_grad=True)
    assert x.detach_() is x and not x.requires_grad


def test_detaching_in_place_what_needs_none_keeps_the_memory():
    array = torch.tensor([6.0, -6.0]).numpy()
    x = torch.from_numpy(array)
    x.detach_()
    x[x > 0] = 0
    assert array[0] == 0
