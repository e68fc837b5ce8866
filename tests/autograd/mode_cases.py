"""More programs of `autograd_cases`: views made in no_grad, inference tensors, freed graphs."""

from __future__ import annotations

from typing import Any

from tests.autograd.autograd_cases import case, leaf
from tests.autograd.memory_cases import CASES

__all__ = ["CASES"]


def flags(x: Any) -> tuple:
    return x.requires_grad, x.is_leaf, x.grad_fn is None


def error_of(use: Any) -> str:
    """The first sentence of the error, without the view function's name in it."""
    try:
        use()
    except RuntimeError as error:
        return str(error).partition(". ")[0].partition("which was created")[2] or str(error)[:60]
    return "none"


# --- views made while no gradients are recorded --------------------------------------------------


@case
def views_made_without_grad_require_it(L):
    w = leaf(L)
    y, x = w * 2, L.ones(3)
    found = []
    for mode in (L.no_grad, L.inference_mode):
        with mode():
            made = [w[1:], y[1:], y.view(3, 1), y.detach(), y.detach()[1:], x[1:], y[1:] * 1]
        found.append([flags(view) for view in made])
    return found


@case
def gradient_of_a_view_made_without_grad_is_lost(L):
    w = leaf(L)
    with L.no_grad():
        view = w[1:]
    loss = (view * view).sum() + (w * 3).sum()
    unused = L.autograd.grad(loss, view, allow_unused=True, retain_graph=True)
    loss.backward()
    for _ in range(2):  # nothing was saved: there is nothing to free
        (view * view).sum().backward()
    return unused, view.grad, w.grad, flags(loss)


@case
def view_of_a_view_made_without_grad(L):
    y = leaf(L) * 2
    with L.no_grad():
        view = y[1:]
    later = view[:1]
    before = flags(later)
    later.tolist(), y.detach().numpy()
    return before, flags(later), flags(later.clone()), flags(view.clone())


@case
def view_made_without_grad_of_a_detached_leaf(L):
    w = leaf(L)
    detached = w.detach()
    with L.no_grad():
        view = detached.expand(2, 3)
    before = flags(view)
    return w.detach().numpy().tolist(), before, flags(view)


@case
def write_through_a_view_made_without_grad(L):
    w = leaf(L)
    y, x = w * 2, L.ones(3)
    with L.no_grad():
        views = w[1:], y[1:], x[1:]
    views[2].add_(1)
    errors = [error_of(lambda v=v: v.add_(1)) for v in views[:2]]
    errors.append(error_of(lambda: views[2].add_(w[1:])))
    return errors, views[2], x


@case
def write_through_a_view_made_in_inference_mode(L):
    y = leaf(L) * 2
    with L.inference_mode():
        view = y[1:]
    view.mul_(2)


@case
def view_made_without_grad_whose_base_was_written(L):
    w = leaf(L)
    y = w * 2
    with L.no_grad():
        view = y[1:]
        y.add_(1)
        inside = view * 2
    uses = (
        lambda: view * 2, lambda: view[:1], lambda: view.is_leaf, lambda: view.grad_fn,
        lambda: view.clone(),
    )  # fmt: skip
    text = str(view).replace("<", "").replace(">", "")
    return inside, view.requires_grad, view.detach(), view.tolist(), text, list(map(error_of, uses))


@case
def part_whose_base_was_written(L):
    y = leaf(L) * 2
    first, _ = y[:2].unbind(0)
    y.add_(1)
    try:
        return first * 2
    except RuntimeError as error:
        return "is a view and its base or another view of its base has been" in str(error)


@case
def view_made_without_grad_of_a_leaf_that_is_frozen(L):
    w = leaf(L)
    with L.no_grad():
        view = w[1:]
    before = flags(view)
    w.requires_grad_(False)
    after = flags(view), flags(view * 2)
    w.requires_grad_()
    return before, after, flags(view), flags(view.requires_grad_(False))


@case
def write_to_what_a_view_made_without_grad_shows(L):
    w, x = leaf(L, 2), L.ones(3)
    with L.no_grad():
        view = x[1:]
    loss = (view * w).sum()
    x.add_(1)
    return error_of(loss.backward)


