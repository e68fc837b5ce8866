"""More programs of `autograd_cases`: writes that autograd does not see, forbids, or finds later."""

from __future__ import annotations

from tests.autograd.autograd_cases import CASES, case, leaf

__all__ = ["CASES"]


@case
def write_to_a_result_without_grad(L):
    w = leaf(L)
    y = w * 2
    with L.no_grad():
        y.add_(1)
    (y * y).sum().backward()
    return y, y.requires_grad, y.is_leaf, w.grad


@case
def write_to_a_part_of_a_result_without_grad(L):
    w = leaf(L)
    y = w * 2
    with L.no_grad():
        y[0] = 5.0
    (y * 3).sum().backward()
    return y, y.requires_grad, w.grad


@case
def write_to_a_view_of_a_result_without_grad(L):
    w = leaf(L)
    y = w * 2
    view = y[:2]
    with L.no_grad():
        view.mul_(3)
    (y * y + L.cat([view, view[:1]])).sum().backward()
    return y, view, y.requires_grad, view.requires_grad, w.grad


@case
def write_to_a_view_made_without_grad(L):
    w = leaf(L)
    y = w * 2
    with L.no_grad():
        y[:2].mul_(3)
    (y * y).sum().backward()
    return y, y.requires_grad, w.grad


@case
def write_through_detach(L):
    w = leaf(L)
    y = w * 2
    y.detach().add_(1)
    (y * 3).sum().backward()
    return y, y.requires_grad, w.grad


@case
def write_through_data(L):
    w = leaf(L)
    y = w * 2
    y.data.mul_(3)
    y.data[1] = 7.0
    (y * y).sum().backward()
    return y, y.requires_grad, w.grad


@case
def write_of_what_requires_grad_through_detach(L):
    w, u = leaf(L), leaf(L, value=3.0)
    y = w * 2
    d = y.detach()
    d.mul_(u)
    (d * 5 + y * y).sum().backward()
    return y, d, d.requires_grad, u.grad, w.grad


@case
def zero_a_result_without_grad(L):
    w = leaf(L)
    y = w * 2
    with L.no_grad():
        y.zero_()
    (y + 1).sum().backward()
    return y, w.grad


@case
def write_without_grad_to_what_was_computed_before(L):
    w = leaf(L)
    y = w * 2
    before = y.tolist()
    with L.no_grad():
        y.clamp_(max=1.5)
    after = y.tolist()
    (y * y).sum().backward()
    return before, after, w.grad


@case
def out_of_another_kind(L):
    L.add(L.ones(3), 0.5, out=L.empty(3, dtype=L.int64))


@case
def out_of_what_requires_grad(L):
    L.mul(leaf(L), 2, out=L.empty(3))


@case
def out_that_requires_grad(L):
    with L.no_grad():
        w = leaf(L)
        L.mul(L.ones(3), 2, out=w)
    L.mul(L.ones(3), 2, out=w)


@case
def write_to_a_part_of_a_split(L):
    (leaf(L, 4) * 2).split(2)[0].mul_(2)


@case
def write_to_a_part_of_a_chunk(L):
    (leaf(L, 4) * 2).chunk(2)[1].fill_(5.0)


@case
def write_to_what_unbind_gave_without_grad(L):
    w = leaf(L, 4, 2)
    y = w * 2
    with L.no_grad():
        y.unbind(0)[1].mul_(3)
    (y * y).sum().backward()
    x = L.ones(4)
    x.split(2)[1].add_(1)
    return y, w.grad, x


@case
def write_over_the_whole_through_a_view(L):
    w = leaf(L, 1, 3)
    y = w.max(0).values
    y.view(-1).fill_(0.25)
    (y * y).sum().backward()
    return y, y.requires_grad, w.grad


@case
def detached_in_place_shares_the_memory(L):
    w = leaf(L)
    y = w * 2
    view = y[:2]
    y.detach_()
    y -= 0.5
    return y, view.detach(), y.requires_grad, y.is_leaf


@case
def write_of_what_requires_grad_through_detach_of_a_leaf(L):
    w, u = leaf(L), leaf(L, value=3.0)
    d = w.detach().detach()
    d.mul_(u)
    (d * 5).sum().backward()
    return w, d, d.requires_grad, u.grad, w.grad


@case
def detached_in_place_and_seen_by_numpy(L):
    y = leaf(L) * 2
    y.detach_()
    y.numpy()[0] = 7.0
    return y, y.requires_grad


@case
def a_leaf_detached_after_its_use(L):
    w = leaf(L)
    y, view = w * 2, w[1:]
    w.detach_()
    (y.sum() + view.sum()).backward()
    return w.requires_grad, y.requires_grad, view.requires_grad, w.grad is None


@case
def a_detached_view_detached_again(L):
    d = (leaf(L) * 2)[1:].detach()
    d.detach_()
    return d, d.requires_grad


@case
def the_gradient_of_a_leaf_that_was_written_since(L):
    w = leaf(L)
    y = w * 2
    with L.no_grad():
        w.add_(1)
    (g,) = L.autograd.grad((y + w * 5).sum(), w, retain_graph=True)
    (y * y).sum().backward(inputs=[w])
    return g, w.grad, w


def _saved(name, make, write_result):
    def program(L):
        x = L.full((3, 3), 1.5, requires_grad=True)
        y = x * 1.0
        result = make(L, y)
        z = result + 0.0
        with L.no_grad():
            (result if write_result else y).add_(1)
        try:
            z.sum().backward()
        except RuntimeError as error:
            return "modified by an inplace operation" in str(error)
        return x.grad is not None and "went through"

    program.__name__ = f"written_{'result' if write_result else 'operand'}_of_{name}"
    case(program)


_SAVING = {
    "prod": lambda L, y: y.prod(0), "cumprod": lambda L, y: y.cumprod(0),
    "logsumexp": lambda L, y: y.logsumexp(0), "std": lambda L, y: y.std(0),
    "var": lambda L, y: y.var(0), "clamp": lambda L, y: y.clamp(0, 2),
    "amax": lambda L, y: y.amax(0),
    "gather": lambda L, y: y.gather(0, L.zeros(2, 2, dtype=L.int64)),
    "leaky_relu": lambda L, y: L.nn.functional.leaky_relu(y),
    "elu": lambda L, y: L.nn.functional.elu(y), "mish": lambda L, y: L.nn.functional.mish(y),
    "softplus": lambda L, y: L.nn.functional.softplus(y),
    "layer_norm": lambda L, y: L.nn.functional.layer_norm(y, (3,)),
    "minimum": lambda L, y: L.minimum(y, y.detach() + 1),
    "atan2": lambda L, y: L.atan2(y, y.detach() + 1),
    "mse_loss": lambda L, y: L.nn.functional.mse_loss(y, y.detach() + 1),
    "mean": lambda L, y: y.mean(0), "cumsum": lambda L, y: y.cumsum(0),
    "flip": lambda L, y: y.flip(0),
    "cat": lambda L, y: L.cat([y, y]), "sort": lambda L, y: y.sort(0)[0],
}  # fmt: skip
for _name, _make in _SAVING.items():
    for _which in (False, True):
        _saved(_name, _make, _which)
