"""Models as PyTorch exports them: loaded, and compared with PyTorch at several sizes."""

import io
import warnings

import numpy as np
import pytest

from graphc.frontends.onnx_load import SymbolicSizeError, load_module, read_model
from graphc.ir.interpret import evaluate
from graphc.ir.verify import verify

torch = pytest.importorskip("torch")
nn = torch.nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        b, t, c = x.size()
        q, k, v = [
            part.view(b, t, 4, c // 4).transpose(1, 2) for part in self.qkv(x).split(c, dim=2)
        ]
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(y.transpose(1, 2).contiguous().view(b, t, c))


class Text(nn.Module):
    """Token and position embeddings, attention, a head."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 16), nn.Embedding(32, 16)
        self.body = nn.Sequential(Attention(), nn.LayerNorm(16), nn.GELU(), Attention())
        self.head = nn.Linear(16, 11)

    def forward(self, ids):
        x = self.tokens(ids) + self.places(torch.arange(ids.size(1)))
        return self.head(self.body(x))


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.body = kind(4, 5, batch_first=True, **options)

    def forward(self, x):
        return self.body(x)[0]


class Residual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, groups=2), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.side = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x):
        return torch.relu(self.body(x) + self.side(x))


class Indexing(nn.Module):
    def forward(self, x):
        return (
            x[:, -1], x[:, ::2], x[:, 1:-1].flip(1), x.roll(1, 1), x.chunk(2, 2)[0], x.std(1),
            x.topk(2, -1)[0], x.cumsum(1), x.argmax(-1), x.norm(dim=-1), x.tril(),
            torch.einsum("btc,bsc->bts", x, x), x.repeat(1, 2, 1), x.clamp(-0.5, 0.5),
        )  # fmt: skip


class Lookups(nn.Module):
    def forward(self, x, index):
        return (
            x.gather(1, index), x.scatter(1, index, 0.5), x.scatter_add(1, index, x),
            x[torch.arange(2)[:, None], index], nn.functional.one_hot(index, 7),
        )  # fmt: skip


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def whole(high, *shape):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(1))


RESNET = (
    nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
    Residual(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
)  # fmt: skip
DECODER = (
    nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.GroupNorm(2, 8),
    nn.Upsample(scale_factor=2, mode="bilinear"), nn.ConvTranspose2d(8, 4, 2, 2),
    nn.InstanceNorm2d(4), nn.Hardswish(), nn.ReflectionPad2d(2), nn.PixelShuffle(2),
)  # fmt: skip
ACTIVATIONS = (
    nn.ELU(), nn.SELU(), nn.CELU(), nn.Mish(), nn.Softplus(), nn.Hardtanh(), nn.LogSigmoid(),
    nn.PReLU(), nn.GELU("tanh"), nn.Hardsigmoid(), nn.Softsign(), nn.LogSoftmax(-1),
)  # fmt: skip
# The model, example inputs, names of the open sizes of the first, another first input.
CASES = {
    "text": (Text, (whole(11, 2, 6),), {0: "b", 1: "t"}, whole(11, 3, 9)),
    "lstm": (
        lambda: Recurrent(nn.LSTM, bidirectional=True, num_layers=2),
        (numbers(2, 6, 4),), {0: "b", 1: "t"}, numbers(3, 4, 4),
    ),
    "gru": (lambda: Recurrent(nn.GRU), (numbers(2, 6, 4),), {0: "b"}, numbers(5, 6, 4)),
    "rnn": (lambda: Recurrent(nn.RNN), (numbers(2, 6, 4),), {0: "b"}, numbers(5, 6, 4)),
    "resnet": (
        lambda: nn.Sequential(*RESNET), (numbers(2, 3, 32, 32),), {0: "b"}, numbers(3, 3, 32, 32),
    ),
    "decoder": (
        lambda: nn.Sequential(*DECODER), (numbers(2, 3, 8, 8),), {0: "b"}, numbers(1, 3, 8, 8),
    ),
    "upsample": (
        lambda: nn.Upsample(scale_factor=2), (numbers(2, 3, 8, 8),), {0: "b", 2: "h", 3: "w"},
        numbers(1, 3, 5, 7),
    ),
    "activations": (
        lambda: nn.Sequential(*ACTIVATIONS), (numbers(2, 5),), {0: "b"}, numbers(7, 5),
    ),
    "indexing": (Indexing, (numbers(2, 6, 6),), {0: "b"}, numbers(3, 6, 6)),
    "lookups": (Lookups, (numbers(2, 6), whole(6, 2, 3)), {}, numbers(2, 6) * 2),
}  # fmt: skip


def exported(model, inputs, axes):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, inputs, file, dynamo=False, opset_version=17,
            input_names=["x", "index"][: len(inputs)], dynamic_axes={"x": axes} if axes else None,
        )  # fmt: skip
    return file.getvalue()


def check(module, model, inputs):
    graph = module.graphs["main"]
    arrays = [x.numpy() for x in inputs]
    weights = [module.weights[p.name] for p in graph.params[len(arrays) :]]
    with torch.no_grad():
        expected = model(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for found, want in zip(evaluate(graph, *arrays, *weights), expected, strict=True):
        np.testing.assert_allclose(found, want.numpy(), 1e-3, 1e-4)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_model_from_pytorch(name):
    make, inputs, axes, other = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    module = load_module(read_model(exported(model, inputs, axes)))
    verify(module)
    assert set(axes.values()) == set(module.dims)
    check(module, model, inputs)
    check(module, model, (other, *inputs[1:]))


def test_sizes_that_the_exporter_baked_in_ask_for_numbers():
    """PyTorch's encoder layer is traced with the example's length in some reshapes."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True).eval()

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            mask = torch.triu(torch.full((x.size(1), x.size(1)), float("-inf")), 1)
            return self.body(x, src_mask=mask)

    whole_model, x = Masked().eval(), numbers(2, 6, 16)
    data = exported(whole_model, (x,), {0: "b", 1: "t"})
    with pytest.raises(SymbolicSizeError, match="Give the sizes"):
        load_module(read_model(data))
    check(load_module(read_model(data), {"x": (2, 6, 16)}), whole_model, (x,))
