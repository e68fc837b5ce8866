"""Recurrent networks, their cells and packed sequences against torch."""

import numpy as np
import pytest

import graphc

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

NETWORKS = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "bias": False, "num_layers": 2}),
    ("RNN", {"bidirectional": True, "batch_first": True}),
    ("GRU", {}),
    ("GRU", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"batch_first": True, "bias": False}),
    ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
]
STEPS, BATCH, INPUT, HIDDEN = 3, 3, 4, 6


def build(library, name, kwargs):
    library.manual_seed(2)
    return getattr(library.nn, name)(INPUT, HIDDEN, **kwargs)


def random_array(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def leaves(library, *arrays):
    return [library.from_numpy(array.copy()).requires_grad_() for array in arrays]


def flatten(value):
    """The tensors in nested tuples, as arrays."""
    if isinstance(value, tuple):
        return [array for item in value for array in flatten(item)]
    return [value.detach().numpy()]


def backward(outputs, inputs, module):
    """Return the gradients of a weighted sum of ``outputs``."""
    total = 0
    for place, output in enumerate(outputs):
        total = total + (output * (place + 1)).tanh().sum()
    total.backward()
    return [leaf.grad.numpy() for leaf in [*inputs, *module.parameters()]]


def assert_close(results, expected):
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected):
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-6)


def state_arrays(kwargs, name):
    places = kwargs.get("num_layers", 1) * (2 if kwargs.get("bidirectional") else 1)
    hidden = random_array(1, places, BATCH, kwargs.get("proj_size", HIDDEN))
    return [hidden, random_array(2, places, BATCH, HIDDEN)] if name == "LSTM" else [hidden]


def run_network(library, name, kwargs, with_state):
    module = build(library, name, kwargs)
    shape = (BATCH, STEPS) if kwargs.get("batch_first") else (STEPS, BATCH)
    inputs = leaves(library, random_array(0, *shape, INPUT))
    if with_state:
        state = leaves(library, *state_arrays(kwargs, name))
        output, last = module(inputs[0], tuple(state) if name == "LSTM" else state[0])
        inputs += state
    else:
        output, last = module(inputs[0])
    lasts = last if isinstance(last, tuple) else (last,)
    grads = backward([output, *lasts], inputs, module)
    weights = [param.detach().numpy() for param in module.parameters()]
    return repr(module), list(module.state_dict()), weights, flatten((output, last)) + grads


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name, kwargs", NETWORKS)
def test_networks_as_torch(name, kwargs):
    with_state = kwargs.get("num_layers", 1) > 1
    text, names, weights, results = run_network(graphc, name, kwargs, with_state)
    wanted = run_network(torch, name, kwargs, with_state)
    assert (text, names) == wanted[:2]
    for weight, expected in zip(weights, wanted[2]):
        np.testing.assert_array_equal(weight, expected)
    assert_close(results, wanted[3])


@pytest.mark.parametrize("name, kwargs", NETWORKS[:2] + NETWORKS[5:6])
def test_unbatched_input_as_torch(name, kwargs):
    array = random_array(0, STEPS, INPUT)
    results = [
        flatten(build(library, name, kwargs)(library.from_numpy(array)))
        for library in (graphc, torch)
    ]
    assert_close(*results)


def run_packed(library, name, kwargs, lengths, sort):
    from_rnn = library.nn.utils.rnn
    module = build(library, name, {**kwargs, "batch_first": False})
    inputs = leaves(library, random_array(0, STEPS, BATCH, INPUT))
    packed = from_rnn.pack_padded_sequence(inputs[0], lengths, enforce_sorted=not sort)
    state = leaves(library, *state_arrays(kwargs, name))
    output, last = module(packed, tuple(state) if name == "LSTM" else state[0])
    assert isinstance(output, from_rnn.PackedSequence)
    padded, out_lengths = from_rnn.pad_packed_sequence(output, padding_value=0.5)
    lasts = last if isinstance(last, tuple) else (last,)
    grads = backward([padded, *lasts], inputs + state, module)
    assert out_lengths.tolist() == list(lengths)
    return flatten((padded, last)) + grads


@pytest.mark.parametrize("lengths, sort", [((3, 2, 1), False), ((1, 3, 3), True)])
@pytest.mark.parametrize("name, kwargs", [NETWORKS[1], NETWORKS[4], NETWORKS[8]])
def test_packed_sequences_as_torch(name, kwargs, lengths, sort):
    results = [run_packed(library, name, kwargs, lengths, sort) for library in (graphc, torch)]
    assert_close(*results)


