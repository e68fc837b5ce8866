"""from_numpy of arrays that are parts of others: the same memory, with its strides."""

import numpy as np
import pytest

import graphc as torch

WHOLE = np.arange(60, dtype=np.float32)
VIEWS = {
    "columns": lambda a: a[:, 1:],
    "every other row": lambda a: a[::2],
    "every other column": lambda a: a[:, :, ::2],
    "one column": lambda a: a[:, :, 1],
    "one number": lambda a: a[1, 2, 3:4],
    "no axes": lambda a: a[1, 2, 3, ...],
    "transposed": lambda a: a.transpose(2, 0, 1),
    "a part of the transposed": lambda a: a.transpose(2, 0, 1)[1:3, :, ::2],
    "a new axis": lambda a: a[:, None, 1:],
    "broadcast": lambda a: np.broadcast_to(a[:1, :, :2], (4, 4, 2)),
    "nothing": lambda a: a[:, 2:2],
    "other type": lambda a: a.reshape(-1).view(np.int16)[3:11:2],
    "steps that do not divide": lambda a: a.reshape(-1)[1:50:7],
}


@pytest.mark.parametrize("name", VIEWS)
def test_values_strides_and_memory(name):
    whole = WHOLE.copy().reshape(3, 4, 5)
    array = VIEWS[name](whole)
    tensor = torch.from_numpy(array)
    assert tensor.dtype.numpy == array.dtype
    assert tensor.shape == array.shape
    assert tensor.tolist() == array.tolist()
    steps = [s // array.itemsize for s, n in zip(array.strides, array.shape, strict=True) if n > 1]
    assert array.size == 0 or steps == [
        s for s, n in zip(tensor.stride(), array.shape, strict=True) if n > 1
    ]
    whole += 1
    assert tensor.tolist() == array.tolist()
    if array.flags.writeable:
        tensor.mul_(2)
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_random_views():
    random = np.random.default_rng(0)
    for _ in range(300):
        shape = random.integers(1, 6, size=random.integers(1, 5))
        whole = np.arange(np.prod(shape)).reshape(shape)
        array = whole
        for _ in range(2):
            index = []
            for n in array.shape:
                first, last = sorted(random.integers(0, n + 1, size=2))
                index.append(slice(first, last, random.integers(1, 4)))
            array = array[tuple(index)].transpose(random.permutation(array.ndim))
        tensor = torch.from_numpy(array)
        assert tensor.tolist() == array.tolist()
        tensor.add_(1)
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_memory_that_a_tensor_gave():
    """There and back: a part of a tensor as an array, and that as a tensor."""
    whole = torch.arange(12.0).view(3, 4)
    for part in (whole[:, 1:], whole.t()[1:], whole[::2, ::2]):
        again = torch.from_numpy(part.numpy())
        assert again.tolist() == part.tolist()
        again.add_(1)
        assert again.tolist() == part.tolist()


def test_what_cannot_be_shown_says_what_to_do():
    with pytest.raises(ValueError, match="negative"):
        torch.from_numpy(WHOLE[::-1])
    memory = np.zeros(21, np.uint8)[1:].view(np.uint8)
    odd = np.ndarray((3,), np.float32, memory.data, 0, (5,))
    with pytest.raises(ValueError, match="array.copy"):
        torch.from_numpy(odd)
    assert torch.as_tensor(WHOLE.reshape(6, 10)[:, 3:]).shape == (6, 7)
