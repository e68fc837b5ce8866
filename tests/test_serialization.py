"""torch.save and torch.load over graphc's tensors, without torch."""

import io
import pickle

import numpy as np
import pytest

import graphc as gc
from graphc import nn, serialization


def round_trip(obj, **options):
    stream = io.BytesIO()
    gc.save(obj, stream)
    stream.seek(0)
    return gc.load(stream, **options)


def test_containers_dtypes_devices_and_sizes():
    x = gc.arange(6, dtype=gc.float32).reshape(2, 3)
    obj = {"x": x, "n": [1, 2.5, None, True, "s"], "d": gc.float16, "where": gc.device("cpu", 1),
           "size": x.shape}  # fmt: skip
    found = round_trip(obj)
    assert found["n"] == obj["n"]
    assert found["d"] is gc.float16
    assert found["where"] == gc.device("cpu:1")
    assert found["size"] == x.shape and isinstance(found["size"], gc.Size)
    assert gc.equal(found["x"], x)


@pytest.mark.parametrize(
    "dtype", "float32 float64 float16 bfloat16 int8 int32 int64 uint8 bool complex64".split()
)
def test_every_dtype_keeps_its_values(dtype):
    x = gc.tensor([0, 1, 2, 3], dtype=getattr(gc, dtype))
    found = round_trip(x)
    assert found.dtype is x.dtype
    assert found.tolist() == x.tolist()


def test_views_stay_views_of_one_storage():
    x = gc.arange(12, dtype=gc.float32).reshape(3, 4)
    obj = {"x": x, "t": x.t(), "row": x[1], "column": x[:, 2], "corner": x[1:, :2], "steps": x[::2]}
    found = round_trip(obj)
    for name, tensor in obj.items():
        assert gc.equal(found[name], tensor), name
        assert found[name].stride() == tensor.stride(), name
    found["x"][1, 2] = 100
    assert float(found["row"][2]) == 100
    assert float(found["t"][2, 1]) == 100
    assert float(found["column"][1]) == 100


def test_a_view_alone_keeps_its_whole_storage():
    found = round_trip(gc.arange(10)[3:5])
    assert found.tolist() == [3, 4]
    assert found.storage_offset() == 3


def test_gradients_are_wanted_again():
    x = gc.ones(3, requires_grad=True)
    found = round_trip([x, x])
    assert found[0] is found[1]
    assert found[0].requires_grad and found[0].is_leaf
    (found[0] * 2).sum().backward()
    assert found[0].grad.tolist() == [2, 2, 2]


def test_state_dicts_train_on(tmp_path):
    def made():
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        return model, gc.optim.AdamW(model.parameters(), lr=0.1)

    def step(model, optimizer):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    gc.manual_seed(0)
    x = gc.randn(5, 3)
    model, optimizer = made()
    step(model, optimizer)
    path = tmp_path / "checkpoint.pt"
    gc.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    expected = [step(model, optimizer) for _ in range(3)]
    other, other_optimizer = made()
    state = gc.load(str(path))
    other.load_state_dict(state["model"])
    other_optimizer.load_state_dict(state["optimizer"])
    assert [step(other, other_optimizer) for _ in range(3)] == expected


def test_a_whole_module_needs_trust():
    model = nn.Linear(2, 2)
    stream = io.BytesIO()
    gc.save(model, stream)
    stream.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="not an allowed global"):
        gc.load(stream)
    stream.seek(0)
    found = gc.load(stream, weights_only=False)
    assert isinstance(found, nn.Linear)
    assert isinstance(found.weight, nn.Parameter)
    assert gc.equal(found(gc.ones(2)), model(gc.ones(2)))


class Config:
    def __init__(self):
        self.width = 3


def test_safe_globals_allow_a_class():
    stream = io.BytesIO()
    gc.save(Config(), stream)
    stream.seek(0)
    with serialization.safe_globals([Config]):
        assert gc.load(stream).width == 3
    assert serialization.get_safe_globals() == []
    stream.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        gc.load(stream)


@pytest.mark.parametrize(
    "place", ["cpu:1", gc.device("cpu:1"), {"cpu": "cpu:1"}, lambda storage, where: "cpu:1"]
)
def test_map_location(place):
    found = round_trip([gc.ones(2), gc.arange(4)[1:3]], map_location=place)
    assert [str(t.device) for t in found] == ["cpu:1", "cpu:1"]
    assert found[0].tolist() == [1, 1]
    assert found[1].tolist() == [1, 2]


def test_a_device_that_is_not_there():
    with pytest.raises(RuntimeError, match="map_location='cpu'"):
        round_trip(gc.ones(2), map_location="cuda:0")


def test_exported_memory_is_saved_as_it_is_now():
    array = np.zeros(3, np.float32)
    x = gc.from_numpy(array)
    array[1] = 5
    assert round_trip(x).tolist() == [0, 5, 0]


def test_malformed_files():
    with pytest.raises(EOFError):
        gc.load(io.BytesIO(b""))
    with pytest.raises(gc.ir.errors.FormatError, match="not a torch file"):
        gc.load(io.BytesIO(b"hello, this is no file of weights"))


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    tensors = {"a": gc.randn(2, 3), "b": gc.arange(4), "t": gc.randn(2, 3).t().bfloat16()}
    serialization.save_safetensors(tensors, tmp_path / "x.safetensors", {"format": "pt"})
    found = serialization.load_safetensors(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype is tensor.dtype
        assert gc.equal(found[name], tensor)
