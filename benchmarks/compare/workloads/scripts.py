"""Loops in Python over small tensors, as scripts have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..workload import Arrays, Workload

STEPS = 300


def plane(rows: int = 256, columns: int = 384) -> Callable[[], Arrays]:
    """Real and imaginary parts of the points of a picture."""

    def make() -> Arrays:
        x, y = np.meshgrid(np.linspace(-2, 1, columns), np.linspace(-1.2, 1.2, rows))
        return x.astype(np.float32), y.astype(np.float32)

    return make


def pendulums() -> Arrays:
    return np.linspace(-1, 1, 16, dtype=np.float32), np.zeros(16, np.float32)


def cells() -> Arrays:
    return ((np.random.default_rng(0).random((128, 128)) < 0.3).astype(np.float32),)


def plate() -> Arrays:
    """A square with one hot edge."""
    found = np.zeros((130, 130), np.float32)
    found[0] = 1.0
    return (found,)


def mandelbrot_step(zx: Any, zy: Any, cx: Any, cy: Any, count: Any, inside: Any) -> Any:
    """One step of z -> z*z + c, counted while |z| < 2; z keeps its place once it is far out."""
    near = zx * zx + zy * zy < 4.0
    x, y = zx * zx - zy * zy + cx, 2.0 * zx * zy + cy
    return inside(near, x, zx), inside(near, y, zy), inside(near, count + 1.0, count)


def mandelbrot(torch: Any) -> Callable[..., Any]:
    def run(cx: Any, cy: Any) -> Any:
        zx, zy, count = torch.zeros_like(cx), torch.zeros_like(cx), torch.zeros_like(cx)
        for _ in range(50):
            zx, zy, count = mandelbrot_step(zx, zy, cx, cy, count, torch.where)
        return count

    return run


def jax_mandelbrot(jax: Any) -> Callable[..., Any]:
    def run(cx: Any, cy: Any) -> Any:
        zero = jax.numpy.zeros_like(cx)

        def step(_: Any, state: Any) -> Any:
            zx, zy, count = state
            return mandelbrot_step(zx, zy, cx, cy, count, jax.numpy.where)

        return jax.lax.fori_loop(0, 50, step, (zero, zero, zero))[2]

    return run


def slope(x: Any, v: Any) -> tuple[Any, Any]:
    """A damped pendulum's."""
    return v, -(x.sin() + v * 0.1)


def runge_kutta_step(x: Any, v: Any, slope: Callable[..., Any] = slope, h: float = 0.01) -> Any:
    a1, b1 = slope(x, v)
    a2, b2 = slope(x + a1 * (h / 2), v + b1 * (h / 2))
    a3, b3 = slope(x + a2 * (h / 2), v + b2 * (h / 2))
    a4, b4 = slope(x + a3 * h, v + b3 * h)
    x = x + (a1 + a2 * 2.0 + a3 * 2.0 + a4) * (h / 6)
    return x, v + (b1 + b2 * 2.0 + b3 * 2.0 + b4) * (h / 6)


def runge_kutta(torch: Any) -> Callable[..., Any]:
    def run(x: Any, v: Any) -> Any:
        for _ in range(STEPS):
            x, v = runge_kutta_step(x, v)
        return x, v

    return run


def jax_runge_kutta(jax: Any) -> Callable[..., Any]:
    def of_jax(x: Any, v: Any) -> tuple[Any, Any]:
        return v, -(jax.numpy.sin(x) + v * 0.1)

    def step(_: Any, state: Any) -> Any:
        return runge_kutta_step(*state, slope=of_jax)

    return lambda x, v: jax.lax.fori_loop(0, STEPS, step, (x, v))


def adds(torch: Any) -> Callable[..., Any]:
    def run(x: Any, step: Any) -> Any:
        for _ in range(1000):
            x = x + step
        return x

    return run


def jax_adds(jax: Any) -> Callable[..., Any]:
    return lambda x, step: jax.lax.fori_loop(0, 1000, lambda _, x: x + step, x)


def jacobi(torch: Any) -> Callable[..., Any]:
    """100 sweeps, written to the inner part in place."""

    def run(start: Any) -> Any:
        u = start.clone()
        for _ in range(100):
            u[1:-1, 1:-1] = (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]) * 0.25
        return u

    return run


def jax_jacobi(jax: Any) -> Callable[..., Any]:
    def step(_: Any, u: Any) -> Any:
        new = (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]) * 0.25
        return u.at[1:-1, 1:-1].set(new)

    return lambda u: jax.lax.fori_loop(0, 100, step, u)


def life(torch: Any) -> Callable[..., Any]:
    """50 generations on a torus."""

    def run(x: Any) -> Any:
        for _ in range(50):
            rows = x.roll(1, 0) + x + x.roll(-1, 0)
            around = rows.roll(1, 1) + rows + rows.roll(-1, 1) - x
            x = ((around == 3) | ((around == 2) & (x == 1))).float()
        return x

    return run


def jax_life(jax: Any) -> Callable[..., Any]:
    roll = jax.numpy.roll

    def step(_: Any, x: Any) -> Any:
        rows = roll(x, 1, 0) + x + roll(x, -1, 0)
        around = roll(rows, 1, 1) + rows + roll(rows, -1, 1) - x
        return ((around == 3) | ((around == 2) & (x == 1))).astype(x.dtype)

    return lambda x: jax.lax.fori_loop(0, 50, step, x)


def script(name: str, inputs: Any, torch: Any, jax: Any, **options: Any) -> Workload:
    return Workload(f"scripts/{name}", inputs, torch, jax, **options)


WORKLOADS = [
    script("mandelbrot", plane(), mandelbrot, jax_mandelbrot, tolerance=0.1),
    script("rk4-300", pendulums, runge_kutta, jax_runge_kutta),
    script("adds-1000", pendulums, adds, jax_adds),
    script("jacobi-100", plate, jacobi, jax_jacobi),
    script("life-50", cells, life, jax_life),
]
