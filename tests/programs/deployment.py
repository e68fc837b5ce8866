"""Programs that leave Python: traced, saved and loaded, exported to ONNX, compiled."""

import io
import os
import tempfile


def _model(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 16, 20),
        nn.LeakyReLU(0.1),
        nn.Linear(20, 5),
    )


def trace_save_load(torch):
    """jit.trace of an evaluated model, saved to memory and to a file, loaded and run."""
    torch.manual_seed(0)
    model = _model(torch).eval()
    example = torch.rand(2, 1, 8, 8)
    traced = torch.jit.trace(model, example)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.pt")
        traced.save(path)
        again = torch.jit.load(path)
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        outputs = [m(x) for m in (model, traced, loaded, again)]
    return {"outputs": outputs, "spread": max((outputs[0] - o).abs().max().item() for o in outputs)}


def trace_function(torch):
    """A traced function of two tensors, differentiated."""
    torch.manual_seed(1)

    def distance(x, y):
        return ((x[:, None] - y[None]) ** 2).sum(-1).sqrt()

    x, y = torch.randn(4, 3), torch.randn(5, 3)
    traced = torch.jit.trace(distance, (x, y))
    z = torch.randn(4, 3, requires_grad=True)
    out = traced(z, y)
    out.sum().backward()
    return {"out": out, "grad": z.grad}


def onnx_round_trip(torch):
    """torch.onnx.export with names and a dynamic batch, checked with onnx's own checker."""
    import onnx
    import onnx.reference

    torch.manual_seed(2)
    model = _model(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.rand(8, 1, 8, 8), torch.randint(5, (8,))
    losses = []
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        torch.onnx.export(
            model,
            (x,),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamo=False,
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
        result = onnx.reference.ReferenceEvaluator(proto).run(None, {"image": x[:3].numpy()})[0]
    with torch.no_grad():
        expected = model(x[:3])
    names = [i.name for i in proto.graph.input] == ["image"]
    return {"losses": losses, "expected": expected, "exported": result, "names": names}


def compiled_model(torch):
    """compile() of a model, of a function by its decorator, in a training loop."""
    torch.manual_seed(3)
    backend = {"backend": "eager"} if torch.__name__ == "torch" else {}
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.GELU(), torch.nn.Linear(16, 2))
    fast = torch.compile(model, **backend)

    @torch.compile(**backend)
    def objective(prediction, target):
        return (prediction - target).pow(2).mean() + 0.01 * prediction.abs().sum()

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(20):
        x = torch.randn(10, 6)
        target = torch.stack([x[:, 0] * x[:, 1], x.sum(1)], 1)
        loss = objective(fast(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        last = fast(torch.ones(3, 6))
    return {"losses": losses, "last": last, "keys": len(model.state_dict())}
