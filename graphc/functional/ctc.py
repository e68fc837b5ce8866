"""Connectionist temporal classification: the likelihood of a labelling over all alignments."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..frontends.function import function
from ..ir import ops
from ..ir.build import trace
from ..ir.dtype import I64
from ..ir.errors import ShapeError
from ..ir.graph import Value
from ..tensor import Tensor, from_array
from .loss import _reduction
from .parts import sliced
from .promote import to_dtype

_NEVER = -1e30  # the logarithm of no chance; finite, so that differences stay numbers


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean",
             zero_infinity=False):  # fmt: skip
    """Minus the log-likelihood of targets under log_probs [T, N, C] or [T, C].

    targets: [N, S], or all of them one after the other. The lengths are tensors or sequences of
    ints. "mean" divides each loss by its target's length. A target that is longer than its input
    has the loss inf, or 0 with zero_infinity.
    """
    mode = _reduction(None, None, reduction)
    alone = len(log_probs.shape) == 2
    if len(log_probs.shape) not in (2, 3):
        raise ShapeError(
            f"ctc_loss takes log_probs [T, N, C] or [T, C], not {log_probs._type.text}"
        )
    x = log_probs.unsqueeze(1) if alone else log_probs
    count, classes = x.shape[1], x.shape[2]
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    n_in, n_out = _lengths(input_lengths, count), _lengths(target_lengths, count)
    labels = _padded(targets, n_out, count)
    losses = _ctc(x, labels, n_in, n_out, blank, zero_infinity)
    if alone:
        losses = losses.squeeze(0)
    if mode == "none":
        return losses
    if mode == "sum":
        return losses.sum()
    return (losses / n_out.clamp(min=1).to(losses.dtype)).mean()


def _lengths(given: Any, count: int) -> Tensor:
    made = given if isinstance(given, Tensor) else from_array(np.array(given, np.int64))
    if made.numel() != count:
        raise RuntimeError(f"input_lengths and target_lengths must be of size batch_size ({count})")
    return made.reshape(count).long()


def _padded(targets: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Targets as [N, S]."""
    if len(targets.shape) == 2:
        return targets.long()
    sizes = np.array(lengths.tolist(), np.int64)
    width, starts = int(sizes.max(initial=0)), np.cumsum(sizes) - sizes
    if count == 1:
        return targets.long().reshape(1, -1)
    last = max(targets.numel() - 1, 0)
    places = np.minimum(starts[:, None] + np.arange(width), last)
    return targets.long()[from_array(places)]


@function(register=False)
def _ctc(log_probs, labels, n_in, n_out, blank, zero_infinity):
    steps, count, _ = log_probs.type.shape
    extended = _extended(labels, blank)
    width = extended.type.shape[1]
    wide = ops.expand(extended, shape=(steps, count, width), axes=(0,))
    scores = ops.take_along(log_probs, wide, 2)
    place = ops.iota((count, width), 1, I64, scores.type.device)
    alpha = _begin(scores, place)
    times = ops.iota((steps, count, width), 0, I64, scores.type.device)
    ends = ops.expand(n_in, shape=(count, width), axes=(1,))
    given = [
        alpha,
        _after_first(scores),
        _after_first(times),
        ends,
        _may_skip(extended, place, blank),
    ]
    step = trace(_advance, alpha.type, *[v.type.with_shape(v.type.shape[1:]) for v in given[1:3]],
                 *[v.type for v in given[3:]])  # fmt: skip
    alpha = ops.scan(step, [alpha], given[1:3], given[3:], steps - 1)[0]
    last = ops.add(n_out, n_out)
    losses = ops.neg(_log_sum(_end(alpha, last, place), _before_end(alpha, last, place)))
    impossible = ops.lt(ops.full_like(-_NEVER / 10, losses), losses)
    instead = ops.full_like(0.0 if zero_infinity else float("inf"), losses)
    return ops.select(impossible, instead, losses)


def _begin(scores: Value, place: Value) -> Value:
    """The likelihoods after one step: only the first blank and the first label are possible."""
    first = ops.lt(place, ops.full_like(2, place))
    start = ops.reshape(sliced(scores, 0, 0, 1), shape=place.type.shape)
    return ops.select(first, start, ops.full_like(_NEVER, start))


def _after_first(rows: Value) -> Value:
    return sliced(rows, 0, 1, rows.type.shape[0])


def _advance(alpha: Value, score: Value, time: Value, ends: Value, may_skip: Value) -> Value:
    """The likelihoods of all prefixes after one more step; unchanged after an input's end."""
    skipped = ops.select(may_skip, _shifted(alpha, 2), ops.full_like(_NEVER, alpha))
    moved = ops.add(_log_sum(alpha, _shifted(alpha, 1), skipped), score)
    return ops.select(ops.lt(time, ends), moved, alpha)


def _extended(labels: Value, blank: int) -> Value:
    """[N, S] as [N, 2 S + 1]: a blank before each label and after the last."""
    count, n = labels.type.shape
    blanks = ops.full(blank, I64, (count, n, 1), labels.type.device)
    pairs = ops.concat(blanks, ops.reshape(labels, shape=(count, n, 1)), axis=2)
    flat = ops.reshape(pairs, shape=(count, 2 * n))
    return ops.concat(flat, ops.full(blank, I64, (count, 1), labels.type.device), axis=1)


def _may_skip(extended: Value, place: Value, blank: int) -> Value:
    """Where the blank between two labels may be left out: they differ."""
    before = _shifted(extended, 2, blank)
    differs = ops.not_(ops.eq(extended, before))
    is_label = ops.not_(ops.eq(extended, ops.full_like(blank, extended)))
    inside = ops.lt(ops.full_like(1, place), place)
    return ops.and_(ops.and_(differs, is_label), inside)


def _shifted(x: Value, by: int, fill: Any = _NEVER) -> Value:
    """x[:, s - by], `fill` before the beginning."""
    n = x.type.shape[1]
    by = min(by, n)
    kept = sliced(x, 1, 0, n - by)
    return ops.pad(kept, low=(0, by), high=(0, 0), value=fill)


def _log_sum(*terms: Value) -> Value:
    """log(sum(exp(terms)))."""
    top = terms[0]
    for term in terms[1:]:
        top = ops.max_(top, term)
    top = ops.detach(top)
    total: Value | None = None
    for term in terms:
        part = ops.exp(ops.sub(term, top))
        total = part if total is None else ops.add(total, part)
    assert total is not None
    return ops.add(top, ops.log(total))


def _end(alpha: Value, last: Value, place: Value) -> Value:
    """alpha at its last blank."""
    there = ops.eq(place, ops.expand(last, shape=place.type.shape, axes=(1,)))
    picked = ops.select(there, alpha, ops.full_like(0.0, alpha))
    return ops.reduce_sum(picked, axes=(1,))


def _before_end(alpha: Value, last: Value, place: Value) -> Value:
    """alpha at its last label; never for an empty target."""
    one = ops.full_like(1, last)
    picked = _end(alpha, ops.sub(last, one), place)
    empty = ops.lt(last, one)
    return ops.select(empty, to_dtype(ops.full_like(_NEVER, picked), picked.type.dtype), picked)
