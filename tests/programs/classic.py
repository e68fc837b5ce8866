"""Models without deep networks: embeddings, factors, regressions, clusters."""


def word_embeddings(torch):
    """Skip-gram with negative sampling: sparse-looking lookups, bmm, logsigmoid, neighbours."""
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)
    corpus = (
        "the king rules the land and the queen rules the land while "
        "the dog chases the cat and the cat chases the mouse"
    ).split()
    vocab = {w: i for i, w in enumerate(dict.fromkeys(corpus))}
    ids = [vocab[w] for w in corpus]
    pairs = [
        (ids[i], ids[j])
        for i in range(len(ids))
        for j in range(max(0, i - 2), min(len(ids), i + 3))
        if i != j
    ]
    pairs = torch.tensor(pairs)
    counts = torch.bincount(torch.tensor(ids), minlength=len(vocab)).float()

    class SkipGram(nn.Module):
        def __init__(self, n, dim):
            super().__init__()
            self.in_embed = nn.Embedding(n, dim)
            self.out_embed = nn.Embedding(n, dim)
            self.in_embed.weight.data.uniform_(-1, 1)
            self.out_embed.weight.data.zero_()

        def forward(self, centre, context, noise):
            v = self.in_embed(centre).unsqueeze(2)
            positive = F.logsigmoid(torch.bmm(self.out_embed(context).unsqueeze(1), v)).squeeze()
            negative = F.logsigmoid(-torch.bmm(self.out_embed(noise), v)).squeeze(2).sum(1)
            return -(positive + negative).mean()

    model = SkipGram(len(vocab), 10)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.3)
    probs = counts.pow(0.75) / counts.pow(0.75).sum()
    losses = []
    for step in range(20):
        batch = pairs[torch.randperm(len(pairs))[:32]]
        noise = torch.multinomial(probs, 32 * 4, replacement=True).view(32, 4)
        loss = model(batch[:, 0], batch[:, 1], noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    embeddings = F.normalize(model.in_embed.weight.detach(), dim=1)
    similarity = embeddings[vocab["king"]] @ embeddings.T
    similarity[vocab["king"]] = -1
    best = similarity.argsort(descending=True)[:3]
    return {"losses": losses, "nearest": best.tolist(), "queen": similarity[vocab["queen"]].item()}


def matrix_factorisation(torch):
    """Ratings by users and items with biases; the test error by masks."""
    nn = torch.nn
    torch.manual_seed(1)

    class MF(nn.Module):
        def __init__(self, users, items, k=6):
            super().__init__()
            self.user, self.item = nn.Embedding(users, k), nn.Embedding(items, k)
            self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
            self.mean = nn.Parameter(torch.tensor(3.0))
            for table in (self.user, self.item):
                nn.init.normal_(table.weight, std=0.1)

        def forward(self, u, i):
            dots = (self.user(u) * self.item(i)).sum(-1)
            return dots + self.user_bias(u).squeeze() + self.item_bias(i).squeeze() + self.mean

    truth = torch.randn(20, 3) @ torch.randn(3, 15) + 3
    observed = torch.rand(20, 15) < 0.5
    users, items = observed.nonzero(as_tuple=True)
    ratings = truth[observed].clamp(1, 5).round()
    model = MF(20, 15)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    losses = []
    for step in range(30):
        loss = nn.functional.mse_loss(model(users, items), ratings)
        penalty = sum(p.pow(2.0).sum() for p in model.parameters())
        optimizer.zero_grad()
        (loss + 1e-4 * penalty).backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        u, i = torch.where(~observed)
        error = (model(u, i) - truth[u, i].clamp(1, 5)).abs().mean()
    return {"losses": losses, "error": error, "observed": int(observed.sum())}


def logistic_regression_lbfgs(torch):
    """LBFGS with a strong Wolfe line search in float64; a decision by sign."""
    torch.manual_seed(2)
    x = torch.randn(80, 5, dtype=torch.float64)
    w_true = torch.tensor([1.5, -2.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    y = (x @ w_true + 0.3 * torch.randn(80, dtype=torch.float64) > 0).double()
    w = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], lr=1, max_iter=12, line_search_fn="strong_wolfe")
    losses = []

    def closure():
        optimizer.zero_grad()
        logits = x @ w + b
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
        loss = loss + 0.01 * (w**2).sum()
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(closure)
    accuracy = ((x @ w + b > 0) == (y > 0.5)).double().mean()
    return {"losses": losses, "weights": w, "accuracy": accuracy}


def softmax_regression_by_hand(torch):
    """No nn, no optim: parameters with requires_grad_, updates under no_grad, zeroed gradients."""
    torch.manual_seed(3)
    x = torch.randn(64, 8)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    W = (torch.randn(8, 3) / 8**0.5).requires_grad_()
    b = torch.zeros(3, requires_grad=True)
    losses = []
    for epoch in range(5):
        for i in range((64 - 1) // 16 + 1):
            xb, yb = x[i * 16 : (i + 1) * 16], labels[i * 16 : (i + 1) * 16]
            logits = xb @ W + b
            logp = logits - logits.exp().sum(-1).log().unsqueeze(-1)
            loss = -logp[range(yb.shape[0]), yb].mean()
            loss.backward()
            with torch.no_grad():
                W -= W.grad * 0.5
                b -= b.grad * 0.5
                W.grad.zero_()
                b.grad.zero_()
            losses.append(f"{loss:.6f}")
    predictions = torch.argmax(x @ W + b, dim=1)
    return {
        "losses": [float(each) for each in losses],
        "accuracy": (predictions == labels).float().mean().item(),
    }


def polynomial_numpy_to_autograd(torch):
    """The first tutorial: a third order polynomial fitted to a sine, three ways."""
    torch.manual_seed(4)
    x = torch.linspace(-3.14159, 3.14159, 200)
    y = torch.sin(x)
    a, b, c, d = (torch.randn(()) for _ in range(4))
    learning_rate = 1e-4
    for t in range(60):
        y_pred = a + b * x + c * x**2 + d * x**3
        grad_y_pred = 2.0 * (y_pred - y)
        a -= learning_rate * grad_y_pred.sum()
        b -= learning_rate * (grad_y_pred * x).sum()
        c -= learning_rate * (grad_y_pred * x**2).sum() * 0.1
        d -= learning_rate * (grad_y_pred * x**3).sum() * 0.01
    by_hand = [a.item(), b.item(), c.item(), d.item()]
    xx = x.unsqueeze(-1).pow(torch.tensor([1, 2, 3]))
    model = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0, 1))
    loss_fn = torch.nn.MSELoss(reduction="sum")
    losses = []
    for t in range(60):
        loss = loss_fn(model(xx), y)
        if t % 10 == 9:
            losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for param in model.parameters():
                param -= 1e-6 * param.grad
    linear_layer = model[0]
    return {
        "by_hand": by_hand,
        "losses": losses,
        "bias": linear_layer.bias.item(),
        "weight": linear_layer.weight[:, 0].item(),
    }


def k_means(torch):
    """Lloyd's algorithm with cdist, argmin, scatter_add_ and an early stop."""
    torch.manual_seed(5)
    points = torch.cat([torch.randn(40, 2) + torch.tensor(c) for c in ([0.0, 5], [5, 0], [-4, -4])])
    centres = points[torch.randperm(len(points))[:3]].clone()
    for step in range(20):
        assignment = torch.cdist(points, centres).argmin(dim=1)
        sums = torch.zeros(3, 2).scatter_add_(0, assignment[:, None].expand(-1, 2), points)
        counts = torch.bincount(assignment, minlength=3).clamp(min=1)
        updated = sums / counts.unsqueeze(1)
        if torch.allclose(updated, centres):
            break
        centres = updated
    inertia = sum(
        ((points[assignment == k] - centres[k]) ** 2).sum().item() for k in range(len(centres))
    )
    order = centres[:, 0].sort().indices
    return {"centres": centres[order], "inertia": inertia, "steps": step}
