"""Multi-head attention and the transformer against torch."""

import numpy as np
import pytest

import graphc

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

SETTINGS = [
    {},
    {"batch_first": True, "bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True, "add_bias_kv": True},
    {"kdim": 5, "vdim": 3},
]
TARGET, SOURCE, BATCH, EMBED, HEADS = 4, 6, 2, 8, 2


def random_array(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_close(results, expected, **tolerance):
    tolerance = {"rtol": 2e-5, "atol": 2e-6, **tolerance}
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected):
        np.testing.assert_allclose(result, wanted, **tolerance)


def masks(library, kind, rows):
    """Keyword arguments of one kind of masking."""
    generator = np.random.default_rng(9)
    padding = np.zeros((BATCH, SOURCE), bool)
    padding[0, 4:] = padding[1, 5:] = True
    blocked = generator.random((TARGET, SOURCE)) < 0.3
    blocked[:, 0] = False
    if kind == "padding":
        return {"key_padding_mask": library.from_numpy(padding)}
    if kind == "bool":
        return {"attn_mask": library.from_numpy(blocked)}
    if kind == "float":
        return {"attn_mask": library.from_numpy(random_array(8, rows, TARGET, SOURCE))}
    if kind == "both":
        return masks(library, "padding", rows) | masks(library, "bool", rows)
    return {}


def run_attention(library, settings, kind, need_weights):
    library.manual_seed(1)
    module = library.nn.MultiheadAttention(EMBED, HEADS, **settings)
    sizes = (EMBED, settings.get("kdim", EMBED), settings.get("vdim", EMBED))
    inputs = []
    for seed, (length, size) in enumerate(zip((TARGET, SOURCE, SOURCE), sizes)):
        shape = (BATCH, length) if settings.get("batch_first") else (length, BATCH)
        inputs.append(library.from_numpy(random_array(seed, *shape, size)).requires_grad_())
    keywords = masks(library, kind, BATCH * HEADS)
    output, weights = module(*inputs, need_weights=need_weights, **keywords)
    (output * library.from_numpy(random_array(7, *output.shape))).sum().backward()
    results = [output.detach().numpy()]
    if need_weights:
        results.append(weights.detach().numpy())
    else:
        assert weights is None
    params = dict(module.named_parameters())
    grads = [leaf.grad.numpy() for leaf in [*inputs, *params.values()]]
    firsts = [param.detach().numpy() for param in params.values()]
    return list(params), firsts, results + grads


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("kind", ["none", "padding", "bool", "float", "both"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_attention_as_torch(settings, kind, need_weights):
    ours = run_attention(graphc, settings, kind, need_weights)
    wanted = run_attention(torch, settings, kind, need_weights)
    assert ours[0] == wanted[0]
    for value, expected in zip(ours[1], wanted[1]):
        np.testing.assert_array_equal(value, expected)
    assert_close(ours[2], wanted[2])


def test_self_attention_and_its_weights_by_head_as_torch():
    results = []
    for library in (graphc, torch):
        library.manual_seed(1)
        module = library.nn.MultiheadAttention(EMBED, HEADS)
        x = library.from_numpy(random_array(0, TARGET, EMBED)).requires_grad_()
        output, weights = module(x, x, x, average_attn_weights=False)
        output.sum().backward()
        assert weights.shape == (HEADS, TARGET, TARGET)
        results.append([output.detach().numpy(), weights.detach().numpy(), x.grad.numpy()])
    assert_close(*results)


def test_attention_weights_sum_to_one():
    module = graphc.nn.MultiheadAttention(EMBED, HEADS, batch_first=True)
    x = graphc.from_numpy(random_array(0, BATCH, TARGET, EMBED))
    _, weights = module(x, x, x)
    np.testing.assert_allclose(weights.sum(-1).detach().numpy(), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, x: m(x[0, 0], x, x), "query should be unbatched 2D or batched 3D"),
        (lambda m, x: m(x, x[0], x), "expected `key` and `value` to be 3-D"),
        (lambda m, x: m(x, x, x[:1]), "does not match value shape"),
        (lambda m, x: m(x, x, x, attn_mask=graphc.zeros(3)), "`attn_mask` to be"),
        (lambda m, x: m(x, x, x, attn_mask=graphc.zeros(9, 9)), "shape of the 2D attn_mask"),
        (lambda m, x: m(x, x, x, is_causal=True), "Need attn_mask"),
        (lambda m, x: m(x, x, x, key_padding_mask=graphc.zeros(2, 4, dtype=graphc.int64)), "bool"),
    ],
)
def test_wrong_inputs_are_refused(call, message):
    module = graphc.nn.MultiheadAttention(EMBED, HEADS)
    with pytest.raises((AssertionError, RuntimeError), match=message):
        call(module, graphc.zeros(4, BATCH, EMBED))


def test_heads_must_divide_the_size():
    with pytest.raises(AssertionError, match="must be divisible by num_heads"):
        graphc.nn.MultiheadAttention(8, 3)


def layer_settings(**changes):
    return {"d_model": EMBED, "nhead": HEADS, "dim_feedforward": 12, "dropout": 0.0, **changes}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_first": True, "activation": "gelu"},
        {"batch_first": True, "bias": False, "layer_norm_eps": 1e-3},
    ],
)
def test_transformer_as_torch(changes):
    results = []
    for library in (graphc, torch):
        library.manual_seed(1)
        module = library.nn.Transformer(
            num_encoder_layers=2, num_decoder_layers=1, **layer_settings(**changes)
        )
        shape = (BATCH, SOURCE) if changes.get("batch_first") else (SOURCE, BATCH)
        source = library.from_numpy(random_array(0, *shape, EMBED)).requires_grad_()
        target = library.from_numpy(random_array(1, *shape, EMBED)).requires_grad_()
        mask = module.generate_square_subsequent_mask(SOURCE)
        padding = library.zeros(BATCH, SOURCE)
        padding[0, 4:] = -float("inf")
        output = module(source, target, tgt_mask=mask, src_key_padding_mask=padding)
        (output * library.from_numpy(random_array(2, *output.shape))).sum().backward()
        firsts = [param.detach().numpy() for param in module.parameters()]
        leaves = [source, target, *module.parameters()]
        grads = [leaf.grad.numpy() for leaf in leaves]
        results.append((list(module.state_dict()), firsts, [output.detach().numpy(), *grads]))
    (names, firsts, values), (wanted_names, wanted_firsts, wanted) = results
    assert names == wanted_names
    for first, expected in zip(firsts, wanted_firsts):
        np.testing.assert_array_equal(first, expected)
    assert_close(values, wanted, rtol=1e-4, atol=1e-5)


