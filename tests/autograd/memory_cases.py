"""More programs of `autograd_cases`: memory that numpy sees, views that outlive their leaf, tensors
that are detached, and gradients of some inputs only."""

from __future__ import annotations

from tests.autograd.autograd_cases import case, leaf
from tests.autograd.write_cases import CASES

__all__ = ["CASES"]


@case
def use_after_numpy_has_seen_it(L):
    w = leaf(L)
    x = w * 2
    array = x.detach().numpy()
    y = x * 1
    second = y.detach().numpy()
    (x * y).sum().backward()
    return x, y, w.grad, array.tolist(), second.tolist()


@case
def view_after_numpy_has_seen_it(L):
    w = leaf(L)
    x = w * 2
    before = x[1:]
    array = x.detach().numpy()
    after = x[:2]
    (before * before).sum().backward(retain_graph=True)
    (after * after).sum().backward()
    return w.grad, array.tolist(), x.requires_grad


@case
def gradient_of_what_numpy_wrote_to(L):
    w = leaf(L)
    x = w * 2
    array = x.detach().numpy()
    array[...] = 5
    (g,) = L.autograd.grad((x * x).sum(), x, retain_graph=True)
    (x[1:] * x[1:]).sum().backward()
    return x, g, w.grad


@case
def write_after_numpy_has_seen_it(L):
    w = leaf(L)
    x = w * 2
    array = x.detach().numpy()
    x.mul_(w)
    x[0] = 3.0
    (x * x).sum().backward()
    return x, w.grad, array.tolist()


@case
def views_of_a_leaf_that_is_gone(L):
    x = L.ones(4, requires_grad=True).reshape(2, 2)
    array = x.detach().numpy()
    (g,) = L.autograd.grad((x * x).sum(), x)
    array[...] = 3
    (h,) = L.autograd.grad((x * x).sum(), x)
    return x.requires_grad, x.is_leaf, g, h


@case
def view_of_a_leaf_that_was_written_and_is_gone(L):
    w = leaf(L)
    view = w[1:]
    with L.no_grad():
        w.mul_(5)
    del w
    (g,) = L.autograd.grad((view * view).sum(), view)
    return view, g


@case
def views_of_a_leaf_that_is_detached(L):
    w = leaf(L)
    view = w[1:]
    w.detach_()
    flags = w.requires_grad, w.is_leaf, view.requires_grad, view.is_leaf
    view.sum().backward()
    w.requires_grad_()
    (w * w).sum().backward()
    return flags, w.grad, view


@case
def write_to_a_view_of_a_leaf_that_is_detached(L):
    w = leaf(L)
    view = w[1:]
    w.detach_()
    try:
        view.add_(1)
    except RuntimeError as error:
        return str(error).splitlines()[0]


@case
def detached_tensor_with_a_history_of_its_own(L):
    w = leaf(L)
    x = L.ones(4)
    y = x.detach()
    view = y[1:]
    y[:1] = w[:1] * 2
    first = (y * y).sum()
    flags = y.requires_grad, view.requires_grad, x.requires_grad
    first.backward(retain_graph=True)
    y[0] = 5.0
    (y * view.sum()).sum().backward()
    return flags, x, y, w.grad


@case
def detached_result_beside_the_result(L):
    w = leaf(L)
    z = w * 3
    d = z.detach()
    d.mul_(w)
    (d.sum() + z.sum()).backward()
    with L.no_grad():
        d.mul_(2)
    e = d.detach()
    return d, z, w.grad, d.requires_grad, e.requires_grad


@case
def view_of_data_with_a_history(L):
    w = leaf(L)
    a = L.zeros(3).data
    b = a.view(3, 1)
    b[1] = w[0]
    a.sum().backward()
    return a, b, a.requires_grad, a._version, a.detach()._version, w.grad


@case
def gradients_free_only_what_they_pass(L):
    v, z = leaf(L), leaf(L)
    found = []
    for look in (False, True):
        y = v.exp()
        u = y * z
        if look:
            u.tolist()
        other = L.ones(2, requires_grad=True)
        found.append(L.autograd.grad((u * u).sum(), other, allow_unused=True))
        found.append(L.autograd.grad((u * u).sum(), z))
        found.append(L.autograd.grad((y * y).sum(), v))
        try:
            L.autograd.grad((u * u).sum(), v)
        except RuntimeError as error:
            found.append("second time" in str(error))
    return found


@case
def joins_and_writes_keep_nothing(L):
    v = leaf(L)
    y = L.stack((v, v)).cumsum(0)
    y.copy_(L.cat((y, y))[:2])
    for _ in range(2):
        L.autograd.grad((y * y).sum(), v)
    m = v.mean()
    m.copy_(L.tensor(-1.0))
    for _ in range(2):
        L.autograd.grad((m * m).sum(), v)
    return y


@case
def products_with_zeros(L):
    x = L.tensor([1.25, 0.75, 0.0, 2.0, 0.0, 3.0], requires_grad=True)
    found = []
    for f in (lambda: x.cumprod(0), lambda: x.flip(0).cumprod(0), lambda: x.prod(0)):
        (g,) = L.autograd.grad(f().sum(), x, create_graph=True)
        (h,) = L.autograd.grad((g * g).sum(), x)
        found += [g, h]
    return found


@case
def view_read_without_grad_after_a_write(L):
    w = leaf(L)
    y = w * 2
    view = y[1:]
    y.add_(1)
    with L.no_grad():
        unseen = view + 1
    (view * view).sum().backward()
    return view, unseen, view.requires_grad, w.grad
