"""The cut of a joint graph: same bits, nothing dear twice, few bytes kept, late recomputation."""

import random

import networkx
import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.autodiff import vjp
from graphc.passes.clean import clean
from graphc.passes.maxflow import Network
from graphc.passes.partition import is_dear, partition, size_of

from .derivative_cases import CASES, graph_of, matmul, total


def joint_of(graph):
    return clean(vjp(graph))


def run_both(joint, forward, backward, n_inputs, n_results, arrays):
    """(results, gradients) of the joint graph, and of the two halves."""
    whole = evaluate(joint, *arrays)
    outs = evaluate(forward, *arrays[:n_inputs])
    grads = evaluate(backward, *arrays[:n_inputs], *outs[n_results:], *arrays[n_inputs:])
    return whole, [*outs[:n_results], *grads]


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_halves_have_the_bits_of_the_whole(name):
    graph = graph_of(name)
    joint = joint_of(graph)
    n = len(graph.params)
    forward, backward, kept = partition(joint, n, 1)
    verify(forward)
    verify(backward)
    assert len(forward.results) == 1 + len(kept)
    random = np.random.default_rng(0)
    arrays = [random.normal(size=p.type.shape) for p in joint.params]
    whole, halves = run_both(joint, forward, backward, n, 1, arrays)
    for a, b in zip(whole, halves, strict=True):
        np.testing.assert_array_equal(a, b)


def gpt_block(x, wq, wk, wv, wo, w1, w2, scale):
    """A transformer block without heads: enough structure for islands and long cheap chains."""
    n, d = x.type.shape
    h = norm(x, scale)
    q, k, v = matmul(h, wq), matmul(h, wk), matmul(h, wv)
    scores = ops.dot(q, k, contract=((1,), (1,)))
    top = ops.reduce_max(scores, axes=(1,))
    e = ops.exp(scores - ops.detach(ops.expand(top, shape=(n, n), axes=(1,))))
    p = e / ops.expand(ops.reduce_sum(e, axes=(1,)), shape=(n, n), axes=(1,))
    x = x + matmul(matmul(p, v), wo)
    h = matmul(norm(x, scale), w1)
    inner = (h + h * h * h * 0.044715) * 0.7978845608
    return x + matmul(h * 0.5 * (ops.tanh(inner) + 1.0), w2)


def norm(x, scale):
    n, d = x.type.shape
    mean = ops.reduce_sum(x, axes=(1,)) * (1.0 / d)
    centred = x - ops.expand(mean, shape=(n, d), axes=(1,))
    variance = ops.reduce_sum(centred * centred, axes=(1,)) * (1.0 / d)
    rstd = ops.rsqrt(variance + 1e-5)
    return (
        centred
        * ops.expand(rstd, shape=(n, d), axes=(1,))
        * ops.expand(scale, shape=(n, d), axes=(0,))
    )


def gpt(layers, n=64, d=32):
    types = [f"f32[{n}, {d}]"]
    for _ in range(layers):
        types += [f"f32[{d}, {d}]"] * 4 + [f"f32[{d}, {4 * d}]", f"f32[{4 * d}, {d}]", f"f32[{d}]"]

    def function(x, *weights):
        for i in range(layers):
            x = gpt_block(x, *weights[7 * i : 7 * i + 7])
        return total(x * x)

    return trace(function, *map(parse_type, types))


def test_a_transformer_keeps_less_than_its_backward_reads_and_runs_nothing_dear_twice():
    graph = gpt(3)
    n = len(graph.params)
    joint = joint_of(graph)
    forward, backward, kept = partition(joint, n, 1)
    dear = [sum(is_dear(node) for node in part.nodes) for part in (joint, forward, backward)]
    assert dear[1] + dear[2] == dear[0]
    everything, _, _ = keep_all(joint, n)
    assert sum(map(size_of, kept)) < 0.5 * everything
    random = np.random.default_rng(0)
    arrays = [random.normal(size=p.type.shape).astype("f4") * 0.1 for p in joint.params]
    whole, halves = run_both(joint, forward, backward, n, 1, arrays)
    for a, b in zip(whole, halves, strict=True):
        np.testing.assert_array_equal(a, b)


