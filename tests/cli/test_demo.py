"""The demo: what it reports and writes, at full size once and otherwise small."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("digits.py", "loss.svg", "digits.gcx", "before.svg", "after.svg", "fusion.svg",
         "digits.html", "digits.onnx")  # fmt: skip


def demo(folder, *words: str, **environment: str) -> subprocess.CompletedProcess:
    paths = {"PYTHONPATH": str(ROOT), "GRAPHC_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "graphc", "demo", *words],
        cwd=folder,
        env={**os.environ, **paths, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """One run as a user starts it."""
    folder = tmp_path_factory.mktemp("demo")
    done = demo(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return folder / "graphc-demo", done.stdout


def test_the_digits_are_read(full):
    share = re.search(r"Accuracy: ([\d.]+)% of the 360", full[1])
    assert float(share.group(1)) >= 98


def test_it_takes_less_than_a_minute(full):
    assert float(re.search(r"Done in ([\d.]+) s", full[1]).group(1)) < 60


def test_each_step_says_what_came_out(full):
    said = full[1]
    for step in ("Digits", "Training", "Accuracy", "Trace", "Compile", "Draw", "ONNX"):
        assert re.search(rf"^ *[\d.]+ (µs|ms|s|min) .*{step}: ", said, re.MULTILINE), step
    assert "interpreter" not in said
    difference = re.search(r" agrees: greatest difference (\S+) ", said)
    assert float(difference.group(1)) <= 1e-5 * 10


def test_the_files_are_there_and_named(full):
    folder, said = full
    for name in FILES:
        assert (folder / name).stat().st_size > 500
        assert f"  {name} " in said


def test_pictures_are_well_formed(full):
    for name in FILES:
        if name.endswith(".svg"):
            assert xml.fromstring((full[0] / name).read_text()).tag.endswith("svg")
    after = (full[0] / "after.svg").read_text()
    assert after.count('class="frame"') >= 4
    assert "conv1.weight" in after and "digits.py:" in after


def test_the_page_shows_both_graphs_and_the_source(full):
    text = (full[0] / "digits.html").read_text()
    assert "<button>as traced</button><button>after fusion</button>" in text
    assert 'class="used"' in text and "class Network(nn.Module):" in text


def test_the_onnx_model_is_valid_and_gives_the_networks_results(full):
    from onnx.reference import ReferenceEvaluator

    from graphc.cli.program import load_gcx
    from graphc.cli.run import execute

    path = full[0] / "digits.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    images = np.random.default_rng(0).random((360, 1, 8, 8), np.float32)
    found = ReferenceEvaluator(str(path)).run(None, {"images": images})[0]
    [expected] = execute(load_gcx(full[0] / "digits.gcx"), [images]).values()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_the_reference_evaluator_stands_in_for_onnxruntime(full, monkeypatch):
    from graphc.cli.demo.command import run_elsewhere

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    images = np.zeros((360, 1, 8, 8), np.float32)
    runtime, logits = run_elsewhere(full[0] / "digits.onnx", images)
    assert "onnxruntime is not installed" in runtime
    assert logits.shape == (360, 10)


def test_where_only_ascii_can_be_printed(tmp_path):
    done = demo(tmp_path, "--epochs", "1", "--out", "here", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert (tmp_path / "here" / "digits.html").is_file()


def test_the_recipe_is_the_example():
    mine = ROOT / "graphc" / "cli" / "demo" / "digits.py"
    assert mine.read_text() == (ROOT / "examples" / "digits.py").read_text()
