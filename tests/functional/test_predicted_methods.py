"""Methods of one tensor take the step that followed last time, where it is the same step."""

import graphc as torch


def values(method, x):
    return getattr(x * 1.5, method)().tolist()


def test_another_method_in_the_same_place():
    x = torch.tensor([0.25, 0.5])
    found = [values(name, x) for name in ("sin", "sin", "cos", "sin", "cos")]
    assert found[0] == found[1] == found[3] != found[2] == found[4]


def test_a_mode_in_the_same_place():
    x = torch.tensor([0.25, 0.5], requires_grad=True)
    for enabled in (True, True, False, False, True):
        with torch.set_grad_enabled(enabled):
            y = (x * 1.5).sin()
        assert y.requires_grad is enabled
        if enabled:
            (slope,) = torch.autograd.grad(y.sum(), x)
            torch.testing.assert_close(slope, (x * 1.5).cos().detach() * 1.5)


def test_an_operand_further_up():
    x = torch.tensor([0.25, 0.5])

    def chain(second):
        a = x * 1.5
        b = a * 2.5
        return (b if second else a).sin().tolist()

    assert chain(False) == chain(False) != chain(True) == chain(True)
