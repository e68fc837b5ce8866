"""repr(tensor) against torch on many random tensors, and a few literal cases."""

import numpy as np
import pytest

import graphc
from graphc import printing
from graphc.backends import base

DTYPES = "float32 float64 float16 int64 int32 int8 uint8 bool complex64 complex128 bfloat16".split()
SHAPES = [
    (), (1,), (5,), (30,), (0,), (0, 3), (2, 0), (1, 1), (3, 4), (2, 3, 4), (2, 2, 1, 3),
    (1001,), (40, 40), (3, 20, 30), (1, 2000), (600, 1, 2), (7, 7, 7, 7), (25,),
]  # fmt: skip


def random_array(rng, shape, kind):
    if kind == "whole":
        return np.asarray(rng.integers(-20, 20, shape), np.float64)
    if kind == "wide":
        return np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 9, shape))
    if kind == "special":
        values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.5])
        return np.asarray(values[rng.integers(0, rng.integers(1, 8), shape)])
    if kind == "tiny":
        return np.asarray(rng.standard_normal(shape) * 1e-6)
    return np.asarray(rng.standard_normal(shape) * rng.choice([1.0, 10.0, 500.0]))


def both(array, name):
    torch = pytest.importorskip("torch")
    with np.errstate(invalid="ignore"):
        if name.startswith("complex"):
            array = np.asarray(array + 1j * array[..., ::-1] if array.ndim else array * (1 - 2j))
        elif name == "bool":
            array = np.asarray(array > 0)
        elif name.startswith(("int", "uint")):
            array = np.abs(np.nan_to_num(array, posinf=7, neginf=0)).clip(0, 100).astype(np.int64)
    return [lib.tensor(array, dtype=getattr(lib, name)) for lib in (graphc, torch)]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("kind", ["normal", "whole", "wide", "special", "tiny"])
def test_random_tensors(name, kind, monkeypatch):
    if name.startswith("complex"):  # compiled code has no complex numbers
        monkeypatch.setattr(base.settings, "backend", "reference")
    rng = np.random.default_rng(len(name) * 7 + len(kind))
    for shape in SHAPES:
        ours, theirs = both(random_array(rng, shape, kind), name)
        assert repr(ours) == repr(theirs), (shape, name, kind)


OPTIONS = [
    {"precision": 2}, {"precision": 8}, {"linewidth": 40}, {"linewidth": 120}, {"threshold": 5},
    {"threshold": 10, "edgeitems": 1}, {"sci_mode": True}, {"sci_mode": False},
    {"profile": "short"}, {"profile": "full"}, {"edgeitems": 0, "threshold": 2},
    {"precision": 0}, {"profile": "short", "precision": 3},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    try:
        graphc.set_printoptions(**options)
        torch.set_printoptions(**options)
        for shape in ((), (7,), (40,), (6, 9), (2, 3, 4), (0,)):
            for kind in ("normal", "whole", "wide", "special"):
                ours, theirs = both(random_array(rng, shape, kind), "float32")
                assert repr(ours) == repr(theirs), (shape, kind)
    finally:
        graphc.set_printoptions(profile="default")
        torch.set_printoptions(profile="default")


def test_gradients_are_named():
    torch = pytest.importorskip("torch")
    for expression in (
        "torch.ones(2, requires_grad=True)",
        "torch.ones(2, requires_grad=True) + 1",
        "torch.ones(2, 2, requires_grad=True).sum()",
        "torch.arange(30.0).requires_grad_(True) * 1.25",
        "torch.ones(2, 2, dtype=torch.float64, requires_grad=True).exp()",
        "torch.nn.Parameter(torch.ones(2))",
    ):
        ours, theirs = [repr(eval(expression, {"torch": lib})) for lib in (graphc, torch)]
        assert ours == theirs


def test_default_dtype_is_not_shown():
    torch = pytest.importorskip("torch")
    for lib in (graphc, torch):
        lib.set_default_dtype(lib.float64)
    try:
        for expression in ("torch.ones(2)", "torch.ones(2, dtype=torch.float32)", "torch.ones(0)"):
            ours, theirs = [repr(eval(expression, {"torch": lib})) for lib in (graphc, torch)]
            assert ours == theirs
    finally:
        for lib in (graphc, torch):
            lib.set_default_dtype(lib.float32)


def test_literals():
    assert repr(graphc.tensor([1.0, 2.5, float("nan")])) == "tensor([1.0000, 2.5000,    nan])"
    assert repr(graphc.tensor([1.0, float("-inf")])) == "tensor([1., -inf])"
    assert repr(graphc.tensor([[True], [False]])) == "tensor([[ True],\n        [False]])"
    assert repr(graphc.zeros(0, 2, dtype=graphc.int64)) == (
        "tensor([], size=(0, 2), dtype=torch.int64)"
    )
    assert repr(graphc.tensor(7)) == "tensor(7)"
    assert repr(graphc.arange(2000)) == "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"


def test_printoptions_come_back():
    with printing.printoptions(precision=1):
        assert repr(graphc.tensor([0.25])) == "tensor([0.2])"
    assert repr(graphc.tensor([0.25])) == "tensor([0.2500])"
    assert printing.get_printoptions()["precision"] == 4
