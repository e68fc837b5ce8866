"""Small programs over a library `L` (graphc or torch) whose results and errors must be the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CASES: dict[str, Callable[[Any], Any]] = {}


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    CASES[function.__name__] = function
    return function


def leaf(L: Any, *shape: int, value: float = 1.0) -> Any:
    return L.full(shape or (3,), value, requires_grad=True)


# --- leaves and in-place writes ------------------------------------------------------------------


@case
def write_to_a_leaf(L):
    leaf(L).add_(1)


@case
def write_to_a_part_of_a_leaf(L):
    leaf(L)[0] = 2.0


@case
def write_to_a_view_of_a_leaf(L):
    w = leaf(L)
    w[:2].mul_(2)


@case
def write_to_a_leaf_without_grad(L):
    w = leaf(L)
    with L.no_grad():
        w.add_(1)
    (w * w).sum().backward()
    return w, w.grad, w._version


@case
def write_to_a_view_of_a_result(L):
    w = leaf(L)
    y = w * 2
    v = y[:2]
    v.mul_(3)
    (y * y).sum().backward()
    return y, w.grad


@case
def write_to_the_base_of_a_view(L):
    w = leaf(L)
    y = w * 2
    v = y[:2]
    y.mul_(3)
    (v * 1.0).sum().backward()
    return v, w.grad


@case
def write_of_what_requires_grad(L):
    x, w = L.zeros(4), leaf(L, 2)
    x[1:3] = w * 5
    x.sum().backward()
    return x, w.grad, x.requires_grad


@case
def write_to_what_was_detached(L):
    w = leaf(L)
    d = w.detach()
    d.add_(1)
    (w * 2).sum().backward()
    return w, w.grad, w._version, d._version


@case
def write_to_numpy_memory_of_a_leaf(L):
    w = leaf(L)
    w.detach().numpy()[:] = 5
    return w, w * 2


@case
def write_to_data(L):
    w = leaf(L)
    y = w * w
    w.data.add_(1)
    y.sum().backward()
    return w, w._version


@case
def copy_of_what_requires_grad(L):
    w, y = leaf(L), L.zeros(3)
    y.copy_(w * 2)
    y.sum().backward()
    return w.grad


@case
def masked_fill_in_place(L):
    w = leaf(L)
    y = w * 2
    y.masked_fill_(L.tensor([True, False, True]), 0.0)
    y.sum().backward()
    return w.grad


@case
def relu_in_place(L):
    w = leaf(L)
    y = w * 2
    y.relu_()
    y.sum().backward()
    return w.grad


@case
def write_after_relu(L):
    w = leaf(L)
    y = w * 2
    z = y.relu()
    y.add_(1)
    z.sum().backward()
    return w.grad


@case
def write_after_a_sum(L):
    w = leaf(L)
    y = w * 2
    z = y + 1
    y.add_(1)
    z.sum().backward()
    return w.grad


@case
def no_numpy_of_what_requires_grad(L):
    leaf(L).numpy()


@case
def integers_require_no_grad(L):
    L.ones(3, dtype=L.int64).requires_grad_()


@case
def results_cannot_stop_requiring_grad(L):
    (leaf(L) * 2).requires_grad_(False)


@case
def detach_in_place(L):
    y = leaf(L) * 2
    y.detach_()
    return y, y.requires_grad, y.is_leaf


@case
def wrong_shape_in_place(L):
    L.zeros(3).add_(L.zeros(2, 3))


@case
def wrong_dtype_in_place(L):
    L.zeros(3, dtype=L.int64).add_(0.5)


@case
def gradient_of_another_size(L):
    leaf(L).grad = L.ones(2)


# --- backward and grad ---------------------------------------------------------------------------


@case
def backward_twice(L):
    y = (leaf(L) ** 2).sum()
    y.backward()
    y.backward()


@case
def backward_twice_after_a_look(L):
    y = (leaf(L) ** 2).sum()
    y.item()
    y.backward()
    y.backward()


@case
def backward_twice_through_sums(L):
    w = leaf(L)
    y = (w + w).sum()
    y.item()
    y.backward()
    y.backward()
    return w.grad


@case
def backward_twice_retaining(L):
    w = leaf(L)
    y = (w * w).sum()
    y.backward(retain_graph=True)
    y.backward()
    return w.grad


@case
def backward_through_a_freed_part(L):
    w = leaf(L)
    h = w.exp()
    h.sum().backward()
    (h * 2).sum().backward()


@case
def backward_beside_a_freed_part(L):
    w = leaf(L)
    h = w + w
    (h * h).sum().backward()
    (h + h).sum().backward()
    return w.grad


@case
def backward_of_two_losses(L):
    a, b = leaf(L), leaf(L)
    first, second = (a * a).sum(), (b * b).sum()
    first.item(), second.item()
    first.backward()
    second.backward()
    return a.grad, b.grad


@case
def grad_twice_in_one_recording(L):
    y = (leaf(L) ** 2).sum()
    w = leaf(L)
    z = (w**2).sum() + y
    L.autograd.grad(z, w)
    L.autograd.grad(z, w)


@case
def root_without_grad(L):
    L.ones(3).sum().backward()


@case
def root_with_many_elements(L):
    (leaf(L) * 2).backward()


@case
def cotangent_of_another_shape(L):
    (leaf(L) * 2).backward(L.ones(2))


@case
def unused_input(L):
    w, v = leaf(L), leaf(L)
    L.autograd.grad((w * 2).sum(), [w, v])


@case
def unused_input_allowed(L):
    w, v = leaf(L), leaf(L)
    first, second = L.autograd.grad((w * 2).sum(), [w, v], allow_unused=True)
    return first, second is None


@case
def unused_input_materialized(L):
    w, v = leaf(L), leaf(L)
    return L.autograd.grad((w * 2).sum(), [w, v], materialize_grads=True)


@case
def gradient_of_a_result(L):
    w = leaf(L)
    y = w * 2
    return L.autograd.grad((y * y).sum(), [y, w])


@case
def gradient_of_a_result_after_a_look(L):
    w = leaf(L)
    y = w * 2
    z = (y * y).sum()
    z.item()
    return L.autograd.grad(z, [y, w])


@case
def gradient_of_results_along_a_chain_after_a_look(L):
    w = leaf(L, value=0.5)
    a = w * w
    b = a * w
    c = b * a + b
    z = (c * c).sum()
    z.item()
    return L.autograd.grad(z, [w, a, b, c])


@case
def gradient_of_the_root(L):
    w = leaf(L)
    z = (w * w).sum()
    return L.autograd.grad(z, [z, w])


@case
def backward_to_some_leaves(L):
    w, v = leaf(L), leaf(L)
    (w * v).sum().backward(inputs=[w])
    return w.grad, v.grad is None


@case
def backward_to_a_result(L):
    w = leaf(L)
    y = w * 2
    (y * y).sum().backward(inputs=[y])
    return y.grad, w.grad is None


@case
def backward_to_nothing(L):
    leaf(L).sum().backward(inputs=[])


@case
def second_derivative(L):
    w = leaf(L, value=2.0)
    (g,) = L.autograd.grad((w**3).sum(), w, create_graph=True)
    g.sum().backward()
    return g, w.grad


@case
def third_derivative_with_looks_between(L):
    w = leaf(L, value=2.0)
    y = (w**4).sum()
    y.item()
    (g,) = L.autograd.grad(y, w, create_graph=True)
    g.tolist()
    (h,) = L.autograd.grad(g.sum(), w, create_graph=True)
    h.tolist()
    h.sum().backward()
    return g, h, w.grad


@case
def accumulation(L):
    w = leaf(L)
    (w * 2).sum().backward()
    first = w.grad
    (w * 3).sum().backward()
    return w.grad, first, first is w.grad


@case
def accumulation_with_a_graph(L):
    w = leaf(L)
    (w * w).sum().backward(create_graph=True)
    return w.grad.requires_grad, w.grad


@case
def modes_within_modes(L):
    w = leaf(L)

    @L.enable_grad()
    def enabled():
        return w * 3

    with L.no_grad():
        first = w * 2
        with L.enable_grad():
            second = w * 2
        third = enabled()
    with L.set_grad_enabled(False):
        fourth = w * 2
    grads = [t.requires_grad for t in (first, second, third, fourth)]
    return str(grads), L.is_grad_enabled()


# --- hooks ---------------------------------------------------------------------------------------


@case
def hook_of_a_leaf(L):
    w = leaf(L)
    handle = w.register_hook(lambda g: g * 2)
    (w * 3).sum().backward()
    first = w.grad.clone()
    handle.remove()
    w.grad = None
    (w * 3).sum().backward()
    return first, w.grad


@case
def hook_of_a_result(L):
    w = leaf(L)
    y = w * 2
    y.register_hook(lambda g: g * 10)
    (y * 3 + y * y).sum().backward()
    return w.grad


@case
def hook_after_the_result_was_used(L):
    w = leaf(L)
    y = w * 2
    z = y * 3
    y.register_hook(lambda g: g * 10)
    (z + y * y).sum().backward()
    return w.grad


@case
def hook_after_the_use_was_computed(L):
    w = leaf(L)
    y = w * 2
    z = y * 3 + y * y
    z.tolist()
    y.register_hook(lambda g: g * 10)
    z.sum().backward()
    return w.grad


@case
def hooks_along_a_chain(L):
    w, seen = leaf(L), []
    y = w * 2
    z = y * 3
    u = z * y
    for name, t in (("u", u), ("z", z), ("y", y), ("y again", y), ("w", w)):
        t.register_hook(lambda g, name=name: seen.append((name, g.tolist())))
    (u + z).sum().backward()
    return str(seen)


@case
def hooks_that_replace_along_a_chain(L):
    w = leaf(L)
    y = w * 2
    z = y * 3
    u = z * y
    u.tolist()
    z.register_hook(lambda g: g + 1)
    y.register_hook(lambda g: g * 2)
    y.register_hook(lambda g: g - 1)
    (u + z * 2).sum().backward()
    return w.grad


@case
def hook_with_a_second_derivative(L):
    w = leaf(L, value=2.0)
    y = w * w
    z = y * w
    y.register_hook(lambda g: g * w)
    (g,) = L.autograd.grad(z.sum(), w, create_graph=True)
    g.sum().backward()
    return g, w.grad


@case
def hook_of_the_root(L):
    w, seen = leaf(L), []
    z = (w * 3).sum()
    z.register_hook(lambda g: seen.append(g.tolist()))
    z.backward()
    return str(seen)


@case
def hook_of_an_asked_leaf(L):
    w = leaf(L)
    w.register_hook(lambda g: g * 5)
    return L.autograd.grad((w * 2).sum(), w)


@case
def hook_of_an_asked_result(L):
    w = leaf(L)
    y = w * 2
    y.register_hook(lambda g: g * 7)
    return L.autograd.grad((y * 2).sum(), [y, w])


@case
def hook_of_the_only_asked_result(L):
    y = leaf(L) * 2
    y.register_hook(lambda g: g * 7)
    return L.autograd.grad((y * 2).sum(), y)


@case
def hook_that_returns_a_number(L):
    w = leaf(L)
    w.register_hook(lambda g: 5)
    (w * 3).sum().backward()


def total(g):
    return g.sum()


@case
def hook_that_returns_another_size(L):
    w = leaf(L)
    w.register_hook(total)
    (w * 3).sum().backward()


@case
def hook_after_accumulation(L):
    w, seen = leaf(L), []
    w.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (w * 2).sum().backward()
    return str(seen)


@case
def retained_gradient(L):
    w = leaf(L)
    y = w * 2
    y.retain_grad()
    (y * y).sum().backward()
    return y.grad, w.grad, y.retains_grad


@case
def retained_gradient_after_hooks(L):
    w = leaf(L)
    y = w * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 5)
    (y * y).sum().backward()
    return y.grad, w.grad


# --- inference mode ------------------------------------------------------------------------------


def made_in_inference_mode(L: Any) -> Any:
    with L.inference_mode():
        return L.ones(3) * 2


@case
def inference_tensors_cannot_be_saved(L):
    (made_in_inference_mode(L) * leaf(L)).sum().backward()


@case
def views_of_inference_tensors_cannot_be_saved(L):
    (made_in_inference_mode(L)[1:] * leaf(L, 2)).sum().backward()


@case
def inference_tensors_can_be_added(L):
    x, w = made_in_inference_mode(L), leaf(L)
    y = x + w
    y.sum().backward()
    return w.grad, x.is_inference(), y.is_inference()


@case
def clones_of_inference_tensors_can_be_saved(L):
    x, w = made_in_inference_mode(L).clone(), leaf(L)
    (x * w).sum().backward()
    return w.grad, x.is_inference()


@case
def inference_tensors_keep_their_values(L):
    made_in_inference_mode(L).add_(1)


@case
def inference_tensors_change_within_the_mode(L):
    x = made_in_inference_mode(L)
    with L.inference_mode():
        x.add_(1)
    return x


@case
def inference_tensors_do_not_require_grad(L):
    made_in_inference_mode(L).requires_grad_()


@case
def inference_tensors_have_no_version(L):
    return made_in_inference_mode(L)._version


@case
def what_is_inference(L):
    x, w = made_in_inference_mode(L), leaf(L)
    with L.inference_mode():
        y, data = w * 2, L.tensor([1.0])
    normal = L.zeros(3)
    with L.inference_mode():
        normal.add_(1)
        view = normal[1:]
    normal.mul_(3)
    made = [t.is_inference() for t in (x, x[1:], x + 1, y, data, normal, w, view)]
    return str(made), y.requires_grad, y.is_leaf, normal


@case
def inference_mode_as_a_decorator(L):
    w = leaf(L)

    @L.inference_mode()
    def infer():
        return w * 2

    with L.inference_mode(False):
        y = w * 2
    return infer().is_inference(), y.requires_grad, L.is_inference_mode_enabled()
