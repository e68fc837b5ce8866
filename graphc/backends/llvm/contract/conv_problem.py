"""Convolutions and their gradients as one form: a correlation over a zero-bordered copy.

A convolution reads, for each output position and each tap of its kernel, one position of the
padded input. So does the gradient of its input, with the roles exchanged; where the stride is
s, the positions of the result fall into s phases per dimension, each with its own taps. A
`Correlation` states both, and one emitter serves them.
"""

import itertools
import math
from dataclasses import dataclass, replace

Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ConvProblem:
    """A convolution of x [batch, in, *size] by w [out, in / groups, *kernel], 1 to 3 dimensions.

    batch      None if symbolic
    padding    (before, after) of each dimension; may be negative, which crops
    """

    batch: int | None
    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    dtype: str = "f32"

    @staticmethod
    def square(
        batch: int | None,
        in_channels: int,
        out_channels: int,
        size: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        dtype: str = "f32",
    ) -> "ConvProblem":
        """Two dimensions alike."""
        return ConvProblem(
            batch,
            in_channels,
            out_channels,
            (size, size),
            (kernel, kernel),
            (stride, stride),
            ((padding, padding), (padding, padding)),
            (dilation, dilation),
            groups,
            dtype,
        )

    @property
    def out_size(self) -> tuple[int, ...]:
        return tuple(
            (size + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                self.size, self.kernel, self.stride, self.padding, self.dilation
            )
        )

    @property
    def is_depthwise(self) -> bool:
        """Whether each group has one input channel."""
        return self.groups == self.in_channels and self.groups > 1

    def in_three_dimensions(self) -> "ConvProblem":
        """The same problem with leading dimensions of one."""
        missing = 3 - len(self.size)
        ones = (1,) * missing
        return ConvProblem(
            self.batch,
            self.in_channels,
            self.out_channels,
            ones + self.size,
            ones + self.kernel,
            ones + self.stride,
            ((0, 0),) * missing + self.padding,
            ones + self.dilation,
            self.groups,
            self.dtype,
        )

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def is_pointwise(self) -> bool:
        """Whether each position of the result is of one position of x, and they are as many."""
        whole = self.taps == 1 and set(self.stride) == {1}
        return whole and not any(any(pair) for pair in self.padding)

    def over_positions(self) -> "ConvProblem":
        """The same problem with all positions in one dimension, if it is pointwise."""
        if not self.is_pointwise:
            return self
        size = (math.prod(self.size), 1)
        none = ((0, 0), (0, 0))
        return replace(self, size=size, kernel=(1, 1), stride=(1, 1), padding=none, dilation=(1, 1))


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of one phase.

    count    positions of the target
    first    the target's first; they are the correlation's `target_step` apart
    origin   coordinate in the bordered copy that position 0 reads with tap 0
    taps     how many taps
    tap      index in the kernel of tap 0; `tap_stride` from each to the next
    """

    count: int
    first: int
    origin: int
    taps: int
    tap: int
    tap_stride: int


@dataclass(frozen=True, slots=True)
class Correlation:
    """target[first + i * target_step] = sum over taps t of
    copy[origin + i * source_step + t * tap_step] * kernel[tap + t * tap_stride], per dimension.

    source_channels, target_channels  of one group
    border   zeros before the source in the copy, or cropped if negative
    copy     size of the bordered copy
    axes     of each dimension, one for each phase
    """

    groups: int
    source_channels: int
    target_channels: int
    source: Size
    target: Size
    kernel: Size
    border: Size
    copy: Size
    source_step: Size
    target_step: Size
    tap_step: Size
    axes: tuple[tuple[Axis, ...], tuple[Axis, ...], tuple[Axis, ...]]

    @property
    def is_product(self) -> bool:
        """Whether a group of the target is a matrix product of the source's rows, as they lie."""
        one = math.prod(self.kernel) == 1 and self.source == self.target == self.copy
        return one and not any(self.border) and self.source[2] == 1

    @property
    def phases(self) -> list[tuple[Axis, Axis, Axis]]:
        """Those with positions, in the order in which their taps are packed."""
        return [
            phase for phase in itertools.product(*self.axes) if all(axis.count for axis in phase)
        ]

    @property
    def skips_border_rows(self) -> bool:
        """Whether taps that read only border can be left out, row of the target by row.

        Weights of the taps that remain must be consecutive: one phase, no depth.
        """
        return all(len(axes) == 1 for axes in self.axes) and self.kernel[0] == 1

    @property
    def inside(self) -> float:
        """The part of (row of the target, tap) pairs that read rows of the source."""
        axis, pairs = self.axes[1][0], 0
        for row in range(axis.count):
            start = axis.origin + row * self.source_step[1] - self.border[1]
            rows = (start + tap * self.tap_step[1] for tap in range(axis.taps))
            pairs += sum(0 <= row < self.source[1] for row in rows)
        return pairs / max(1, axis.count * axis.taps)

    @property
    def tap_positions(self) -> list[int]:
        """For each tap of the kernel its place when taps are listed phase by phase."""
        positions = [0] * math.prod(self.kernel)
        place = 0
        for phase in itertools.product(*self.axes):
            for taps in itertools.product(*(range(axis.taps) for axis in phase)):
                d, h, w = (axis.tap + t * axis.tap_stride for axis, t in zip(phase, taps))
                positions[(d * self.kernel[1] + h) * self.kernel[2] + w] = place
                place += 1
        return positions

    def taps_before(self, phase: tuple[Axis, Axis, Axis]) -> int:
        """Taps of the phases before this one."""
        before = 0
        for other in itertools.product(*self.axes):
            if other == phase:
                break
            before += math.prod(axis.taps for axis in other)
        return before


