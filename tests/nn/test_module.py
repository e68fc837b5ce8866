"""Module: attributes, the tree, conversions, text, copies."""

import copy
import pickle

import pytest

import graphc
from graphc import nn


class Block(nn.Module):
    def __init__(self, size=2):
        super().__init__()
        self.linear = nn.Linear(size, size)
        self.scale = nn.Parameter(graphc.ones(size))
        self.register_buffer("count", graphc.zeros(1))
        self.register_buffer("cache", graphc.zeros(1), persistent=False)

    def forward(self, x):
        return self.linear(x) * self.scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.second = Block()
        self.tied = self.first
        self.nothing = None

    def forward(self, x):
        return self.second(self.first(x))


def names(pairs):
    return [name for name, _ in pairs]


def test_attributes_are_registered_by_kind():
    block = Block()
    assert names(block.named_parameters()) == ["scale", "linear.weight", "linear.bias"]
    assert names(block.named_buffers()) == ["count", "cache"]
    assert names(block.named_children()) == ["linear"]
    assert "scale" in dir(block) and "linear" in dir(block) and "count" in dir(block)
    del block.scale, block.linear, block.count
    assert not names(block.named_parameters()) and not names(block.named_children())
    with pytest.raises(AttributeError, match="'Block' object has no attribute 'scale'"):
        block.scale
    with pytest.raises(AttributeError):
        del block.scale


def test_assignment_changes_the_kind_of_an_attribute():
    module = nn.Module()
    module.a = 1
    module.a = nn.Parameter(graphc.ones(1))
    assert names(module.named_parameters()) == ["a"] and "a" not in module.__dict__
    del module.a
    module.a = nn.Linear(1, 1)
    assert names(module.named_children()) == ["a"]
    module.a = None
    assert module._modules == {"a": None}
    module.b = nn.Buffer(graphc.ones(1), persistent=False)
    assert names(module.named_buffers()) == ["b"] and not module.state_dict()
    module.b = graphc.zeros(1)  # stays the buffer, and what it was
    assert names(module.named_buffers()) == ["b"] and not module.state_dict()


@pytest.mark.parametrize(
    "action, error, message",
    [
        (lambda m: setattr(m, "weight", graphc.ones(1)), TypeError, "as parameter 'weight'"),
        (lambda m: setattr(m, "inner", 3), TypeError, "as child module 'inner'"),
        (lambda m: setattr(m, "count", 3), TypeError, "as buffer 'count'"),
        (lambda m: m.register_parameter("a.b", None), KeyError, "t contain"),
        (lambda m: m.register_parameter("", None), KeyError, "t be empty"),
        (lambda m: m.register_parameter("forward", None), KeyError, "already exists"),
        (lambda m: m.register_parameter("a", graphc.ones(1)), TypeError, "Parameter or None"),
        (lambda m: m.register_parameter(3, None), TypeError, "should be a string"),
        (lambda m: m.register_buffer("a", 3), TypeError, "torch Tensor or None"),
        (lambda m: m.add_module("a", 3), TypeError, "is not a Module subclass"),
        (lambda m: m.train("yes"), ValueError, "expected to be boolean"),
        (lambda m: m(1), NotImplementedError, 'missing the required "forward"'),
        (lambda m: m.to(graphc.int32), TypeError, "only accepts floating point or complex"),
        (lambda m: m.get_submodule("inner.other"), AttributeError, "no attribute `other`"),
        (lambda m: m.get_submodule("weight"), AttributeError, "is not an nn.Module"),
        (lambda m: m.get_parameter("inner"), AttributeError, "is not an nn.Parameter"),
        (lambda m: m.get_buffer("weight"), AttributeError, "is not a buffer"),
    ],
)
def test_wrong_uses_are_refused(action, error, message):
    module = nn.Module()
    module.weight = nn.Parameter(graphc.ones(1))
    module.inner = nn.Identity()
    module.register_buffer("count", graphc.ones(1))
    with pytest.raises(error, match=message):
        action(module)


def test_a_parameter_must_be_a_leaf():
    module = nn.Module()
    parameter = nn.Parameter(graphc.ones(1))
    with pytest.raises((TypeError, ValueError), match="parameter 'a'"):
        module.register_parameter("a", parameter * 2)


def test_attributes_before_init_are_refused():
    class Early(nn.Module):
        def __init__(self):
            self.inner = nn.Identity()
            super().__init__()

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
        Early()


def test_init_takes_no_arguments_unless_asked():
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        nn.Module(x=1)
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        nn.Module(1)

    class Other:
        def __init__(self, x):
            self.x = x

    class Both(nn.Module, Other):
        call_super_init = True

    assert Both(x=3).x == 3


def test_walks_visit_each_once():
    net = Net()
    assert names(net.named_children()) == ["first", "second"]
    assert names(net.named_modules()) == ["", "first", "first.linear", "second", "second.linear"]
    assert "tied.linear" in names(net.named_modules(remove_duplicate=False))
    assert len(list(net.parameters())) == 6
    assert len(names(net.named_parameters(remove_duplicate=False))) == 9
    assert names(net.named_parameters("net", recurse=False)) == []
    assert names(net.first.named_parameters(prefix="x"))[0] == "x.scale"
    assert net.get_parameter("second.linear.bias") is net.second.linear.bias
    assert net.get_buffer("first.count") is net.first.count
    assert net.get_submodule("") is net


