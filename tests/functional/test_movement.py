"""Views, splits, joins and rearrangements against torch, and a few literal cases."""

import numpy as np
import pytest

import graphc
from tests.functional.peer_expressions import check, check_error, check_gradient

VIEWS = """
x.reshape(4, 6)
x.reshape((3, -1))
x.reshape(-1)
torch.reshape(x, (2, 12))
x.view(6, 4)
x.view(-1, 2)
x.view_as(m.reshape(2, 6).reshape(2, 3, 2).repeat(1, 1, 2))
x.reshape_as(m.repeat(2, 1).view(4, 6))
x.transpose(0, 2).reshape(8, 3)
x.permute(2, 0, 1)
x.permute((1, -1, 0))
torch.permute(x, (2, 1, 0))
x.transpose(0, -1)
m.t()
v.t()
s.t()
m.T
x.mT
m.H
x.adjoint()
x.swapaxes(0, 1)
x.swapdims(-1, 0)
x.movedim(0, 2)
x.movedim((0, 1), (1, 2))
x.moveaxis(-1, 0)
torch.movedim(x, (2, 0), (0, 1))
x[:1].squeeze()
x[:1].squeeze(0)
x[:, :1, :1].squeeze((1, 2))
x.squeeze(1)
s.squeeze(0)
x.unsqueeze(0)
x.unsqueeze(-1)
s.unsqueeze(0)
x.flatten()
x.flatten(1)
x.flatten(0, 1)
s.flatten()
x.unflatten(2, (2, -1))
x.unflatten(-1, (2, 2))
x.ravel()
v.expand(3, 5)
m.unsqueeze(1).expand(-1, 2, 4)
s.expand(2, 2)
m.unsqueeze(0).expand_as(x)
torch.broadcast_to(v, (2, 5))
m.broadcast_to(2, 3, 4)
x.narrow(1, 1, 2)
x.narrow(-1, -3, 2)
x.select(1, 2)
x.select(-1, -1)
x.diagonal()
x.diagonal(1, 1, 2)
x.diagonal(-1, 1, 2)
x.diagonal(9, 1, 2)
m.t().diagonal(1)
x.permute(2, 0, 1).diagonal(0, 0, 1)
x.diagonal(dim1=2, dim2=0)
v.unfold(0, 2, 1)
v.unfold(0, 2, 3)
x.unfold(2, 3, 1)
x.unfold(1, 2, 1)
x.unfold(-2, 3, 2)
x.split(2, 1)
x.split(3, 2)
x.split([1, 3], -1)
torch.split(x, 1)
x.split_with_sizes([1, 2], 1)
x.chunk(2, 2)
x.chunk(3, 2)
v.chunk(4)
v.chunk(9)
x.tensor_split(3, 2)
v.tensor_split(3)
v.tensor_split((1, 3))
v.tensor_split([2, 9])
v.tensor_split(torch.tensor([1, 2]))
v.tensor_split(torch.tensor(2))
x.unbind()
x.unbind(2)
list(x)
x.hsplit(3)
x.hsplit([1, 2])
x.vsplit(2)
x.dsplit(2)
x.dsplit([1])
v.hsplit(5)
torch.hsplit(v, 5)
x.as_strided((2, 3), (4, 2))
x.as_strided((2, 3), (4, 2), 1)
v.as_strided((3, 3), (1, 1))
m.as_strided((4,), (3,), 2)
m.as_strided((2, 2, 2), (6, 3, 1))
m.as_strided((3, 2), (0, 1))
m[1:].as_strided((2, 2), (1, 4))
x.detach()
torch.broadcast_tensors(v, m[:, :1])
torch.atleast_1d(s)
torch.atleast_1d(s, v)
torch.atleast_2d(s, v, m)
torch.atleast_3d(s, v, m, x)
torch.atleast_2d(v)
torch.meshgrid(v, i.float(), indexing='ij')
torch.meshgrid(v, m[0], indexing='xy')
torch.meshgrid([v, s], indexing='ij')
e.reshape(0)
e.reshape(3, 0)
e.permute(2, 1, 0)
e.transpose(0, 1).flatten()
e.unbind(0)
e.split(2, 1)
torch.real(x)
x.sum_to_size(3, 1)
x.sum_to_size(1, 1, 4)
x.sum_to_size(2, 3, 4)
"""

