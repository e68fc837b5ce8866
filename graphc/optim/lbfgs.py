"""L-BFGS: a quasi-Newton method with a limited history."""

import graphc as torch
from graphc.optim.optimizer import Optimizer
from graphc.optim.per_parameter import check_lr, number

__all__ = ["LBFGS"]


def _cubic_minimum(x1, f1, g1, x2, f2, g2, bounds=None):
    """Return the minimum, within bounds, of the cubic with these values and slopes."""
    low, high = bounds if bounds is not None else (min(x1, x2), max(x1, x2))
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1**2 - g1 * g2
    if square < 0:
        return (low + high) / 2.0
    d2 = square**0.5
    if x1 <= x2:
        place = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        place = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(place, low), high)


class _Point:
    """The objective along the search direction: step, value, gradient and slope."""

    def __init__(self, step, value, grad, slope):
        self.step = step
        self.value = value
        self.grad = grad
        self.slope = slope


class _WolfeSearch:
    """Line search for the strong Wolfe conditions (Nocedal and Wright, algorithms 3.5, 3.6)."""

    def __init__(self, evaluate, start, c1=1e-4, c2=0.9):
        self.evaluate = evaluate
        self.start = start
        self.c1 = c1
        self.c2 = c2
        self.evaluations = 0

    def at(self, step):
        """Return the point at ``step``."""
        self.evaluations += 1
        return _Point(step, *self.evaluate(step))

    def _rises(self, point):
        start = self.start
        return point.value > start.value + self.c1 * point.step * start.slope

    def _is_flat(self, point):
        return abs(point.slope) <= -self.c2 * self.start.slope

    def bracket(self, step, limit):
        """Return (points around a minimum, whether the first is good, iterations used)."""
        before, point = self.start, self.at(step)
        for iteration in range(limit):
            if self._rises(point) or (iteration > 1 and point.value >= before.value):
                return [before, point], False, iteration
            if self._is_flat(point):
                return [point], True, iteration
            if point.slope >= 0:
                return [before, point], False, iteration
            bounds = (point.step + 0.01 * (point.step - before.step), point.step * 10)
            step = _between(before, point, bounds)
            before, point = point, self.at(step)
        return [self.start, point], False, limit

    def zoom(self, points, done, iteration, limit, smallest):
        """Narrow the bracket until its better point satisfies the conditions; return it."""
        little_progress = False
        low, high = (0, 1) if points[0].value <= points[-1].value else (1, 0)
        while not done and iteration < limit:
            ends = (points[0].step, points[1].step)
            if abs(ends[1] - ends[0]) < smallest:
                break
            step = _between(points[0], points[1])
            margin = 0.1 * (max(ends) - min(ends))
            if min(max(ends) - step, step - min(ends)) < margin:
                outside = step >= max(ends) or step <= min(ends)
                if little_progress or outside:
                    upper = abs(step - max(ends)) < abs(step - min(ends))
                    step = max(ends) - margin if upper else min(ends) + margin
                    little_progress = False
                else:
                    little_progress = True
            else:
                little_progress = False
            point = self.at(step)
            iteration += 1
            if self._rises(point) or point.value >= points[low].value:
                points[high] = point
                low, high = (0, 1) if points[0].value <= points[1].value else (1, 0)
            else:
                if self._is_flat(point):
                    done = True
                elif point.slope * (points[high].step - points[low].step) >= 0:
                    points[high] = points[low]
                points[low] = point
        return points[low]


def _between(first, second, bounds=None):
    return _cubic_minimum(
        first.step,
        first.value,
        first.slope,
        second.step,
        second.value,
        second.slope,
        bounds,
    )


