"""Averaged models, their schedule, and the optimizers of matrices against torch."""

import numpy as np
import pytest

import graphc
import graphc.optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def network(library):
    library.manual_seed(3)
    return library.nn.Sequential(library.nn.Linear(2, 3), library.nn.BatchNorm1d(3))


def batches(library, count=4):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((5, 2)).astype(np.float32) for _ in range(count)]
    return [library.from_numpy(array) for array in arrays]


AVERAGES = {
    "equal": lambda utils: {},
    "ema": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.7)},
    "ema one by one": lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.7)},
    "equal one by one": lambda utils: {"avg_fn": utils.get_swa_avg_fn()},
    "buffers": lambda utils: {"use_buffers": True},
}


@pytest.mark.parametrize("options", AVERAGES.values(), ids=AVERAGES)
def test_averaged_models_as_torch(options):
    results = []
    for library in (graphc, torch):
        model, utils = network(library), library.optim.swa_utils
        average = utils.AveragedModel(model, **options(utils))
        optimizer = library.optim.SGD(model.parameters(), lr=0.05)
        for batch in batches(library):
            optimizer.zero_grad()
            model(batch).tanh().sum().backward()
            optimizer.step()
            average.update_parameters(model)
        averaged = {key: value.numpy().copy() for key, value in average.state_dict().items()}
        utils.update_bn(batches(library), average)
        statistics = {key: value.numpy() for key, value in average.module[1].state_dict().items()}
        assert average.training and average.module[1].momentum == 0.1
        results.append((averaged, statistics))
    for ours, wanted in zip(*results):
        assert list(ours) == list(wanted)
        for key, value in wanted.items():
            np.testing.assert_allclose(ours[key], value, rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("strategy, epochs", [("cos", 4), ("linear", 3), ("linear", 0)])
def test_the_schedule_as_torch(strategy, epochs):
    results = []
    for library in (graphc, torch):
        optimizer = library.optim.SGD([library.zeros(1, requires_grad=True)], lr=0.5)
        scheduler = library.optim.swa_utils.SWALR(optimizer, 0.05, epochs, strategy)
        rates = []
        for _ in range(6):
            optimizer.step()
            scheduler.step()
            rates += scheduler.get_last_lr()
        results.append(rates)
        assert "anneal_func" not in scheduler.state_dict()
    assert results[0] == pytest.approx(results[1], rel=1e-12)


@pytest.mark.parametrize(
    "name, options, tolerance",
    [
        ("Adafactor", {"lr": 0.1, "weight_decay": 0.1}, 1e-5),
        ("Adafactor", {"lr": 0.3, "eps": (1e-3, 0.1), "d": 1.5, "maximize": True}, 1e-5),
        ("Muon", {"lr": 0.1}, 2e-2),  # its iteration is in bfloat16
        ("Muon", {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, 2e-2),
    ],
)
def test_optimizers_of_matrices_as_torch(name, options, tolerance):
    shapes = [(3, 5), (5, 3)] if name == "Muon" else [(3, 5), (4,), (2, 3, 2)]
    results = []
    for library in (graphc, torch):
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        params = [library.from_numpy(array).requires_grad_() for array in arrays]
        optimizer = getattr(library.optim, name)(params, **options)
        for _ in range(4):
            optimizer.zero_grad()
            sum((param.sin() ** 2).sum() for param in params).backward()
            optimizer.step()
        state = optimizer.state_dict()["state"]
        results.append(([p.detach().numpy() for p in params], [list(s) for s in state.values()]))
    for param, wanted in zip(results[0][0], results[1][0]):
        np.testing.assert_allclose(param, wanted, rtol=tolerance, atol=tolerance)
    assert results[0][1] == results[1][1]


def test_settings_are_checked():
    utils, parameter = graphc.optim.swa_utils, graphc.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="Invalid decay value"):
        utils.get_ema_avg_fn(1.5)
    with pytest.raises(AssertionError, match="Only one of"):
        utils.AveragedModel(network(graphc), avg_fn=max, multi_avg_fn=max)
    with pytest.raises(ValueError, match="only supports 2D parameters"):
        graphc.optim.Muon([parameter])
    with pytest.raises(ValueError, match="Clipping threshold"):
        graphc.optim.Adafactor([parameter], d=0.5)