@case
def operand_that_is_broadcast_as_the_output(L):
    x, y = L.ones(3), L.ones(2, 3)
    found = []
    for use in (
        lambda: L.add(x, y, out=x), lambda: L.mul(y, x, out=x), lambda: L.where(y > 0, x, y, out=x),
        lambda: L.add(x, 1, out=y), lambda: L.add(x, x, out=x),
    ):  # fmt: skip
        found.append(error_of(use))
    return found, x, y


# --- inference tensors ---------------------------------------------------------------------------


def inference_tensor(L: Any) -> Any:
    with L.inference_mode():
        return L.full((3,), 2.0)


@case
def what_saves_an_inference_tensor(L):
    w, x = leaf(L), inference_tensor(L)
    uses = (
        lambda: x + w, lambda: x * w, lambda: w / x, lambda: x / w, lambda: w**x,
        lambda: L.where(x > 0, x, w), lambda: L.where(w > x, w, 1.0), lambda: w > x,
        lambda: L.lerp(x, w, 0.5), lambda: L.cat((x, w)), lambda: L.maximum(x, w),
        lambda: w * x.long(), lambda: L.addcmul(w, x, x), lambda: x @ w,
        lambda: w.index_add(0, L.tensor([0, 1, 2]), x), lambda: (w * 1).copy_(x),
    )  # fmt: skip
    return [error_of(use) for use in uses]


@case
def writes_to_an_inference_tensor_are_made_and_refused(L):
    x = inference_tensor(L)
    uses = (
        lambda: x.add_(1), lambda: x[1:].mul_(2), lambda: x.__setitem__(0, 9.0),
        lambda: L.no_grad()(lambda: x.sub_(1))(),
    )  # fmt: skip
    return [error_of(use) for use in uses], x


@case
def detached_inference_tensors_may_be_written(L):
    x = inference_tensor(L)
    with L.inference_mode():
        inside = x.detach()
    found = []
    for y in (x.detach(), x.data, inside):
        found.append((error_of(lambda y=y: y.add_(1)), error_of(lambda y=y: y[1:].add_(1))))
        found.append((y.is_inference(), error_of(lambda y=y: y._version)))
    return found, x, x.detach()._version


@case
def views_and_writes_in_inference_mode_of_other_tensors(L):
    w, x, y = leaf(L), L.ones(3), inference_tensor(L)
    with L.inference_mode():
        view = x[1:]
        x.copy_(y)
        y.copy_(x)
        after = x[1:]
    kinds = [t.is_inference() for t in (view, x, y, after)]
    errors = [error_of(lambda t=t: t * w[: len(t)]) for t in (view, x, y, after)]
    return kinds, errors, x._version, view


@case
def inference_tensor_that_numpy_has_seen(L):
    x = inference_tensor(L)
    array = x.numpy()
    with L.inference_mode():
        again = L.from_numpy(array)
        x.add_(1)
    kinds = x.is_inference(), again.is_inference(), L.from_numpy(array).is_inference()
    return kinds, error_of(lambda: x * leaf(L)), array.tolist()


# --- what is saved, and what was freed -----------------------------------------------------------


@case
def product_with_a_tensor_of_one_element(L):
    w = L.tensor(0.5, requires_grad=True)
    with L.no_grad():
        factor = w + w
    y = w * factor
    factor.add_(2)
    return error_of(y.backward)


@case
def write_to_what_numpy_sees_and_a_product_saved(L):
    w, x = leaf(L), L.ones(3)
    seen = x.numpy(), (w * 1).detach().numpy()
    before = (w * x).sum()
    x.add_(1)
    after = (w * x).sum()
    y = w.sigmoid()
    array = y[None].detach().numpy()
    y.zero_()
    return len(seen), array.tolist(), *[error_of(t.sum().backward) for t in (before, after, y)]


@case
def ints_lead_to_nothing_that_was_saved(L):
    w = leaf(L)
    y = L.cat((w, w))
    quotient = y / y
    y.add_(0.5)
    L.cat((y, quotient.int())).sum().backward()
    return w.grad


@case
def gradient_that_a_freed_graph_does_not_lead_to(L):
    w, other = leaf(L), leaf(L)
    quotient = w / w
    beside = other.exp()
    (quotient - w).tanh().sum().backward()
    (unused,) = L.autograd.grad(quotient.sin().sum(), other, allow_unused=True)
    second = error_of(lambda: L.autograd.grad(quotient.sin().sum(), w))
    return unused, second, beside, w.grad
