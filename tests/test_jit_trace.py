"""jit.trace, jit.save and jit.load: structure, weights, writes, gradients, damaged files."""

import io
import random
import threading
import warnings

import numpy as np
import pytest

import graphc as torch
import graphc.nn as nn
from graphc import config
from graphc.ir.errors import GraphcError


def round_trip(traced):
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    return torch.jit.load(file)


def both(traced):
    """A traced module and what is read back of it."""
    return traced, round_trip(traced)


def shown(value):
    if isinstance(value, dict):
        return {k: shown(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(shown(v) for v in value)
    return value.tolist() if isinstance(value, torch.Tensor) else value


def test_nested_arguments_and_results():
    def function(d, *, k):
        return {"a": d["x"][0] + k, "b": (d["x"][1], [d["y"] * 2, 5, None, "q"])}

    example = {"x": [torch.ones(2), torch.ones(3)], "y": torch.ones(1)}
    traced = torch.jit.trace(function, (example,), example_kwarg_inputs={"k": torch.ones(2)})
    for f in both(traced):
        found = f(example, k=torch.ones(2) * 4)
        assert shown(found) == {"a": [5, 5], "b": ([1, 1, 1], [[2], 5, None, "q"])}
        with pytest.raises(TypeError, match="other arguments"):
            f(example)


def test_weights_are_those_of_the_module():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    x = torch.ones(1, 3)
    traced = torch.jit.trace(model, x)
    assert list(traced.state_dict()) == ["0.weight", "0.bias", "1.bias"]
    assert all(p is q for p, q in zip(traced.parameters(), model.parameters(), strict=True))
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert torch.equal(traced(x), model(x))
    assert torch.equal(round_trip(traced)(x), model(x))


def test_buffers_that_are_written_are_written_by_the_graph():
    torch.manual_seed(0)
    model, x = nn.BatchNorm1d(3), torch.randn(8, 3)
    traced = torch.jit.trace(model, x)
    assert model.num_batches_tracked.item() == 1
    before = model.running_mean.tolist()
    traced(x + 5)
    other = nn.BatchNorm1d(3)
    other(x), other(x + 5)
    assert model.num_batches_tracked.item() == 2 and model.running_mean.tolist() != before
    assert torch.equal(model.running_mean, other.running_mean)
    assert torch.equal(model.running_var, other.running_var)
    loaded = round_trip(traced)
    loaded(x - 1), other(x - 1)
    state = loaded.state_dict()
    assert torch.equal(state["running_var"], other.running_var)
    assert state["num_batches_tracked"].item() == 3 and model.num_batches_tracked.item() == 2
    assert len(traced.graph.results) == 1


def test_an_input_that_is_written():
    def function(x):
        x.add_(1)
        return x * 2

    example = torch.zeros(3)
    for f in both(torch.jit.trace(function, example)):
        x = torch.zeros(2, 3)
        assert f(x[1]).tolist() == [2, 2, 2]
        assert x.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert example.tolist() == [0, 0, 0]


def test_a_look_warns_at_the_users_line():
    def function(x):
        if x.sum() > 0:
            return x * 2
        return x

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced = torch.jit.trace(function, torch.ones(3))
    (warning,) = caught
    assert issubclass(warning.category, torch.jit.TracerWarning)
    assert warning.filename == __file__ and "if x.sum() > 0:" in str(warning.message)
    assert traced(-torch.ones(3)).tolist() == [-2] * 3


@pytest.mark.parametrize(
    "look", [lambda x: x.tolist()[0], lambda x: x.numpy()[0], lambda x: x[0].item()]
)
def test_a_look_at_an_input_or_a_weight_warns(look):
    """Their values are there already; what follows from them is baked in all the same."""
    model = nn.Linear(2, 2)
    model.register_buffer("scale", torch.full((2,), 2.0))
    model.forward = lambda x: x * float(look(model.scale))
    for target in (lambda x: x * float(look(x)), model):
        with pytest.warns(torch.jit.TracerWarning, match="looks at a value"):
            traced = torch.jit.trace(target, torch.full((2,), 2.0))
        assert traced(torch.ones(2)).tolist() == [2, 2]


@pytest.mark.filterwarnings("ignore::graphc.jit.TracerWarning")
def test_numpy_in_a_trace_leaves_the_tensor_traced():
    def function(x):
        y = x * 2
        for tensor in (x, y):
            with pytest.raises(ValueError, match="read-only"):
                tensor.numpy()[0] = 5  # a graph cannot hold that
        return x + y

    traced = torch.jit.trace(function, torch.ones(2))
    assert not traced.weights and traced(torch.ones(2) * 3).tolist() == [9, 9]


@pytest.mark.filterwarnings("ignore::graphc.jit.TracerWarning")
def test_a_look_in_a_trace_keeps_gradients():
    weight = torch.ones(3, requires_grad=True)

    def function(x):
        weight.grad = None
        h = weight * x
        loss = (h * h).sum()
        h.tolist(), loss.item()
        loss.backward()
        return weight.grad

    traced = torch.jit.trace(function, torch.ones(3))
    assert traced(torch.ones(3) * 2).tolist() == [8] * 3


def test_gradients_through_a_traced_module():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.linspace(-1, 1, 12).reshape(4, 3).requires_grad_()

    def gradients(f):
        for t in (x, *f.parameters()):
            t.grad = None
        f(x).pow(2).sum().backward()
        return [t.grad.numpy().tobytes() for t in (x, *f.parameters())]

    expected = gradients(model)
    for f in both(torch.jit.trace(model, x.detach())):
        assert gradients(f) == expected


def test_a_traced_module_within_a_traced_function_and_under_modes():
    inner = torch.jit.trace(lambda x: x * 3, torch.ones(2))
    outer = torch.jit.trace(lambda x: inner(x + 1) - 1, torch.ones(2))
    assert outer(torch.ones(2)).tolist() == [5, 5]
    w = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert not outer(w).requires_grad
    assert outer(w).requires_grad


def test_another_shape_is_an_error_that_names_both():
    traced = torch.jit.trace(lambda x: x * 2, torch.ones(3))
    with pytest.raises(RuntimeError, match=r"traced with f32\[3\], and is called with f32\[4\]"):
        traced(torch.ones(4))


def test_tracing_leaves_the_program_as_it_was():
    pending = torch.ones(3) * 7
    with pytest.raises(ZeroDivisionError):
        torch.jit.trace(lambda x: x + 1 / 0, torch.ones(3))
    assert not torch.jit.is_tracing()
    assert (pending + 1).tolist() == [8, 8, 8]


def test_extra_files():
    file, extra = io.BytesIO(), {"notes": b""}
    traced = torch.jit.trace(lambda x: x * 2, torch.ones(3))
    torch.jit.save(traced, file, _extra_files={"notes": b"some bytes"})
    file.seek(0)
    torch.jit.load(file, _extra_files=extra)
    assert extra == {"notes": b"some bytes"}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A damaged copy: bytes changed, cut, doubled, or a number in the text exchanged."""
    kind, at = rng.randrange(5), rng.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + rng.randrange(1, 40) :]
    if kind == 2:
        return data[:at] + data[at : at + 30] * 2 + data[at + 30 :]
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20])):
        changed[rng.randrange(len(data))] = rng.randrange(256)
    if kind == 3:
        digits = [i for i, b in enumerate(data) if 48 <= b < 58]
        changed[rng.choice(digits)] = rng.choice(b"0123456789-")
    return bytes(changed)


def test_two_hundred_damaged_files():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, torch.randn(5, 3)), file)
    rng, refused = random.Random(0), 0
    for _ in range(200):
        try:
            loaded = torch.jit.load(io.BytesIO(mutated(file.getvalue(), rng)))
        except GraphcError as error:
            refused += 1
            assert len(str(error).splitlines()) <= 8
        else:
            assert len(loaded.weights) == 9
    assert refused > 100


class Recordings:
    """How often graphs were recorded as steps, where they were not called directly."""

    def __init__(self, monkeypatch):
        from graphc.jit import tracing

        self.count, record = 0, tracing.call_graph

        def counted(*args):
            self.count += 1
            return record(*args)

        monkeypatch.setattr(tracing, "call_graph", counted)


def test_a_call_on_computed_tensors_is_not_recorded(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    with torch.no_grad():
        traced = torch.jit.trace(model, (x,))
        recordings = Recordings(monkeypatch)
        for k in range(3):
            given = torch.tensor(np.full((5, 3), k, np.float32))
            found = traced(given)
            assert recordings.count == 0 and not found.requires_grad
            assert found.numpy().tobytes() == model(given).numpy().tobytes()
        model[0].weight.mul_(2)  # the trace's own
        model[0].weight.tolist()
        assert traced(x).numpy().tobytes() == model(x).numpy().tobytes()
        assert recordings.count == 0
        pending = x * 2
        assert traced(pending).tolist() == model(x * 2).tolist()
        assert recordings.count == 1
    with torch.inference_mode():
        assert traced(x).is_inference()


def test_calls_that_need_more_than_values_are_recorded(monkeypatch):
    traced = torch.jit.trace(lambda a, b: (a * b).sum(0), (torch.ones(4, 2), torch.ones(4, 2)))
    recordings = Recordings(monkeypatch)
    w = torch.ones(4, 2, requires_grad=True)
    traced(w, torch.full((4, 2), 3.0)).sum().backward()
    assert recordings.count == 1 and w.grad.tolist() == [[3.0, 3.0]] * 4
    base = torch.arange(8.0)
    assert traced(base.view(4, 2), torch.ones(4, 2)).tolist() == [12.0, 16.0]  # a view
    array = np.ones((4, 2), np.float32)
    seen = torch.from_numpy(array)
    array[0] = 5
    assert traced(seen, torch.ones(4, 2)).tolist() == [8.0, 8.0]
    assert recordings.count == 3


def test_weights_written_by_numpy_are_seen():
    model = nn.Linear(2, 1, bias=False)
    x = torch.ones(1, 2)
    with torch.no_grad():
        traced = torch.jit.trace(model, (x,))
        traced(x)
        model.weight.detach().numpy()[...] = 3
        assert traced(x).tolist() == [[6.0]]


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(24, 16, 2, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip


def test_packed_weights_give_the_bits_of_eager_mode_and_follow_writes():
    model, x = convolutional(), torch.randn(2, 3, 20, 20)
    with torch.no_grad(), config.patch(winograd=False):
        traced = torch.jit.trace(model, (x,))
        assert traced(x).numpy().tobytes() == model(x).numpy().tobytes()
        (split,) = traced._direct._splits.values()
        names = [node.op.name for node in split.late.compiler.graph.nodes]
        assert names.count("conv_last") == 2 and "conv_grad_input_last" in names
        assert split.early is not None
        for write in (
            lambda: model[0].weight.mul_(0.5),
            lambda: model[1].running_var.add_(1),
            lambda: model[6].weight.detach().numpy().__setitem__(0, 3.0),
            lambda: traced.load_state_dict({n: t * 2 for n, t in traced.state_dict().items()}),
        ):
            before = traced(x).numpy()
            write()
            after = traced(x).numpy()
            assert after.tobytes() == model(x).numpy().tobytes() != before.tobytes()


def test_threads_share_packed_weights():
    model, x = convolutional(), torch.randn(1, 3, 20, 20)
    found = []
    with torch.no_grad():
        want = model(x).numpy().tobytes()
        traced = torch.jit.trace(model, (x,))

    def run():
        with torch.no_grad():
            found.extend([traced(x).numpy().tobytes() for _ in range(20)])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [want] * 80
