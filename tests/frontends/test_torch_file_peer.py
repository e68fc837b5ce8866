"""torch's files both ways: what torch.save wrote, we read; what we write, torch.load reads."""

import io
import pickle
import runpy
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from graphc.frontends.torch_file import TorchCall, TorchName
from tests.frontends.array_tensor import ArrayTensor, describe, load, save, tensor

torch = pytest.importorskip("torch")

MAKE = Path(__file__).parent.parent / "data" / "make_torch_file.py"


def bits(value) -> tuple:
    """dtype, shape and bytes of a torch tensor."""
    value = value.detach().resolve_conj()
    raw = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return str(value.dtype).removeprefix("torch."), tuple(value.shape), raw


def same(ours, theirs) -> None:
    if isinstance(theirs, torch.Tensor):
        array = ours.numpy()
        assert (array.dtype.name, array.shape, array.tobytes()) == bits(theirs)
        assert ours.requires_grad == theirs.requires_grad
        assert ours.is_parameter == isinstance(theirs, torch.nn.Parameter)
    elif isinstance(theirs, dict):
        assert type(ours) is type(theirs) and list(ours) == list(theirs)
        for key in theirs:
            same(ours[key], theirs[key])
        same(getattr(ours, "_metadata", None), getattr(theirs, "_metadata", None))
    elif isinstance(theirs, torch.Size):
        assert ours == tuple(theirs)
    elif isinstance(theirs, torch.device):
        assert ours == str(theirs)
    elif isinstance(theirs, torch.dtype):
        assert repr(ours) == str(theirs)
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs) and len(ours) == len(theirs)
        for our, their in zip(ours, theirs):
            same(our, their)
    else:
        assert type(ours) is type(theirs) and ours == theirs


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_torch_saves(protocol):
    contents = runpy.run_path(str(MAKE))["contents"]()
    file = io.BytesIO()
    torch.save(contents, file, pickle_protocol=protocol)
    file.seek(0)
    same(load(file), contents)


def test_torch_reads_what_we_write(tmp_path):
    base = tensor(np.arange(12, dtype=np.float32).reshape(3, 4))
    contents = {
        "base": base,
        "view": ArrayTensor(base.storage, 1, (3, 3), (1, 4)),
        "again": base,
        "parameter": tensor([1.0, 2.0], requires_grad=True, is_parameter=True),
        "leaf": tensor([1.0], requires_grad=True),
        "empty": tensor(np.zeros((0, 3))),
        "scalar": tensor(2.5),
        "plain": [1, 2**70, 2.5, "é", b"\xff", (True, None), {1}, 1j],
        "state": OrderedDict(w=tensor([1, 2])),
    }
    contents["state"]._metadata = {"version": 1}
    path = tmp_path / "ours.pt"
    save(contents, path)
    found = torch.load(path, weights_only=True)
    same(contents, found)
    assert found["base"] is found["again"]
    storages = [found[name].untyped_storage().data_ptr() for name in ("base", "view")]
    assert storages[0] == storages[1]
    mapped = torch.load(path, weights_only=True, mmap=True)
    same(contents, mapped)


@pytest.mark.parametrize(
    "name",
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128 "
    "uint16 uint32 uint64 float8_e4m3fn float8_e5m2".split(),
)
def test_every_element_type_goes_to_torch_and_back(name):
    theirs = torch.tensor([0, 1, 2, 100]).to(getattr(torch, name))
    file = io.BytesIO()
    torch.save(theirs, file)
    ours = load(io.BytesIO(file.getvalue()))
    back = io.BytesIO()
    save(ours, back)
    back.seek(0)
    same(ours, torch.load(back, weights_only=True))


def test_names_that_torch_knows_are_written_as_its_own():
    special = {"device": TorchCall(TorchName("torch", "device"), ("cuda", 1))}
    special["dtype"] = TorchName("torch", "float32")
    file = io.BytesIO()
    save(special, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == {
        "device": torch.device("cuda:1"),
        "dtype": torch.float32,
    }


def test_a_description_may_be_a_call_with_tensors_in_it():
    class Sparse:
        indices, values, size = tensor([[0, 1], [1, 0]]), tensor([3.0, 4.0]), (2, 2)

    def describe_sparse(value):
        if not isinstance(value, Sparse):
            return describe(value)
        layout = TorchCall(TorchName("torch.serialization", "_get_layout"), ("torch.sparse_coo",))
        size = TorchCall(TorchName("torch", "Size"), (value.size,))
        rebuild = TorchName("torch._utils", "_rebuild_sparse_tensor")
        return TorchCall(rebuild, (layout, (value.indices, value.values, size, True)))

    from graphc.frontends.torch_file import save_file

    file = io.BytesIO()
    save_file([Sparse(), 1], file, describe_tensor=describe_sparse)
    file.seek(0)
    found = torch.load(file, weights_only=True)[0]
    assert found.to_dense().tolist() == [[0.0, 3.0], [4.0, 0.0]]


def test_tensors_with_python_attributes_keep_them():
    value = torch.nn.Parameter(torch.ones(2))
    value.note = "kept"
    file = io.BytesIO()
    torch.save([value], file)
    file.seek(0)
    [ours] = load(file)
    assert ours.note == "kept" and ours.is_parameter


def test_a_whole_module_is_refused_by_name_unless_allowed():
    file = io.BytesIO()
    torch.save(torch.nn.ReLU(), file)
    with pytest.raises(pickle.UnpicklingError, match="torch.nn.modules.activation.ReLU"):
        load(io.BytesIO(file.getvalue()))

    class Standin:
        pass

    entry = (Standin, "torch.nn.modules.activation.ReLU")
    found = load(io.BytesIO(file.getvalue()), allowed=[entry, (set, "builtins.set")])
    assert isinstance(found, Standin) and found.inplace is False


def test_the_legacy_format_is_named():
    file = io.BytesIO()
    torch.save([1], file, _use_new_zipfile_serialization=False)
    file.seek(0)
    with pytest.raises(RuntimeError, match=r"before version 1\.6.*\n.*torch\.save\(torch\.load"):
        load(file)


def test_torchscript_is_named():
    file = io.BytesIO()
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), file)
    file.seek(0)
    with pytest.raises(RuntimeError, match="TorchScript"):
        load(file)
