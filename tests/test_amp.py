"""Gradient scaling, against its definition; autocast where it is switched off."""

import pytest

import graphc as gc
from graphc import amp, nn


def trained(scaler, losses):
    model = nn.Linear(2, 1)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = gc.optim.SGD(model.parameters(), lr=0.1)
    for factor in losses:
        optimizer.zero_grad()
        loss = model(gc.ones(1, 2)).sum() * factor
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return model.weight.detach().tolist()[0]


def test_steps_are_those_without_scaling():
    plain = trained(amp.GradScaler("cpu", enabled=False), [1.0, 2.0])
    assert trained(amp.GradScaler("cpu"), [1.0, 2.0]) == pytest.approx(plain)


def test_infinite_gradients_are_left_out():
    scaler = amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    assert trained(scaler, [float("inf")]) == [1.0, 1.0]
    assert scaler.get_scale() == 4.0
    trained(scaler, [1.0, 1.0])
    assert scaler.get_scale() == 8.0
    other = amp.GradScaler("cpu")
    other.load_state_dict(scaler.state_dict())
    assert other.get_scale() == 8.0


def test_unscale_once():
    model = nn.Linear(1, 1)
    optimizer = gc.optim.SGD(model.parameters(), lr=0.1)
    scaler = amp.GradScaler("cpu")
    scaler.scale(model(gc.ones(1, 1)).sum()).backward()
    scaler.unscale_(optimizer)
    assert model.weight.grad.item() == 1
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)


def test_autocast_that_is_off():
    with gc.autocast("cpu", enabled=False):
        assert (gc.ones(2, 2) @ gc.ones(2, 2)).dtype is gc.float32
    assert not gc.is_autocast_enabled()
    with pytest.raises(gc.UnsupportedError, match="autocast on 'cpu'"):
        gc.autocast("cpu")
    with pytest.warns(UserWarning, match="CUDA is not available"), gc.cuda.amp.autocast():
        pass
    with pytest.warns(UserWarning, match="CUDA is not available"):
        assert not gc.cuda.amp.GradScaler().is_enabled()
