"""Tensor programs: masks, einsum, sorting, indices, joins, dtypes, numpy."""

import numpy as np


def boolean_masks(torch):
    """Selecting, counting and writing by masks; nested where; masked losses; nan handling."""
    torch.manual_seed(0)
    x = torch.randn(6, 8)
    x[2, 3] = float("nan")
    mask = torch.isnan(x)
    x[mask] = 0.0
    high = x > 0.5
    x[high & (x < 1.5)] *= 2
    x = torch.where(x.abs() > 2, torch.sign(x) * 2, x)
    rows = high.any(dim=1)
    w = torch.ones(8, requires_grad=True)
    loss = (x * w)[high].sum() / high.sum()
    loss.backward()
    filled = x.masked_fill(~high, -1e9).softmax(-1)
    y = torch.zeros(6, 8)
    y[rows] = x[rows] + 1
    y[:, ::2][high[:, ::2]] = 7
    return {
        "x": x,
        "selected": x[high],
        "rows": rows,
        "grad": w.grad,
        "filled": filled,
        "y": y,
        "all": high.all(),
        "places": high.nonzero().sum(0),
        "taken": x.masked_select(mask),
    }


def einsum_and_products(torch):
    """Bilinear forms, batched products, attention scores, traces and outer products by einsum."""
    torch.manual_seed(1)
    a, b, c = torch.randn(3, 4, 5), torch.randn(3, 5, 6), torch.randn(4, 6)
    a.requires_grad_()
    out = torch.einsum("bij,bjk,ik->b", a, b, c)
    out.sum().backward()
    m = torch.randn(5, 5)
    q = torch.randn(2, 3, 4, 5)
    return {
        "out": out,
        "grad": a.grad.norm(),
        "trace": torch.einsum("ii->", m),
        "diagonal": torch.einsum("ii->i", m),
        "outer": torch.einsum("i,j->ij", m[0], m[1]).sum(),
        "scores": torch.einsum("bhid,bhjd->bhij", q, q)[0, 0, 0],
        "ellipsis": torch.einsum("...ij->...ji", a.detach())[0, 0],
        "tensordot": torch.tensordot(a.detach(), b, dims=([2, 0], [1, 0])),
        "kron": torch.kron(torch.eye(2), m[:2, :2]),
        "chain": torch.linalg.multi_dot([m, m, m[:, 0]]),
        "addmm": torch.addmm(m, m, m.T, beta=0.5, alpha=2).diagonal(),
        "baddbmm": torch.baddbmm(torch.zeros(3, 4, 6), a.detach(), b).mean((0, 1)),
    }


