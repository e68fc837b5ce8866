"""300 random eager programs under graphc and torch: the same errors, values, gradients, memory."""

from collections import Counter

import pytest

from .eager_program import OPEN, eager_program
from .eager_run import KINDS, EagerProgram, difference, failures, minimised, shown

torch = pytest.importorskip("torch")

RARE = ("create_graph", "modes")
COUNT, CHUNK = 300, 20
_kinds: Counter = Counter()


@pytest.mark.parametrize("start", range(0, COUNT, CHUNK))
def test_graphc_is_torch(start):
    found, kinds = failures(range(start, start + CHUNK))
    _kinds.update(kinds)
    assert not found, "\n\n".join(shown(*failure) for failure in found[:3])


def test_what_the_programs_hold():
    """Each hard thing stands in many programs."""
    if not _kinds:
        pytest.skip("runs after the programs of this file")
    for kind in KINDS:
        assert _kinds[kind] >= COUNT * (0.05 if kind in RARE else 0.2), _kinds


def test_programs_are_the_same_for_a_seed():
    assert eager_program(3, torch) == eager_program(3, torch) != eager_program(4, torch)


def test_every_known_difference_has_a_reason():
    assert all(len(reason) > 20 for reason in OPEN.values())


def test_a_difference_is_found_and_made_small(monkeypatch):
    """graphc with a wrong sine."""
    import graphc

    lines = (
        "v1 = torch.tensor([0.5, 0.25])", "v2 = v1 * 2", "v3 = torch.sin(v2)", "v4 = v1 + v2",
        "v5 = v3.sum()",
    )  # fmt: skip
    program = EagerProgram(0, lines)
    assert difference(program) == ""
    right = graphc.sin
    monkeypatch.setattr(graphc, "sin", lambda x: right(x) * 1.5, raising=False)
    wrong = difference(program)
    assert wrong.startswith("v3: at (0,) it is ")
    assert minimised(program, wrong).lines == lines[:3]


def test_an_error_on_one_side_is_a_difference():
    here = EagerProgram(0, ("v1 = torch.ones(2)", "v2 = v1.view(2 + (torch.__name__ == 'torch'))"))
    assert difference(here).endswith("graphc runs it, torch RuntimeError")
    both = EagerProgram(0, ("v1 = torch.ones(2)", "v2 = v1.view(3)"))
    assert difference(both) == ""