def test_dropout_between_layers_draws_as_torch():
    outputs = []
    for library in (graphc, torch):
        module = build(library, "GRU", {"num_layers": 2, "dropout": 0.4})
        library.manual_seed(4)
        x = library.from_numpy(random_array(0, STEPS, BATCH, INPUT))
        train = module(x)
        outputs.append(flatten((*train, *module.eval()(x))))
    assert_close(*outputs)


@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell"])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_cells_as_torch(name, batched, bias):
    shape = (BATCH,) if batched else ()
    count = 2 if name == "LSTMCell" else 1
    results = []
    for library in (graphc, torch):
        module = build(library, name, {"bias": bias})
        x, *state = leaves(
            library,
            random_array(0, *shape, INPUT),
            *(random_array(place, *shape, HIDDEN) for place in range(count)),
        )
        fresh = module(x)
        next_state = module(x, tuple(state) if count == 2 else state[0])
        outputs = next_state if count == 2 else (next_state,)
        grads = backward(outputs, [x, *state], module)
        results.append(flatten((fresh, next_state)) + grads)
        text = repr(module)
    assert repr(build(graphc, name, {"bias": bias})) == text
    assert_close(*results)


def test_wrong_inputs_are_refused():
    nn = graphc.nn
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 3, 6\), got \[2, 3, 6\]"):
        nn.GRU(4, 6)(graphc.zeros(3, 3, 4), graphc.zeros(2, 3, 6))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size"):
        nn.LSTM(4, 6)(graphc.zeros(3, 3, 4), (graphc.zeros(1, 3, 6), graphc.zeros(1, 3, 5)))
    with pytest.raises(RuntimeError, match="must be equal to input_size. Expected 4, got 3"):
        nn.RNN(4, 6)(graphc.zeros(5, 3, 3))
    with pytest.raises(ValueError, match="does not match weight dtype"):
        nn.RNN(4, 6)(graphc.zeros(5, 3, 4, dtype=graphc.float64))
    with pytest.raises(ValueError, match="Expected input to be 2D or 3D, got 1D"):
        nn.RNN(4, 6)(graphc.zeros(4))
    with pytest.raises(RuntimeError, match="hx should also be 3-D but got 2-D"):
        nn.RNN(4, 6)(graphc.zeros(3, 3, 4), graphc.zeros(3, 6))
    with pytest.raises(ValueError, match="only supported for LSTM"):
        nn.GRU(4, 6, proj_size=2)
    with pytest.raises(ValueError, match="hidden_size must be greater than zero"):
        nn.GRU(4, 0)
    with pytest.raises(TypeError, match="bias should be of type bool, got: int"):
        nn.LSTM(4, 6, bias=1)
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        nn.LSTM(4, 6, dropout=0.5)


def test_padding_and_unpadding():
    rnn = graphc.nn.utils.rnn
    sequences = [graphc.arange(3.0), graphc.arange(1.0), graphc.arange(2.0)]
    padded = rnn.pad_sequence(sequences, batch_first=True, padding_value=9.0)
    assert padded.tolist() == [[0, 1, 2], [0, 9, 9], [0, 1, 9]]
    left = rnn.pad_sequence(sequences, padding_side="left")
    assert left.T.tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 1]]
    lengths = graphc.tensor([3, 1, 2])
    assert [s.tolist() for s in rnn.unpad_sequence(padded, lengths, batch_first=True)] == [
        [0, 1, 2],
        [0],
        [0, 1],
    ]
    packed = rnn.pack_sequence(sequences, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.data.tolist() == [0, 0, 0, 1, 1, 2]
    assert [s.tolist() for s in rnn.unpack_sequence(packed)] == [s.tolist() for s in sequences]
    longer, _ = rnn.pad_packed_sequence(packed, batch_first=True, total_length=4)
    assert longer.shape == (3, 4)
    assert packed.double().data.dtype == graphc.float64 and packed.to("cpu") is packed
    with pytest.raises(ValueError, match="total_length=2"):
        rnn.pad_packed_sequence(packed, total_length=2)
    with pytest.raises(RuntimeError, match="must be sorted in decreasing order"):
        rnn.pack_sequence(sequences[::-1])
    with pytest.raises(RuntimeError, match="greater than 0"):
        rnn.pack_padded_sequence(graphc.zeros(2, 2), [2, 0])
