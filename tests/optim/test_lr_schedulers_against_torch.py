"""Every schedule against torch: rates and momenta over some epochs, and saved state."""

import warnings

import pytest

import graphc
import graphc.optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

CASES = [
    ("StepLR", lambda s, o: s.StepLR(o, 3, gamma=0.5)),
    ("MultiStepLR", lambda s, o: s.MultiStepLR(o, [2, 2, 5], gamma=0.5)),
    ("LambdaLR", lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch)),
    ("LambdaLRs", lambda s, o: s.LambdaLR(o, [lambda e: 1 / (e + 1), lambda e: 2.0])),
    ("MultiplicativeLR", lambda s, o: s.MultiplicativeLR(o, lambda epoch: 0.95)),
    ("ConstantLR", lambda s, o: s.ConstantLR(o, 0.25, total_iters=4)),
    ("LinearLR", lambda s, o: s.LinearLR(o, 0.2, 0.9, total_iters=6)),
    ("ExponentialLR", lambda s, o: s.ExponentialLR(o, 0.8)),
    ("PolynomialLR", lambda s, o: s.PolynomialLR(o, total_iters=7, power=2.0)),
    ("CosineAnnealingLR", lambda s, o: s.CosineAnnealingLR(o, 5, eta_min=0.01)),
    ("WarmRestarts", lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, eta_min=0.01)),
    ("CyclicLR", lambda s, o: s.CyclicLR(o, 0.01, 0.5, 3, 2)),
    ("CyclicLR2", lambda s, o: s.CyclicLR(o, 0.01, [0.5, 0.4], 2, mode="triangular2")),
    ("CyclicLRexp", lambda s, o: s.CyclicLR(o, 0.01, 0.5, 2, mode="exp_range", gamma=0.9)),
    ("CyclicLRfn", lambda s, o: s.CyclicLR(o, 0.01, 0.5, 2, scale_fn=lambda x: 1 / x)),
    ("OneCycleLR", lambda s, o: s.OneCycleLR(o, 0.7, total_steps=12)),
    ("OneCycle3", lambda s, o: s.OneCycleLR(o, 0.7, epochs=3, steps_per_epoch=4, three_phase=True)),
    ("OneCycleLinear", lambda s, o: s.OneCycleLR(o, 0.7, 12, anneal_strategy="linear")),
    (
        "SequentialLR",
        lambda s, o: s.SequentialLR(
            o, [s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9), s.StepLR(o, 1)], [3, 6]
        ),
    ),
    (
        "ChainedScheduler",
        lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)]),
    ),
]
IDS = [name for name, _ in CASES]
EPOCHS = 11


def make_optimizer(library, kind="SGD"):
    first, second = (library.zeros(1, requires_grad=True) for _ in range(2))
    options = {"momentum": 0.9} if kind == "SGD" else {}
    groups = [{"params": [first]}, {"params": [second], "lr": 0.2}]
    return getattr(library.optim, kind)(groups, lr=0.1, **options)


def options_of(optimizer):
    keys = ("lr", "momentum", "betas", "initial_lr")
    return [{key: group[key] for key in keys if key in group} for group in optimizer.param_groups]


def approximately(groups):
    return [
        {key: pytest.approx(value, rel=1e-12, abs=1e-15) for key, value in group.items()}
        for group in groups
    ]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name, build", CASES, ids=IDS)
def test_rates_as_torch(name, build, kind):
    optimizer, peer_optimizer = make_optimizer(graphc, kind), make_optimizer(torch, kind)
    scheduler = build(graphc.optim.lr_scheduler, optimizer)
    peer = build(torch.optim.lr_scheduler, peer_optimizer)
    for _ in range(EPOCHS):
        assert options_of(optimizer) == approximately(options_of(peer_optimizer))
        assert scheduler.get_last_lr() == pytest.approx(peer.get_last_lr(), rel=1e-12)
        for one, schedule in ((optimizer, scheduler), (peer_optimizer, peer)):
            one.step()
            schedule.step()


@pytest.mark.parametrize("name, build", CASES, ids=IDS)
def test_saved_state_continues(name, build):
    optimizer = make_optimizer(graphc)
    scheduler = build(graphc.optim.lr_scheduler, optimizer)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    saved = scheduler.state_dict(), optimizer.state_dict()
    peer = build(torch.optim.lr_scheduler, make_optimizer(torch))
    assert saved[0].keys() == peer.state_dict().keys()
    resumed = make_optimizer(graphc)
    resumed_scheduler = build(graphc.optim.lr_scheduler, resumed)
    resumed_scheduler.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for _ in range(4):
        for one, schedule in ((optimizer, scheduler), (resumed, resumed_scheduler)):
            one.step()
            schedule.step()
        assert options_of(optimizer) == options_of(resumed)


@pytest.mark.parametrize(
    "name, build",
    [case for case in CASES if case[0] not in ("SequentialLR", "ChainedScheduler")],
    ids=IDS[:-2],
)
def test_epoch_argument_as_torch(name, build):
    results = []
    for library in (graphc, torch):
        optimizer = make_optimizer(library)
        scheduler = build(library.optim.lr_scheduler, optimizer)
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            scheduler.step(7)
        results.append(options_of(optimizer))
    assert results[0] == approximately(results[1])


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 0, "cooldown": 2, "min_lr": [0.02, 0.01]},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.2, "patience": 1},
    ],
)
def test_plateau_as_torch(options):
    metrics = [1.0, 0.9, 0.9, 0.9, 0.89999, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]
    results = []
    for library in (graphc, torch):
        optimizer = make_optimizer(library)
        scheduler = library.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, **options)
        rates = []
        for metric in metrics:
            scheduler.step(library.tensor(metric, dtype=library.float64))
            rates.append(scheduler.get_last_lr())
        results.append(rates)
    assert results[0] == results[1]


def test_wrong_order_is_warned_of():
    optimizer = make_optimizer(graphc)
    scheduler = graphc.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    with pytest.warns(UserWarning, match="get_last_lr"):
        scheduler.get_lr()


def test_settings_are_checked():
    schedulers, optimizer = graphc.optim.lr_scheduler, make_optimizer(graphc)
    with pytest.raises(TypeError, match="is not an Optimizer"):
        schedulers.StepLR(object(), 1)
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        schedulers.LambdaLR(optimizer, [lambda epoch: 1.0])
    with pytest.raises(ValueError, match="Starting multiplicative factor"):
        schedulers.LinearLR(optimizer, 0.0)
    with pytest.raises(ValueError, match="either total_steps OR"):
        schedulers.OneCycleLR(optimizer, 0.1)
    with pytest.raises(ValueError, match="Expected positive integer T_0"):
        schedulers.CosineAnnealingWarmRestarts(optimizer, 0)
    with pytest.raises(ValueError, match="Factor should be < 1.0"):
        schedulers.ReduceLROnPlateau(optimizer, factor=1.0)
    with pytest.raises(KeyError, match="initial_lr"):
        schedulers.StepLR(optimizer, 1, last_epoch=3)
    with pytest.raises(ValueError, match="to be equal to 0"):
        constant = schedulers.ConstantLR(optimizer)
        schedulers.SequentialLR(optimizer, [constant, constant], [])
    with pytest.raises(ValueError, match="same optimizer"):
        schedulers.ChainedScheduler([constant], make_optimizer(graphc))
    with pytest.raises(ValueError, match="Tried to step 3 times"):
        fresh = make_optimizer(graphc)
        schedule = schedulers.OneCycleLR(fresh, 0.1, total_steps=2)
        for _ in range(3):
            fresh.step()
            schedule.step()
