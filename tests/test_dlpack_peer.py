"""Memory shared with numpy and torch by DLPack; torch's own tensors are refused elsewhere."""

import gc as collector

import numpy as np
import pytest

import graphc as gc
from graphc.frontends import dlpack

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", "float32 float64 float16 bfloat16 int64 uint8 bool".split())
def test_tensors_go_both_ways(name):
    ours = gc.tensor([[0, 1, 2], [3, 4, 5]], dtype=getattr(gc, name)).t()
    theirs = torch.from_dlpack(ours)
    assert theirs.dtype is getattr(torch, name)
    assert theirs.stride() == (1, 3)
    assert theirs.tolist() == ours.tolist()
    back = gc.from_dlpack(theirs)
    assert back.dtype is ours.dtype
    assert back.tolist() == ours.tolist()
    assert back.data_ptr() == theirs.data_ptr() == ours.data_ptr()


def test_memory_is_shared():
    ours = gc.zeros(3)
    theirs, array = torch.from_dlpack(ours), np.from_dlpack(ours)
    theirs[0] = 1
    ours[2] = 3
    assert ours.tolist() == theirs.tolist() == array.tolist() == [1, 0, 3]
    taken = gc.from_dlpack(np.arange(3.0))
    assert taken.tolist() == [0, 1, 2]


def test_views_lie_in_the_same_memory():
    base = torch.arange(12.0).reshape(3, 4)
    part = gc.from_dlpack(base[1:, ::2])
    assert part.tolist() == [[4, 6], [8, 10]]
    base[1, 0] = 9
    assert part.tolist() == [[9, 6], [8, 10]]


def test_memory_is_given_back():
    before = len(dlpack._given)
    ours = gc.ones(4)
    theirs, unused = torch.from_dlpack(ours), ours.__dlpack__()
    assert len(dlpack._given) == before + 2
    del theirs, unused
    collector.collect()
    assert len(dlpack._given) == before


def test_copies_and_refusals():
    array = np.zeros(2)
    copied = gc.from_dlpack(array, copy=True)
    array[0] = 1
    assert copied.tolist() == [0, 0]
    with pytest.raises(BufferError, match="detach"):
        gc.ones(2, requires_grad=True).__dlpack__()
    capsule = gc.ones(2).__dlpack__()
    gc.from_dlpack(capsule)
    with pytest.raises(TypeError, match="not yet used"):
        gc.from_dlpack(capsule)
    assert gc.ones(2).__dlpack_device__() == (1, 0)
    assert gc.from_dlpack(gc.to_dlpack(gc.ones(2))).tolist() == [1, 1]


def test_torchs_own_tensors_are_named():
    with pytest.raises(TypeError, match=r"exp was given a Tensor of PyTorch's own. graphc.from_dl"):
        gc.exp(torch.ones(2))
    with pytest.raises(TypeError, match="linear was given a Parameter of PyTorch's own"):
        gc.nn.functional.linear(gc.ones(2, 3), torch.nn.Linear(3, 4).weight)
    with pytest.raises(TypeError, match="dtype of PyTorch's own: torch.float32. Use graphc's"):
        gc.ones(2).sum(dtype=torch.float32)
