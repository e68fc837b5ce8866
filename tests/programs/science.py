"""Numeric programs: differential equations, stencils, fractals, optimisation with Hessians."""

import math


def physics_informed(torch):
    """u'' = -pi^2 sin(pi x) by a network whose loss holds second derivatives."""
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    boundary = torch.tensor([[0.0], [1.0]])
    losses = []
    for step in range(25):
        x = torch.rand(32, 1, requires_grad=True)
        u = net(x)
        du = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
        ddu = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
        residual = ddu + math.pi**2 * torch.sin(math.pi * x)
        loss = residual.pow(2).mean() + 10 * net(boundary).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def neural_ode(torch):
    """RK4 through a network; the loss over a whole trajectory."""
    nn = torch.nn
    torch.manual_seed(1)

    def rk4(f, y, t0, t1, steps):
        h, ys = (t1 - t0) / steps, [y]
        for i in range(steps):
            k1 = f(y)
            k2 = f(y + h / 2 * k1)
            k3 = f(y + h / 2 * k2)
            k4 = f(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            ys.append(y)
        return torch.stack(ys)

    A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
    true_y0 = torch.tensor([[2.0, 0.0]])
    with torch.no_grad():
        true_y = rk4(lambda y: y**3 @ A, true_y0, 0.0, 1.0, 12)
    func = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    for m in func.modules():
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, mean=0, std=0.1)
            nn.init.constant_(m.bias, val=0)
    optimizer = torch.optim.RMSprop(func.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        optimizer.zero_grad()
        loss = torch.mean(torch.abs(rk4(lambda y: func(y**3), true_y0, 0.0, 1.0, 12) - true_y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"losses": losses, "end": true_y[-1, 0]}


def mandelbrot(torch):
    """Escape times with boolean masks written in place."""
    y, x = torch.meshgrid(torch.linspace(-1.3, 1.3, 24), torch.linspace(-2, 1, 30), indexing="ij")
    zr, zi = torch.zeros_like(x), torch.zeros_like(y)
    counts = torch.zeros(x.shape, dtype=torch.int32)
    for i in range(30):
        zr, zi = zr * zr - zi * zi + x, 2 * zr * zi + y
        escaped = (zr * zr + zi * zi > 4) & (counts == 0)
        counts[escaped] = i + 1
        zr[escaped], zi[escaped] = 0.0, 0.0
    return {"counts": counts, "inside": (counts == 0).sum()}


def game_of_life(torch):
    """A glider on a torus by roll, and the same by a convolution."""
    board = torch.zeros(12, 12, dtype=torch.uint8)
    board[1, 2] = board[2, 3] = board[3, 1] = board[3, 2] = board[3, 3] = 1
    other, kernel = board.float(), torch.ones(1, 1, 3, 3)
    kernel[0, 0, 1, 1] = 0
    alive = []
    for generation in range(20):
        neighbours = sum(
            torch.roll(board, (dy, dx), dims=(0, 1))
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy, dx) != (0, 0)
        )
        board = ((neighbours == 3) | ((board == 1) & (neighbours == 2))).to(torch.uint8)
        padded = torch.nn.functional.pad(other[None, None], (1, 1, 1, 1), mode="circular")
        count = torch.conv2d(padded, kernel)[0, 0]
        other = torch.where(count == 3, 1.0, torch.where(count == 2, other, 0.0))
        alive.append(int(board.sum()))
    return {"alive": alive, "board": board, "same": torch.equal(board.float(), other)}


def jacobi_and_gauss_seidel(torch):
    """Laplace's equation: slices written in place, red and black points, a residual each sweep."""
    u = torch.zeros(18, 18, dtype=torch.float64)
    u[0, :] = 1.0
    u[:, -1] = torch.linspace(1, 0, 18, dtype=torch.float64)
    v = u.clone()
    residuals = []
    for sweep in range(30):
        new = 0.25 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:])
        residuals.append((new - u[1:-1, 1:-1]).abs().max().item())
        u[1:-1, 1:-1] = new
    for sweep in range(5):
        for i in range(1, 17):
            v[i, 1:-1] = 0.25 * (v[i - 1, 1:-1] + v[i + 1, 1:-1] + v[i, :-2] + v[i, 2:])
    return {"residuals": residuals, "u": u.mean(), "v": v[8]}


def heat_and_wave(torch):
    """Explicit steps that swap buffers, `out=` arguments, copy_ and add_ with alpha."""
    n = 40
    u = torch.exp(-((torch.linspace(-3, 3, n)) ** 2))
    previous, current = u.clone(), u.clone()
    laplacian = torch.empty(n - 2)
    energies = []
    for step in range(40):
        torch.sub(current[2:], current[1:-1], alpha=2, out=laplacian)
        laplacian += current[:-2]
        following = torch.zeros(n)
        following[1:-1] = 2 * current[1:-1] - previous[1:-1] + 0.2 * laplacian
        previous, current = current, following
        u[1:-1].add_(u[2:] - 2 * u[1:-1] + u[:-2], alpha=0.25)
        if step % 10 == 0:
            energies.append(torch.sum(current**2).item())
    scratch = torch.empty_like(u).copy_(u).mul_(2).clamp_(max=1.0)
    return {"energies": energies, "heat": u, "wave": current, "scratch": scratch.sum()}


def newton_with_hessian(torch):
    """Rosenbrock's function by Newton steps: jacobian, hessian, solve."""
    functional = torch.autograd.functional

    def rosenbrock(x):
        return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()

    x = torch.tensor([-1.2, 1.0, 0.5], dtype=torch.float64)
    values = []
    for step in range(12):
        g = functional.jacobian(rosenbrock, x)
        H = functional.hessian(rosenbrock, x) + 1e-3 * torch.eye(3, dtype=torch.float64)
        direction = torch.linalg.solve(H, g)
        t = 1.0
        while rosenbrock(x - t * direction) > rosenbrock(x) and t > 1e-4:
            t *= 0.5
        x = x - t * direction
        values.append(rosenbrock(x).item())
    return {"values": values, "x": x}


def monte_carlo_and_power_iteration(torch):
    """pi by darts in chunks, the largest eigenvalue by power iteration, an option by paths."""
    torch.manual_seed(7)
    inside = 0
    for chunk in range(10):
        darts = torch.rand(500, 2)
        inside += (darts.norm(dim=1) <= 1).sum().item()
    A = torch.randn(12, 12)
    A = A @ A.T + torch.eye(12)
    v = torch.ones(12)
    for i in range(50):
        v = A @ v
        v /= v.norm()
    eigenvalue = torch.dot(v, A @ v)
    S, K, sigma, r, T, steps = 100.0, 105.0, 0.2, 0.05, 1.0, 16
    dt = T / steps
    increments = (r - 0.5 * sigma**2) * dt + sigma * math.sqrt(dt) * torch.randn(400, steps)
    paths = S * torch.exp(torch.cumsum(increments, dim=1))
    payoff = torch.maximum(paths.mean(1) - K, torch.zeros(()))
    return {
        "pi": 4 * inside / 5000,
        "eigenvalue": eigenvalue,
        "price": payoff.mean() * math.exp(-r),
        "quantiles": torch.quantile(paths[:, -1], torch.tensor([0.05, 0.5, 0.95])),
    }
