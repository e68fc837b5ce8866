"""A command that runs a program of torch makes `torch` mean graphc for good; here it ends with the
test, so that comparisons with torch may follow in the same process."""

import sys

import pytest


def torch_modules():
    return {name: m for name, m in sys.modules.items() if name.partition(".")[0] == "torch"}


@pytest.fixture(autouse=True)
def torch_is_itself_again():
    before, finders = torch_modules(), list(sys.meta_path)
    yield
    for name in torch_modules():
        del sys.modules[name]
    sys.modules.update(before)
    sys.meta_path[:] = finders
