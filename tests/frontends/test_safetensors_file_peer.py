"""safetensors files against the package's own functions for torch."""

import numpy as np
import pytest

from graphc.frontends.safetensors_file import load_file, save_file

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


@pytest.mark.parametrize("name", "float32 float16 bfloat16 int64 bool float8_e4m3fn".split())
def test_torch_and_we_read_each_others_files(tmp_path, name):
    theirs = {"w": torch.arange(6).reshape(2, 3).to(getattr(torch, name))}
    safetensors_torch.save_file(theirs, tmp_path / "theirs.safetensors")
    ours = load_file(tmp_path / "theirs.safetensors")
    assert ours["w"].dtype.name == name
    save_file(ours, tmp_path / "ours.safetensors")
    back = safetensors_torch.load_file(tmp_path / "ours.safetensors")
    assert back["w"].dtype == theirs["w"].dtype
    assert back["w"].view(torch.uint8).tolist() == theirs["w"].view(torch.uint8).tolist()
    assert np.array_equal(ours["w"].astype(np.float64), theirs["w"].double().numpy())
