"""Hooks around forward and backward."""

import pickle

import pytest

import graphc
from graphc import nn
from graphc.nn.modules import module as modules


# Of this file, so that pickle finds it.
class Double(nn.Module):
    def forward(self, x, extra=0.0):
        return x * 2 + extra


class Fails(nn.Module):
    def forward(self, x):
        raise ValueError("inside")


class Pair(nn.Module):
    def forward(self, x, y):
        return x * y, 3 * x


def one(requires_grad=True):
    return graphc.tensor([1.0], requires_grad=requires_grad)


def test_forward_hooks_see_and_replace():
    module, calls = Double(), []
    module.register_forward_pre_hook(lambda m, args: calls.append(("pre", args[0].item())))
    module.register_forward_pre_hook(lambda m, args: args[0] + 1)
    first = module.register_forward_hook(lambda m, args, out: calls.append(("post", out.item())))
    module.register_forward_hook(lambda m, args, out: out * 10)
    assert module(one()).item() == 40.0
    assert calls == [("pre", 1.0), ("post", 4.0)]
    first.remove()
    first.remove()
    assert module(one()).item() == 40.0 and calls[2:] == [("pre", 1.0)]


def test_prepended_hooks_run_first():
    module, calls = Double(), []
    for name, prepend in (("a", False), ("b", False), ("c", True)):
        module.register_forward_pre_hook(lambda m, args, n=name: calls.append(n), prepend=prepend)
        module.register_forward_hook(lambda m, a, o, n=name: calls.append(n), prepend=prepend)
    module(one())
    assert calls == ["c", "a", "b"] * 2


def test_hooks_with_keyword_arguments():
    module = Double()
    module.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"extra": kwargs["extra"] + 1}), with_kwargs=True
    )
    seen = []
    module.register_forward_hook(lambda m, a, kwargs, out: seen.append(kwargs), with_kwargs=True)
    assert module(one(), extra=4.0).item() == 7.0 and seen == [{"extra": 5.0}]
    module.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        module(one(), extra=4.0)


def test_always_called_hooks_run_after_an_error():
    module, calls = Fails(), []
    module.register_forward_hook(lambda m, args, out: calls.append("only on success"))
    module.register_forward_hook(lambda m, a, out: calls.append(out), always_call=True)
    with pytest.raises(ValueError, match="inside"):
        module(one())
    assert calls == [None]

    def fail(module, args, out):
        raise KeyError("in the hook")

    module.register_forward_hook(fail, always_call=True)
    with pytest.warns(UserWarning, match="was silenced"), pytest.raises(ValueError, match="inside"):
        module(one())


def test_hooks_as_context_managers():
    module = Double()
    with module.register_forward_hook(lambda m, args, out: out + 1):
        assert module(one()).item() == 3.0
    assert module(one()).item() == 2.0


def test_hooks_of_all_modules():
    calls = []
    handles = [
        modules.register_module_forward_pre_hook(lambda m, args: calls.append(type(m).__name__)),
        modules.register_module_forward_hook(lambda m, args, out: out + 1),
    ]
    try:
        assert nn.Sequential(Double(), Double())(one()).item() == 8.0
    finally:
        for handle in handles:
            handle.remove()
    assert calls == ["Sequential", "Double", "Double"]
    assert Double()(one()).item() == 2.0


def test_full_backward_hooks_see_and_replace_gradients():
    module, seen = Pair(), []
    module.register_full_backward_pre_hook(lambda m, grad_output: seen.append(len(grad_output)))

    def double_first(module, grad_input, grad_output):
        seen.append([g.item() for g in grad_input + grad_output])
        return grad_input[0] * 2, grad_input[1]

    module.register_full_backward_hook(double_first)
    x, y = graphc.tensor(2.0, requires_grad=True), graphc.tensor(5.0, requires_grad=True)
    product, triple = module(x, y)
    (product + 10 * triple).backward()
    assert seen == [2, [35.0, 2.0, 1.0, 10.0]]
    assert (x.grad.item(), y.grad.item()) == (70.0, 2.0)


def test_backward_pre_hooks_replace_output_gradients():
    module = Double()
    module.register_full_backward_pre_hook(lambda m, grad_output: (grad_output[0] * 7,))
    x = one()
    module(x).backward()
    assert x.grad.item() == 14.0


def test_missing_gradients_of_outputs_are_none_and_of_inputs_zero():
    module, seen = Pair(), []
    module.register_full_backward_hook(lambda m, gi, go: seen.append((gi[1].item(), go[1])))
    product, _ = module(one(), one(requires_grad=False))
    product.backward()
    assert seen == [(0.0, None)]


def test_full_backward_hooks_without_input_gradients():
    module, seen = nn.Linear(1, 1), []
    module.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].item())))
    with pytest.warns(UserWarning, match="no inputs require gradients"):
        module(one(requires_grad=False)).backward()
    assert seen == [((None,), 1.0)] and module.weight.grad.item() == 1.0


def test_backward_hooks_do_nothing_without_gradients():
    module, seen = Double(), []
    module.register_full_backward_hook(lambda m, gi, go: seen.append(1))
    with graphc.no_grad():
        assert module(one()).item() == 2.0
    assert not seen


def test_wrong_numbers_of_gradients_are_refused():
    module = Double()
    module.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
        module(one()).backward()


def test_kinds_of_backward_hooks_do_not_mix():
    module = Double()
    module.register_full_backward_hook(lambda m, gi, go: None)
    with pytest.raises(RuntimeError, match="Cannot use both"):
        module.register_backward_hook(lambda m, gi, go: None)


def test_hooks_of_the_last_node():
    module, seen = Double(), []
    module.register_backward_hook(lambda m, gi, go: seen.append((type(m).__name__, go[0].item())))
    x = one()
    module(x).backward()
    assert seen == [("Double", 1.0)] and x.grad.item() == 2.0


def add_one(module, args, output):
    return output + 1


def test_hooks_are_pickled_with_their_module():
    module = Double()
    handle = module.register_forward_hook(add_one)
    copied, copied_handle = pickle.loads(pickle.dumps((module, handle)))
    assert copied(one()).item() == 3.0
    copied_handle.remove()
    assert copied(one()).item() == 2.0 and module(one()).item() == 3.0
