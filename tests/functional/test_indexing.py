"""x[...] and x[...] = value, and lookups by index, against torch, and a few literal cases."""

import numpy as np
import pytest

import graphc
from graphc.frontends.record import recorder
from tests.functional.peer_expressions import check, check_error, check_gradient

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch's deprecations

READS = """
x[0]
x[-1]
x[0, 1]
x[0, 1, 2]
x[1:]
x[:, ::2]
x[..., 1]
x[..., 1:3]
x[0, ..., -1]
x[None]
x[:, None, 0]
x[..., None]
x[()]
x[...]
x[1:0]
x[5:9]
x[-2:, -1:]
x[:, 1:-1, 1::2]
s[...]
s[()]
s[None]
s[True]
x[True]
x[False]
x[True, 0]
x[i]
x[:, j]
x[..., j]
x[j.clamp(0, 1), j]
x[i, i]
x[i, :, i]
x[0, :, i]
x[i, 0, i]
x[:, i, i]
x[i[:, None], j[0]]
x[None, i]
x[i, None]
x[i, ..., None, i]
x[i, None, :, i]
x[i, 1:]
x[1:, i, 1:]
x[[0, 1]]
x[[[0, 1], [0, 1]]]
x[[0, slice(None)]]
x[[]]
x[(0, 1), ]
x[:, [True, False, True]]
x[range(2)]
x[np.array([1, 0])]
x[np.int64(1)]
x[:, np.array([True, False, True])]
x[torch.tensor(1)]
x[torch.tensor(1), torch.tensor(0):]
x[torch.tensor(True)]
x[i.int()]
x[i.to(torch.uint8)[:2]]
x[b]
x[x > 0]
x[:, b[0]]
x[b[:, 0, 0]]
x[b[:, 0, 0], 1]
x[b[:, :, 0]]
x[b[:, :, 0], i[0]]
x[torch.tensor([[-1, -2], [0, 1]])]
v[v > 1].mean()
n[n > 0]
e[:, :, 1]
e[i]
b[i]
x[i][0].t()
len(x)
[row.sum() for row in x]
"""

WRITES = """
x[0] = 1; x
x[0] = 1.5; x
n[0] = 1.5; n
x[0] = m; x
x[0] = m.double(); x
x[:, 1:2] = torch.ones(4); x
x[0] = torch.ones(1, 1, 3, 4); x
x[..., 0] = torch.ones(3); x
x[True] = 3; x
x[False] = 3; x
x[()] = 3; x
s[...] = torch.ones(1); s
x[i] = 1.5; x
x[i[:2]] = x[:2] * 2; x
x[i[:2]] = torch.ones(1, 2, 3, 4); x
x[:, j[0]] = 9; x
x[0, j[0]] = m[:2]; x
x[i[:2], :, i[:2]] = torch.arange(6.0).reshape(2, 3); x
x[i[:2], i[:2]] = torch.ones(2, 1); x
x[b] = 1; x
x[b] = torch.tensor(2.0).double(); x
x[b] = torch.arange(8.0); x
x[x > 1] = 0; x
x[:, b[0]] = 5; x
x[b[:, :, 0]] = 4; x
x[b[:, 0, 0]] = torch.arange(4.0); x
x[x < 0] *= -1; x
x[0] += 1; x
x[i[:2]] += 1; x
x[:, 0][:, 1:] = 7; x
x[0, 1, 2] = s; x
x[1:0] = 4; x
x[::2, ::2] = 0; x
b[0] = True; b
b[~b] = True; b
n[n > 1] = -1; n
x.t_ = 0; x[0].t()[1] = 5; x
x.index_put_((i[:2],), torch.tensor(1.0)); x
x.index_put((i, i), torch.ones(4), accumulate=True)
x.index_put((torch.tensor([0, 0]),), torch.ones(3, 4), True)
x.index_put((b,), torch.tensor(9.0))
m[[0, 1], [2, 3]] = torch.tensor([5.0, 6.0]); m
m[torch.tensor(1)] = 4; m
m[torch.tensor(1), 2] = 4; m
x[:] = 4; x
x[:, :, -1] = x[:, :, 0].clone(); x
"""

