"""Recurrent layers are one scan a direction, with the bits of their cells in every mode."""

import numpy as np
import pytest

import graphc as torch
from graphc import nn
from graphc.backends.base import core_graph
from graphc.frontends.record import recorder
from graphc.ir.interpret import evaluate

KINDS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
CELLS = {"RNN": nn.RNNCell, "GRU": nn.GRUCell, "LSTM": nn.LSTMCell}


def network(kind, **options):
    torch.manual_seed(0)
    return KINDS[kind](5, 6, **options)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_layer_is_one_scan_that_holds_only_the_recurrent_product(kind):
    layer = network(kind, bidirectional=True)
    x = torch.randn(7, 3, 5)
    graph = torch.jit.trace(layer, (x,)).graph
    core = core_graph(graph)
    scans = [node for node in core.nodes if node.op.name == "scan"]
    assert len(scans) == 2 and [s.attrs["reverse"] for s in scans] == [False, True]
    for scan in scans:
        assert [n.op.name for n in scan.blocks[0].nodes].count("dot") == 1
    assert len(core.nodes) < 40  # not by the length


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_layer_has_the_bits_of_its_cell(kind):
    layer, cell = network(kind), CELLS[kind](5, 6)
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            parameter.copy_(getattr(layer, f"{name}_l0"))
    x = torch.randn(4, 3, 5)
    state, steps = None, []
    for row in x:
        state = cell(row, state)
        steps.append(state[0] if kind == "LSTM" else state)
    assert torch.equal(torch.stack(steps), layer(x)[0])


def test_lengths_share_their_code():
    layer = network("LSTM")
    with torch.no_grad():
        count = recorder().compiled
        for n in range(2, 20):
            layer(torch.randn(n, 3, 5))[0].sum().item()
    assert recorder().compiled - count <= 4


def losses_and_weights(kind, looks, wrap):
    layer = network(kind, num_layers=2)
    head = nn.Linear(6, 2)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.1)
    x = torch.linspace(-1, 1, 105).reshape(7, 3, 5)

    def step(x):
        optimizer.zero_grad()
        loss = head(layer(x)[0]).pow(2).mean()
        if looks:
            loss.item()
        loss.backward()
        optimizer.step()
        return loss

    step = wrap(step)
    losses = [step(x).item() for _ in range(3)]
    return losses, [p.detach().numpy().tobytes() for p in layer.parameters()]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_training_has_the_same_bits_eager_with_a_look_and_compiled(kind):
    expected = losses_and_weights(kind, False, lambda step: step)
    assert losses_and_weights(kind, True, lambda step: step) == expected
    assert losses_and_weights(kind, False, torch.compile) == expected


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_graph_means_what_runs(kind):
    layer = network(kind, bidirectional=True)
    x = torch.randn(4, 3, 5)
    traced = torch.jit.trace(layer, (x,))
    wanted = evaluate(core_graph(traced.graph), *_arrays(traced, x))
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), wanted[0], atol=1e-5)


def _arrays(traced, x):
    return [x.numpy(), *[p.detach().numpy() for p in traced.parameters()]]


def test_errors():
    layer = network("LSTM")
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        layer(torch.zeros(0, 3, 5))
    h = torch.zeros(1, 3, 6, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="input tensor with Float and hidden tensor with Double"):
        layer(torch.zeros(2, 3, 5), (h, h))


def test_training_has_the_same_bits_on_any_number_of_threads():
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            layer = nn.LSTM(16, 64)  # (large enough for regions on several threads)
            output, _ = layer(torch.linspace(-1, 1, 20 * 32 * 16).reshape(20, 32, 16))
            output.pow(2).sum().backward()
            found.append([p.grad.numpy().tobytes() for p in layer.parameters()])
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_pass_and_kernel_of_a_training_step_is_verified(kind):
    layer = network(kind)
    x = torch.linspace(-1, 1, 105).reshape(7, 3, 5)

    def step(x):
        layer(x)[0].pow(2).sum().backward()
        return layer.weight_hh_l0.grad

    wanted = step(x).numpy().copy()
    layer.zero_grad()
    verified = torch.compile(step, verify="numeric")(x).numpy()
    assert wanted.tobytes() == verified.tobytes()
