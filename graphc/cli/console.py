"""Output: colours, steps with their times, progress, small curves.

On a terminal a bar that redraws itself; elsewhere plain lines. NO_COLOR is obeyed, and so is a
terminal that cannot show more than ASCII.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from graphc.debug.family import Family

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-~=+*#"
BAR_WIDTH = 28


class Console:
    """Where a command prints. `stream` is stdout unless a test gives another."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.terminal and not os.environ.get("NO_COLOR")
        self.unicode = _encodes(self.stream, _BLOCKS + "●│╯×")

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where lines need not be cut."""
        return shutil.get_terminal_size().columns if self.terminal else None

    def line(self, text: str = "") -> None:
        self.stream.write((text if self.unicode else to_ascii(text)) + "\n")
        self.stream.flush()

    def style(self, text: str, code: str) -> str:
        """The text in an ANSI style ("1" bold, "2" faint, "38;5;69" a colour)."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text

    def bold(self, text: str) -> str:
        return self.style(text, "1")

    def faint(self, text: str) -> str:
        return self.style(text, "2")

    def paint(self, text: str, family: Family | None) -> str:
        """As listings paint: a family's colour, or faint."""
        return self.faint(text) if family is None else self.style(text, f"1;38;5;{family.ansi}")

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """A step of a longer job: `what`, then what is put into the list, then the time."""
        said: list[str] = []
        began = time.perf_counter()
        if self.terminal:
            self.stream.write(f"{what} ...")
            self.stream.flush()
        try:
            yield said
        finally:
            if self.terminal:
                self.stream.write("\r\x1b[K")
        took = self.faint(f"{seconds(time.perf_counter() - began):>8}")
        self.line(f"{took}  {self.bold(what)}{': ' if said else ''}{said[0] if said else ''}")
        for more in said[1:]:
            self.line(" " * 10 + more)

    def progress(self, what: str, total: int) -> Progress:
        return Progress(self, what, total)

    def sparkline(self, values: Sequence[float], width: int = 40) -> str:
        """A curve in one line: the mean of each of `width` parts."""
        blocks = _BLOCKS if self.unicode else _ASCII_BLOCKS
        parts = [part for part in _split(values, width) if part]
        means = [sum(part) / len(part) for part in parts]
        low, high = min(means), max(means)
        span = (high - low) or 1.0
        return "".join([blocks[int((mean - low) / span * (len(blocks) - 1))] for mean in means])


class Progress:
    """A bar on a terminal; elsewhere a line for each tenth of the way."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self.console, self.what, self.total = console, what, max(total, 1)
        self.began = time.perf_counter()
        self.said = 0

    def at(self, done: int, note: str = "") -> None:
        """`done` of `total` are done."""
        console, share = self.console, min(done / self.total, 1.0)
        if console.terminal:
            full = round(share * BAR_WIDTH)
            marks = ("█", "░") if console.unicode else ("#", ".")
            bar = marks[0] * full + marks[1] * (BAR_WIDTH - full)
            left = (time.perf_counter() - self.began) / share * (1 - share) if share else 0.0
            more = f"  {seconds(left)} left" if 0 < share < 1 else ""
            text = f"{self.what} {console.style(bar, '38;5;69')} {done}/{self.total}  {note}{more}"
            console.stream.write(f"\r\x1b[K{text}")
            console.stream.flush()
        elif int(share * 10) > self.said or done == self.total:
            self.said = int(share * 10)
            console.line(f"{self.what} {done}/{self.total}  {note}".rstrip())

    def clear(self) -> None:
        """Takes the bar away."""
        if self.console.terminal:
            self.console.stream.write("\r\x1b[K")
            self.console.stream.flush()


def _encodes(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def to_ascii(text: str) -> str:
    """The text with its few signs beyond ASCII written otherwise."""
    table = {"×": "x", "−": "-", "·": ".", "…": "...", "→": "->", "≤": "<=", "µ": "u", "—": "-"}
    return text.translate(str.maketrans(table)).encode("ascii", "replace").decode()


def _split(values: Sequence[float], parts: int) -> list[Sequence[float]]:
    parts = max(min(parts, len(values)), 1)
    return [values[len(values) * k // parts : len(values) * (k + 1) // parts] for k in range(parts)]


def seconds(duration: float) -> str:
    """A duration to three figures or so: 0.8 ms, 12.3 s, 2 min 5 s."""
    if duration < 1e-3:
        return f"{duration * 1e6:.0f} µs"
    if duration < 1:
        return f"{duration * 1e3:.3g} ms"
    if duration < 100:
        return f"{duration:.1f} s"
    return f"{duration // 60:.0f} min {duration % 60:.0f} s"


def size(count: float) -> str:
    """Bytes: 12.3 kB, 4.5 MB."""
    for unit, most in (("B", 1e3), ("kB", 1e6), ("MB", 1e9)):
        if count < most:
            scaled = count / (most / 1e3)
            return f"{scaled:.0f} {unit}" if unit == "B" else f"{scaled:.3g} {unit}"
    return f"{count / 1e9:.3g} GB"