LOOKUPS = """
x.gather(0, torch.zeros(1, 3, 4, dtype=torch.int64))
x.gather(2, torch.tensor([[[3, 0], [1, 1]]]))
m.gather(1, torch.tensor([[0], [3], [2]]))
v.gather(0, i)
s.gather(0, torch.tensor(0))
torch.gather(m, 0, torch.tensor([[0, 2, 1, 1]]))
m.scatter(0, torch.tensor([[0, 2, 1, 1]]), m * 10)
m.scatter(1, torch.tensor([[0], [3], [2]]), 5.5)
m.scatter(1, torch.tensor([[0, 0], [3, 2]]), m, reduce='add')
m.scatter(1, torch.tensor([[0, 0], [3, 2]]), 3.0, reduce='multiply')
m.scatter_(0, torch.tensor([[1, 1, 1, 1]]), 0.0); m
torch.scatter(m, 1, index=torch.tensor([[1]]), src=m)
torch.scatter(m, 1, torch.tensor([[1]]), value=2.5)
m.scatter_add(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m)
n[0].scatter_add(1, torch.tensor([[0, 0, 0, 1]]), n[0])
m.scatter_add_(1, torch.tensor([[1, 1, 1]]), m * 1); m
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m, 'sum')
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m, 'mean')
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m, 'mean', include_self=False)
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m + 1, 'prod')
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m, 'amax')
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m, 'amin', include_self=False)
n[0].scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), n[0], 'mean')
n[0].scatter_reduce(0, torch.tensor([[0, 2, 1, 1]]), n[0], 'amax', include_self=False)
x.index_select(1, torch.tensor([2, 0, 2]))
x.index_select(-1, torch.tensor(1))
s.index_select(0, torch.tensor([0]))
x.index_add(1, torch.tensor([2, 0, 2]), x)
x.index_add(1, torch.tensor([2, 0, 2]), x, alpha=0.5)
x.index_add_(0, i[:2], x * 2); x
x.index_copy(1, torch.tensor([2, 0]), x[:, :2] * 3)
x.index_fill(1, torch.tensor([2, -3]), 9.0)
x.index_fill(2, torch.tensor([2]), s)
x.index_reduce(0, torch.tensor([0, 0]), x, 'mean')
x.index_reduce(0, torch.tensor([0, 0]), x, 'amax', include_self=False)
x.take(torch.tensor([0, 5, -1]))
x.take(j)
m.take_along_dim(torch.tensor([[0], [3], [2]]), 1)
x.take_along_dim(torch.tensor([[[0, -1]]]), 2)
x.take_along_dim(j.abs())
torch.take_along_dim(m, m.argsort(1), dim=1)
x.put(torch.tensor([0, -1]), v[:2])
x.put(torch.tensor([0, 0]), v[:2], accumulate=True)
x.put_(j, v[:4].reshape(2, 2)); x
x.masked_fill(b, 7.0)
x.masked_fill(b, s)
x.masked_fill(b[:, :, :1], -1)
n.masked_fill(b, 3)
x.masked_fill_(x > 0, float('-inf')); x
s.expand(3, 4).masked_fill(b[0], 2.0)
v[:1].masked_fill(b[0], 2.0)
x.masked_select(b)
m.masked_select(b)
x.masked_select(x > 100)
x.masked_scatter(b, v.repeat(3))
x.masked_scatter_(b[0], v.repeat(3)); x
torch.where(b, x, 0)
torch.where(b, 1.5, x)
torch.where(b, x, n)
torch.where(b, 1, 0)
torch.where(b[0])
x.where(b, s)
torch.nonzero(x > 0)
(x > 0).nonzero(as_tuple=True)
n.nonzero()
s.nonzero()
torch.argwhere(m)
torch.nonzero_static(n[0], size=3)
torch.nonzero_static(n[0], size=20, fill_value=7)
F.embedding(j.abs(), m)
F.embedding(i, m, padding_idx=1)
F.embedding(i, m, padding_idx=-1)
torch.embedding(m, j.abs())
F.embedding(i, m * 1, max_norm=2.0)
F.one_hot(i)
F.one_hot(j.abs(), 4)
torch.bincount(i)
torch.bincount(i, minlength=5)
torch.bincount(i, weights=v[:3])
i.bincount(torch.tensor([1, 2, 3]))
torch.bincount(i[:0])
torch.searchsorted(torch.tensor([1.0, 2.0, 2.0, 5.0]), x)
torch.searchsorted(torch.tensor([1.0, 2.0, 2.0, 5.0]), x, right=True)
torch.searchsorted(torch.tensor([1, 2, 5]), 2)
torch.searchsorted(m.sort(1).values, m, side='right')
torch.searchsorted(m.sort(1).values, m.flip(1), out_int32=True)
torch.searchsorted(torch.tensor([3.0, 1.0, 2.0]), v, sorter=torch.tensor([1, 2, 0]))
torch.bucketize(x, torch.tensor([0.0, 1.0, 2.0]))
torch.bucketize(3, torch.tensor([0, 1, 3]), right=True)
torch.unique(n)
torch.unique(n, return_inverse=True, return_counts=True)
n[0].unique(dim=0, return_inverse=True)
torch.unique(m, dim=1, return_counts=True)
torch.unique(v, sorted=True, return_counts=True)
torch.unique_consecutive(torch.tensor([1, 1, 2, 2, 2, 1]), return_inverse=True, return_counts=True)
torch.unique_consecutive(n[0, :, :1] * 0, dim=0, return_counts=True)
torch.isin(n, torch.tensor([1, 3]))
torch.isin(n, 3, invert=True)
torch.isin(3, n)
torch.isin(x, torch.tensor([]))
torch.histc(x, 4, -1, 3)
torch.histc(x, 5)
torch.histogram(x, 4)
torch.histogram(x, 4, range=(-1.0, 2.0), density=True)
x.histogram(torch.tensor([-1.0, 0.0, 2.0]), weight=x.abs())
torch.histc(v * 0, 3)
x.sort()
x.sort(0, descending=True)
x.sort(dim=1, stable=True)
n.sort(1, True)
v.argsort()
x.argsort(dim=0, descending=True)
s.sort()
torch.msort(m)
v.topk(2)
m.topk(2, dim=0)
m[:, [0, 1, 2]].topk(2, largest=False)
x[0].kthvalue(2)
v[:3].kthvalue(1, 0, True)
v.median()
m.median(0)
n.median()
m.median(1, keepdim=True)
torch.tensor([1.0, float('nan'), 3.0]).median()
torch.tensor([[1.0, float('nan'), 3.0], [4.0, 1.0, 3.0]]).median(1)
torch.tensor([1.0, float('nan'), 3.0]).nanmedian()
torch.tensor([[1.0, float('nan'), 3.0], [4.0, 1.0, 3.0]]).nanmedian(1)
n.mode()
n.mode(1)
m.mode(0, True)
torch.unravel_index(torch.tensor([3, 11]), (3, 4))
"""

