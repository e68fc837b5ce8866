"""If of ONNX models whose branches do not all fit the sizes at hand."""

import numpy as np
import onnx
import pytest

import graphc as torch


def chosen(then, other, predicate="c", before=""):
    """A model of rows `x` and a flag; `then` and `other` compute `a` and `b`."""
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[1, N] x, bool c) => (float y) {{
            {before}
            y = If({predicate}) <
                then_branch = t () => (float a) {{ {then} }},
                else_branch = e () => (float b) {{ {other} }}
            >
        }}""").SerializeToString()


SEVEN = "i0 = Constant<value_ints=[7]>() sh = Reshape(x, i0) b = Identity(sh)"


@pytest.fixture
def flags():
    return torch.tensor(True), torch.tensor(False)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_branch_that_does_not_fit_raises_only_where_it_is_taken(swapped, flags):
    fits, does_not = "a = Add(x, x)", SEVEN
    if swapped:
        fits, does_not = SEVEN.replace("b =", "a ="), "b = Add(x, x)"
    run = torch.onnx.load(chosen(fits, does_not))
    good, bad = flags[::-1] if swapped else flags
    x = torch.arange(4.0).reshape(1, 4)
    assert run(x, good).tolist() == [[0, 2, 4, 6]]
    with pytest.raises(torch.AssertError, match=r"cannot reshape f32\[1, 4\] to \[7\]") as caught:
        run(x, bad).tolist()
    assert "node 'sh' (Reshape)" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 8
    assert run(x, good).tolist() == [[0, 2, 4, 6]]


def test_gradients_come_from_the_branch_that_fits(flags):
    run = torch.onnx.load(chosen("a = Mul(x, x)", SEVEN))
    x = torch.full((1, 4), 3.0, requires_grad=True)
    run(x, flags[0]).sum().backward()
    assert x.grad.tolist() == [[6] * 4]


def test_where_no_branch_fits_the_first_one_is_named(flags):
    wrong = "i1 = Constant<value_ints=[5]>() s1 = Reshape(x, i1) a = Identity(s1)"
    run = torch.onnx.load(chosen(wrong, SEVEN))
    with pytest.raises(RuntimeError, match=r"f32\[1, 4\] to \[5\]"):
        run(torch.ones(1, 4), flags[0])


def test_branches_whose_types_agree_for_some_sizes_only(flags):
    run = torch.onnx.load(chosen("a = Add(x, x)", SEVEN.replace("[7]", "[1, 7]")))
    with pytest.raises(NotImplementedError, match="shapes"):
        run.graph
    assert run(torch.ones(1, 7), flags[0]).tolist() == [[2] * 7]
    assert run(torch.ones(1, 7), flags[1]).tolist() == [[1] * 7]
    assert run(torch.ones(1, 3), flags[0]).tolist() == [[2] * 3]


def test_a_known_predicate_takes_its_branch_only(flags):
    """Its other branch is not read at all."""
    for before in (
        "k = Constant<value = bool {1}>()",
        "s = Shape(x) f = Constant<value_ints=[1, 4]>() q = Equal(s, f) "
        "n = Cast<to = 6>(q) m = ReduceMin<keepdims = 0>(n) k = Cast<to = 9>(m)",
    ):
        run = torch.onnx.load(chosen("a = Add(x, x)", SEVEN, "k", before), shapes={"x": (1, 4)})
        assert [node.op.name for node in run.graph.nodes] == ["add"]
        assert run(torch.ones(1, 4), flags[1]).tolist() == [[2] * 4]


def test_an_lstm_of_another_rank_may_stand_in_the_other_branch(flags):
    """Models of speech choose between branches for a row and for a sequence."""
    w, r = [", ".join(["0.1"] * n) for n in (32, 16)]
    lstm = f"""
        w = Constant<value = float[1, 8, 4] {{{w}}}>()
        r = Constant<value = float[1, 8, 2] {{{r}}}>()
        h, last = LSTM<hidden_size = 2>(x, w, r)
        b = Identity(last)"""
    run = torch.onnx.load(chosen("a = Relu(x)", lstm))
    assert run(torch.ones(1, 4), flags[0]).tolist() == [[1] * 4]
    with pytest.raises(RuntimeError, match=r"LSTM takes \(steps, batch, features\)"):
        run(torch.ones(1, 4), flags[1]).numpy()


def test_an_unread_branch_keeps_no_assumption_about_sizes(flags):
    """The slice assumes N >= 6 and then fails; a call with 4 is none of its business."""
    slices = """
        z = Constant<value_ints=[0]>()
        e = Constant<value_ints=[6]>()
        i = Constant<value_ints=[1]>()
        part = Slice(x, z, e, i)
        i0 = Constant<value_ints=[9]>()
        b = Reshape(part, i0)"""
    run = torch.onnx.load(chosen("a = Add(x, x)", slices))
    for n in (4, 8):
        np.testing.assert_array_equal(run(torch.ones(1, n), flags[0]).numpy(), np.full((1, n), 2))
