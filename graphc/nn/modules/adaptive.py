"""Softmax over many classes of which few are frequent."""

import itertools
from typing import NamedTuple

import graphc as torch
from graphc.nn import functional as F
from graphc.nn.modules.container import ModuleList, Sequential
from graphc.nn.modules.linear import Linear
from graphc.nn.modules.module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class _ASMoutput(NamedTuple):
    output: object
    loss: object


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax whose rare classes are in clusters with smaller projections.

    The first ``cutoffs[0]`` classes are in the head, with one more output for each cluster.

    Args:
        in_features: features of the input.
        n_classes: number of classes, sorted from frequent to rare.
        cutoffs: rising class indices at which clusters begin.
        div_value: factor by which each cluster's projection is smaller than the one before.
        head_bias: whether the head has a bias.
    """

    def __init__(
        self,
        in_features,
        n_classes,
        cutoffs,
        div_value=4.0,
        head_bias=False,
        device=None,
        dtype=None,
    ):
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        rising = all(int(c) == c for c in cutoffs) and cutoffs == sorted(set(cutoffs))
        if not rising or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1:
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an "
                "increasing order, where each value is between 1 and n_classes-1"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        kind = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **kind)
        self.tail = ModuleList()
        for cluster, (start, end) in enumerate(itertools.pairwise(self.cutoffs)):
            hidden = int(in_features // div_value ** (cluster + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, hidden, bias=False, **kind),
                    Linear(hidden, end - start, bias=False, **kind),
                )
            )

    def reset_parameters(self):
        """Draw all weights anew."""
        self.head.reset_parameters()
        for inner, outer in self.tail:
            inner.reset_parameters()
            outer.reset_parameters()

    def forward(self, input_, target_):
        """Return the log-probabilities of the targets, (N,), and their negative mean.

        Args:
            input_: (N, in_features) or (in_features,).
            target_: class indices, (N,) or ().
        """
        if target_.dim() > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if input_.dim() != target_.dim() + 1:
            raise RuntimeError(
                f"{target_.dim()}D target tensor expects {target_.dim() + 1}D input tensors, but "
                f"found inputs with size {input_.size()}"
            )
        if target_.dim() == 0:
            output, loss = self.forward(input_.unsqueeze(0), target_.unsqueeze(0))
            return _ASMoutput(output.squeeze(0), loss)
        if input_.size(0) != target_.size(0):
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if bool(((target_ < 0) | (target_ >= self.n_classes)).any()):
            raise RuntimeError(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                f"[{target_.min().item()}, {target_.max().item()}] were found. "
            )
        head = F.log_softmax(self.head(input_), dim=1)
        # The column of the head that leads to each target, and what its cluster adds.
        column = target_
        inner = torch.zeros_like(head[:, 0])
        for cluster, (start, end) in enumerate(itertools.pairwise(self.cutoffs)):
            inside = (target_ >= start) & (target_ < end)
            rows = inside.nonzero().squeeze(1)
            if rows.numel() == 0:
                continue
            column = torch.where(inside, self.shortlist_size + cluster, column)
            scores = F.log_softmax(self.tail[cluster](input_.index_select(0, rows)), dim=1)
            place = target_.index_select(0, rows) - start
            inner = inner.index_add(0, rows, scores.gather(1, place.unsqueeze(1)).squeeze(1))
        output = inner + head.gather(1, column.unsqueeze(1)).squeeze(1)
        return _ASMoutput(output, (-output).mean())

    def log_prob(self, input):
        """Return the log-probabilities of all classes, (N, n_classes), of (N, in_features)."""
        return self._full_log_prob(input, self.head(input))

    def _full_log_prob(self, input, head_output):
        head = F.log_softmax(head_output, dim=1)
        parts = [head[:, : self.shortlist_size]]
        for cluster, tail in enumerate(self.tail):
            leads = head[:, self.shortlist_size + cluster].unsqueeze(1)
            parts.append(F.log_softmax(tail(input), dim=1) + leads)
        return torch.cat(parts, dim=1)

    def predict(self, input):
        """Return the likeliest classes, (N,), of (N, in_features)."""
        head_output = self.head(input)
        best = torch.argmax(head_output, dim=1)
        in_cluster = best >= self.shortlist_size
        if not bool(in_cluster.any()):
            return best
        full = torch.argmax(self._full_log_prob(input, head_output), dim=1)
        return torch.where(in_cluster, full, best)
