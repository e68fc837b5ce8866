"""Random numbers in a traced function: the graph holds the example's, and tracing says so."""

import pytest

import graphc as torch
from graphc import nn


def test_a_draw_warns_at_the_users_line() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    with pytest.warns(torch.jit.TracerWarning, match="draws random numbers"):
        traced = torch.jit.trace(network, torch.ones(2, 4))
    assert torch.equal(traced(torch.ones(2, 4)), traced(torch.ones(2, 4)))


def test_evaluation_mode_draws_nothing() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    traced = torch.jit.trace(network, torch.ones(2, 4))
    assert torch.equal(traced(torch.ones(2, 4)), network(torch.ones(2, 4)))
