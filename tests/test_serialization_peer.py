"""Files between graphc and torch, both ways."""

import io
import warnings

import numpy as np
import pytest

import graphc as gc
from graphc import nn

torch = pytest.importorskip("torch")


def from_torch(obj, **options):
    stream = io.BytesIO()
    torch.save(obj, stream)
    stream.seek(0)
    return gc.load(stream, **options)


def to_torch(obj, **options):
    stream = io.BytesIO()
    gc.save(obj, stream)
    stream.seek(0)
    return torch.load(stream, **options)


def test_tensors_from_torch():
    x = torch.arange(12.0).reshape(3, 4)
    obj = {"x": x, "t": x.t(), "part": x[1:, ::2], "b": x.bfloat16(), "d": torch.float16,
           "size": x.shape, "device": torch.device("cpu"), "scalar": torch.tensor(3)}  # fmt: skip
    found = from_torch(obj)
    for name in ("x", "t", "part", "b", "scalar"):
        assert found[name].tolist() == obj[name].tolist(), name
        assert found[name].stride() == obj[name].stride(), name
    assert found["d"] is gc.float16
    assert found["size"] == gc.Size([3, 4])
    assert found["device"] == gc.device("cpu")
    found["x"][1, 0] = 9
    assert float(found["t"][0, 1]) == 9


def test_tensors_to_torch():
    x = gc.arange(12, dtype=gc.float32).reshape(3, 4)
    obj = {"x": x, "t": x.t(), "part": x[1:, ::2], "d": gc.bfloat16, "size": x.shape,
           "device": gc.device("cpu"), "p": nn.Parameter(gc.ones(2))}  # fmt: skip
    found = to_torch(obj)
    for name in ("x", "t", "part"):
        assert found[name].tolist() == obj[name].tolist(), name
        assert found[name].stride() == obj[name].stride(), name
    assert found["d"] is torch.bfloat16
    assert found["size"] == torch.Size([3, 4])
    assert isinstance(found["p"], torch.nn.Parameter) and found["p"].requires_grad
    found["x"][1, 0] = 9
    assert float(found["t"][0, 1]) == 9


def models(module):
    nn = module.nn
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    return model, module.optim.Adam(model.parameters(), lr=0.1)


def steps(model, optimizer, x, count=3):
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("direction", ["torch to graphc", "graphc to torch"])
def test_training_continues_in_the_other(direction):
    source, target, carry = (
        (torch, gc, from_torch) if direction[0] == "t" else (gc, torch, to_torch)
    )
    array = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    model, optimizer = models(source)
    steps(model, optimizer, source.tensor(array))
    state = carry({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    other, other_optimizer = models(target)
    other.load_state_dict(state["model"])
    other_optimizer.load_state_dict(state["optimizer"])
    expected = steps(model, optimizer, source.tensor(array))
    assert steps(other, other_optimizer, target.tensor(array)) == pytest.approx(expected, rel=1e-4)


def test_a_module_of_torch_becomes_one_of_graphc():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = from_torch(model, weights_only=False)
    assert isinstance(found, nn.Sequential)
    x = [[1.0, 2.0]]
    assert found(gc.tensor(x)).tolist()[0] == pytest.approx(model(torch.tensor(x)).tolist()[0])
