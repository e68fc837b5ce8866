"""Time of the passes, in microseconds a node of the joint graph: the budget, with room for a busy
machine. The collector is frozen, as during a compile."""

import gc
import time

import pytest

from graphc.backends.base import core_graph
from graphc.backends.llvm.compile import prepare
from graphc.passes.autodiff import vjp
from graphc.passes.clean import clean
from graphc.passes.partition import partition

from .test_partition import gpt

MICROSECONDS_A_NODE = 25  # clean, vjp, clean, partition and clean of both halves
OF_THE_WHOLE = 60  # the same, then the passes of a build, fusion, loops and the kernels' text
ROOM = 3
SIZES = [(14, 1_800), (74, 9_900)]


def microseconds(steps, rounds=3):
    """The best time of some rounds for each node of the joint graph, and that graph."""
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        gc.freeze()
        gc.disable()
        start = time.thread_time()
        joint = steps()
        best = min(best, time.thread_time() - start)
        gc.enable()
        gc.unfreeze()
    return best / len(joint.nodes) * 1e6, joint


def derived(graph):
    joint = clean(vjp(clean(graph)))
    forward, backward, _ = partition(joint, len(graph.params), 1)
    clean(forward), clean(backward)
    return joint


def built(graph):
    joint = derived(graph)
    prepare(core_graph(joint))
    return joint


@pytest.fixture(autouse=True)
def matchers():
    """Rules are compiled when they are first used."""
    clean(vjp(gpt(1, n=8, d=4)))
    built(gpt(1, n=8, d=4))


@pytest.mark.parametrize("layers, nodes", SIZES)
def test_clean_autodiff_and_partition_stay_within_budget(layers, nodes):
    graph = gpt(layers, n=8, d=4)
    took, joint = microseconds(lambda: derived(graph))
    assert len(joint.nodes) > nodes
    assert took < ROOM * MICROSECONDS_A_NODE


@pytest.mark.parametrize("layers, nodes", SIZES)
def test_all_passes_together_stay_within_budget(layers, nodes):
    graph = gpt(layers, n=8, d=4)
    took, joint = microseconds(lambda: built(graph), rounds=2)
    assert len(joint.nodes) > nodes
    assert took < ROOM * OF_THE_WHOLE
