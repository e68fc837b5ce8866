"""Modules that hold modules and parameters."""

from collections import OrderedDict

import pytest

import graphc
from graphc import nn


def plus(number):
    module = nn.Identity()
    module.number = number
    return module


def numbers(container):
    return [module.number for module in container]


def test_sequential_runs_in_order():
    net = nn.Sequential(nn.Threshold(0.5, 7.0), nn.Threshold(2.0, -1.0))
    assert net(graphc.tensor([0.0, 1.0])).tolist() == [7.0, -1.0]


def test_sequential_is_a_list():
    net = nn.Sequential(plus(0), plus(1), plus(2))
    assert len(net) == 3 and net[-1].number == 2
    assert isinstance(net[1:], nn.Sequential) and numbers(net[1:]) == [1, 2]
    net[0] = plus(5)
    assert numbers(net.append(plus(6))) == [5, 1, 2, 6]
    assert numbers(net.insert(1, plus(7))) == [5, 7, 1, 2, 6]
    assert numbers(net.insert(-1, plus(8))) == [5, 7, 1, 2, 8, 6]
    assert net.pop(0).number == 5 and list(net._modules) == ["0", "1", "2", "3", "4"]
    del net[1:3]
    assert numbers(net) == [7, 8, 6] and list(net._modules) == ["0", "1", "2"]
    assert numbers(net + nn.Sequential(plus(1))) == [7, 8, 6, 1]
    assert numbers(2 * net) == [7, 8, 6, 7, 8, 6]
    net += nn.Sequential(plus(2))
    net *= 2
    assert numbers(net) == [7, 8, 6, 2] * 2
    assert numbers(net.extend([plus(0)]))[-1] == 0
    assert "0" not in dir(net)


def test_sequential_of_names():
    net = nn.Sequential(OrderedDict(a=plus(0), b=plus(1)))
    assert net.a.number == 0 and list(net[:1]._modules) == ["a"]
    net[1] = plus(4)
    assert net.b.number == 4


@pytest.mark.parametrize(
    "action, error",
    [
        (lambda net: net[3], IndexError),
        (lambda net: net + [1], ValueError),
        (lambda net: net * 0, ValueError),
        (lambda net: net * 0.5, TypeError),
        (lambda net: net.insert(9, nn.Identity()), IndexError),
        (lambda net: net.insert(0, 1), AssertionError),
        (lambda net: nn.ModuleList(net)[5], IndexError),
        (lambda net: nn.ModuleList(1), TypeError),
        (lambda net: nn.ModuleDict([1]), TypeError),
        (lambda net: nn.ModuleDict([("a", net, 2)]), ValueError),
        (lambda net: nn.ModuleDict({"a": 1}), TypeError),
        (lambda net: nn.ParameterList(graphc.ones(1)), TypeError),
        (lambda net: nn.ParameterList()[0], IndexError),
        (lambda net: nn.ParameterDict({1: graphc.ones(1)}), TypeError),
        (lambda net: nn.ParameterList()(1), RuntimeError),
        (lambda net: nn.ParameterDict()(1), RuntimeError),
        (lambda net: nn.ModuleList()(1), NotImplementedError),
    ],
)
def test_wrong_uses_are_refused(action, error):
    with pytest.raises(error):
        action(nn.Sequential(nn.Identity(), nn.Identity()))


def test_module_list():
    modules = nn.ModuleList([plus(0), plus(1), plus(2)])
    assert isinstance(modules[1:], nn.ModuleList) and numbers(modules[1:]) == [1, 2]
    modules[-1] = plus(9)
    modules.insert(1, plus(5))
    modules += [plus(6)]
    assert numbers(modules) == [0, 5, 1, 9, 6]
    assert modules.pop(1).number == 5 and list(modules._modules) == ["0", "1", "2", "3"]
    del modules[::2]
    assert numbers(modules) == [1, 6] and numbers(modules + [plus(3)]) == [1, 6, 3]


def test_equal_neighbours_of_a_list_are_shown_once():
    modules = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Linear(1, 2), nn.ReLU()])
    assert repr(modules) == (
        "ModuleList(\n"
        "  (0-1): 2 x ReLU()\n"
        "  (2): Linear(in_features=1, out_features=2, bias=True)\n"
        "  (3): ReLU()\n"
        ")"
    )
    assert repr(nn.ModuleList()) == "ModuleList()"


def test_module_dict():
    modules = nn.ModuleDict({"b": plus(1), "a": plus(0)})
    modules["c"] = plus(2)
    modules.update([("d", plus(3))])
    assert list(modules) == list(modules.keys()) == ["b", "a", "c", "d"]
    assert "c" in modules and len(modules) == 4 and modules["a"].number == 0
    assert numbers(modules.values()) == [1, 0, 2, 3]
    assert [name for name, _ in modules.items()] == list(modules)
    assert modules.pop("c").number == 2
    del modules["d"]
    modules.update(nn.ModuleDict({"e": plus(4)}))
    assert list(modules) == ["b", "a", "e"]
    modules.clear()
    assert not len(modules)


def test_parameter_list():
    values = nn.ParameterList([graphc.ones(2), nn.Parameter(graphc.zeros(1)), "text"])
    assert isinstance(values[0], nn.Parameter) and values[2] == "text"
    assert [name for name, _ in values.named_parameters()] == ["0", "1"]
    values.append(graphc.ones(3))
    values += [graphc.ones(4)]
    assert len(values) == 5 and [len(v) for v in values[3:]] == [3, 4]
    values[-1] = graphc.ones(7)
    assert values[4].shape == (7,) and "0" not in dir(values)
    assert repr(nn.ParameterList([graphc.ones(2), "text"])) == (
        "ParameterList(\n"
        "    (0): Parameter containing: [torch.float32 of size 2]\n"
        "    (1): Object of type: str\n"
        ")"
    )


def test_parameter_dict():
    values = nn.ParameterDict({"b": graphc.ones(2), "a": graphc.ones(1)})
    assert list(values) == ["a", "b"] and isinstance(values["a"], nn.Parameter)
    values["c"] = graphc.ones(3)
    assert [len(v) for v in values.values()] == [1, 2, 3] and next(reversed(values)) == "c"
    assert values.get("x") is None and values.setdefault("d", graphc.ones(4)).shape == (4,)
    assert values.popitem()[0] == "d" and values.pop("c").shape == (3,)
    other = nn.ParameterDict([("b", graphc.ones(9)), ("z", graphc.ones(8))])
    merged = values | other
    assert list(merged) == ["a", "b", "z"] and merged["b"].shape == (9,)
    assert values["b"].shape == (2,)
    values |= other
    assert list(values) == ["a", "b", "z"] and "z" in values and len(values) == 3
    assert list(values.copy().items()) == list(values.items())
    assert list(values.fromkeys(["k"], 5).items()) == [("k", 5)]
    assert [name for name, _ in values.named_parameters()] == ["a", "b", "z"]
    values.clear()
    assert not len(values) and not list(values.parameters())