def sorting_and_cumulative(torch):
    """sort, argsort, topk, kthvalue, unique, cumsum, searchsorted: a small beam search, an AUC."""
    torch.manual_seed(2)
    scores, labels = torch.rand(30), (torch.rand(30) > 0.5).long()
    order = scores.argsort(descending=True)
    tp, fp = labels[order].cumsum(0), (1 - labels[order]).cumsum(0)
    auc = torch.trapezoid(tp / tp[-1], fp / fp[-1])
    transition = torch.randn(6, 6).log_softmax(-1)
    beams, total = torch.zeros(3, 1, dtype=torch.long), torch.tensor([0.0, -1e9, -1e9])
    for step in range(5):
        candidates = (total[:, None] + transition[beams[:, -1]]).view(-1)
        total, flat = candidates.topk(3)
        beams = torch.cat([beams[flat // 6], (flat % 6).unsqueeze(1)], dim=1)
    values, counts = torch.unique(torch.randint(0, 5, (20,)), return_counts=True)
    x = torch.randn(4, 7, requires_grad=True)
    top = x.topk(3, dim=1, sorted=True).values
    (top.cumsum(1)[:, -1] * x.sort(dim=1).values[:, 0]).sum().backward()
    edges = torch.linspace(0, 1, 5)
    return {
        "auc": auc,
        "total": total,
        "beams": beams,
        "values": values,
        "counts": counts,
        "grad": x.grad,
        "median": x.median().detach(),
        "kth": x.kthvalue(2, dim=1).values,
        "buckets": torch.bucketize(scores[:8], edges),
        "cumprod": scores[:6].cumprod(0),
        "histogram": torch.histc(scores, bins=5, min=0, max=1),
        "cummax": scores[:9].cummax(0)[0],
    }


def scatter_and_gather(torch):
    """A graph convolution by index_add, one-hot by scatter_, segment means, index_put with add."""
    torch.manual_seed(3)
    nn = torch.nn
    edges = torch.tensor([[0, 1, 1, 2, 3, 4, 4, 5, 0], [1, 0, 2, 1, 4, 3, 5, 4, 5]])
    x, labels = torch.randn(6, 4), torch.tensor([0, 0, 0, 1, 1, 1])
    weight = nn.Parameter(torch.randn(4, 2) * 0.5)
    source, target = edges
    degree = torch.zeros(6).scatter_add_(0, target, torch.ones(edges.size(1)))
    optimizer = torch.optim.Rprop([weight], lr=0.02)
    losses = []
    for step in range(10):
        messages = (x @ weight)[source]
        out = torch.zeros(6, 2).index_add(0, target, messages) / degree.clamp(min=1)[:, None]
        loss = nn.functional.cross_entropy(out + x @ weight, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    onehot = torch.zeros(6, 3).scatter_(1, labels.unsqueeze(1), 1)
    grid = torch.zeros(4, 4)
    grid.index_put_(
        (torch.tensor([0, 1, 1]), torch.tensor([2, 3, 3])), torch.ones(3), accumulate=True
    )
    taken = torch.take_along_dim(x, x.argsort(1), dim=1)
    reduced = torch.zeros(3).scatter_reduce(
        0, torch.tensor([0, 0, 1, 2, 2, 2]), x[:, 0], reduce="amax", include_self=False
    )
    return {
        "losses": losses,
        "onehot": onehot,
        "grid": grid,
        "taken": taken,
        "reduced": reduced,
        "picked": x.index_select(0, torch.tensor([5, 0])),
        "take": x.take(torch.tensor([0, 9])),
    }


def joins_and_loops(torch):
    """stack, cat, split, chunk, unbind in Python loops; a running list of states; unfold."""
    torch.manual_seed(4)
    x = torch.randn(8, 6)
    states, h = [], torch.zeros(6)
    for row in x:
        h = torch.tanh(0.5 * h + row)
        states.append(h)
    states = torch.stack(states)
    first, second = states.split([5, 3])
    left, right = states.chunk(2, dim=1)
    pieces = torch.cat([left.flip(0), right], dim=-1)
    total = 0
    for column in pieces.unbind(1):
        total = total + column.max() * column[0]
    windows = x.unfold(0, 3, 2)
    rotated = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    table = [[0.0] * 3 for _ in range(3)]
    for i, r in enumerate(x[:3, :3]):
        for j, v in enumerate(r):
            table[i][j] = v.item()
    return {
        "states": states,
        "first": first.sum(0),
        "second": second.mean(),
        "total": total,
        "windows": windows.shape,
        "sums": windows.sum(-1),
        "rotated": rotated,
        "table": table,
        "tiled": torch.tile(x[0], (2,)),
        "repeated": x[0].repeat_interleave(2),
        "grid": torch.cartesian_prod(torch.arange(2), torch.arange(3)),
        "tril": torch.tril_indices(3, 3),
        "hstack": torch.hstack((x[0], x[1])).std(),
    }


def dtypes_and_numpy(torch):
    """numpy in and out with shared memory, promotion, half and bfloat16, integer arithmetic."""
    torch.manual_seed(5)
    array = np.arange(12, dtype=np.float64).reshape(3, 4)
    t = torch.from_numpy(array)
    t[0, 0] = 100
    array[1, 1] = -7
    t += 1
    shared = t.numpy()
    rng = np.random.default_rng(0)
    batches = [torch.as_tensor(rng.normal(size=(4, 3)).astype(np.float32)) for _ in range(3)]
    means = [float(np.mean(b.numpy())) for b in batches]
    f16 = torch.linspace(0, 1, 9).half()
    bf16 = torch.linspace(0, 10, 9, dtype=torch.bfloat16)
    i = torch.arange(-5, 6)
    mixed = i / 2 + torch.ones(11, dtype=torch.float64)
    return {
        "array": array,
        "shared": shared,
        "means": means,
        "f16": (f16 * 3 + 1).float(),
        "bf16": (bf16 @ bf16).float(),
        "floor": i // 3,
        "rem": i % 3,
        "trunc": torch.div(i, 3, rounding_mode="trunc"),
        "mixed": mixed,
        "bits": (i & 3) | (i << 1),
        "kinds": [
            mixed.dtype == torch.float64,
            (i * 1.5).dtype == torch.float32,
            (i + True).dtype == torch.int64,
            torch.result_type(f16, 1.0) == torch.float16,
        ],
        "numpy_op": np.exp(t.numpy() / 100),
        "wrapped": torch.tensor(np.float32(2.5)) * 2,
        "uint8": torch.tensor([250, 251], dtype=torch.uint8) + 10,
        "round": torch.tensor([0.5, 1.5, 2.5, -0.5]).round(),
        "listed": torch.tensor([[1, 2], [3, 4]]).tolist(),
        "ints": torch.randint(10, (5,)).numpy(),
    }
