"""Devices: tensors stay where they are; "meta" has shapes and no memory."""

import pytest

import graphc as torch
import graphc.nn as nn
import graphc.nn.functional as F
from graphc.backends.llvm.memory import heap
from graphc.ir.errors import DeviceError

SECOND, META = torch.device("cpu:1"), torch.device("meta")


def test_creation_and_results_stay_on_the_second_device():
    x = torch.ones(2, 3, device="cpu:1")
    for y in (x * 2, x @ x.t(), x.sum(), x[0], x.clone(), torch.zeros_like(x), x.new_ones(2),
              torch.rand(2, device="cpu:1"), torch.arange(3, device=SECOND), x.to(torch.int64),
              torch.tensor([1.0], device=SECOND), torch.cat([x, x]), F.softmax(x, 1)):  # fmt: skip
        assert y.device == SECOND
        y.tolist()
    assert x.to("cpu").device == torch.device("cpu") == x.cpu().device
    assert torch.ones(2).to(SECOND).add(1).tolist() == [2, 2]


def test_a_default_device():
    with SECOND:
        assert torch.ones(2).device == SECOND
        assert nn.Linear(2, 2).weight.device == SECOND
    assert torch.ones(2).device == torch.device("cpu")


def test_a_model_trains_on_the_second_device_with_the_same_bits():
    def losses(device):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        x = torch.linspace(-1, 1, 24).reshape(6, 4).to(device)
        found = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        assert all(p.grad.device == p.device == torch.device(device) for p in model.parameters())
        return found

    assert losses("cpu:1") == losses("cpu")


@pytest.mark.parametrize(
    "mix",
    [
        lambda a, b: a + b,
        lambda a, b: a @ b,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.where(a > 0, a, b),
        lambda a, b: F.linear(a, b),
        lambda a, b: a.add_(b),
    ],
)
@pytest.mark.parametrize("other", ["cpu", "meta"])
def test_mixing_devices_names_both(mix, other):
    a, b = torch.ones(3, 3, device=SECOND), torch.ones(3, 3, device=other)
    with pytest.raises(DeviceError) as error:
        mix(a, b)
    first = str(error.value).splitlines()[0]
    assert "cpu:1" in first and other in first.replace("cpu:1", "")


def test_copies_cross_devices():
    a, b = torch.zeros(3, device=SECOND), torch.arange(3.0)
    a.copy_(b)
    assert a.tolist() == [0, 1, 2] and a.device == SECOND


def test_unknown_and_absent_devices():
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(2, device="gpu")
    with pytest.raises(DeviceError, match="CUDA"):
        torch.ones(2, device="cuda")


def test_meta_computes_shapes_and_allocates_nothing():
    before = heap.allocated
    x = torch.ones(10**6, 10**6, device="meta")
    y = (x @ x.t()).relu().sum(0)
    assert (y.shape, y.device, y.dtype) == ((10**6,), META, torch.float32)
    z = torch.rand(10**5, 10**5, device="meta")
    part = z[5:, 3].reshape(-1, 5)
    (torch.ones(3) + 1).tolist()  # computes what is pending
    assert part.shape == (19999, 5) and heap.allocated - before < 10**6
    with pytest.raises(RuntimeError):
        x @ torch.ones(3, 3, device="meta")


def test_meta_draws_no_random_numbers():
    def drawn(between):
        torch.manual_seed(0)
        between()
        return torch.rand(3).tolist()

    def on_meta():
        torch.randn(4, 5, device="meta").normal_()
        torch.randint(10, (3,), device="meta"), torch.randperm(9, device="meta")
        with META:
            model = nn.Sequential(nn.Linear(10**5, 10**5), nn.Dropout(0.5))
        model(torch.ones(2, 10**5, device="meta"))

    assert drawn(on_meta) == drawn(lambda: None)


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.tolist(),
        lambda x: x.sum().item(),
        lambda x: bool(x.sum()),
        lambda x: x.numpy(),
        lambda x: x.to("cpu"),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: torch.ones(3).copy_(x),
    ],
)
@pytest.mark.parametrize("computed", [False, True])
def test_a_look_at_a_meta_value_raises(look, computed):
    x = torch.ones(3, device="meta") * 2
    if computed:
        (torch.ones(3) + 1).tolist()
    with pytest.raises(NotImplementedError, match="meta tensor"):
        look(x)
    assert "device='meta'" in repr(x) and (x + 1).shape == (3,)


def test_backward_on_meta_gives_shapes():
    w = torch.ones(3, 4, device="meta", requires_grad=True)
    loss = (w * w).sum()
    (torch.ones(2) + 1).tolist()
    loss.backward()
    assert w.grad.shape == (3, 4) and w.grad.device == META
    model = nn.Linear(4, 2, device="meta")
    model(w.detach()).sum().backward()
    assert model.weight.grad.shape == (2, 4)


def test_a_meta_module_becomes_real():
    with META:
        model = nn.Linear(3, 2)
    model = model.to_empty(device="cpu")
    model.load_state_dict({"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    assert model(torch.ones(3)).tolist() == [3, 3]


@pytest.mark.parametrize("device", ["cpu:1", "meta"])
def test_numbers_are_on_the_device_of_the_operands(device):
    x = torch.ones(3, device=device)
    for number in (0.3, 0.7, 0.9):
        y = x.clone()
        y[1] = number
        y.add_(x, alpha=number).masked_fill_(x > 0, number)
        full = torch.full((2,), number, device=device)
        assert (x * number + y).device == full.device == (number - x).pow(number).device
        assert F.pad(x, (1, 1), value=number).device == torch.device(device)
        if device != "meta":
            assert full.tolist() == pytest.approx([number] * 2)
            assert y.tolist() == pytest.approx([number] * 3)