def keep_all(joint, n_inputs):
    """Bytes of what the backward reads where nothing is computed again."""
    late = set(joint.params[n_inputs:])
    read = set()
    for node in joint.nodes:
        if not late.isdisjoint(node.inputs):
            read.update(v for v in node.inputs if v not in late and v.node is not None)
            late.update(node.outputs)
    return sum(map(size_of, read - late)), read, late


def peak(graph):
    """The most bytes alive at once, inputs left out."""
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs}
    last.update(dict.fromkeys(graph.results, len(graph.nodes)))
    alive, most = 0, 0
    dies = {}
    for i, node in enumerate(graph.nodes):
        for v in node.outputs:
            alive += size_of(v)
            dies.setdefault(last.get(v, i), []).append(v)
        most = max(most, alive)
        alive -= sum(map(size_of, dies.pop(i, ())))
    return most


def test_what_is_computed_again_stands_just_before_its_first_reader():
    """Else the backward begins with all of it, and its peak is as high as if all were kept."""
    graph = gpt(6)
    joint = joint_of(graph)
    _, backward, _ = partition(joint, len(graph.params), 1)
    assert peak(backward) < 0.6 * peak(joint)


def test_inputs_cost_nothing_and_carries_that_pass_do():
    graph = trace(lambda x: ops.sin(x), parse_type("f64[8]"))
    joint = joint_of(graph)
    assert partition(joint, 1, 1)[2] == []
    _, backward, kept = partition(joint, 1, 1, passing=[0])
    assert [v.type.text for v in kept] == ["f64[8]"]
    unread = backward.params[0]
    assert all(unread not in node.inputs for node in backward.nodes)


def test_a_result_is_kept_for_nothing():
    """exp's backward reads its result, which the caller has anyway."""
    graph = trace(lambda x, w: ops.exp(matmul(x, w)), *map(parse_type, ("f64[4, 4]", "f64[4, 4]")))
    joint = joint_of(graph)
    _, _, kept = partition(joint, 2, 1)
    assert kept == [joint.results[0]]


def test_a_long_cheap_chain_is_kept_somewhere():
    def chain(x, w):
        x = matmul(x, w)
        for _ in range(40):
            x = ops.sin(x)
        return x

    joint = joint_of(trace(chain, *map(parse_type, ("f64[4, 4]", "f64[4, 4]"))))
    assert len(partition(joint, 2, 1)[2]) >= 3
    assert len(partition(joint, 2, 1, max_chain=1000)[2]) == 1


def test_symbolic_sizes_count_as_their_hints():
    graph = trace(lambda x: x, parse_type("f32[n, 2*m]"))
    (value,) = graph.params
    assert size_of(value, {"n": 10, "m": 3}) == 4 * 10 * 6
    assert size_of(value) == 4 * 256 * 512


def test_effects_of_the_forward_run_once():
    with Builder() as b:
        x, w = [b.param(parse_type("f32[4, 4]")) for _ in "xw"]
        h = ops.tanh(matmul(x, w))
        ops.print_op(h, text="h")
        graph = b.graph([ops.sin(h)])
    forward, backward, _ = partition(vjp(graph), 2, 1)
    prints = [[n.op.name for n in part.nodes].count("print") for part in (forward, backward)]
    assert prints == [1, 0]


@pytest.mark.parametrize("seed", range(60))
def test_minimum_cut_equals_networkx(seed):
    chance = random.Random(seed)
    n = chance.randint(2, 14)
    network, peer, edges = Network(n), networkx.DiGraph(), []
    peer.add_nodes_from(range(n))
    for a in range(n):
        for b in range(n):
            if a != b and chance.random() < 0.35:
                capacity = chance.randint(0, 9)
                network.connect(a, b, capacity)
                peer.add_edge(a, b, capacity=capacity)
                edges.append((a, b, capacity))
    side = network.source_side(0, n - 1)
    cut = sum(c for a, b, c in edges if side[a] and not side[b])
    assert side[0] and not side[n - 1]
    assert cut == networkx.minimum_cut_value(peer, 0, n - 1)
