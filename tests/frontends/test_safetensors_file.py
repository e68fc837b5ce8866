"""safetensors files as numpy arrays, every element type."""

import sys

import ml_dtypes
import numpy as np
import pytest

from graphc.frontends.safetensors_file import load, load_file, save, save_file
from graphc.ir.errors import FormatError

NAMES = "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8"
NAMES += " uint16 uint32 uint64 bool complex64"


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        load(b"")
    with pytest.raises(ImportError, match="pip install safetensors"):
        save({})


@pytest.mark.parametrize("name", NAMES.split())
def test_every_element_type_goes_out_and_back(tmp_path, name):
    pytest.importorskip("safetensors")
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    arrays = {"x": np.arange(6).reshape(2, 3).astype(dtype), "scalar": np.ones((), dtype)}
    save_file(arrays, tmp_path / "weights.safetensors", {"made": "here"})
    found = load_file(tmp_path / "weights.safetensors")
    assert set(found) == {"x", "scalar"}
    for key, array in arrays.items():
        assert (found[key].dtype, found[key].shape) == (dtype, array.shape)
        assert found[key].tobytes() == array.tobytes() and found[key].flags.writeable


def test_views_and_other_byte_orders_are_written_as_values():
    pytest.importorskip("safetensors")
    arrays = {"t": np.arange(6.0).reshape(2, 3).T, "big": np.array([1, 2], ">i4")}
    found = load(save(arrays))
    assert found["t"].tolist() == arrays["t"].tolist() and found["big"].tolist() == [1, 2]


def test_element_types_that_the_format_lacks_are_refused():
    pytest.importorskip("safetensors")
    with pytest.raises(TypeError, match="when, which is datetime64"):
        save({"when": np.zeros(1, "M8[s]")})


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\x08" + bytes(7) + b'{"a":1}x'])
def test_malformed_files_are_refused(data):
    pytest.importorskip("safetensors")
    with pytest.raises(FormatError, match="malformed"):
        load(data)
