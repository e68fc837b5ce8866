"""Modules that take their sizes from the first input."""

import numpy as np
import pytest

import graphc

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op"),
]

CASES = [
    ("LazyLinear", (3,), {}, (2, 4)),
    ("LazyConv1d", (4, 3), {}, (2, 2, 5)),
    ("LazyConv2d", (4, 3), {"groups": 2, "padding": 1}, (2, 2, 5, 4)),
    ("LazyConv3d", (4, 2), {"bias": False}, (2, 2, 3, 4, 3)),
    ("LazyConvTranspose1d", (4, 3), {"stride": 2}, (2, 2, 5)),
    ("LazyConvTranspose2d", (4, 3), {}, (2, 5, 4)),
    ("LazyConvTranspose3d", (4, 2), {}, (2, 2, 3, 4, 3)),
    ("LazyBatchNorm1d", (), {}, (5, 3)),
    ("LazyBatchNorm2d", (), {"affine": False}, (5, 3, 2, 2)),
    ("LazyBatchNorm3d", (), {"bias": False}, (5, 3, 2, 2, 2)),
    ("LazyInstanceNorm1d", (), {}, (5, 3, 4)),
    ("LazyInstanceNorm2d", (), {"track_running_stats": False}, (5, 3, 2, 2)),
    ("LazyInstanceNorm3d", (), {}, (5, 3, 2, 2, 2)),
]


@pytest.mark.parametrize("name, args, kwargs, shape", CASES)
def test_first_inputs_decide_as_in_torch(name, args, kwargs, shape):
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    results = []
    for library in (graphc, torch):
        library.manual_seed(1)
        module = getattr(library.nn, name)(*args, **kwargs)
        assert module.has_uninitialized_params() == any(
            library.nn.parameter.is_lazy(value) for value in module.state_dict().values()
        )
        output = module(library.from_numpy(array))
        assert type(module).__name__ == name.removeprefix("Lazy")
        state = {key: value.numpy() for key, value in module.state_dict().items()}
        results.append((repr(module), state, output.detach().numpy()))
    (text, state, output), (wanted_text, wanted_state, wanted) = results
    assert text == wanted_text and list(state) == list(wanted_state)
    for key, value in wanted_state.items():
        np.testing.assert_allclose(state[key], value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output, wanted, rtol=2e-5, atol=2e-6)


def test_checkpoints_give_shapes():
    lazy, full = graphc.nn.LazyLinear(3), graphc.nn.Linear(4, 3)
    lazy.load_state_dict(full.state_dict())
    x = graphc.ones(2, 4)
    assert lazy(x).tolist() == full(x).tolist()
    assert type(lazy) is graphc.nn.Linear and lazy.in_features == 4
    assert isinstance(lazy.weight, graphc.nn.Parameter)


def test_uninitialised_parameters_have_no_shape():
    lazy = graphc.nn.LazyLinear(3)
    assert repr(lazy.weight) == "<UninitializedParameter>"
    with pytest.raises(RuntimeError, match="shape of an uninitialized parameter"):
        lazy.weight.shape


def test_adaptive_softmax_as_torch():
    x = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    target = np.array([0, 3, 7, 12, 9, 1])
    results = []
    for library in (graphc, torch):
        library.manual_seed(1)
        module = library.nn.AdaptiveLogSoftmaxWithLoss(16, 13, [3, 8], div_value=2.0)
        inputs = library.from_numpy(x.copy()).requires_grad_()
        output, loss = module(inputs, library.from_numpy(target))
        loss.backward()
        values = [output, loss, module.log_prob(inputs), module.predict(inputs)]
        grads = [inputs.grad, *(param.grad for param in module.parameters())]
        single = module(inputs[0], library.tensor(5)).output
        results.append([v.detach().numpy() for v in [*values, *grads, single]])
    for result, wanted in zip(*results):
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-6)
    module = graphc.nn.AdaptiveLogSoftmaxWithLoss(4, 5, [2])
    with pytest.raises(RuntimeError, match=r"Target values should be in \[0, 4\]"):
        module(graphc.ones(1, 4), graphc.tensor([5]))
    with pytest.raises(ValueError, match="unique, positive integers"):
        graphc.nn.AdaptiveLogSoftmaxWithLoss(4, 5, [3, 3])
