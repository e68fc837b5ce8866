"""Weights that stay the same from run to run are packed; every way to change them is noticed."""

import gc
import threading
import weakref

import numpy as np
import pytest

import graphc as torch
import graphc.nn as nn
from graphc import config
from graphc.frontends import kept


@pytest.fixture
def packings(monkeypatch):
    """Counts compiles with packed weights, and packings."""
    counts = {"built": 0, "packed": 0, "winograd": False}
    build, pack = kept.build_split, kept.Split.pack

    def counted_build(*args, **options):
        counts["built"] += 1
        counts["winograd"] = options["winograd"]
        return build(*args, **options)

    def counted_pack(self, addresses):
        counts["packed"] += 1
        return pack(self, addresses)

    monkeypatch.setattr(kept, "build_split", counted_build)
    monkeypatch.setattr(kept.Split, "pack", counted_pack)
    return counts


def network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(8, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3),
        nn.Flatten(), nn.Linear(32 * 18 * 18, 40),
    ).eval()  # fmt: skip


def images(k=0):
    return torch.tensor(np.random.default_rng(k).standard_normal((2, 8, 20, 20), np.float32))


def run(function, x):
    with torch.no_grad():
        return function(x).numpy()


@pytest.mark.parametrize("compiled", [False, True])
def test_they_are_packed_after_some_runs_and_the_bits_stay(packings, compiled):
    model = network()
    function = torch.compile(model) if compiled else model
    wanted = [run(model, images(k)).tobytes() for k in range(2)]
    for k in range(kept.OFTEN + 3):
        assert run(function, images(k % 2)).tobytes() == wanted[k % 2]
    assert packings["packed"] == 1  # (the code may be that of another test)
    assert not packings["winograd"]


HEADS = {
    "mean": lambda y: y.mean((2, 3)),
    "sum over channels": lambda y: y.sum(1),
    "extreme": lambda y: y.amax((2, 3)),
    "product": lambda y: (y + 1).prod(1),
    "softmax": lambda y: y.softmax(1),
    "variance": lambda y: y.var((0, 2, 3)),
    "pool": nn.AvgPool2d(3, 2),
    "adaptive pool": nn.AdaptiveAvgPool2d((3, 5)),
    "groups": nn.GroupNorm(4, 40),
    "layer norm": nn.LayerNorm([40, 33, 31]),
    "instance norm": nn.InstanceNorm2d(40),
    "larger": lambda y: nn.functional.interpolate(y, scale_factor=2, mode="bilinear"),
}


@pytest.mark.parametrize("head", HEADS)
def test_what_follows_a_convolution_keeps_its_bits(packings, head):
    """Channels last must not reach into sums, whose order is that of the axes."""
    body = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 40, 3, padding=1))
    x = torch.tensor(np.random.default_rng(0).standard_normal((2, 8, 33, 31), np.float32))

    def network(x):
        return HEADS[head](torch.relu(body(x)))

    found = [run(network, x).tobytes() for _ in range(kept.OFTEN + 1)]
    assert packings["packed"] == 1
    assert set(found) == {found[0]}
    with torch.no_grad(), config.patch(winograd=False):
        assert torch.jit.trace(network, (x,))(x).numpy().tobytes() == found[0]


def test_weights_that_nobody_holds_are_given_back():
    model, x = network(), images()
    for _ in range(kept.OFTEN + 1):
        run(model, x)
    memory = [weakref.ref(tensor._read().buffer) for tensor in model.parameters()]
    del model
    gc.collect()
    assert not [ref for ref in memory if ref() is not None]


def double(tensor):
    with torch.no_grad():
        tensor.mul_(2)


def by_numpy(tensor):
    tensor.detach().numpy()[...] *= 2


def by_numpy_of_a_buffer(tensor):
    array = tensor.numpy()
    array *= 2
    del array


def by_data(tensor):
    tensor.data *= 2


def anew(tensor):
    tensor.data = tensor.detach() * 2


@pytest.mark.parametrize("change", [double, by_numpy, by_data, anew])
@pytest.mark.parametrize("which", [0, 1, 3])
def test_written_weights_are_packed_anew(packings, change, which):
    model, x = network(), images()
    for _ in range(kept.OFTEN + 1):
        run(model, x)
    change(model[which].weight)
    found = [run(model, x) for _ in range(kept.OFTEN + 2)]
    for each in found:
        assert each.tobytes() == found[0].tobytes()
    fresh = network()
    double(fresh[which].weight)
    assert run(fresh, x).tobytes() == found[0].tobytes()
    assert packings["packed"] == 2


def test_a_tensor_that_numpy_wrote_and_let_go():
    """Memory that only the storage held is shown to numpy itself, not a copy of it."""
    w = torch.tensor(np.random.default_rng(1).standard_normal((256, 256), np.float32))
    x = torch.tensor(np.random.default_rng(2).standard_normal((128, 256), np.float32))
    for _ in range(kept.OFTEN + 2):
        (x @ w).numpy()
    before = (x @ w).numpy().copy()
    by_numpy_of_a_buffer(w)
    for _ in range(kept.OFTEN + 2):
        np.testing.assert_array_equal((x @ w).numpy(), 2 * before)


def test_weights_that_change_are_never_packed(packings):
    model, x = network(), images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(kept.OFTEN + 3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert packings["packed"] == 0


def test_small_work_and_inputs_are_not(packings):
    small = nn.Linear(8, 8)
    x = torch.ones(4, 8)
    a = torch.tensor(np.random.default_rng(0).standard_normal((256, 256), np.float32))
    for _ in range(kept.OFTEN + 3):
        run(small, x)
        run(lambda a: a @ a.T, a)  # what is data, too, is no weight
    assert packings["built"] == 0


def test_inexact_functions_take_winograds_algorithm(packings):
    model, x = network(), images()
    want = run(model, x)
    with config.patch(winograd=True):
        function = torch.compile(model, exact=False)
        for _ in range(kept.OFTEN + 1):
            found = run(function, x)
    assert packings["winograd"] is True
    assert found.tobytes() != want.tobytes()
    np.testing.assert_allclose(found, want, atol=2e-5 * np.abs(want).max())


def test_threads():
    model, x = network(), images()
    want, found = run(model, x).tobytes(), []

    def often():
        found.extend([run(model, x).tobytes() for _ in range(12)])

    threads = [threading.Thread(target=often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [want] * 48
