"""Saved values that are written later: errors where torch raises, else the same gradients."""

import numpy as np
import pytest

import graphc
from tests.autograd.inplace_programs import program

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("block", range(5))
def test_random_programs(block):
    outcomes = set()
    for seed in range(30 * block, 30 * block + 30):
        ours, theirs = program(seed, graphc), program(seed, torch)
        outcomes.add(theirs[0])
        assert ours[0] == theirs[0], (seed, ours, theirs)
        if ours[0] == "error":
            assert ours[1] == theirs[1], seed
            continue
        for a, b in zip(ours[1], theirs[1], strict=True):
            assert (a is None) == (b is None), seed
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4, err_msg=str(seed))
    assert outcomes == {"error", "gradients"}


def updated_weights(library):
    """backward through a graph whose weights an optimizer has changed."""
    model = library.nn.Sequential(library.nn.Linear(3, 3), library.nn.Linear(3, 1))
    optimizer = library.optim.SGD(model.parameters(), lr=0.1)
    loss = model(library.ones(2, 3)).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    loss.backward()


def row_of_a_saved_matrix(library):
    x, w = library.ones(3, 3), library.ones(3, requires_grad=True)
    loss = (x[0] * w).sum()
    loss.item()
    x.add_(1)
    loss.backward()


@pytest.mark.parametrize("function", [updated_weights, row_of_a_saved_matrix])
def test_the_error_is_torchs(function):
    for library in (graphc, torch):
        with pytest.raises(RuntimeError, match="one of the variables needed for gradient comput"):
            function(library)
