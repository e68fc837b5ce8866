"""A character-level GPT on the text of Python 3.11's licence.

    python examples/gpt.py                  200 steps in eager mode, then some text of its own
    python examples/gpt.py --mode step      forward, backward and update compiled as one graph

An ordinary torch program, but for the name that it imports.
"""

import argparse
import math
import time
from pathlib import Path

import graphc as torch
from graphc import nn

TEXT = Path(__file__).parent / "data" / "python-3.11-license.txt"
WIDTH, LAYERS, HEADS, CONTEXT = 128, 2, 4, 32
LEARNING_RATE, WARM_UP = 2e-3, 20


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each on a normalised residual stream."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def attend(self, x):
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, symbols, width=WIDTH, layers=LAYERS, heads=HEADS, context=CONTEXT):
        super().__init__()
        self.symbol = nn.Embedding(symbols, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols)
        self.apply(self.initialise)

    @staticmethod
    def initialise(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, symbols):
        """int64 [batch, length], length at most the context -> logits [batch, length, symbols]"""
        x = self.symbol(symbols) + self.position(torch.arange(symbols.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def read_text():
    """The text as int64 numbers of symbols, and the symbols in order."""
    text = TEXT.read_text(encoding="utf-8")
    symbols = sorted(set(text))
    number = {symbol: n for n, symbol in enumerate(symbols)}
    return torch.tensor([number[symbol] for symbol in text]), symbols


def schedule(optimizer, steps):
    """The learning rate rises in a line to its full value, then falls as a cosine to 0."""

    def factor(step):
        if step < WARM_UP:
            return (step + 1) / WARM_UP
        return 0.5 + 0.5 * math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train(steps=200, batch=64, mode="eager", seed=0, report=None):
    """Trains a new model. Returns it and the loss of each step.

    mode: "eager"; "compile" compiles the model's forward; "step" the whole training step. All
    three give the same bits. report(step, loss), where given, is called after each step.
    """
    torch.manual_seed(seed)
    data, symbols = read_text()
    model = GPT(len(symbols))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    scheduler = schedule(optimizer, steps)
    network = torch.compile(model, exact=True) if mode == "compile" else model

    def step(inputs, targets):
        logits = network(inputs)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    if mode == "step":
        step = torch.compile(step, exact=True)
    losses = []
    window = torch.arange(CONTEXT + 1)
    for number in range(steps):
        starts = torch.randint(len(data) - CONTEXT, (batch, 1))
        pieces = data[starts + window]
        losses.append(step(pieces[:, :-1], pieces[:, 1:]).item())
        scheduler.step()
        if report:
            report(number, losses[-1])
    return model, losses


@torch.no_grad()
def continue_text(model, start, length):
    """`start` and the `length` symbols that the model finds likeliest after it."""
    _, symbols = read_text()
    text = start
    for _ in range(length):
        recent = torch.tensor([[symbols.index(symbol) for symbol in text[-CONTEXT:]]])
        text += symbols[model(recent)[0, -1].argmax().item()]
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--mode", choices=("eager", "compile", "step"), default="eager")
    options = parser.parse_args()
    if options.steps < 1 or options.batch < 1:
        parser.error("--steps and --batch are at least 1")
    if options.threads:
        torch.set_num_threads(options.threads)

    def report(step, loss):
        if step % 20 == 0 or step == options.steps - 1:
            print(f"step {step:4d}  loss {loss:.4f}")

    began = time.perf_counter()
    model, losses = train(options.steps, options.batch, options.mode, report=report)
    took = time.perf_counter() - began
    last = losses[-10:]
    print(f"mean of the last {len(last)}: {sum(last) / len(last):.4f}   {took:.1f} s")
    print(continue_text(model, "PYTHON SOFTWARE", 80))


if __name__ == "__main__":
    main()