ERRORS = """
x[5]
x[-3]
x[0, 0, 0, 0]
s[0]
s[:]
x[::-1]
x[::0]
x[1.5]
x[{}]
x[i.float()]
x[i.to(torch.int8)]
x[i, i, i, i]
x[torch.tensor([0, 1, 2]), i[:2]]
x[b[0]]
x[b[0, 0]]
x[i, b[0]]
x[torch.tensor([[True, False]])]
x[torch.tensor(5)]
x[torch.tensor(1.0)]
x[0] = torch.ones(5); x
x[0] = torch.ones(2, 3, 4); x
x[i] = torch.ones(5); x
x[b] = torch.ones(3); x
x[b[0]] = 1; x
x[0] = 'a'; x
x[0] = [1, 2, 3, 4]; x
x[0] = 1j; x
n[0] = 1j; n
x[i] = x[i].double(); x
n[i] = torch.tensor(1.5); n
x[:, 1:2] = torch.ones(2, 4); x
x[0:0] = torch.ones(5); x
x.index_put((i,), torch.tensor(1.0).double())
x.index_select(0, i.float())
x.index_select(5, i)
x.index_select(0, i[None])
x.gather(0, i)
x.gather(0, i[:2, None, None].float())
x.gather(0, torch.zeros(2, 5, 4).long())
x.scatter(0, i, x)
x.scatter(0, i[:2, None, None], x[:1])
x.scatter(0, i[:2, None, None], x.double())
x.scatter(0, i[:2, None, None], x, reduce='foo')
x.scatter_reduce(0, i[:2, None, None], x, 'foo')
x.index_add(0, i, x[:1])
x.index_add(0, i[:2], x[:, :1])
x.index_add(0, i[:2], x.double())
x.index_copy(0, i, x[:1])
x.index_fill(0, i, x)
x.take(torch.tensor([1.0]))
x.take_along_dim(i, 1)
x.put(i, x)
x.masked_fill(b, x)
x.masked_fill(b.float(), 1)
x.masked_select(b.int())
x.masked_scatter(b, x.int())
torch.where(x, x, x)
F.embedding(i, m, padding_idx=5)
F.embedding(i.float(), m)
F.one_hot(i.int())
F.one_hot(i, 1)
F.one_hot(i - 1)
F.one_hot(torch.zeros(0).long())
torch.bincount(i - 1)
torch.bincount(x)
torch.bincount(i, x)
torch.bucketize(x, x)
torch.searchsorted(m, m[0])
torch.searchsorted(m[0], x, side='foo')
torch.searchsorted(m[0], x, side='left', right=True)
torch.searchsorted(m, 2.5)
x.topk(5)
x.topk(1, 5)
x.kthvalue(0)
torch.zeros(0, 2).median(0)
torch.zeros(0, 2).mode(0)
torch.histc(x.int())
torch.histc(x, 0)
torch.histc(x, 4, 2, 1)
"""

