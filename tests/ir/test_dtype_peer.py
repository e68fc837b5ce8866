"""Promotion of element types against torch, all pairs."""

import pytest

from graphc.ir.dtype import DTYPES, promote
from graphc.ir.errors import DTypeError

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", DTYPES)
def test_promotion_is_torchs(a, b):
    x, y = DTYPES[a], DTYPES[b]
    try:
        expected = torch.promote_types(getattr(torch, x.torch_name), getattr(torch, y.torch_name))
    except RuntimeError:
        with pytest.raises(DTypeError):
            promote(x, y)
        return
    assert repr(promote(x, y)) == repr(expected)
