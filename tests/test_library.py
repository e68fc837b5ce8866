"""The modules around the library: config, cuda, random, testing, version, checkpoint."""

import pytest

import graphc as gc
from graphc import nn
from graphc.ir.errors import DeviceError
from graphc.testing import assert_close, make_tensor
from graphc.utils.checkpoint import checkpoint, checkpoint_sequential


def test_config_fields_are_set_and_checked():
    before = gc.config.verify
    with gc.config.patch(verify="structure"):
        assert gc.config.verify == "structure"
        assert (gc.ones(3) + 1).tolist() == [2, 2, 2]
    assert gc.config.verify == before
    with pytest.raises(ValueError, match="config.verify is one of None, 'structure', 'numeric'"):
        gc.config.verify = "often"
    with pytest.raises(AttributeError, match="config has no field 'speed'; it has backend, "):
        gc.config.speed = 11
    with pytest.raises(ValueError, match="config.target is one of 'host'"):
        gc.config.target = "pdp-11"
    assert "cache_dir" in dir(gc.config)


def test_config_chooses_the_backend():
    with gc.config.patch(backend="reference"):
        assert gc.ones(3).cumsum(0).tolist() == [1, 2, 3]
        assert gc.config.backend == "reference"


def test_cuda_answers_and_refuses():
    assert not gc.cuda.is_available()
    assert gc.cuda.device_count() == 0
    gc.cuda.manual_seed_all(0)
    gc.cuda.empty_cache()
    device = gc.device("cuda" if gc.cuda.is_available() else "cpu")
    assert gc.ones(2, device=device).sum().item() == 2
    for call in (gc.cuda.current_device, gc.cuda.synchronize, gc.cuda.Stream):
        with pytest.raises(DeviceError, match="no CUDA device is available"):
            call()


def test_random_is_the_default_generator():
    gc.random.manual_seed(3)
    state = gc.random.get_rng_state()
    first = gc.rand(3)
    with gc.random.fork_rng():
        gc.rand(5)
    second = gc.rand(2)
    gc.set_rng_state(state)
    assert gc.equal(gc.rand(5), gc.cat([first, second]))
    assert gc.random.initial_seed() == 3


def test_assert_close():
    x = gc.tensor([1.0, 2.0])
    assert_close(x, x + 1e-6)
    assert_close({"a": [x, 1]}, {"a": [x.clone(), 1]})
    assert_close(x, gc.tensor([1.0, 2.1]), rtol=0.1, atol=0)
    with pytest.raises(AssertionError) as caught:
        assert_close(x, gc.tensor([1.0, 2.5]))
    assert str(caught.value) == (
        "Tensor-likes are not close!\n\nMismatched elements: 1 / 2 (50.0%)\n"
        "Greatest absolute difference: 0.5 at index (1,) (up to 1e-05 allowed)\n"
        "Greatest relative difference: 0.2 at index (1,) (up to 1.3e-06 allowed)"
    )
    with pytest.raises(
        AssertionError, match="'dtype' do not match: torch.float32 != torch.float64"
    ):
        assert_close(x, x.double())
    with pytest.raises(AssertionError, match=r"Item \['a'\]"):
        assert_close({"a": 1}, {"a": 2})
    with pytest.raises(AssertionError, match="wrong"):
        assert_close(1.0, 2.0, msg="wrong")
    nan = gc.tensor(float("nan"))
    assert_close(nan, nan, equal_nan=True)
    with pytest.raises(AssertionError):
        assert_close(nan, nan)


@pytest.mark.parametrize("name", "float32 bfloat16 int64 uint8 bool complex64".split())
def test_make_tensor(name):
    gc.manual_seed(0)
    x = make_tensor(4, 5, dtype=getattr(gc, name), exclude_zero=True)
    assert x.shape == (4, 5)
    assert x.dtype is getattr(gc, name)
    assert 0 not in [v for row in x.tolist() for v in row]
    y = make_tensor((3, 4), dtype=gc.float32, low=0, high=1, noncontiguous=True, requires_grad=True)
    assert not y.is_contiguous()
    assert y.requires_grad
    assert 0 <= y.min().item() and y.max().item() < 1


def test_checkpoint_computes_the_same():
    gc.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    x = gc.randn(2, 3, requires_grad=True)
    layers(x).sum().backward()
    expected, x.grad = x.grad, None
    checkpoint(layers, x, use_reentrant=False).sum().backward()
    assert gc.equal(x.grad, expected)
    assert gc.equal(checkpoint_sequential(layers, 2, x), layers(x))


def test_names_that_are_modules_and_functions():
    import graphc.device
    import graphc.tensor

    assert callable(gc.tensor)
    assert isinstance(gc.device("cpu"), graphc.device)
    assert gc.version.__version__ == gc.__version__