COPIES = """
torch.cat([x, x + 1])
torch.cat((x, x), 1)
torch.cat((x, x), dim=-1)
torch.cat([x, m.unsqueeze(0)], axis=0)
torch.cat([x, torch.tensor([])])
torch.cat([x, x.double()])
torch.concat([v, v])
torch.concatenate([v, s.reshape(1)])
torch.stack([x, x])
torch.stack([v, v], 1)
torch.stack([s, s], -1)
torch.hstack([v, v])
torch.hstack([m, m])
torch.hstack([s, s])
torch.vstack([v, v])
torch.vstack([m, m[0]])
torch.row_stack([v, v])
torch.dstack([v, v])
torch.dstack([m, m])
torch.column_stack([v, v])
torch.column_stack([m, m[:, 0]])
v.tile(2)
v.tile(2, 3)
x.tile((2,))
m.repeat(2, 1, 3)
m.repeat(1, 1)
v.repeat(0)
s.repeat(3)
v.repeat_interleave(2)
m.repeat_interleave(2, 1)
m.repeat_interleave(3, dim=0)
v.repeat_interleave(torch.tensor([1, 0, 2, 1, 3]))
m.repeat_interleave(torch.tensor([1, 0, 2]), 0)
torch.repeat_interleave(torch.tensor([2, 0, 1]))
x.roll(1)
x.roll(-2, 2)
x.roll((1, 2), (0, 2))
x.roll(9, 1)
x.flip(0)
x.flip(0, 2)
x.flip((1, -1))
torch.flip(x, [2])
m.fliplr()
v.flipud()
m.rot90()
m.rot90(2)
m.rot90(-1)
x.rot90(3, (1, 2))
m.tril()
m.triu(1)
x.tril(-1)
x.triu(-1)
n.triu()
torch.tril_indices(3, 4)
torch.tril_indices(3, 4, -1)
torch.triu_indices(4, 3, 1)
torch.triu_indices(2, 2, dtype=torch.int32)
v.diag()
v.diag(1)
v.diag(-2)
m.diag()
m.diag(-1)
m.diag_embed()
m.diag_embed(1, 0, 2)
m.diag_embed(-2, 2, 0)
m.diagflat(1)
m.diagonal_scatter(v[:3])
x.diagonal_scatter(m[:2, :3].T, 0, 1, 0) if False else m.diagonal_scatter(v[:2], -1)
x.select_scatter(m, 0, 1)
x.select_scatter(x[:, 0] * 2, 1, -1)
x.slice_scatter(m.unsqueeze(0), 0, 1)
x.slice_scatter(x[:, :, :2] + 1, 2, 0, 4, 2)
x.slice_scatter(x[:, :, :2] + 1, dim=2, end=2)
torch.cartesian_prod(v, i.float())
torch.cartesian_prod(v)
torch.cartesian_prod(v, v[:2], v[:1])
torch.combinations(v)
torch.combinations(v, 3)
torch.combinations(v, 2, True)
torch.block_diag(m, v, s)
torch.kron(m, v)
torch.kron(v, v)
torch.kron(m[:2, :2], m)
F.pad(x, (1, 2))
F.pad(x, (1, 2, 0, 1), value=3.5)
F.pad(x, (-1, 2, 1, -1, 0, 1))
F.pad(n, (1, 1), value=7)
F.pad(x, (1, 2), mode='reflect')
F.pad(x, (2, 1, 1, 0), mode='reflect')
F.pad(x, (2, 3), mode='replicate')
F.pad(x, (2, 3, 0, 2), mode='replicate')
F.pad(x, (4, 1), mode='circular')
F.pad(x, (1, 1, 2, 0), mode='circular')
F.pad(m, (1, 3), 'reflect')
F.pixel_shuffle(torch.cat([x, x])[:, :, :].reshape(4, 2, 6), 2)
F.pixel_unshuffle(x.reshape(1, 4, 6), 2)
F.channel_shuffle(x.reshape(1, 6, 2, 2), 3)
x.clone()
x.transpose(0, 1).contiguous()
x.narrow_copy(1, 0, 2)
torch.vander(v)
torch.vander(v, 3, True)
x.as_strided_scatter(m[:2, :3], (2, 3), (12, 4), 1)
"""