OUTSIDE = """
x[torch.tensor([0, 5])]
x[torch.tensor([0, -3])]
x[torch.tensor([0, 1]), torch.tensor([0, 3])]
x.gather(2, torch.tensor([[[4]]]))
x.gather(0, torch.tensor([[[-1]]]))
x.scatter(0, torch.tensor([[[2]]]), 1.0)
x.index_select(0, torch.tensor([5]))
x.take(torch.tensor([24]))
x.index_add(0, torch.tensor([0, 9]), x)
F.embedding(torch.tensor([5]), m)
x[torch.tensor([7])] = 1; x
x.masked_scatter(b, m[0])
"""

DIFFERENTIABLE = """
x[i]
x[:, j]
x[i, :, i]
x[b]
x[x > 0]
x[0, 1:] * 2
x[:, b[0]]
y = x * 1; y[0] = m; y
y = x * 1; y[i[:2]] = m.expand(2, 3, 4); y
y = x * 1; y[b] = 0; y
y = x * 1; y[b] = v.repeat(2)[:8]; y
y = x * 1; y[:, 1] = s; y * y
y = x * 1; y[0, 1:] *= 2; y
y = x * 1; y[i[:2], i[:2]] = v[:4]; y
x.gather(2, torch.tensor([[[3, 0], [1, 1]]]))
m.scatter(0, torch.tensor([[0, 2, 1, 1]]), m[:1] * 10)
m.scatter_add(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m[:2] * 2)
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m[:2] * 2, 'mean')
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m[:2] * 2, 'prod')
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m[:2] * 2, 'amax')
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1], [0, 0, 0, 0]]), m[:2], 'amin')
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1]]), m[:1] * 2, 'prod', include_self=False)
m.scatter_reduce(0, torch.tensor([[0, 2, 1, 1]]), m[:1] * 2 + 1, 'amax', include_self=False)
x.index_select(1, torch.tensor([2, 0, 2]))
x.index_add(1, torch.tensor([2, 0, 2]), x, alpha=0.5)
x.index_copy(1, torch.tensor([2, 0]), x[:, :2] * 3)
x.index_fill(1, torch.tensor([2, -3]), 9.0)
x.take(torch.tensor([0, 5, -1]))
x.take_along_dim(torch.tensor([[[0, -1]]]), 2)
x.put(torch.tensor([0, -1]), v[:2])
x.masked_fill(b, 7.0)
x.masked_fill(b, s)
x.masked_select(b)
x.masked_scatter(b, v.repeat(3))
torch.where(b, x, m)
torch.where(b, x, 0.0)
F.embedding(i, m)
F.embedding(i, m, padding_idx=1)
F.embedding(torch.tensor([[0, 2], [2, 2]]), m, padding_idx=0)
x.sort()
x.sort(0, descending=True)
v[1:].topk(2)
x[0].kthvalue(2)
v[1:].median()
x[0].median(0)
m.mode(1)
"""


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize("expression", lines(READS + WRITES + LOOKUPS))
def test_values(expression):
    check(expression, pytest.importorskip("torch"))


@pytest.mark.parametrize("expression", lines(ERRORS))
def test_errors(expression):
    check_error(expression, pytest.importorskip("torch"))


