"""Every layer against torch: first parameters bit for bit, text, outputs and gradients."""

import numpy as np
import pytest

import graphc
import graphc.nn as gnn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

# Name, constructor arguments, shapes of the inputs; a string names a special input.
LAYERS = [
    ("Linear", (5, 3), {}, [(4, 5)]),
    ("Linear", (5, 3), {"bias": False}, [(2, 4, 5)]),
    ("Bilinear", (5, 4, 3), {}, [(2, 5), (2, 4)]),
    ("Identity", (54,), {"unused": 1}, [(2, 3)]),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, [(2, 4, 9)]),
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2}, [(2, 4, 9)]),
    ("Conv2d", (3, 4, 3), {"padding": 1}, [(2, 3, 6, 5)]),
    ("Conv2d", (3, 4, (3, 2)), {"padding": 1, "padding_mode": "reflect"}, [(2, 3, 6, 5)]),
    ("Conv2d", (3, 4, 3), {"padding": "same", "padding_mode": "circular"}, [(2, 3, 6, 5)]),
    ("Conv2d", (3, 4, 3), {"padding_mode": "replicate", "padding": (1, 2)}, [(3, 6, 5)]),
    ("Conv2d", (4, 4, 3), {"groups": 4, "bias": False, "dilation": 2}, [(2, 4, 7, 7)]),
    ("Conv3d", (2, 3, 2), {}, [(2, 2, 4, 4, 3)]),
    ("ConvTranspose1d", (4, 3, 3), {"stride": 2, "output_padding": 1}, [(2, 4, 5)]),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, [(2, 4, 5, 4)]),
    ("ConvTranspose3d", (2, 3, 2), {"dilation": 2}, [(1, 2, 3, 3, 2)]),
    ("BatchNorm1d", (4,), {}, [(6, 4)]),
    ("BatchNorm1d", (4,), {"momentum": None}, [(6, 4, 3)]),
    ("BatchNorm2d", (3,), {"affine": False}, [(2, 3, 4, 5)]),
    ("BatchNorm2d", (3,), {"track_running_stats": False, "bias": False}, [(2, 3, 4, 5)]),
    ("BatchNorm3d", (3,), {"momentum": 0.3, "eps": 1e-3}, [(2, 3, 2, 4, 3)]),
    ("InstanceNorm1d", (3,), {"affine": True}, [(2, 3, 5)]),
    ("InstanceNorm2d", (3,), {"track_running_stats": True}, [(2, 3, 4, 5)]),
    ("InstanceNorm2d", (3,), {}, [(3, 4, 5)]),
    ("InstanceNorm3d", (3,), {}, [(2, 3, 2, 4, 3)]),
    ("LayerNorm", (5,), {}, [(3, 5)]),
    ("LayerNorm", ((4, 5),), {"elementwise_affine": False}, [(3, 4, 5)]),
    ("LayerNorm", (5,), {"bias": False, "eps": 1e-3}, [(3, 5)]),
    ("GroupNorm", (2, 4), {}, [(3, 4, 5)]),
    ("GroupNorm", (2, 4), {"affine": False}, [(3, 4)]),
    ("RMSNorm", (5,), {}, [(3, 5)]),
    ("RMSNorm", ((4, 5),), {"eps": 1e-3, "elementwise_affine": False}, [(3, 4, 5)]),
    ("LocalResponseNorm", (3,), {}, [(2, 5, 4, 4)]),
    ("ReLU", (), {}, [(3, 4)]),
    ("ReLU6", (), {"inplace": False}, [(3, 4)]),
    ("Hardtanh", (-0.5, 0.7), {}, [(3, 4)]),
    ("LeakyReLU", (0.2,), {}, [(3, 4)]),
    ("PReLU", (4,), {"init": 0.1}, [(3, 4)]),
    ("RReLU", (0.2, 0.2), {}, [(3, 4)]),
    ("ELU", (0.7,), {}, [(3, 4)]),
    ("SELU", (), {}, [(3, 4)]),
    ("CELU", (0.7,), {}, [(3, 4)]),
    ("GELU", (), {}, [(3, 4)]),
    ("GELU", ("tanh",), {}, [(3, 4)]),
    ("SiLU", (), {}, [(3, 4)]),
    ("Mish", (), {}, [(3, 4)]),
    ("Sigmoid", (), {}, [(3, 4)]),
    ("Tanh", (), {}, [(3, 4)]),
    ("LogSigmoid", (), {}, [(3, 4)]),
    ("Softplus", (2.0, 1.0), {}, [(3, 4)]),
    ("Softsign", (), {}, [(3, 4)]),
    ("Tanhshrink", (), {}, [(3, 4)]),
    ("Hardshrink", (0.3,), {}, [(3, 4)]),
    ("Softshrink", (0.3,), {}, [(3, 4)]),
    ("Hardswish", (), {}, [(3, 4)]),
    ("Hardsigmoid", (), {}, [(3, 4)]),
    ("Threshold", (0.1, -2.0), {}, [(3, 4)]),
    ("GLU", (1,), {}, [(3, 4)]),
    ("Softmax", (1,), {}, [(3, 4)]),
    ("LogSoftmax", (), {"dim": 0}, [(3, 4)]),
    ("Softmin", (-1,), {}, [(3, 4)]),
    ("Softmax2d", (), {}, [(2, 3, 4, 2)]),
    ("MaxPool1d", (2,), {}, [(2, 3, 7)]),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, [(2, 3, 7, 6)]),
    ("MaxPool3d", (2,), {}, [(2, 3, 4, 5, 4)]),
    ("AvgPool1d", (2,), {"padding": 1}, [(2, 3, 7)]),
    ("AvgPool2d", (3, 2), {"padding": 1, "count_include_pad": False}, [(2, 3, 7, 6)]),
    ("AvgPool3d", (2,), {"divisor_override": 3}, [(2, 3, 4, 5, 4)]),
    ("LPPool1d", (3, 2), {}, [(2, 3, 7)]),
    ("LPPool2d", (2, 2), {"stride": 1}, [(2, 3, 5, 4)]),
    ("AdaptiveAvgPool1d", (3,), {}, [(2, 3, 7)]),
    ("AdaptiveAvgPool2d", ((3, None),), {}, [(2, 3, 7, 5)]),
    ("AdaptiveAvgPool3d", (2,), {}, [(2, 3, 4, 5, 3)]),
    ("AdaptiveMaxPool1d", (3,), {}, [(2, 3, 7)]),
    ("AdaptiveMaxPool2d", ((2, 3),), {}, [(2, 3, 7, 5)]),
    ("AdaptiveMaxPool3d", (2,), {}, [(2, 3, 4, 5, 3)]),
    ("ConstantPad1d", ((1, 2), 0.5), {}, [(2, 3)]),
    ("ConstantPad2d", (1, 0.5), {}, [(2, 3, 4)]),
    ("ConstantPad3d", (1, 0.5), {}, [(2, 3, 4, 2)]),
    ("ZeroPad1d", (2,), {}, [(2, 3)]),
    ("ZeroPad2d", ((1, -1, 0, 2),), {}, [(2, 3, 4)]),
    ("ZeroPad3d", (1,), {}, [(2, 3, 4, 2)]),
    ("ReflectionPad1d", (2,), {}, [(2, 3)]),
    ("ReflectionPad2d", ((1, 2, 0, 1),), {}, [(2, 3, 4)]),
    ("ReflectionPad3d", (1,), {}, [(2, 3, 4, 2)]),
    ("ReplicationPad1d", (2,), {}, [(2, 3)]),
    ("ReplicationPad2d", (1,), {}, [(2, 3, 4)]),
    ("ReplicationPad3d", (1,), {}, [(2, 3, 4, 2)]),
    ("CircularPad1d", (2,), {}, [(2, 3)]),
    ("CircularPad2d", (1,), {}, [(2, 3, 4)]),
    ("CircularPad3d", (1,), {}, [(2, 3, 4, 2)]),
    ("Flatten", (), {}, [(2, 3, 4)]),
    ("Unflatten", (1, (2, 3)), {}, [(2, 6)]),
    ("PixelShuffle", (2,), {}, [(2, 8, 3, 2)]),
    ("PixelUnshuffle", (2,), {}, [(2, 2, 4, 6)]),
    ("ChannelShuffle", (2,), {}, [(2, 4, 3, 2)]),
    ("Fold", ((4, 5), (2, 2)), {}, [(1, 12, 12)]),
    ("Unfold", ((2, 3),), {"padding": 1}, [(2, 3, 4, 5)]),
    ("Upsample", (), {"scale_factor": 2}, [(2, 3, 4, 3)]),
    ("Upsample", (), {"size": (5, 7), "mode": "bilinear", "align_corners": True}, [(2, 3, 4, 3)]),
    ("UpsamplingNearest2d", (), {"size": (5, 6)}, [(2, 3, 4, 3)]),
    ("UpsamplingBilinear2d", (), {"scale_factor": 2}, [(2, 3, 4, 3)]),
    ("CosineSimilarity", (), {}, [(3, 4), (3, 4)]),
    ("PairwiseDistance", (), {"p": 1.0, "keepdim": True}, [(3, 4), (3, 4)]),
]
LOSSES = [
    ("L1Loss", (), {}, [(3, 4), (3, 4)]),
    ("MSELoss", (), {"reduction": "sum"}, [(3, 4), (3, 4)]),
    ("SmoothL1Loss", (), {"beta": 0.5, "reduction": "none"}, [(3, 4), (3, 4)]),
    ("HuberLoss", (), {"delta": 0.5}, [(3, 4), (3, 4)]),
    ("NLLLoss", (), {"ignore_index": 2}, [(5, 4), "classes"]),
    ("CrossEntropyLoss", (), {}, [(5, 4), "classes"]),
    ("CrossEntropyLoss", (), {"label_smoothing": 0.1, "reduction": "sum"}, [(5, 4), "classes"]),
    ("CrossEntropyLoss", (), {}, [(5, 4), "probabilities"]),
    ("PoissonNLLLoss", (), {}, [(3, 4), "positive"]),
    ("GaussianNLLLoss", (), {}, [(3, 4), (3, 4), "positive"]),
    ("KLDivLoss", (), {"reduction": "batchmean"}, [(5, 4), "probabilities"]),
    ("BCELoss", (), {}, ["probabilities", "probabilities"]),
    ("BCEWithLogitsLoss", (), {}, [(5, 4), "probabilities"]),
    ("HingeEmbeddingLoss", (0.5,), {}, [(5,), "signs"]),
    ("SoftMarginLoss", (), {}, [(5,), "signs"]),
    ("MultiLabelSoftMarginLoss", (), {}, [(5, 4), "probabilities"]),
    ("CosineEmbeddingLoss", (0.2,), {}, [(5, 4), (5, 4), "signs"]),
    ("MarginRankingLoss", (0.3,), {}, [(5,), (5,), "signs"]),
    ("MultiMarginLoss", (), {"p": 2}, [(5, 4), "classes"]),
    ("TripletMarginLoss", (), {"swap": True}, [(5, 4), (5, 4), (5, 4)]),
    ("TripletMarginWithDistanceLoss", (), {}, [(5, 4), (5, 4), (5, 4)]),
]
CASES = LAYERS + LOSSES
DROPOUTS = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
DROPOUT_SHAPES = {"Dropout1d": (4, 5, 3), "Dropout2d": (4, 5, 3, 2), "Dropout3d": (4, 5, 3, 2, 2)}