def test_set_submodule():
    net = Net()
    net.set_submodule("second.linear", nn.Identity())
    assert isinstance(net.second.linear, nn.Identity)
    net.set_submodule("second.extra", nn.Identity())
    with pytest.raises(AttributeError, match="no attribute `absent`"):
        net.set_submodule("second.absent", nn.Identity(), strict=True)
    with pytest.raises(AttributeError, match="is not an nn.Module"):
        net.set_submodule("second.scale", nn.Identity())
    with pytest.raises(ValueError, match="without a target"):
        net.set_submodule("", nn.Identity())


def test_modes_and_gradients():
    net = Net()
    assert net.eval() is net and not net.first.linear.training
    assert net.train().second.training
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())
    net.requires_grad_()
    net(graphc.ones(2)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_apply_goes_from_the_leaves_up():
    seen = []
    net = Net()
    assert net.apply(lambda module: seen.append(module)) is net
    assert seen == [net.first.linear, net.first, net.second.linear, net.second, net]


def test_conversions_keep_the_parameters():
    block = Block()
    block.register_buffer("whole", graphc.tensor([1]))
    parameter, expected = block.scale, block.linear.weight.tolist()
    block(graphc.ones(2)).sum().backward()
    assert block.double() is block
    assert block.scale is parameter and parameter.dtype == graphc.float64
    assert parameter.grad.dtype == graphc.float64 and block.count.dtype == graphc.float64
    assert block.whole.dtype == graphc.int64
    assert block.linear.weight.tolist() == expected
    for convert, dtype in [
        (lambda m: m.half(), graphc.float16),
        (lambda m: m.bfloat16(), graphc.bfloat16),
        (lambda m: m.float(), graphc.float32),
        (lambda m: m.to(graphc.float64), graphc.float64),
        (lambda m: m.to("cpu", graphc.float32), graphc.float32),
        (lambda m: m.to(graphc.zeros(1, dtype=graphc.float64)), graphc.float64),
        (lambda m: m.to(device="cpu", dtype=graphc.float32), graphc.float32),
        (lambda m: m.type(graphc.float64), graphc.float64),
        (lambda m: m.cpu(), graphc.float64),
    ]:
        assert convert(block).scale.dtype == dtype
        assert block.scale is parameter and parameter.requires_grad


def test_text():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Dropout(0.5)))
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): ReLU()\n"
        "  (2): Sequential(\n"
        "    (0): Dropout(p=0.5, inplace=False)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Module()) == "Module()"

    class Described(nn.Module):
        def extra_repr(self):
            return "one\ntwo"

    assert repr(Described()) == "Described(\n  one\n  two\n)"
    assert repr(nn.Parameter(graphc.ones(1))).startswith("Parameter containing:\ntensor([1.]")


@pytest.mark.parametrize("transfer", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent_and_equal(transfer):
    net = Net().eval()
    other = transfer(net)
    x = graphc.ones(3, 2)
    assert other(x).tolist() == net(x).tolist() and not other.training
    assert other.tied is other.first
    assert isinstance(other.first.scale, nn.Parameter) and other.first.scale is not net.first.scale
    assert names(other.named_parameters()) == names(net.named_parameters())
    with graphc.no_grad():
        other.first.scale.fill_(5.0)
    assert net.first.scale.tolist() == [1.0, 1.0]


def test_a_shallow_copy_shares_parameters():
    block = Block()
    assert copy.copy(block).scale is block.scale


def test_parameters():
    data = graphc.ones(2)
    parameter = nn.Parameter(data)
    assert parameter.requires_grad and parameter.is_leaf and isinstance(parameter, graphc.Tensor)
    assert not isinstance(data, nn.Parameter)
    assert type(parameter * 2) is graphc.Tensor and type(parameter.detach()) is graphc.Tensor
    assert type(parameter.data) is graphc.Tensor
    assert nn.Parameter().shape == (0,)
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert isinstance(nn.Buffer(data), nn.Buffer) and not isinstance(data, nn.Buffer)
    duplicate = copy.deepcopy(parameter)
    assert isinstance(duplicate, nn.Parameter) and duplicate.tolist() == [1.0, 1.0]
    memory = {}
    assert copy.deepcopy(parameter, memory) is copy.deepcopy(parameter, memory)


def test_registration_hooks_of_all_modules():
    from graphc.nn.modules import module as modules

    seen = []

    def note(kind):
        return lambda module, name, value: seen.append((kind, name))

    handles = [
        modules.register_module_parameter_registration_hook(note("parameter")),
        modules.register_module_buffer_registration_hook(note("buffer")),
        modules.register_module_module_registration_hook(note("module")),
    ]
    Block()
    for handle in handles:
        handle.remove()
    Block()
    assert seen == [
        ("parameter", "weight"),
        ("parameter", "bias"),
        ("module", "linear"),
        ("parameter", "scale"),
        ("buffer", "count"),
        ("buffer", "cache"),
    ]