@pytest.mark.parametrize("expression", lines(OUTSIDE))
def test_places_outside_are_errors(expression):
    torch = pytest.importorskip("torch")
    with pytest.raises((IndexError, RuntimeError)):
        evaluate_and_look(expression, torch)
    with pytest.raises((IndexError, RuntimeError)):
        evaluate_and_look(expression, graphc)


def evaluate_and_look(expression, library):
    from tests.functional.peer_expressions import evaluate, plain

    plain(evaluate(expression, library)[0])


@pytest.mark.parametrize("expression", lines(DIFFERENTIABLE))
def test_gradients(expression):
    check_gradient(expression, pytest.importorskip("torch"))


def random_index(rng, shape):
    """A random index of a random kind for each axis, as text."""
    parts = []
    for n in shape[: rng.integers(1, len(shape) + 1)]:
        kind = rng.integers(7)
        if kind == 0:
            parts.append(str(rng.integers(-n, n)))
        elif kind == 1:
            a, b = sorted(rng.integers(-n, n + 1, 2))
            parts.append(f"{a}:{b}:{rng.integers(1, 3)}")
        elif kind == 2:
            parts.append("None")
            parts.append(":")
        elif kind == 3:
            parts.append(f"torch.tensor({rng.integers(-n, n, 2).tolist()})")
        elif kind == 4:
            parts.append(f"torch.tensor({rng.integers(-n, n, (3, 1)).tolist()})")
        elif kind == 5:
            parts.append(f"{rng.integers(-n, n, 2).tolist()}")
        else:
            parts.append(":")
    if rng.random() < 0.2:
        parts.insert(int(rng.integers(len(parts) + 1)), "...")
    return ", ".join(parts)


@pytest.mark.parametrize("seed", range(60))
def test_random_indices(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, rng.integers(1, 5)).tolist())
    arrays = {"x": rng.standard_normal(shape).astype(np.float32)}
    index = random_index(rng, shape)
    check(f"x[{index}]", torch, arrays)
    check(f"x[{index}] = 2.5; x", torch, arrays)
    check(f"x[{index}] += x[{index}] * 2; x", torch, arrays)
    check_gradient(f"x[{index}]", torch, arrays)


def test_basic_indexing_gives_views_and_advanced_gives_copies():
    x = graphc.arange(6.0).reshape(2, 3)
    x[0, 1:].fill_(9.0)
    x[[1]].fill_(7.0)
    assert x.tolist() == [[0.0, 9.0, 9.0], [3.0, 4.0, 5.0]]


def test_a_loop_over_masks_of_different_counts():
    x = graphc.arange(5.0)
    assert [float(x[x > k].mean()) for k in range(4)] == [2.5, 3.0, 3.5, 4.0]


def test_a_loop_over_parts_compiles_once_or_twice():
    x = (graphc.arange(400.0) * 1).reshape(100, 4)
    float(x.sum())
    before = recorder().compiled
    sums = [float((x[k : k + 4] * 2).sum()) for k in range(0, 100, 4)]
    rows = [float(x[k].sum()) for k in range(50)]
    assert recorder().compiled - before <= 5
    assert sums[1] == 2 * sum(range(16, 32)) and rows[3] == 12 + 13 + 14 + 15


def test_parts_that_were_read_are_views_still():
    x = graphc.arange(12.0).reshape(4, 3).clone()
    parts = []
    for k in range(4):
        float(x[k].sum())
        parts.append(x[k])
    parts[2].zero_()
    x[3] = 7.0
    assert x.tolist()[2] == [0.0, 0.0, 0.0] and parts[3].tolist() == [7.0, 7.0, 7.0]
    with pytest.raises(IndexError):
        [x[k] for k in range(5)]


def test_padding_row_gets_no_gradient():
    weight = graphc.ones(3, 2, requires_grad=True)
    rows = graphc.nn.functional.embedding(graphc.tensor([0, 2, 0]), weight, padding_idx=0)
    rows.sum().backward()
    assert weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]


def test_named_results():
    found = graphc.tensor([3.0, 1.0]).sort()
    assert type(found).__name__ == "sort"
    assert found.values.tolist() == [1.0, 3.0] and found.indices.tolist() == [1, 0]


def test_index_error_names_size():
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension 0 with size 2"):
        graphc.zeros(2)[5]
