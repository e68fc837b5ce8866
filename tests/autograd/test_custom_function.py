"""autograd.Function: every feature of its ctx, and its place among recorded operations."""

import gc

import pytest

import graphc as torch
from graphc.autograd import Function
from graphc.autograd.function import once_differentiable


def leaf(*values):
    return torch.tensor(values or (2.0, 3.0), requires_grad=True)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x


def test_gradients_before_and_after_it():
    w = leaf()
    (Cube.apply(w * 2) * 5).sum().backward()
    assert w.grad.tolist() == [5 * 3 * (2 * v) ** 2 * 2 for v in (2, 3)]
    assert Cube.apply(w).grad_fn.name() == "CubeBackward"


def test_second_and_third_derivative():
    w = leaf()
    y = Cube.apply(w).sum()
    (g,) = torch.autograd.grad(y, w, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), w, create_graph=True)
    h.tolist()
    h.sum().backward()
    assert (g.tolist(), h.tolist(), w.grad.tolist()) == ([12, 27], [12, 18], [6, 6])


def test_arguments_that_are_no_tensors_and_inputs_without_grad():
    class Scale(Function):
        seen = None

        @staticmethod
        def forward(ctx, x, factor, y, name="unnamed"):
            ctx.factor = factor
            return x * factor + y

        @staticmethod
        def backward(ctx, grad):
            Scale.seen = ctx.needs_input_grad
            return grad * ctx.factor, None, None

    w = leaf()
    Scale.apply(w, 4.0, torch.ones(2)).sum().backward()
    assert w.grad.tolist() == [4, 4]
    assert Scale.seen == (True, False, False)


def test_setup_context():
    class Square(Function):
        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs, output)

        @staticmethod
        def backward(ctx, grad):
            x, output = ctx.saved_tensors
            assert output.tolist() == [4, 9]
            return grad * 2 * x

    w = leaf()
    Square.apply(w).sum().backward()
    assert w.grad.tolist() == [4, 6]


class Two(Function):
    seen: list = []

    @staticmethod
    def forward(ctx, x, materialize):
        ctx.set_materialize_grads(materialize)
        places = (x > 2).long()
        ctx.mark_non_differentiable(places)
        return x * 2, x * 3, places

    @staticmethod
    def backward(ctx, first, second, _):
        Two.seen = [first, second]
        return sum(g * k for g, k in ((first, 2), (second, 3)) if g is not None), None


@pytest.mark.parametrize("materialize", [True, False])
def test_outputs_that_are_not_used_and_not_differentiable(materialize):
    w = leaf()
    first, second, places = Two.apply(w, materialize)
    assert first.requires_grad and second.requires_grad and not places.requires_grad
    second.sum().backward()
    assert w.grad.tolist() == [3, 3]
    assert (Two.seen[0] is None) is not materialize
    if materialize:
        assert Two.seen[0].tolist() == [0, 0]


def test_mark_dirty():
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    w = leaf()
    y = w * 1
    z = Double.apply(y)
    assert z is y
    (z * z).sum().backward()
    assert z.tolist() == [4, 6] and w.grad.tolist() == [16, 24]


def test_a_wrong_number_of_gradients():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, grad):
            return grad

    w = leaf()
    with pytest.raises(RuntimeError, match=r"incorrect number of gradients \(expected 2, got 1\)"):
        Wrong.apply(w, w).sum().backward()


def test_modes_within_forward_and_backward():
    class Modes(Function):
        seen: list = []

        @staticmethod
        def forward(ctx, x):
            Modes.seen.append(torch.is_grad_enabled())
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            Modes.seen.append(torch.is_grad_enabled())
            return grad

    w = leaf()
    Modes.apply(w).sum().backward()
    torch.autograd.grad(Modes.apply(w).sum(), w, create_graph=True)
    with torch.no_grad():
        assert not Modes.apply(w).requires_grad
    assert Modes.seen == [False, False, False, True, False]


def test_once_differentiable():
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx, grad):
            return grad * 2 * ctx.saved_tensors[0]

    w = leaf()
    (g,) = torch.autograd.grad(Once.apply(w).sum(), w, create_graph=True)
    assert g.tolist() == [4, 6]


def test_backward_twice():
    w = leaf()
    y = Cube.apply(w).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert w.grad.tolist() == [24, 54]
    with pytest.raises(RuntimeError, match="a second time"):
        y.backward()


def test_hooks_on_inputs_and_outputs():
    w, seen = leaf(), []
    x = w * 2
    y = Cube.apply(x)
    for name, t in (("y", y), ("x", x)):
        t.register_hook(lambda g, name=name: seen.append((name, g.tolist())))
    y.sum().backward()
    assert seen == [("y", [1, 1]), ("x", [48, 108])]


def test_an_exception_in_backward_leaves_the_program_as_it_was():
    class Fails(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            raise KeyError("from backward")

    w = leaf()
    pending = w.detach() * 7
    with pytest.raises(KeyError, match="from backward"):
        Fails.apply(w).sum().backward()
    assert w.grad is None and torch.is_grad_enabled()
    assert pending.tolist() == [14, 21]


def test_its_memory_is_freed_by_reference_counts():
    import weakref

    w = leaf()
    gc.collect()
    gc.disable()
    try:
        y = Cube.apply(w * 2)
        ref = weakref.ref(y._read().grad_fn)
        y.sum().backward()
        del y
        torch.ones(1).tolist()
        assert ref() is None
    finally:
        gc.enable()
