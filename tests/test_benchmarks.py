"""The programs that the benchmarks time do what they say; how fast is nobody's business here."""

import numpy as np
import pytest

import graphc
from benchmarks import programs
from benchmarks.first import cnn_step, resnet18
from benchmarks.interleave import interleaved, text
from graphc.frontends.record import recorder


def test_adds_count_up():
    assert programs.adds(graphc)() == [500.0] * 16


def test_the_pendulums_agree_with_numpy():
    angle, speed, h = np.linspace(-1, 1, 16), np.zeros(16), 0.01

    def slope(x, v):
        return v, -(np.sin(x) + v * 0.1)

    for _ in range(300):
        a1, b1 = slope(angle, speed)
        a2, b2 = slope(angle + a1 * h / 2, speed + b1 * h / 2)
        a3, b3 = slope(angle + a2 * h / 2, speed + b2 * h / 2)
        a4, b4 = slope(angle + a3 * h, speed + b3 * h)
        angle = angle + (a1 + 2 * a2 + 2 * a3 + a4) * h / 6
        speed = speed + (b1 + 2 * b2 + 2 * b3 + b4) * h / 6
    found = programs.runge_kutta(graphc)()
    np.testing.assert_allclose(found, [angle, speed], atol=2e-5)


@pytest.mark.parametrize("look", ["never", "before", "after"])
def test_a_training_step_flushes_as_often_as_it_looks(look):
    run = programs.perceptron(graphc, look, steps=2)
    run()
    before = recorder().flushes
    run()
    assert recorder().flushes - before == {"never": 4, "before": 6, "after": 4}[look]


def test_distinct_lengths_and_masks_compile_a_few_times():
    for run in (programs.lengths(graphc, steps=100), programs.masked_means(graphc)):
        before = recorder().compiled
        run()
        assert recorder().compiled - before <= 4


def test_examples_are_read_for_the_module_that_is_given():
    digits = programs.example(graphc, "digits")
    assert digits.torch is graphc
    with pytest.raises(ModuleNotFoundError, match="no_such_torch"):
        programs.example(type(graphc)("no_such_torch"), "gpt")


def test_the_resnet_has_18_layers_of_weights():
    network = resnet18(graphc)
    assert sum(p.numel() for p in network.parameters()) == 11_689_512
    assert sum(p.ndim > 1 for p in network.parameters()) == 18 + 3  # 3 of the shortcuts


def test_the_step_of_the_small_cnn_is_one():
    step = cnn_step(graphc)
    assert step() > step() > 0


def test_the_ratio_is_that_of_the_best():
    pair = interleaved(lambda: sum(range(1000)), lambda: sum(range(20_000)), seconds=0.05)
    assert pair.ratio == pair.second / pair.first > 1
    assert text(2.5e-6).split() == ["2.50", "us"]
    assert text(3.0).split() == ["3.00", "s"]
