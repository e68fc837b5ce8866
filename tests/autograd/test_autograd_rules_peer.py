"""Autograd's rules against torch: the same results, or the same first line of the error."""

import re

import pytest

import graphc
from tests.autograd.mode_cases import CASES

torch = pytest.importorskip("torch")


def shown(result):
    if isinstance(result, (tuple, list)):
        return [shown(item) for item in result]
    return (result.tolist(), result.requires_grad) if hasattr(result, "tolist") else result


def outcome(function, library):
    try:
        return "result", shown(function(library))
    except Exception as error:  # the two libraries' errors are compared
        first = re.split(r"\. |\n", str(error))[0]
        kind = TypeError if isinstance(error, TypeError) else RuntimeError
        assert isinstance(error, kind)
        return "error", kind, first.removesuffix(".")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_same_as_torch(name):
    assert outcome(CASES[name], graphc) == outcome(CASES[name], torch)
