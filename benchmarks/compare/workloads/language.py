"""Networks on sequences, as users of torch write them."""

from __future__ import annotations

from typing import Any


def block_class(torch: Any) -> Any:
    """A pre-norm transformer block."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, width: int, heads: int, causal: bool) -> None:
            super().__init__()
            self.heads, self.causal = heads, causal
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

        def attend(self, x: Any) -> Any:
            batch, length, width = x.shape
            q, k, v = (
                part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
                for part in self.qkv(x).chunk(3, -1)
            )
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
            return self.out(mixed.transpose(1, 2).reshape(batch, length, width))

        def forward(self, x: Any) -> Any:
            x = x + self.attend(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    return Block


def blocks(torch: Any, width: int, heads: int, layers: int, causal: bool = True) -> Any:
    """A stack of blocks: [batch, length, width] to the same."""
    block = block_class(torch)
    return torch.nn.Sequential(*[block(width, heads, causal) for _ in range(layers)])


def vit(torch: Any) -> Any:
    """A small vision transformer: 16 x 16 patches of [batch, 3, 224, 224], 6 blocks of 384."""
    nn = torch.nn

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 384, 16, 16)
            self.first = nn.Parameter(torch.zeros(1, 1, 384))
            self.position = nn.Parameter(torch.zeros(1, 197, 384))
            self.blocks = blocks(torch, 384, 6, 6, causal=False)
            self.norm, self.head = nn.LayerNorm(384), nn.Linear(384, 1000)

        def forward(self, images: Any) -> Any:
            x = self.patches(images).flatten(2).transpose(1, 2)
            x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.position
            return self.head(self.norm(self.blocks(x))[:, 0])

    return ViT()


def gpt(torch: Any, symbols: int = 65, width: int = 128, heads: int = 4, layers: int = 4,
        context: int = 64) -> Any:  # fmt: skip
    """A character-level GPT: int64 [batch, length] to logits."""
    nn = torch.nn

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.symbol, self.position = nn.Embedding(symbols, width), nn.Embedding(context, width)
            self.blocks = blocks(torch, width, heads, layers)
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols)

        def forward(self, text: Any) -> Any:
            x = self.symbol(text) + self.position(torch.arange(text.shape[1]))
            return self.head(self.norm(self.blocks(x)))

    return GPT()


def bert_layer(torch: Any) -> Any:
    """A layer of BERT-base."""
    return torch.nn.TransformerEncoderLayer(
        768, 12, 3072, dropout=0.0, activation="gelu", batch_first=True
    )


def llama_step(torch: Any, width: int = 512, heads: int = 8, layers: int = 4) -> Any:
    """A token of each sequence through Llama-like layers with a cache.

    Takes x [batch, 1, width], the caches of keys and of values [layers, batch, heads, past, size]
    and the rotation's cosine and sine [size / 2]; gives x and each layer's new keys and values.
    """
    nn, size = torch.nn, width // heads

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
            self.q, self.k, self.v, self.out = (
                nn.Linear(width, width, bias=False) for _ in range(4)
            )
            self.gate, self.up = (nn.Linear(width, 3 * width, bias=False) for _ in range(2))
            self.down = nn.Linear(3 * width, width, bias=False)

        def forward(self, x: Any, keys: Any, values: Any, cos: Any, sin: Any) -> Any:
            def turned(part: Any) -> Any:
                a, b = part.chunk(2, -1)
                return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

            y = self.norm1(x)
            q, k, v = (
                part(y).view(x.shape[0], 1, heads, size).transpose(1, 2)
                for part in (self.q, self.k, self.v)
            )
            k = torch.cat([keys, turned(k)], 2)
            v = torch.cat([values, v], 2)
            mixed = nn.functional.scaled_dot_product_attention(turned(q), k, v)
            x = x + self.out(mixed.transpose(1, 2).reshape(x.shape[0], 1, width))
            y = self.norm2(x)
            return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y)), k, v

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(layers))

        def forward(self, x: Any, keys: Any, values: Any, cos: Any, sin: Any) -> Any:
            new_keys, new_values = [], []
            for number, layer in enumerate(self.layers):
                x, k, v = layer(x, keys[number], values[number], cos, sin)
                new_keys.append(k)
                new_values.append(v)
            return x, torch.stack(new_keys), torch.stack(new_values)

    return Step()


def lstm_classifier(torch: Any) -> Any:
    """Two layers of 256 over [batch, 64, 128], a linear layer on the last step."""
    nn = torch.nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(128, 256, 2, batch_first=True)
            self.head = nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    return Classifier()


def lstm_language(torch: Any, symbols: int = 65) -> Any:
    """A character-level language model: int64 [batch, length] to logits."""
    nn = torch.nn

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.symbol = nn.Embedding(symbols, 64)
            self.lstm = nn.LSTM(64, 128, batch_first=True)
            self.head = nn.Linear(128, symbols)

        def forward(self, text: Any) -> Any:
            return self.head(self.lstm(self.symbol(text))[0])

    return Language()
