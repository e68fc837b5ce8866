"""Large updates in parts: the same bits, less memory, nothing lost."""

import pytest

import graphc as torch
from graphc import nn
from graphc.backends.llvm.memory import ScratchPool, heap
from graphc.frontends import parts, record
from graphc.frontends.parts import parts_of
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.types import parse_type

LAYERS, WIDTH = 8, 160
LAYER_BYTES = 4 * WIDTH * WIDTH


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "LEAST_BYTES", 4 * LAYER_BYTES)
    monkeypatch.setattr(parts, "PART_BYTES", LAYER_BYTES)


@pytest.fixture
def ran(monkeypatch):
    """The parts that ran."""
    found = []
    before_parts(monkeypatch, found.append)
    return found


def before_parts(monkeypatch, look):
    """Calls `look` with each part that runs, into new memory or over what it replaces."""

    def noted(run):
        def looked(part, *given):
            look(part)
            return run(part, *given)

        return looked

    for name in ("run", "run_over"):
        monkeypatch.setattr(parts.Part, name, noted(getattr(parts.Part, name)))


def network():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(WIDTH, WIDTH, generator=generator) for _ in range(LAYERS)]
    return [nn.Parameter(weight * 0.1) for weight in weights]


def train(optimizer, steps=3, clip=False, look=lambda weights: None):
    record.of_thread.recorder = record.Recorder()  # no entries of another test
    weights = network()
    made = optimizer(weights)
    x = torch.linspace(-1, 1, 8 * WIDTH).reshape(8, WIDTH)
    for _ in range(steps):
        y = x
        for weight in weights:
            y = (y @ weight).tanh()
        made.zero_grad()
        (y**2).mean().backward()
        if clip:
            nn.utils.clip_grad_norm_(weights, 1e-3)
        look(weights)
        made.step()
    return [weight.detach().numpy().tobytes() for weight in weights]


OPTIMIZERS = {
    "adam": lambda weights: torch.optim.Adam(weights, 1e-2),
    "adamw": lambda weights: torch.optim.AdamW(weights, 1e-2, amsgrad=True),
    "momentum": lambda weights: torch.optim.SGD(weights, 1e-2, momentum=0.9),
}


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parts_give_the_bits_of_the_whole(monkeypatch, small_parts, ran, name, clip):
    found = train(OPTIMIZERS[name], clip=clip)
    assert bool(ran) is not clip  # a norm of all gradients joins all updates
    monkeypatch.setattr(parts, "LEAST_BYTES", 1 << 60)
    ran.clear()
    assert train(OPTIMIZERS[name], clip=clip) == found
    assert not ran


def test_what_is_replaced_is_given_back_part_by_part(monkeypatch, small_parts):
    def added_by_a_step():
        found = []

        def watched(weights):
            made = OPTIMIZERS["adam"](weights)
            step = made.step

            def watch():
                [weight.grad.sum().item() for weight in weights]  # all that it reads is computed
                heap.reset_peak()
                before = heap.allocated
                step()
                found.append((heap.peak - before) / LAYER_BYTES)

            made.step = watch
            return made

        train(watched)
        return found[-1]

    assert added_by_a_step() < 0.1  # all is written over what it replaces
    monkeypatch.setattr(parts, "is_alone", lambda cells, slot: False)
    assert 0 < added_by_a_step() < 5
    monkeypatch.setattr(parts, "LEAST_BYTES", 1 << 60)
    assert added_by_a_step() > 3 * LAYERS


def test_values_that_somebody_holds_stay(small_parts):
    kept = []
    train(
        OPTIMIZERS["adam"],
        steps=2,
        look=lambda weights: kept.append([weight.detach() * 1 for weight in weights]),
    )
    fresh = network()
    for old, weight in zip(kept[0], fresh, strict=True):
        assert torch.equal(old, weight.detach())


def test_an_interrupt_between_parts_loses_nothing(monkeypatch, small_parts, ran):
    expected = train(OPTIMIZERS["momentum"], steps=3)
    stopped = []
    ran.clear()

    def interrupt(part):
        if len(ran) == 3 and not stopped:
            stopped.append(part)
            raise KeyboardInterrupt

    before_parts(monkeypatch, interrupt)
    interrupts = []
    assert train(lambda weights: resilient(weights, interrupts), steps=3) == expected
    assert stopped and interrupts