def make_input(rng, what):
    if what == "classes":
        return rng.integers(0, 4, 5)
    if what == "signs":
        return np.array([1.0, -1.0, 1.0, -1.0, -1.0], np.float32)
    if what == "positive":
        return rng.uniform(0.1, 2.0, (3, 4)).astype(np.float32)
    if what == "probabilities":
        values = rng.uniform(0.1, 1.0, (5, 4))
        return (values / values.sum(1, keepdims=True)).astype(np.float32)
    return rng.standard_normal(what).astype(np.float32)


def build(library, nn, name, args, kwargs):
    library.manual_seed(3)
    return getattr(nn, name)(*args, **kwargs)


def to_numpy(tensor):
    return tensor.detach().numpy()


def run(library, module, arrays, fixed=()):
    """Return the output, and the gradients of its weighted sum for inputs and parameters.

    The inputs at the places `fixed` get none.
    """
    inputs = [library.from_numpy(array.copy()) for array in arrays]
    for place, tensor in enumerate(inputs):
        tensor.requires_grad_(tensor.is_floating_point() and place not in fixed)
    library.manual_seed(7)
    output = module(*inputs)
    weights = np.random.default_rng(1).standard_normal(tuple(output.shape)).astype(np.float32)
    (output * library.from_numpy(weights)).sum().backward()
    leaves = [*inputs, *module.parameters()]
    return [to_numpy(output), *(to_numpy(leaf.grad) for leaf in leaves if leaf.grad is not None)]


