"""How a view was made, where torch forbids to write through it or to its base later.

A view that was made while no gradients were recorded, or as one of several results, has no
derivative of its own that a write could be put into. torch lets such a view be read until its
memory is written; from then on it, and any write through it that derivatives would see, raises.
"""

from __future__ import annotations

from typing import NamedTuple

from . import modes


class Origin(NamedTuple):
    """Of a view.

    mode     "no_grad" or "inference" if it, or one that it is a view of, was made so, else ""
    version  how often its memory had been written
    part     which of several results of what it is
    is_leaf  it was itself made in the mode: it has no grad_fn
    """

    mode: str
    version: int
    part: str = ""
    is_leaf: bool = False

    def refusal(self, what: str) -> str:
        """Why a write, or a use after one, is refused: `what` begins the write's description."""
        if not self.mode:
            return (
                f"{self.part} is a view and {what} modified inplace. This view is the output of a "
                "function that returns multiple views. Such functions do not allow the output "
                "views to be modified inplace. You should replace the inplace operation by an "
                "out-of-place one."
            )
        done = "in normal mode" if self.mode == "inference" else "with grad mode enabled"
        return (
            f"A view was created in {self.mode} mode and {what} modified inplace {done}. Given "
            "that this use case is ambiguous and error-prone, it is forbidden. You can clarify "
            "your code by moving both the view and the inplace either both inside the "
            f"{self.mode}{'_mode' * (self.mode == 'inference')} block (if you don't want the "
            "inplace to be tracked) or both outside (if you want the inplace to be tracked)."
        )


def of_view(owner: Origin | None, version: int, part: str = "") -> Origin | None:
    """The origin of a view that is made now, of a tensor with that origin."""
    mode = "" if modes.grad_enabled() else "inference" if modes.inference() else "no_grad"
    if mode or part:
        return Origin(mode, version, "" if mode else part, is_leaf=mode != "")
    return owner and owner._replace(version=version, is_leaf=False)