def test_dropout_in_training_draws_as_torch():
    results = []
    for library in (graphc, torch):
        library.manual_seed(1)
        layer = library.nn.TransformerEncoderLayer(**layer_settings(dropout=0.3))
        library.manual_seed(2)
        output = layer(library.from_numpy(random_array(0, SOURCE, BATCH, EMBED)))
        results.append([output.detach().numpy()])
    assert_close(*results)


def test_encoder_recognises_the_causal_mask():
    layer = graphc.nn.TransformerEncoderLayer(**layer_settings(batch_first=True))
    encoder = graphc.nn.TransformerEncoder(layer, 2, norm=graphc.nn.LayerNorm(EMBED))
    x = graphc.from_numpy(random_array(0, BATCH, SOURCE, EMBED))
    mask = graphc.nn.Transformer.generate_square_subsequent_mask(SOURCE)
    seen = encoder(x, mask=mask).detach().numpy()
    told = encoder(x, mask=mask, is_causal=True).detach().numpy()
    np.testing.assert_allclose(seen, told, rtol=1e-5, atol=1e-6)
    # What comes later has no influence on what comes before.
    changed = graphc.cat([x[:, :3], x[:, 3:] + 1], dim=1)
    part = encoder(changed, mask=mask).detach().numpy()
    np.testing.assert_allclose(part[:, :3], seen[:, :3], rtol=1e-5, atol=1e-6)


def test_layers_of_a_stack_are_copies():
    layer = graphc.nn.TransformerDecoderLayer(**layer_settings())
    decoder = graphc.nn.TransformerDecoder(layer, 2)
    first, second = decoder.layers
    assert first is not layer and first.linear1.weight is not second.linear1.weight
    assert first.linear1.weight.tolist() == second.linear1.weight.tolist()
    with pytest.raises(RuntimeError, match="activation should be relu/gelu, not tanh"):
        graphc.nn.TransformerEncoderLayer(**layer_settings(activation="tanh"))
