"""Draws from torch's random stream through its public functions, written once: make_peer_data.py
runs them with torch and keeps the numbers, the tests run them with graphc and compare the bits.

Each case is a function of the torch module (or graphc in its place) that returns tensors; it is
called after manual_seed(SEED).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

SEED = 20240229
SIZES = (1, 5, 15, 16, 17, 100, 1000)

CASES: dict[str, Callable[[Any], Any]] = {}


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    CASES[function.__name__] = function
    return function


# Each size takes its own path: fewer than 16 normal numbers are drawn in pairs, the rest in blocks
# of 16, and what remains of a block redoes the last one.
for _size in SIZES:
    CASES[f"rand_{_size}"] = lambda torch, size=_size: torch.rand(size)
    CASES[f"randn_{_size}"] = lambda torch, size=_size: torch.randn(size)
for _size in (5, 16, 17, 100):
    CASES[f"rand_float64_{_size}"] = lambda t, size=_size: t.rand(size, dtype=t.float64)
    CASES[f"randn_float64_{_size}"] = lambda t, size=_size: t.randn(size, dtype=t.float64)
for _size in (1, 2, 10, 1000):
    CASES[f"randperm_{_size}"] = lambda torch, size=_size: torch.randperm(size)


@case
def rand_half(torch):
    return torch.rand(20, dtype=torch.float16).float(), torch.rand(20, dtype=torch.bfloat16).float()


@case
def two_dimensions(torch):
    return torch.rand(3, 7), torch.randn(4, 9)


@case
def one_after_another(torch):
    """An odd number of normal numbers leaves one for the next call, past other draws."""
    return torch.randn(5), torch.rand(3), torch.randn(3), torch.randn(17), torch.randn(1)


@case
def seeds(torch):
    drawn = []
    for seed in (0, 1, 2**31, 2**40 + 7):
        torch.manual_seed(seed)
        drawn.append(torch.rand(4))
    return tuple(drawn)


@case
def randint(torch):
    return (
        torch.randint(10, (100,)),
        torch.randint(-5, 7, (3, 4)),
        torch.randint(0, 2**28, (10,)),
        torch.randint(0, 2**40, (10,)),
    )


@case
def random_(torch):
    return torch.empty(10).random_(), torch.empty(10, dtype=torch.int64).random_()


@case
def bernoulli(torch):
    return torch.empty(50).bernoulli_(0.3), torch.bernoulli(torch.linspace(0.0, 1.0, 50))


@case
def dropout(torch):
    functional = torch.nn.functional
    return functional.dropout(torch.ones(100), 0.5), functional.dropout(torch.ones(4, 25), 0.1)


@case
def normal_(torch):
    return torch.empty(7).normal_(1.0, 2.0), torch.empty(100).normal_(-3.0, 0.02)


@case
def normal_not_contiguous(torch):
    return torch.empty(10, 4).t().normal_()


@case
def uniform_(torch):
    return torch.empty(50).uniform_(-2.0, 3.0), torch.empty(9, dtype=torch.float64).uniform_(0, 5)


@case
def exponential_(torch):
    return torch.empty(50).exponential_(1.5), torch.empty(9, dtype=torch.float64).exponential_()


@case
def log_normal_(torch):
    return torch.empty(20).log_normal_(0.5, 0.25)


@case
def geometric_(torch):
    return torch.empty(50).geometric_(0.2)


@case
def cauchy_(torch):
    return torch.empty(20).cauchy_(1.0, 2.0)


@case
def multinomial(torch):
    weights = torch.tensor([0.1, 0.2, 0.0, 0.4, 0.3])
    return torch.multinomial(weights, 20, replacement=True), torch.multinomial(weights, 3)


@case
def generator(torch):
    """A generator of its own leaves the default one where it was."""
    own = torch.Generator().manual_seed(5)
    return torch.rand(4, generator=own), torch.rand(4), torch.randperm(6, generator=own)


@case
def rng_state(torch):
    torch.randn(3)
    state = torch.get_rng_state()
    drawn = torch.randn(4)
    torch.set_rng_state(state)
    return state, drawn, torch.randn(4)


def _initialised(torch, name: str, **options: Any) -> Any:
    return getattr(torch.nn.init, name)(torch.empty(12, 10), **options)


for _name in ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"):
    CASES[_name] = partial(_initialised, name=_name)
CASES["kaiming_relu"] = partial(_initialised, name="kaiming_uniform_", nonlinearity="relu")
CASES["trunc_normal_"] = partial(_initialised, name="trunc_normal_", std=0.02)


@case
def linear(torch):
    return tuple(torch.nn.Linear(20, 10).parameters())


@case
def conv2d(torch):
    return tuple(torch.nn.Conv2d(3, 4, 3).parameters())


@case
def embedding(torch):
    return tuple(torch.nn.Embedding(7, 5).parameters())


@case
def lstm(torch):
    return tuple(torch.nn.LSTM(4, 3).parameters())


@case
def attention(torch):
    return tuple(torch.nn.MultiheadAttention(8, 2).parameters())


def draw(torch: Any, name: str) -> list[Any]:
    """The numbers of the case, as numpy arrays in order."""
    torch.manual_seed(SEED)
    drawn = CASES[name](torch)
    tensors = drawn if isinstance(drawn, tuple) else (drawn,)
    return [tensor.detach().numpy() for tensor in tensors]
