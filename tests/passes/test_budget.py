"""Time of the passes, in microseconds a node of the joint graph: the budget, with room for a busy
machine. The collector is frozen, as during a compile."""

import gc
import time

import pytest

from graphc.passes.autodiff import vjp
from graphc.passes.clean import clean
from graphc.passes.partition import partition

from .test_partition import gpt

MICROSECONDS_A_NODE = 25  # clean, vjp, clean, partition and clean of both halves
ROOM = 3


@pytest.mark.parametrize("layers, nodes", [(14, 1_800), (74, 9_900)])
def test_clean_autodiff_and_partition_stay_within_budget(layers, nodes):
    graph = gpt(layers, n=8, d=4)
    clean(vjp(gpt(1, n=8, d=4)))  # compiles the matchers
    best = float("inf")
    for _ in range(3):
        gc.collect()
        gc.freeze()
        gc.disable()
        start = time.thread_time()
        joint = clean(vjp(clean(graph)))
        forward, backward, _ = partition(joint, len(graph.params), 1)
        clean(forward), clean(backward)
        best = min(best, time.thread_time() - start)
        gc.enable()
        gc.unfreeze()
    assert len(joint.nodes) > nodes
    assert best / len(joint.nodes) * 1e6 < ROOM * MICROSECONDS_A_NODE
