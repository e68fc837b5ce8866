"""How training loops are written: data, schedules, accumulation, checkpoints of activations."""

import math


def custom_dataset(torch):
    """A Dataset with a transform, random_split, DataLoader with workers, train and test loops."""
    nn, data = torch.nn, torch.utils.data
    torch.manual_seed(0)

    class Spirals(data.Dataset):
        def __init__(self, n, transform=None):
            t = torch.linspace(0.5, 3, n)
            angle = 2 * t + torch.arange(n) % 2 * math.pi
            self.points = torch.stack([t * angle.cos(), t * angle.sin()], 1)
            self.labels = torch.arange(n) % 2
            self.transform = transform

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, idx):
            point = self.points[idx]
            if self.transform:
                point = self.transform(point)
            return {"point": point, "label": int(self.labels[idx])}

    dataset = Spirals(90, transform=lambda p: p / 3)
    train, test = data.random_split(dataset, [70, 20])
    loader = data.DataLoader(train, batch_size=16, shuffle=True, num_workers=2, drop_last=False)
    test_loader = data.DataLoader(test, batch_size=20)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    device = torch.device("cpu")
    model.to(device)
    losses = []
    for epoch in range(3):
        model.train()
        for batch_idx, batch in enumerate(loader):
            X, y = batch["point"].to(device), batch["label"].to(device)
            loss = nn.functional.cross_entropy(model(X), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for batch in test_loader:
            pred = model(batch["point"])
            test_loss += nn.functional.cross_entropy(pred, batch["label"]).item()
            correct += (pred.argmax(1) == batch["label"]).type(torch.float).sum().item()
    return {"losses": losses, "test": test_loss / len(test_loader), "correct": correct}


def tensor_dataset(torch):
    """TensorDataset, WeightedRandomSampler, a collate function, uneven last batches, dropout."""
    nn, data = torch.nn, torch.utils.data
    torch.manual_seed(1)
    x = torch.randn(50, 6)
    y = (x.sum(1) > 1).float()
    weights = torch.where(y == 1, 1 / y.mean(), 1 / (1 - y.mean()))
    sampler = data.WeightedRandomSampler(weights, num_samples=50, replacement=True)

    def collate(items):
        xs, ys = zip(*items)
        return torch.stack(xs) + 0.01 * torch.randn(len(xs), 6), torch.stack(ys)

    loader = data.DataLoader(
        data.TensorDataset(x, y), batch_size=12, sampler=sampler, collate_fn=collate
    )
    model = nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ELU(), nn.Dropout(0.3), nn.Linear(16, 1)
    )
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.5]))
    optimizer = torch.optim.NAdam(model.parameters(), lr=0.02)
    losses = []
    for epoch in range(3):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(model(xb).squeeze(1), yb)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return {"losses": losses, "tracked": model[1].num_batches_tracked, "var": model[1].running_var}


def checkpointing_and_accumulation(torch):
    """Activation checkpoints in a deep net, gradients over micro-batches, a norm each step."""
    nn, checkpoint = torch.nn, torch.utils.checkpoint.checkpoint
    torch.manual_seed(2)

    class Deep(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12), nn.SiLU(), nn.Dropout(0.1))
                for _ in range(depth)
            )
            self.head = nn.Linear(12, 1)

        def forward(self, x):
            for block in self.blocks:
                x = x + checkpoint(block, x, use_reentrant=False)
            return self.head(x)

    model = Deep(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, target = torch.randn(32, 12), torch.randn(32, 1)
    losses, norms, accumulate = [], [], 4
    for step in range(6):
        optimizer.zero_grad()
        total = 0.0
        for xb, tb in zip(x.chunk(accumulate), target.chunk(accumulate)):
            loss = nn.functional.huber_loss(model(xb), tb) / accumulate
            loss.backward()
            total += loss.detach()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5).item())
        optimizer.step()
        losses.append(total.item())
    return {"losses": losses, "norms": norms}


def schedulers(torch):
    """Groups with their own rates, a chain of schedulers, ReduceLROnPlateau, rates by hand."""
    nn, sched = torch.nn, torch.optim.lr_scheduler
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 16), nn.Softplus(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters(), "lr": 1e-3}, {"params": model[2].parameters()}], lr=1e-2
    )
    warm = sched.LinearLR(optimizer, start_factor=0.1, total_iters=5)
    decay = sched.CosineAnnealingWarmRestarts(optimizer, T_0=6)
    chain = sched.SequentialLR(optimizer, [warm, decay], milestones=[5])
    plateau_opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
    plateau = sched.ReduceLROnPlateau(plateau_opt, factor=0.5, patience=1)
    x = torch.randn(40, 5)
    y = x.prod(1, keepdim=True).tanh()
    losses, rates = [], []
    for step in range(20):
        loss = nn.functional.l1_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        chain.step()
        plateau.step(1.0 if step > 5 else 1.0 / (step + 1))
        if step == 15:
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
        losses.append(loss.item())
        rates.append(
            [g["lr"] for g in optimizer.param_groups] + [plateau_opt.param_groups[0]["lr"]]
        )
    return {"losses": losses, "rates": rates}


def exponential_average(torch):
    """An EMA by hand under no_grad, AveragedModel from swa_utils, deepcopy of a model."""
    import copy

    nn = torch.nn
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 1))
    ema = copy.deepcopy(model)
    for p in ema.parameters():
        p.requires_grad_(False)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(32, 4), torch.randn(32, 1)
    losses = []
    for step in range(15):
        loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for p, q in zip(ema.parameters(), model.parameters()):
                p.mul_(0.9).add_(q, alpha=0.1)
        averaged.update_parameters(model)
        losses.append(loss.item())
    with torch.no_grad():
        ends = [((m(x) - y) ** 2).mean().item() for m in (model, ema, averaged)]
    return {"losses": losses, "ends": ends}


def custom_functions(torch):
    """autograd.Function: a straight-through sign, a scaled gradient, a Legendre polynomial."""
    torch.manual_seed(5)
    Function = torch.autograd.Function

    class LegendrePolynomial3(Function):
        @staticmethod
        def forward(ctx, input):
            ctx.save_for_backward(input)
            return 0.5 * (5 * input**3 - 3 * input)

        @staticmethod
        def backward(ctx, grad_output):
            (input,) = ctx.saved_tensors
            return grad_output * 1.5 * (5 * input**2 - 1)

    class Sign(Function):
        @staticmethod
        def forward(ctx, x, slope):
            ctx.save_for_backward(x)
            ctx.slope = slope
            return x.sign()

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * (x.abs() <= 1) * ctx.slope, None

    x = torch.linspace(-math.pi, math.pi, 100)
    y = torch.sin(x)
    a, b, c, d = (torch.full((), v, requires_grad=True) for v in (0.0, -1.0, 0.0, 0.3))
    losses = []
    for t in range(40):
        y_pred = a + b * LegendrePolynomial3.apply(c + d * x)
        loss = (y_pred - y).pow(2).sum()
        if t % 8 == 7:
            losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for p in (a, b, c, d):
                p -= 5e-4 * p.grad
                p.grad = None
    w = torch.randn(6, 4, requires_grad=True)
    binary = []
    for step in range(8):
        out = torch.randn(10, 6) @ Sign.apply(w, 2.0)
        out.square().mean().backward()
        with torch.no_grad():
            w.sub_(w.grad, alpha=0.05)
        w.grad.zero_()
        binary.append(out.abs().mean().item())
    return {"losses": losses, "parameters": [a, b, c, d], "binary": binary, "w": w}