ALIASING = """
x.view(24)[3:5] = 9; x
x.transpose(0, 2)[1] = 7; x
m.diagonal()[:] = 5; m
m.t().diagonal(1).zero_(); m
x.diagonal(0, 1, 2)[0] = 8; x
a, c = x.chunk(2, 2); a.mul_(3); x
rows = [row.add_(1) for row in m]; m
x.unbind(1)[1].fill_(4); x
x.squeeze_(0).unsqueeze_(1); x
x.transpose_(0, 1); x
m.t_(); m
y = x.reshape(6, 4); y[0] = 1; x
y = x.transpose(0, 1).reshape(6, 4); y[0] = 1; x
y = x.detach(); y.zero_(); x
y = x.flatten(1); y += 1; x
y = x.as_strided((2, 3), (6, 2), 1); y.zero_(); x
y = x[0].expand(2, 3, 4).clone(); y.zero_(); x
y = v.unfold(0, 2, 1); v.mul_(2); y
y = m.expand(2, 3, 4); m.mul_(2); y
torch.atleast_2d(v).zero_(); v
torch.meshgrid(v, v, indexing='ij')[0][0, 0]
m.fill_diagonal_(9); m
torch.zeros(7, 3).fill_diagonal_(4, wrap=True)
x.contiguous().zero_(); x
y = x.swapaxes(0, 2); y[0, 0, 0] = 100; x
m.real.zero_(); m
m.as_strided_((2, 2), (4, 1)).zero_(); m
"""

ERRORS = """
x.reshape(5, -1)
x.reshape(-1, -1)
x.reshape(2, 5)
x.reshape(-1, 0)
x.reshape(-2, 12)
x.view(2, 5)
x.transpose(0, 1).view(24)
x.permute(0, 1)
x.permute(0, 1, 1)
x.permute(0, 1, 5)
x.transpose(0, 3)
x.t()
v.mT
v.H
x.movedim((0, 1), (1,))
x.movedim((0, 0), (1, 2))
x.squeeze(5)
x.unsqueeze(4)
x.flatten(2, 1)
x.unflatten(1, (2, 2))
x.unflatten(1, ())
x.expand(3, 3)
x.expand(2, 2, 3, 5)
x.expand(-1, 2, 3, 4)
torch.broadcast_to(x, (3, 3, 4))
x.narrow(1, 2, 2)
x.narrow(1, -5, 2)
x.narrow(1, 0, -1)
x.select(1, 3)
s.select(0, 0)
x.diagonal(0, 0, 0)
x.split(0, 1)
x.split(-1)
x.split([1, 1], 1)
x.split([-1, 4], 1)
x.chunk(0)
x.tensor_split(0)
s.unbind()
x.unfold(1, 5, 1)
x.unfold(1, 2, 0)
x.unfold(1, -1, 1)
s.split(1)
x.hsplit(2)
s.hsplit(2)
v.vsplit(2)
m.dsplit(2)
x.vsplit(3)
torch.cat([])
torch.cat([x, x[0]])
torch.cat([x, x[:, :2]])
torch.cat([x, x], 5)
torch.cat([s, s])
torch.stack([])
torch.stack([x, x[0]])
torch.stack([x, x], 5)
x.repeat(2)
x.repeat(2, 2, -1)
x.repeat_interleave(-1)
x.roll((1, 2), (0,))
x.roll((1, 2))
x.roll(1, 5)
x.flip(5)
x.flip(0, 0)
v.fliplr()
s.flipud()
x.rot90(1, (0, 0))
x.rot90(1, (0,))
v.rot90()
v.tril()
x.diag()
torch.diag_embed(x, 0, 1, 1)
x.diagonal_scatter(x)
x.select_scatter(x, 0, 0)
x.slice_scatter(x, 0, 0, 1)
torch.broadcast_tensors(x, x[:, :2])
torch.meshgrid(v, i, indexing='ij')
torch.meshgrid(v, indexing='foo')
torch.cartesian_prod(x)
torch.block_diag(x)
F.pad(x, (1,))
F.pad(x, (1, 1, 1, 1, 1, 1, 1, 1))
F.pad(x, (4, 0), mode='reflect')
F.pad(x, (1, 0, 1, 0, 1, 0), mode='reflect')
F.pad(x, (5, 1), mode='circular')
F.pad(x, (-5, 0))
F.pad(x, (1, 1), mode='foo')
F.pad(x, (1, 1), mode='reflect', value=2.0)
F.pixel_shuffle(x, 2)
F.pixel_unshuffle(x, 2)
x.as_strided((2, 2), (1, 1), 23)
x.as_strided((2, 2), (1,))
x.imag
"""

