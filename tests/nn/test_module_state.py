"""Saving and loading the state of modules."""

from collections import OrderedDict

import pytest

import graphc
from graphc import nn


class Block(nn.Module):
    _version = 3

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.register_buffer("count", graphc.zeros(1))
        self.register_buffer("cache", graphc.zeros(1), persistent=False)
        self.register_parameter("absent", None)


def net():
    return nn.Sequential(OrderedDict(block=Block(), last=nn.Linear(1, 1, bias=False)))


KEYS = ["block.count", "block.linear.weight", "block.linear.bias", "last.weight"]


def test_state_dict_names_versions_and_shares():
    module = net()
    state = module.state_dict()
    assert type(state) is OrderedDict and list(state) == KEYS
    assert state._metadata["block"] == {"version": 3}
    assert list(state._metadata) == ["", "block", "block.linear", "last"]
    assert not state["last.weight"].requires_grad
    with graphc.no_grad():
        state["last.weight"].fill_(7.0)
    assert module.last.weight.item() == 7.0
    kept = module.state_dict(prefix="net.", keep_vars=True)
    assert kept["net.last.weight"] is module.last.weight
    given = OrderedDict(other=1)
    assert module.state_dict(destination=given) is given and list(given) == ["other", *KEYS]
    with pytest.warns(FutureWarning, match="Positional args"):
        assert next(iter(module.state_dict(OrderedDict(), "p."))) == "p.block.count"


def test_loading_copies_values():
    source, target = net(), net()
    weight = target.last.weight
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert target.last.weight is weight and weight is not source.last.weight
    for key, value in source.state_dict().items():
        assert target.state_dict()[key].tolist() == value.tolist()


def test_assigning_takes_the_tensors():
    source, target = net(), net().requires_grad_(False)
    state = source.double().state_dict()
    target.load_state_dict(state, assign=True)
    assert target.last.weight.dtype == graphc.float64
    assert isinstance(target.last.weight, nn.Parameter) and not target.last.weight.requires_grad
    assert target.block.count is state["block.count"]


def test_errors_are_listed_together():
    module = net()
    state = module.state_dict()
    del state["block.count"]
    state["block.cache"] = graphc.zeros(1)
    state["other.weight"] = graphc.zeros(1)
    state["last.weight"] = graphc.zeros(2, 2)
    with pytest.raises(RuntimeError) as caught:
        module.load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Sequential:\n\t"
        'Missing key(s) in state_dict: "block.count". \n\t'
        'Unexpected key(s) in state_dict: "other.weight", "block.cache". \n\t'
        "size mismatch for last.weight: copying a param with shape torch.Size([2, 2]) from "
        "checkpoint, the shape in current model is torch.Size([1, 1])."
    )
    del state["last.weight"]
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert missing == ["block.count", "last.weight"]
    assert unexpected == ["other.weight", "block.cache"]
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        module.load_state_dict([])
    state = net().state_dict()
    state["last.weight"] = 3
    with pytest.raises(RuntimeError, match="expected torch.Tensor or Tensor-like object"):
        module.load_state_dict(state)


def test_old_scalars_have_one_dimension():
    module = nn.Module()
    module.scale = nn.Parameter(graphc.tensor(1.0))
    module.load_state_dict({"scale": graphc.tensor([5.0])})
    assert module.scale.item() == 5.0 and module.scale.shape == ()


def test_extra_state():
    class Extra(nn.Module):
        extra = 1

        def get_extra_state(self):
            return {"extra": self.extra}

        def set_extra_state(self, state):
            self.extra = state["extra"]

    module = nn.Sequential(Extra())
    module[0].extra = 5
    state = module.state_dict()
    assert state == {"0._extra_state": {"extra": 5}}
    other = nn.Sequential(Extra())
    other.load_state_dict(state)
    assert other[0].extra == 5
    assert other.load_state_dict({}, strict=False).missing_keys == ["0._extra_state"]
    plain = nn.Sequential(nn.Identity()).load_state_dict(state, strict=False)
    assert plain.unexpected_keys == ["0._extra_state"]
    with pytest.raises(RuntimeError):
        nn.Identity().get_extra_state()


def test_state_dict_hooks():
    module, seen = nn.Linear(1, 1), []
    module.register_state_dict_pre_hook(lambda m, prefix, keep_vars: seen.append(prefix))

    def rename(m, state, prefix, metadata):
        state[prefix + "w"] = state.pop(prefix + "weight")

    module.register_state_dict_post_hook(rename)
    assert list(nn.Sequential(module).state_dict()) == ["0.bias", "0.w"] and seen == ["0."]
    module.register_state_dict_post_hook(lambda m, state, prefix, metadata: state)
    with pytest.raises(RuntimeError, match="must return None"):
        module.state_dict()


def test_load_state_dict_hooks():
    module, seen = nn.Linear(1, 1), []

    def rename(m, state, prefix, metadata, strict, missing, unexpected, errors):
        seen.append((m, prefix))
        state[prefix + "weight"] = state.pop(prefix + "w")

    module.register_load_state_dict_pre_hook(rename)
    module.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    given = {"0.w": graphc.ones(1, 1)}
    nn.Sequential(module).load_state_dict(given)
    assert seen == [(module, "0.")] and module.weight.item() == 1.0
    assert list(given) == ["0.w"]  # the caller's dictionary is left alone


def test_batch_norms_without_a_count_are_loaded():
    module = nn.BatchNorm1d(2)
    state = dict(module.state_dict())
    del state["num_batches_tracked"]
    module.load_state_dict(state)
    assert module.num_batches_tracked.item() == 0


def test_prefixes_are_stripped():
    from graphc.nn.modules.utils import consume_prefix_in_state_dict_if_present

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = net()

    state = Wrapper().state_dict()
    consume_prefix_in_state_dict_if_present(state, "module.")
    assert list(state) == KEYS and "block.linear" in state._metadata
    net().load_state_dict(state)
