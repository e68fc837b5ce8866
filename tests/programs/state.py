"""Modules from the inside: hooks, shared parameters, states saved and loaded, freezing."""

import io
import os
import tempfile


def save_and_resume(torch):
    """Training interrupted, saved with its optimizer and generator, and resumed from the file."""
    nn = torch.nn

    def build():
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 4, gamma=0.5)

    def train(model, optimizer, scheduler, x, y, steps):
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        return losses

    torch.manual_seed(0)
    x, y = torch.randn(20, 6), torch.randint(0, 3, (20,))
    model, optimizer, scheduler = build()
    first = train(model, optimizer, scheduler, x, y, 6)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint.pt")
        torch.save(
            {
                "epoch": 6,
                "model_state_dict": model.state_dict(),
                "optimizer_state_dict": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "rng": torch.get_rng_state(),
                "loss": first[-1],
            },
            path,
        )
        straight = train(model, optimizer, scheduler, x, y, 6)
        model, optimizer, scheduler = build()
        checkpoint = torch.load(path, weights_only=True)
    print(model.load_state_dict(checkpoint["model_state_dict"]), file=io.StringIO())
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    scheduler.load_state_dict(checkpoint["scheduler"])
    torch.set_rng_state(checkpoint["rng"])
    resumed = train(model, optimizer, scheduler, x, y, 6)
    return {
        "first": first,
        "straight": straight,
        "resumed": resumed,
        "equal": straight == resumed,
        "epoch": checkpoint["epoch"],
    }


def feature_hooks(torch):
    """Forward hooks that collect activations, backward hooks, a hook on a tensor, Grad-CAM."""
    nn = torch.nn
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    features, gradients, handles = {}, {}, []

    def keep(name):
        def hook(module, input, output):
            features[name] = output

        return hook

    handles.append(model[1].register_forward_hook(keep("relu1")))
    handles.append(model[3].register_forward_hook(keep("relu2")))
    handles.append(
        model[3].register_full_backward_hook(
            lambda module, grad_input, grad_output: gradients.update(relu2=grad_output[0])
        )
    )
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    seen = []
    x.register_hook(lambda grad: seen.append(grad.abs().max().item()))
    logits = model(x)
    logits.retain_grad()
    logits[:, 1].sum().backward()
    weights = gradients["relu2"].mean(dim=(2, 3), keepdim=True)
    cam = torch.relu((weights * features["relu2"]).sum(1)).detach()
    for handle in handles:
        handle.remove()
    features.clear()
    model(x)
    halved = torch.ones(3, requires_grad=True)
    halved.register_hook(lambda grad: grad / 2)
    (halved * 3).sum().backward()
    return {
        "cam": cam,
        "seen": seen,
        "grad": x.grad.norm(),
        "logits": logits.grad,
        "halved": halved.grad,
        "left": len(features),
    }


def shared_parameters(torch):
    """A tied autoencoder, a module called twice, weight norm, a frozen part, a lazy layer."""
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(2)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(10, 4)
            self.bias = nn.Parameter(torch.zeros(10))
            self.twice = nn.Linear(4, 4)
            self.frozen = nn.Linear(4, 4)
            self.gain = nn.ParameterList([nn.Parameter(torch.ones(1)) for _ in range(2)])
            for p in self.frozen.parameters():
                p.requires_grad = False

        def forward(self, x):
            h = torch.tanh(self.encoder(x)) * self.gain[0]
            h = self.twice(F.relu(self.twice(h))) + self.frozen(h) * self.gain[1]
            return F.linear(h, self.encoder.weight.t(), self.bias)

    model = Tied()
    x = torch.randn(16, 10)
    trainable = filter(lambda p: p.requires_grad, model.parameters())
    optimizer = torch.optim.Adamax(trainable, lr=1e-2)
    before = model.frozen.weight.clone()
    losses = []
    for step in range(15):
        loss = F.smooth_l1_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    lazy = nn.Sequential(nn.LazyLinear(5), nn.GELU(), nn.LazyLinear(2))
    out = lazy(x)
    normed(torch.randn(2, 4)).sum().backward()
    names = [name for name, _ in model.named_parameters()]
    return {
        "losses": losses,
        "same": torch.equal(before, model.frozen.weight),
        "count": len(names),
        "lazy": out.mean(),
        "g": normed.parametrizations.weight.original0.grad,
    }


def initialisers(torch):
    """Every initialiser of nn.init that users reach for, statistics of what they drew."""
    nn = torch.nn
    torch.manual_seed(3)
    drawn = {}
    for name, arguments in {
        "xavier_uniform_": {"gain": nn.init.calculate_gain("relu")},
        "xavier_normal_": {},
        "kaiming_uniform_": {"mode": "fan_in", "nonlinearity": "leaky_relu"},
        "kaiming_normal_": {"mode": "fan_out"},
        "orthogonal_": {},
        "trunc_normal_": {"std": 0.5},
        "sparse_": {"sparsity": 0.25},
        "eye_": {},
    }.items():
        w = torch.empty(8, 6)
        getattr(nn.init, name)(w, **arguments)
        drawn[name] = [w.mean(), w.std(), w[0, 0], w.abs().max()]
    gate = nn.LSTM(3, 4)
    for name, p in gate.named_parameters():
        if "weight" in name:
            nn.init.orthogonal_(p)
        elif "bias" in name:
            nn.init.constant_(p, 0)
            p.data[4:8].fill_(1)
    drawn["lstm"] = gate(torch.ones(2, 1, 3))[0]
    return drawn
