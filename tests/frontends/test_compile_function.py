"""compile(): the bits of eager mode, its errors, and the state that it leaves behind."""

import pytest

import graphc as torch
import graphc.nn as nn
from graphc.jit.compiled import LookError, RecompileLimitError


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3))


def train(step_of):
    """The losses of a few training steps, and the weights after them."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    step = step_of(model, optimizer)
    x = torch.linspace(-1, 1, 40).reshape(8, 5)
    losses = [step(x).item() for _ in range(6)]
    return losses, [p.detach().numpy().tobytes() for p in model.parameters()]


def plain(model, optimizer):
    def step(x):
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_a_compiled_model_and_a_compiled_step_have_the_bits_of_eager_mode():
    expected = train(plain)
    assert train(lambda m, o: torch.compile(plain(m, o))) == expected
    assert train(lambda m, o: plain(torch.compile(m), o)) == expected


def test_a_repeated_call_compiles_once():
    compiled = torch.compile(lambda x: (x * 2).sum())
    for i in range(5):
        assert compiled(torch.full((4,), float(i))).item() == 8 * i
    assert sum(len(traces) for traces in compiled.traces.values()) <= 2  # a size, then a symbol


def test_a_look_is_listed_and_splits_the_graph():
    def program(x):
        y = x * 2
        if y.sum().item() > 0:
            return y + 1
        return y - 1

    compiled = torch.compile(program)
    assert compiled(torch.ones(2)).tolist() == [3, 3]
    assert compiled(-torch.ones(2)).tolist() == [-3, -3]
    (line,) = compiled.breaks
    assert line.startswith("test_compile_function.py:") and "y.sum().item()" in line


def test_fullgraph_names_the_line_that_looks_and_leaves_the_state_right():
    kept = []

    @torch.compile(fullgraph=True)
    def program(x):
        y = x * 2
        kept.append(y)
        return y if y.sum() > 0 else -y

    outside = torch.ones(3) * 7
    with pytest.raises(LookError) as error:
        program(torch.ones(3))
    assert "return y if y.sum() > 0 else -y" in str(error.value)
    assert len(str(error.value).splitlines()) <= 8
    assert kept[0].tolist() == [2, 2, 2] and outside.tolist() == [7, 7, 7]
    assert (torch.ones(3) + 1).tolist() == [2, 2, 2]


def test_the_limit_says_what_changed():
    compiled = torch.compile(lambda x: x * 2, recompile_limit=2)
    with pytest.raises(RecompileLimitError) as error:
        for dtype in (torch.float32, torch.float64, torch.int32):
            compiled(torch.ones(3, dtype=dtype))
    text = str(error.value)
    assert "was compiled 3 times; its limit is 2" in text
    assert "a tensor was i32[3] instead of f64[3]" in text


def test_the_limit_counts_each_part_of_a_split_function():
    def program(x):
        for _ in range(6):
            x = x + x.sum().item()
            x = x * 1.0
            x = x - x.max().item()
        return x

    compiled = torch.compile(program, recompile_limit=12)
    for _ in range(3):
        compiled(torch.ones(3))
    assert len(compiled.breaks) == 2


def test_another_operation_is_named_with_its_line():
    def program(x, flag):
        return x.exp() if flag else x.sin()

    compiled = torch.compile(program, recompile_limit=1)
    x = torch.ones(3)
    compiled(x, True)
    with pytest.raises(RecompileLimitError, match="sin came in the place of exp"):
        compiled(x, False)


def test_an_exception_within_leaves_values_and_writes():
    kept = []

    @torch.compile
    def program(x):
        kept.append(x * 2)
        x.add_(1)
        raise ValueError("from within")

    x = torch.ones(3)
    with pytest.raises(ValueError, match="from within"):
        program(x)
    assert kept[0].tolist() == [2] * 3 and x.tolist() == [2] * 3
    assert torch.compile(lambda t: t + 1)(x).tolist() == [3] * 3


def test_compiled_functions_call_each_other_and_themselves():
    @torch.compile
    def inner(x):
        return x * 3

    @torch.compile
    def outer(x):
        return inner(x + 1) - 1

    @torch.compile
    def down(x, n):
        return down(x * 2, n - 1) if n else x

    assert [outer(torch.ones(2)).tolist() for _ in range(2)] == [[5, 5]] * 2
    assert down(torch.ones(2), 3).tolist() == [8, 8]
    assert (torch.ones(2) * 2).tolist() == [2, 2]


def test_a_compiled_module_is_a_module():
    model = network()
    compiled = torch.compile(model)
    assert isinstance(compiled, nn.Module)
    assert list(compiled.state_dict()) == ["_orig_mod." + key for key in model.state_dict()]
    assert [p is q for p, q in zip(compiled.parameters(), model.parameters())] == [True] * 6
    assert compiled.eval() is compiled and not model.training
    model[0].weight.data.zero_()
    x = torch.ones(2, 5)
    assert torch.equal(compiled(x), model(x))
    assert nn.Sequential(compiled)(x).shape == (2, 3)


def test_attributes_of_a_compiled_module_are_those_of_the_module():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = 2

        def forward(self, x):
            return x * self.factor

    model = Scale()
    compiled = torch.compile(model)
    assert compiled(torch.ones(2)).tolist() == [2, 2]
    compiled.factor = 5
    assert model.factor == 5 and compiled(torch.ones(2)).tolist() == [5, 5]


def test_decorators_keep_name_and_binding():
    class Holder:
        scale = 3

        @torch.compile
        def method(self, x):
            """Scales."""
            return x * self.scale

    assert Holder().method(torch.ones(2)).tolist() == [3, 3]
    assert (Holder.method.__name__, Holder.method.__doc__) == ("method", "Scales.")
    disabled = torch.compile(disable=True)(abs)
    assert disabled is abs


def test_gradients_flow_into_and_out_of_compiled_calls():
    compiled = torch.compile(lambda x: x * x)
    w = torch.full((3,), 2.0, requires_grad=True)
    (compiled(w * 3).sum() * 2).backward()
    assert w.grad.tolist() == [72.0] * 3


def test_a_hook_within_a_compiled_call():
    @torch.compile
    def program(w):
        y = w * 2
        z = y * 3
        y.register_hook(lambda g: g * 10)
        (z + y * y).sum().backward()

    w = torch.ones(3, requires_grad=True)
    program(w)
    assert w.grad.tolist() == [140.0] * 3