def resilient(weights, interrupts):
    """An optimizer whose step notes an interrupt and goes on."""
    made = OPTIMIZERS["momentum"](weights)
    step = made.step

    def again():
        try:
            step()
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)

    made.step = again
    return made


@pytest.mark.parametrize("place", ["take", "give"])  # before the code runs, and after it
def test_an_interrupt_within_a_part_that_overwrites_loses_nothing(monkeypatch, small_parts, place):
    expected = train(OPTIMIZERS["momentum"], steps=3)
    inside, stopped = [], []
    run_over, moved = parts.Part.run_over, getattr(ScratchPool, place)

    def over(part, *given):
        inside.append(part)
        try:
            run_over(part, *given)
        finally:
            inside.pop()

    def interrupted(pool, *given):
        found = moved(pool, *given)
        if inside and not stopped:
            stopped.append(pool)
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(parts.Part, "run_over", over)
    monkeypatch.setattr(ScratchPool, place, interrupted)
    interrupts = []
    assert train(lambda weights: resilient(weights, interrupts), steps=3) == expected
    assert stopped and interrupts


HELD = {
    "detach": lambda weight: weight.detach(),
    "numpy": lambda weight: weight.detach().numpy(),
    "view": lambda weight: weight.detach()[0],
    "clone": lambda weight: weight.detach().clone(),
    "computed": lambda weight: weight.detach() + 1,
}


@pytest.mark.parametrize("held", HELD)
def test_what_others_hold_is_as_without_parts(monkeypatch, small_parts, held):
    def values():
        kept = []
        train(
            OPTIMIZERS["adam"],
            look=lambda weights: kept.append([HELD[held](weight) for weight in weights]),
        )
        return [torch.as_tensor(one).tolist() for step in kept for one in step]

    found = values()
    monkeypatch.setattr(parts, "LEAST_BYTES", 1 << 60)
    assert values() == found


def test_hooks_and_moments_are_kept(monkeypatch, small_parts):
    def steps():
        seen, made = [], []

        def with_hook(weights):
            weights[0].register_hook(lambda gradient: seen.append(gradient.sum().item()))
            made.append(OPTIMIZERS["adam"](weights))
            return made[0]

        weights = train(with_hook)
        moments = [s["exp_avg"].tolist() for s in made[0].state_dict()["state"].values()]
        return weights, seen, moments

    found = steps()
    assert len(found[1]) == 3
    monkeypatch.setattr(parts, "LEAST_BYTES", 1 << 60)
    assert steps() == found


def graph_of(function, *types):
    return trace(function, *map(parse_type, types))


BIG = "f32[2000000]"  # 8 MB


def split(graph):
    return parts_of(graph, [8_000_000] * len(graph.results), lambda part: part)


def test_pieces_share_numbers_and_nothing_else():
    def steps(*xs):
        *xs, number = xs
        scaled = [ops.mul(x, ops.expand(number, shape=(2000000,), axes=(0,))) for x in xs]
        return [*scaled, *[ops.neg(x) for x in xs]]

    found = split(graph_of(steps, *[BIG] * 6, "f32[]"))
    assert [list(part.results) for part in found] == [[k, k + 6] for k in range(6)]
    assert [list(part.params) for part in found] == [[k, 6] for k in range(6)]
    assert [list(part.last) for part in found] == [[k] for k in range(5)] + [[5, 6]]


def test_what_reads_one_large_value_stays_together():
    def shared(*xs):
        total = ops.reduce_sum(xs[0], axes=(0,))
        return [ops.mul(x, ops.expand(total, shape=(2000000,), axes=(0,))) for x in xs]

    assert split(graph_of(shared, *[BIG] * 10)) == []


def test_small_updates_are_whole():
    assert split(graph_of(lambda *xs: [ops.neg(x) for x in xs], *[BIG] * 8)) == []
