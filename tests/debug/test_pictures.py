"""Pictures of graphs and kernels, drawn as SVG."""

import itertools
import xml.etree.ElementTree as xml

import pytest

from graphc.debug import draw as drawing
from graphc.debug.compiled import compile_for_view, kernels_picture
from graphc.debug.curve import curve_svg, round_step, running_mean
from graphc.debug.draw import TooLarge, draw, draw_side_by_side, short_loc
from graphc.debug.picture import graph_picture
from graphc.ir.build import Builder
from graphc.ir.types import parse_type
from tests.debug.digits_graph import loop, network, normalised

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    root = xml.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def rectangles(svg: str, kind: str) -> list[tuple[float, ...]]:
    found = []
    for group in xml.fromstring(svg).iter(f"{SVG}g"):
        if group.get("class") == kind:
            box = group.find(f"{SVG}rect")
            found.append(tuple(float(box.get(k)) for k in ("x", "y", "width", "height")))
    return found


def test_a_graph_shows_ops_weights_types_and_lines():
    graph, weights = network()
    svg = draw(graph_picture(graph, "net", weights), "9 nodes")
    shown = texts(svg)
    assert "net   9 nodes" in shown
    assert "conv  0.weight" in shown
    assert "add  0.bias" in shown
    assert "f32[4×16×8×8]" in shown
    assert "net.py:10 · 0" in shown
    assert "padding 1" in shown
    assert not any(text.startswith("expand") for text in shown)  # the bias is a note of the add
    assert "products" in shown  # the legend


def test_boxes_do_not_overlap_and_hold_their_labels():
    for graph, weights in (network(), (normalised(), [])):
        svg = draw(graph_picture(graph, "", weights))
        boxes = rectangles(svg, "node")
        assert len(boxes) > 5
        for (ax, ay, aw, ah), (bx, by, bw, bh) in itertools.combinations(boxes, 2):
            assert ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay


def test_all_shows_weights_and_constants():
    graph, _ = network()
    shown = texts(draw(graph_picture(graph, fold=False)))
    assert "0.weight" in shown
    assert "expand" in shown


def test_kernels_are_frames_around_their_ops():
    graph, weights = network()
    compiled = compile_for_view(graph)
    picture = kernels_picture(compiled, "after", weights)
    svg = draw(picture)
    frames = rectangles(svg, "frame")
    assert len(frames) == len(compiled.groups) < len(graph.nodes)
    inside = 0
    for bx, by, bw, bh in rectangles(svg, "node"):
        inside += any(
            fx <= bx and bx + bw <= fx + fw and fy <= by and by + bh <= fy + fh
            for fx, fy, fw, fh in frames
        )
    assert inside == len(rectangles(svg, "node")) - 2  # the input and the result
    assert any(text.startswith("k0  ") for text in texts(svg))


def test_every_value_between_kernels_is_a_link():
    graph, weights = network()
    picture = kernels_picture(compile_for_view(graph), "", weights)
    kernels = [item for item in picture.items if item.inside is not None]
    linked = {(link.source, link.target) for link in picture.links}
    for above, below in itertools.pairwise(kernels):
        assert (above, below) in linked


def test_a_fused_chain_is_one_kernel_that_reads_its_input_once():
    compiled = compile_for_view(normalised())
    picture = kernels_picture(compiled)
    kernels = [item for item in picture.items if item.inside is not None]
    assert len(kernels) == len(compiled.groups) == 1
    assert len({port for port, _ in kernels[0].inside.entries}) == 1
    assert len(kernels[0].inside.exits) == 2
    xml.fromstring(draw(picture))


def test_blocks_are_drawn_inside_of_their_node():
    svg = draw(graph_picture(loop()))
    assert len(rectangles(svg, "frame")) == 1
    assert any(text.startswith("scan") for text in texts(svg))
    assert "add" in texts(svg)


def test_names_are_escaped():
    with Builder() as builder:
        x = builder.param(parse_type("f32[2]"), "x")
        builder.loc = 'a<b>.py:1 in "f" & b.py:2 in g'
        graph = builder.graph([x + x])
    shown = texts(draw(graph_picture(graph, "<&>")))
    assert "a<b>.py:1 + 1 more" in shown
    assert "<&>" in shown


def test_side_by_side_is_as_wide_as_both():
    graph, weights = network()
    picture = graph_picture(graph, "a", weights)
    one = xml.fromstring(draw(picture, compact=True))
    both = xml.fromstring(draw_side_by_side([(picture, ""), (picture, "")]))
    assert float(both.get("width")) == pytest.approx(2 * float(one.get("width")), abs=2)


def test_too_large_a_picture_is_refused(monkeypatch):
    monkeypatch.setattr(drawing, "MOST_ITEMS", 3)
    with pytest.raises(TooLarge, match="3 are the most"):
        draw(graph_picture(normalised()))


@pytest.mark.parametrize(
    ("loc", "short"),
    [
        ("net.py:12 in forward (enc.0.conv)", "net.py:12 · enc.0.conv"),
        ("net.py:12 in forward", "net.py:12"),
        ("a.py:1 in f & b.py:2 in g via autodiff", "a.py:1 + 1 more"),
    ],
)
def test_short_lines(loc, short):
    assert short_loc(loc) == short


def test_curves():
    svg = curve_svg([3.0, 2.0, 1.5, 1.0], "loss", "step", "a < b")
    assert "loss" in texts(svg)[0]
    assert len(list(xml.fromstring(svg).iter(f"{SVG}polyline"))) == 2
    assert running_mean([1.0, 3.0]) == [1.0, 3.0]
    assert [round_step(x) for x in (0.03, 0.7, 2.0, 60)] == [0.05, 1.0, 2.0, 100]
    for wrong in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="finite"):
            curve_svg(wrong, "", "")
