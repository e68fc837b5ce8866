"""Sizes that come from Python only, as in torch.ones(n): one trace serves all of them."""

import numpy as np
import pytest

import graphc as torch
from graphc.frontends.record import recorder

SIZES = [5, 9, 12, 7, 30, 9, 1, 0, 2, 5]

PROGRAMS = {
    "arange": (lambda n: torch.arange(n) * 2, lambda n: np.arange(n) * 2),
    "arange from": (lambda n: torch.arange(3, 3 + n), lambda n: np.arange(3, 3 + n)),
    "zeros": (lambda n: torch.zeros(n, 3) + 1, lambda n: np.ones((n, 3))),
    "ones": (lambda n: torch.ones(3, n).sum(0), lambda n: np.full(n, 3.0)),
    "full": (lambda n: torch.full((n,), 2.5).cumsum(0), lambda n: np.arange(1, n + 1) * 2.5),
    "full of its size": (lambda n: torch.full((n,), n), lambda n: np.full(n, n)),
    "eye": (lambda n: torch.eye(n) * 2, lambda n: np.eye(n) * 2),
    "causal mask": (lambda n: torch.tril(torch.ones(n, n)), lambda n: np.tri(n)),
    "two sizes": (lambda n: torch.ones(n, 2 * n + 1).sum(1), lambda n: np.full(n, 2.0 * n + 1)),
    "written": (lambda n: written(n), lambda n: np.r_[7.0, np.zeros(n)]),
    "outer": (lambda n: torch.arange(n)[:, None] < torch.arange(2 * n),
              lambda n: np.arange(n)[:, None] < np.arange(2 * n)),
}  # fmt: skip


def written(n):
    x = torch.zeros(n + 1)
    x[0] = 7.0
    return x


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_trace_serves_all_sizes(name):
    program, meaning = PROGRAMS[name]
    compiled = []
    for n in [*SIZES, 40, 41, 55, 56]:
        np.testing.assert_array_equal(program(n).numpy(), meaning(n))
        compiled.append(recorder().compiled)
    assert compiled[-1] - compiled[len(SIZES) - 1] <= 1


def test_a_mask_made_before_the_data():
    compiled = []
    for n in [4, 6, 9, 11, 17]:
        mask = torch.triu(torch.full((n, n), float("-inf")), diagonal=1)
        scores = torch.tensor(np.arange(n * n, dtype=np.float32).reshape(n, n) / 50)
        found = (scores + mask).softmax(-1)
        wide = np.exp(scores.numpy()) * np.tri(n)
        np.testing.assert_allclose(found.numpy(), wide / wide.sum(1, keepdims=True), rtol=1e-5)
        compiled.append(recorder().compiled)
    assert compiled[-1] == compiled[2]


def test_a_step_of_training_of_several_sizes():
    weight = torch.ones(3, requires_grad=True)
    compiled = []
    for n in [4, 6, 9, 11, 17]:
        weight.grad = None
        ((torch.arange(n)[:, None] * weight) ** 2).sum().backward()
        expected = 2.0 * (np.arange(n) ** 2).sum()
        np.testing.assert_allclose(weight.grad.numpy(), np.full(3, expected))
        compiled.append(recorder().compiled)
    assert compiled[-1] == compiled[2]


def test_errors_name_the_sizes():
    for n in (4, 6, 9):
        with pytest.raises(RuntimeError, match=f"{n}.*{n + 1}"):
            torch.zeros(n) + torch.ones(n + 1)


def test_other_places_have_sizes_of_their_own():
    """The same function from another line starts anew: its sizes may be constant there."""
    for n in (4, 6):
        torch.zeros(n).tolist()
    state = recorder().root
    torch.zeros(20).tolist()
    static = [s for s in state.edges.values() if not s.is_param and s.types[0].shape == (20,)]
    assert len(static) == 1


def test_narrow_and_select_at_other_places_are_read_from_memory():
    x = torch.arange(60.0).view(20, 3) + 0
    x.tolist()
    compiled = []
    for k in range(2, 12):
        part, row = x.narrow(0, k, 4), x.select(0, k)
        assert part.sum(1).tolist() == (np.arange(60.0).reshape(20, 3)[k : k + 4].sum(1)).tolist()
        assert row.tolist() == [3.0 * k, 3.0 * k + 1, 3.0 * k + 2]
        compiled.append(recorder().compiled)
    assert compiled[-1] == compiled[2]
    x.narrow(0, 19, 1).zero_()
    x.select(1, 0).fill_(5.0)
    assert x[19].tolist() == [5.0, 0.0, 0.0]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_sequences_that_are_computed_are_padded_without_a_compile(batch_first, side):
    lists = [[1.0, 2.0, 3.0], [4.0], [5.0, 6.0]]

    def padded(sequences):
        return torch.nn.utils.rnn.pad_sequence(sequences, batch_first, -1.0, side)

    recorded = padded([torch.tensor(v) * 1 for v in lists])
    before = recorder().compiled
    found = padded([torch.tensor(v) for v in lists])
    assert recorder().compiled == before
    assert found.tolist() == recorded.tolist()