# No result with a gradient, or (vander, as_strided_scatter) torch has an error or is wrong.
NO_GRADIENT = (
    "_indices", "detach", "repeat_interleave(torch.tensor([2", "pad(n", "n.triu", "vander",
    "as_strided_scatter",
)  # fmt: skip


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize("expression", lines(VIEWS + COPIES))
def test_values(expression):
    check(expression, pytest.importorskip("torch"))


@pytest.mark.parametrize("expression", lines(ALIASING))
def test_views_share_their_storage_as_in_torch(expression):
    check(expression, pytest.importorskip("torch"))


@pytest.mark.parametrize("expression", lines(ERRORS))
def test_errors(expression):
    check_error(expression, pytest.importorskip("torch"))


def differentiable() -> list[str]:
    return [e for e in lines(VIEWS + COPIES) if not any(word in e for word in NO_GRADIENT)]


@pytest.mark.parametrize("expression", differentiable())
def test_gradients(expression):
    check_gradient(expression, pytest.importorskip("torch"))


def test_a_view_follows_its_base_and_the_base_its_view():
    x = graphc.arange(6.0).reshape(2, 3)
    column = x.t()[1]
    x.mul_(10)
    assert column.tolist() == [10.0, 40.0]
    column.zero_()
    assert x.tolist() == [[0.0, 0.0, 20.0], [30.0, 0.0, 50.0]]


def test_view_refuses_what_would_need_a_copy_and_reshape_copies():
    x = graphc.arange(6.0).reshape(2, 3).t()
    with pytest.raises(RuntimeError, match="Use .reshape"):
        x.view(6)
    y = x.reshape(6)
    y.zero_()
    assert x.tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_padding_by_literal():
    x = graphc.tensor([[1.0, 2.0, 3.0]])
    pad = graphc.nn.functional.pad
    assert pad(x, (2, 1), mode="reflect").tolist() == [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]
    assert pad(x, (1, 1), mode="circular").tolist() == [[3.0, 1.0, 2.0, 3.0, 1.0]]
    assert pad(x, (0, 2), value=9.0).tolist() == [[1.0, 2.0, 3.0, 9.0, 9.0]]


def test_as_strided_scatter_derives_what_it_keeps():
    x = graphc.zeros(4, requires_grad=True)
    src = graphc.ones(2, requires_grad=True)
    (x.as_strided_scatter(src, (2,), (2,)) * graphc.arange(4.0)).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0, 3.0]
    assert src.grad.tolist() == [0.0, 2.0]


def test_numpy_sizes_count_as_integers():
    x = graphc.arange(6.0)
    assert tuple(x.reshape(np.int64(2), np.int32(3)).shape) == (2, 3)


def test_tensors_without_elements_are_joined():
    x = graphc.ones(3, 0)
    assert graphc.cat((x, x)).tolist() == [[]] * 6
    assert (graphc.hstack((graphc.ones(3, 0, dtype=graphc.float64), x)) + 1).tolist() == [[]] * 3