def case_id(case):
    name, args, kwargs, _ = case
    return f"{name}{args}{kwargs}"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_as_torch(case):
    name, args, kwargs, shapes = case
    ours = build(graphc, gnn, name, args, kwargs)
    theirs = build(torch, torch.nn, name, args, kwargs)
    assert repr(ours) == repr(theirs)
    state, expected_state = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(expected_state)
    for key, expected in expected_state.items():
        np.testing.assert_array_equal(to_numpy(state[key]), to_numpy(expected), err_msg=key)
    rng = np.random.default_rng(0)
    arrays = [make_input(rng, shape) for shape in shapes]
    fixed = [place for place, shape in enumerate(shapes) if place and isinstance(shape, str)]
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        ours.zero_grad(), theirs.zero_grad()
        results = run(graphc, ours, arrays, fixed)
        expected = run(torch, theirs, arrays, fixed)
        assert len(results) == len(expected)
        for result, wanted in zip(results, expected):
            np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-6)
    for key, expected in theirs.state_dict().items():  # running statistics
        result = to_numpy(ours.state_dict()[key])
        np.testing.assert_allclose(result, to_numpy(expected), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropouts_draw_as_torch(name):
    array = np.random.default_rng(0).standard_normal(DROPOUT_SHAPES.get(name, (4, 5)))
    arrays = [array.astype(np.float32)]
    ours, theirs = getattr(gnn, name)(0.4), getattr(torch.nn, name)(0.4)
    assert repr(ours) == repr(theirs)
    for result, wanted in zip(run(graphc, ours, arrays), run(torch, theirs, arrays)):
        np.testing.assert_allclose(result, wanted, rtol=1e-6, atol=1e-7)
    ours.eval()
    np.testing.assert_array_equal(run(graphc, ours, arrays)[0], arrays[0])


@pytest.mark.parametrize("kwargs", [{}, {"padding_idx": -1}, {"max_norm": 1.0}])
def test_embedding_as_torch(kwargs):
    ours = build(graphc, gnn, "Embedding", (6, 3), kwargs)
    theirs = build(torch, torch.nn, "Embedding", (6, 3), kwargs)
    assert repr(ours) == repr(theirs)
    indices = np.array([[0, 5, 2], [5, 5, 1]])
    for result, wanted in zip(run(graphc, ours, [indices]), run(torch, theirs, [indices])):
        np.testing.assert_allclose(result, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag_as_torch(mode):
    kwargs = {"mode": mode, "padding_idx": 1}
    ours = build(graphc, gnn, "EmbeddingBag", (6, 3), kwargs)
    theirs = build(torch, torch.nn, "EmbeddingBag", (6, 3), kwargs)
    assert repr(ours) == repr(theirs)
    indices = np.array([0, 5, 2, 5, 1, 4])
    offsets = np.array([0, 2, 3])
    results = run(graphc, ours, [indices, offsets])
    for result, wanted in zip(results, run(torch, theirs, [indices, offsets])):
        np.testing.assert_allclose(result, wanted, rtol=1e-6, atol=1e-7)


def test_conv_transpose_output_size():
    ours = build(graphc, gnn, "ConvTranspose2d", (2, 3, 3), {"stride": 2, "padding": 1})
    theirs = build(torch, torch.nn, "ConvTranspose2d", (2, 3, 3), {"stride": 2, "padding": 1})
    array = np.random.default_rng(0).standard_normal((1, 2, 4, 5)).astype(np.float32)
    for size in ([8, 10], [1, 3, 7, 9]):
        result = ours(graphc.from_numpy(array), output_size=size)
        wanted = theirs(torch.from_numpy(array), output_size=size)
        np.testing.assert_allclose(to_numpy(result), to_numpy(wanted), rtol=2e-5, atol=2e-6)
    with pytest.raises(ValueError, match="requested an output size of"):
        ours(graphc.from_numpy(array), output_size=[9, 10])


def test_constructor_errors():
    for name, args, kwargs, message in [
        ("Conv2d", (3, 4, 3), {"groups": 2}, "in_channels must be divisible by groups"),
        ("Conv2d", (3, 4, 3), {"padding": "full"}, "Invalid padding string"),
        ("Conv2d", (3, 4, 3), {"padding": "same", "stride": 2}, "strided"),
        ("ConvTranspose2d", (3, 4, 3), {"padding_mode": "reflect"}, "zeros"),
        ("Dropout", (1.5,), {}, "dropout probability"),
        ("GroupNorm", (3, 4), {}, "divisible"),
        ("TripletMarginLoss", (0,), {}, "margin"),
        ("MultiMarginLoss", (3,), {}, "only p == 1 and p == 2"),
        ("FractionalMaxPool2d", (2,), {}, "either an output size"),
    ]:
        with pytest.raises(ValueError, match=message):
            getattr(gnn, name)(*args, **kwargs)