def forward(problem: ConvProblem) -> Correlation:
    """The convolution itself."""
    p = problem.in_three_dimensions()
    axes = tuple((Axis(count, 0, 0, kernel, 0, 1),) for count, kernel in zip(p.out_size, p.kernel))
    copy = tuple(
        (count - 1) * stride + (kernel - 1) * dilation + 1
        for count, stride, kernel, dilation in zip(p.out_size, p.stride, p.kernel, p.dilation)
    )
    return Correlation(
        p.groups,
        p.in_channels // p.groups,
        p.out_channels // p.groups,
        p.size,
        p.out_size,
        p.kernel,
        tuple(before for before, _ in p.padding),
        copy,
        p.stride,
        (1, 1, 1),
        p.dilation,
        axes,
    )


def grad_input(problem: ConvProblem) -> Correlation:
    """The gradient of x: the source is the gradient of the result."""
    p = problem.in_three_dimensions()
    borders, copies, tap_steps, axes = [], [], [], []
    for size, kernel, stride, (before, _), dilation in zip(
        p.size, p.kernel, p.stride, p.padding, p.dilation
    ):
        border, copy, tap_step, phases = _transposed_axis(size, kernel, stride, before, dilation)
        borders.append(border)
        copies.append(copy)
        tap_steps.append(tap_step)
        axes.append(phases)
    return Correlation(
        p.groups,
        p.out_channels // p.groups,
        p.in_channels // p.groups,
        p.out_size,
        p.size,
        p.kernel,
        tuple(borders),
        tuple(copies),
        (1, 1, 1),
        p.stride,
        tuple(tap_steps),
        tuple(axes),
    )


def _transposed_axis(
    size: int, kernel: int, stride: int, before: int, dilation: int
) -> tuple[int, int, int, tuple[Axis, ...]]:
    """(border, size of the copy, tap step, phases) of one dimension.

    Position y takes part in the result's position o by tap k where o * stride + k * dilation
    = y + before. For y = r + stride * i the taps that fit are k0, k0 + step, k0 + 2 * step ...
    """
    common = math.gcd(stride, dilation)
    step, tap_step = stride // common, dilation // common
    phases = []
    for residue in range(stride):
        count = max(0, -(-(size - residue) // stride))
        fitting = [k for k in range(kernel) if (residue + before - k * dilation) % stride == 0]
        taps = len(fitting)
        last = fitting[-1] if fitting else 0
        # Taps in falling order, so that the copy is read in rising order.
        origin = (residue + before - last * dilation) // stride if fitting else 0
        phases.append(Axis(count, residue, origin, taps, last, -step))
    used = [axis for axis in phases if axis.count and axis.taps]
    border = -min((axis.origin for axis in used), default=0)
    shifted = tuple(
        Axis(a.count, a.first, a.origin + border if a.taps else 0, a.taps, a.tap, a.tap_stride)
        for a in phases
    )
    copy = max(
        (
            a.origin + a.count - 1 + (a.taps - 1) * tap_step + 1
            for a in shifted
            if a.count and a.taps
        ),
        default=1,
    )
    return border, copy, tap_step, shifted
