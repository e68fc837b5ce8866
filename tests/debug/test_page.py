"""The HTML page: whole in itself, its data readable, its text escaped."""

import json
import re
from html.parser import HTMLParser

from graphc.debug.compiled import compile_for_view, kernels_picture
from graphc.debug.explain import kernel_table
from graphc.debug.html import View, page, source_lines
from graphc.debug.picture import graph_picture
from tests.debug.digits_graph import network

SOURCE = "\n".join([f"line {k} </script> <b>" for k in range(1, 20)])


class Reader(HTMLParser):
    """Collects tags with attributes, and the text of each script."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: dict[str, str] = {}
        self.script: str | None = None

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.script = dict(attrs).get("id", "code")

    def handle_endtag(self, tag):
        if tag == "script":
            self.script = None

    def handle_data(self, data):
        if self.script:
            self.scripts[self.script] = self.scripts.get(self.script, "") + data


def made() -> tuple[str, Reader]:
    graph, weights = network()
    compiled = compile_for_view(graph)
    views = [
        View("before", graph_picture(graph, "before", weights), "9 nodes"),
        View("after", kernels_picture(compiled, "after", weights), "kernels"),
    ]
    text = page("net <1>", views, {"net.py": SOURCE}, kernel_table(compiled))
    reader = Reader()
    reader.feed(text)
    return text, reader


def test_everything_is_inside():
    text, reader = made()
    for tag, attrs in reader.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed"), tag
        assert "src" not in attrs
        assert not attrs.get("href")
    outside = set(re.findall(r"https?://[^\s\"'<>)]+", text))
    assert outside == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text
    assert not re.search(r"@import|fetch\(|XMLHttpRequest|WebSocket|url\(", text)


def test_data_matches_the_drawing():
    text, reader = made()
    data = json.loads(reader.scripts["data"])
    assert [view["note"] for view in data["views"]] == ["9 nodes", "kernels"]
    first = data["views"][0]["items"]
    conv = next(item for item in first if item["title"] == "conv")
    assert conv["lines"] == ["net.py:10"]
    assert conv["text"].startswith("%") and "= conv(%x, %0.weight)" in conv["text"]
    numbers = [int(n) for n in re.findall(r'class="node" data-item="(\d+)"', text)]
    assert len(numbers) == sum(
        item["title"][0] != "k" for view in data["views"] for item in view["items"]
    )


def test_source_lines_are_marked_and_escaped():
    text, _ = made()
    assert '<div data-line="net.py:10" class="used">' in text
    assert '<div data-line="net.py:9"><i>9</i>' in text
    assert "line 9 &lt;/script&gt; &lt;b&gt;" in text
    assert "<title>net &lt;1&gt;</title>" in text
    assert text.count("</script>") == 2


def test_kernels_are_rows():
    text, _ = made()
    assert '<tr data-title="k0">' in text
    assert "<th>limit</th>" in text


def test_lines_of_a_location():
    assert source_lines("a.py:3 in f (x) & b.py:14 in g via autodiff") == ["a.py:3", "b.py:14"]
    assert source_lines("") == []
