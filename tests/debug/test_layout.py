"""The layered layout: layers, gaps, straight long edges, few crossings."""

import random

import networkx
import pytest

from graphc.debug.layout import Edge, assign_layers, layered


def random_graph(seed: int, count: int = 40) -> tuple[dict, list[Edge]]:
    stream = random.Random(seed)
    boxes = {k: (stream.uniform(30, 120), stream.uniform(20, 60)) for k in range(count)}
    edges = [Edge(stream.randrange(max(0, k - 9), k), k) for k in range(1, count) for _ in range(2)]
    return boxes, edges


@pytest.mark.parametrize("seed", range(8))
def test_boxes_keep_apart_and_edges_run_down(seed):
    boxes, edges = random_graph(seed)
    made = layered(boxes, edges, gap_x=18, gap_y=30)
    places = [(made.middle[k], size) for k, size in boxes.items()]
    for i, ((ax, ay), (aw, ah)) in enumerate(places):
        assert aw / 2 - 1e-6 <= ax <= made.width - aw / 2 + 1e-6
        for (bx, by), (bw, bh) in places[:i]:
            apart_x = abs(ax - bx) >= (aw + bw) / 2 + 18 - 1e-6
            apart_y = abs(ay - by) >= (ah + bh) / 2 + 30 - 1e-6
            assert apart_x or apart_y or ay == by
            if ay == by:
                assert apart_x
    for edge, route in zip(edges, made.routes, strict=True):
        ys = [round(y, 6) for _, y in route]
        assert ys == sorted(ys)
        x, y = made.middle[edge.source]
        assert route[0] == pytest.approx((x, y + boxes[edge.source][1] / 2))
        x, y = made.middle[edge.target]
        assert route[-1] == pytest.approx((x, y - boxes[edge.target][1] / 2))


def test_layers_are_longest_paths_and_sources_stand_near_their_readers():
    chain = [Edge(k, k + 1) for k in range(5)]
    layers = assign_layers([*range(6), "w"], [*chain, Edge("w", 4)])
    assert [layers[k] for k in range(6)] == [0, 1, 2, 3, 4, 5]
    assert layers["w"] == 3


def test_top_and_bottom_have_layers_of_their_own():
    edges = [Edge("in", "a"), Edge("a", "b"), Edge("a", "out")]
    layers = assign_layers(["in", "a", "b", "out"], edges, top=["in"], bottom=["out"])
    assert layers == {"in": 0, "a": 1, "b": 2, "out": 3}


def test_a_tree_is_drawn_without_crossings():
    edges = [Edge(k, 2 * k + side) for k in range(1, 16) for side in (0, 1)]
    random.Random(3).shuffle(edges)
    made = layered({k: (40, 20) for k in range(1, 32)}, edges)
    assert made.crossings == 0
    root, left, right = (made.middle[k][0] for k in (1, 2, 3))
    assert root == pytest.approx((left + right) / 2, abs=1.0)


def test_a_long_edge_is_straight_beside_a_chain():
    edges = [*[Edge(k, k + 1) for k in range(9)], Edge(0, 9)]
    made = layered({k: (60 + 10 * (k % 3), 20) for k in range(10)}, edges)
    inner = {round(x, 3) for x, _ in made.routes[-1][2:-2]}
    assert len(inner) == 1


def test_values_with_many_readers_share_a_trunk():
    edges = [*[Edge(k, k + 1) for k in range(6)], Edge(0, 4), Edge(0, 6)]
    made = layered({k: (40, 20) for k in range(7)}, edges)
    assert made.routes[-1][2:6] == made.routes[-2][2:6]


def test_cycles_are_refused():
    with pytest.raises(networkx.NetworkXUnfeasible):
        layered({"a": (1, 1), "b": (1, 1)}, [Edge("a", "b"), Edge("b", "a")])


def test_nothing_to_place():
    assert layered({}, []).width == 0


def test_a_graph_of_a_thousand_nodes_takes_seconds_at_most():
    import time

    boxes, edges = random_graph(1, 1000)
    began = time.process_time()
    layered(boxes, edges)
    assert time.process_time() - began < 8
