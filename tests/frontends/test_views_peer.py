"""Views and in-place writes against torch, on random programs."""

import pytest

import graphc
from tests.frontends import aliasing_programs

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("block", range(4))
def test_random_programs_alias_as_in_torch(block: int) -> None:
    for seed in range(30 * block, 30 * block + 30):
        aliasing_programs.run(seed, graphc, torch)


@pytest.mark.parametrize("shape", [(1, 24), (24, 1), (4, 1, 6), (2, 12), (2, 3, 4), (1, 1, 24)])
def test_strides_of_reshapes(shape: tuple[int, ...]) -> None:
    for base in ((24,), (4, 6), (1, 4, 1, 6)):
        ours, theirs = graphc.zeros(base).view(shape), torch.zeros(base).view(shape)
        assert ours.stride() == theirs.stride()