class LBFGS(Optimizer):
    """Minimises with an approximation of the inverse Hessian from the last gradients.

    ``step`` needs a closure, which clears the gradients, computes the loss and its gradients
    and returns the loss; it is called several times.

    Args:
        params: parameters; one group only.
        lr: step length (the first step is shortened).
        max_iter: most iterations of a step.
        max_eval: most evaluations of a step; None: 5/4 of ``max_iter``.
        tolerance_grad: end where no element of the gradient is larger.
        tolerance_change: end where neither value nor parameters change more.
        history_size: number of past updates kept.
        line_search_fn: "strong_wolfe" or None.

    Raises:
        ValueError: several groups, or an invalid rate.
    """

    def __init__(
        self,
        params,
        lr=1,
        max_iter=20,
        max_eval=None,
        tolerance_grad=1e-7,
        tolerance_change=1e-9,
        history_size=100,
        line_search_fn=None,
    ):
        check_lr(lr)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params = self.param_groups[0]["params"]

    def _flat_grad(self):
        """Return all gradients as one real vector; missing ones are zero."""
        parts = []
        for param in self._params:
            grad = torch.zeros_like(param) if param.grad is None else param.grad
            grad = grad.to_dense() if grad.is_sparse else grad
            parts.append((torch.view_as_real(grad) if grad.is_complex() else grad).reshape(-1))
        return torch.cat(parts)

    def _move(self, step, direction):
        """Add ``step * direction`` to the parameters."""
        offset = 0
        for param in self._params:
            real = torch.view_as_real(param) if param.is_complex() else param
            count = real.numel()
            real.add_(direction[offset : offset + count].view_as(real), alpha=step)
            offset += count

    def _search(self, closure, start, direction, step, evaluations_left, tolerance):
        """Return the point of the line search and the number of evaluations."""
        origin = [param.clone() for param in self._params]

        def evaluate(step):
            self._move(step, direction)
            value = float(closure())
            grad = self._flat_grad()
            for param, values in zip(self._params, origin, strict=True):
                param.copy_(values)
            return value, grad, grad.dot(direction).item()

        search = _WolfeSearch(evaluate, start)
        smallest = tolerance / direction.abs().max().item()
        points, done, iteration = search.bracket(step, evaluations_left)
        best = search.zoom(points, done, iteration, evaluations_left, smallest)
        return best, search.evaluations

    def step(self, closure):
        """Do up to ``max_iter`` iterations; return the first loss of ``closure``."""
        with torch.no_grad():
            return self._step(torch.enable_grad()(closure))

    def _step(self, closure):
        group = self.param_groups[0]
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        first_loss = closure()
        loss = float(first_loss)
        evaluations = 1
        state["func_evals"] += 1
        grad = self._flat_grad()
        if grad.abs().max() <= group["tolerance_grad"]:
            return first_loss
        lr = number(group["lr"])
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, grad, group["history_size"])
            step = lr
            if state["n_iter"] == 1:
                step = min(1.0, 1.0 / grad.abs().sum().item()) * lr
            state["d"], state["t"] = direction, step
            state["prev_flat_grad"], state["prev_loss"] = grad.clone(), loss
            slope = grad.dot(direction).item()
            if slope > -group["tolerance_change"]:
                break
            before = loss
            used = 0
            if group["line_search_fn"] is not None:
                start = _Point(0, loss, grad, slope)
                left = group["max_eval"] - evaluations
                tolerance = group["tolerance_change"]
                best, used = self._search(closure, start, direction, step, left, tolerance)
                loss, grad, step = best.value, best.grad, best.step
                state["t"] = step
                self._move(step, direction)
            else:
                self._move(step, direction)
                if iteration != group["max_iter"]:
                    loss = float(closure())
                    grad = self._flat_grad()
                    used = 1
            evaluations += used
            state["func_evals"] += used
            if iteration == group["max_iter"] or evaluations >= group["max_eval"]:
                break
            if grad.abs().max() <= group["tolerance_grad"]:
                break
            if (direction * step).abs().max() <= group["tolerance_change"]:
                break
            if abs(loss - before) < group["tolerance_change"]:
                break
        return first_loss

    @staticmethod
    def _direction(state, grad, history_size):
        """Return minus the approximate inverse Hessian times the gradient (two-loop recursion)."""
        if state["n_iter"] == 1:
            state["old_dirs"], state["old_stps"], state["ro"] = [], [], []
            state["H_diag"] = 1
            return grad.neg()
        changes, steps, inverses = state["old_dirs"], state["old_stps"], state["ro"]
        change = grad - state["prev_flat_grad"]
        step = state["d"] * state["t"]
        curvature = change.dot(step).item()
        if curvature > 1e-10:
            if len(changes) == history_size:
                for history in (changes, steps, inverses):
                    history.pop(0)
            changes.append(change)
            steps.append(step)
            inverses.append(1.0 / curvature)
            state["H_diag"] = curvature / change.dot(change).item()
        direction = grad.neg()
        weights = [0.0] * len(changes)
        for i in reversed(range(len(changes))):
            weights[i] = steps[i].dot(direction).item() * inverses[i]
            direction = direction.add(changes[i], alpha=-weights[i])
        direction = direction * state["H_diag"]
        for i in range(len(changes)):
            correction = changes[i].dot(direction).item() * inverses[i]
            direction = direction.add(steps[i], alpha=weights[i] - correction)
        return direction
