"""Programs as users of torch write them give torch's numbers, and compile once.

The numbers are those of tests/data/programs.json. `python -m tests.programs.run` shows times.
"""

import pytest

import graphc
from graphc.frontends.record import recorder

from .compare import difference, stored
from .run import programs, run

#: A traced or compiled function is new each time, and so is the size of what a mask selects.
COMPILES_AGAIN = ("boolean_masks", "trace_save_load", "trace_function", "compiled_model")
AGAIN = (
    "vae", "masked_attention", "word_embeddings", "physics_informed", "mandelbrot",
    "jacobi_and_gauss_seidel", "deep_q_learning", "checkpointing_and_accumulation",
    "save_and_resume", "scatter_and_gather", *COMPILES_AGAIN,
)  # fmt: skip


def test_each_program_has_its_numbers():
    assert set(stored()) == set(programs())


@pytest.mark.parametrize("name", programs())
def test_a_program_gives_the_numbers_of_torch(name):
    assert difference(name, run(graphc, name), stored()[name]) is None


@pytest.mark.parametrize("name", AGAIN)
def test_a_program_that_runs_again_compiles_nothing(name):
    """The second run may find numbers or sizes to be operands; the third is as the second."""
    run(graphc, name)
    run(graphc, name)
    before = recorder().compiled
    run(graphc, name)
    assert recorder().compiled - before <= (name in COMPILES_AGAIN)


def test_a_difference_is_seen():
    expected = {"losses": [1.0, 0.5, float("nan")], "": [3.0]}
    assert difference("vae", {"losses": [1.0, 0.50001, float("nan")], "": [3.0]}, expected) is None
    wrong = difference("vae", {"losses": [1.0, 0.501, float("nan")], "": [3.0]}, expected)
    assert wrong is not None and wrong.startswith("vae.losses[1] is 0.501, not 0.5")
    assert difference("vae", {"losses": [1.0, 0.5, 2.0], "": [3.0]}, expected)
    assert difference("vae", {"losses": [1.0, 0.5], "": [3.0]}, expected)
    assert difference("vae", {"losses": [1.0, 0.5, float("nan")]}, expected)
