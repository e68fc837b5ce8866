"""What several tests of recording share."""

import pytest

from graphc.frontends import native_steps, record
from graphc.frontends.steps import Steps, steps
from graphc.tensor import _wrap


@pytest.fixture
def fresh_recorder(monkeypatch):
    """A recorder without a past: what other tests recorded makes sizes symbols, which are not
    predicted."""
    record.recorder().flush()
    monkeypatch.setattr(record._thread, "recorder", record.Recorder())
    yield
    record.recorder().flush()


@pytest.fixture
def counting(monkeypatch, fresh_recorder):
    """Counts the calls of a module's function: counting(module, name)[0]."""

    def count(module, name):
        counts, called = [0], getattr(module, name)

        def counted(*args):
            counts[0] += 1
            return called(*args)

        monkeypatch.setattr(module, name, counted)
        return counts

    return count


@pytest.fixture
def python_steps(monkeypatch):
    """A function that puts Python's functions in the place of the compiled ones."""

    def switch():
        for name in native_steps.EXPORTS:
            made = _wrap if name == "wrap" else getattr(Steps, name)
            monkeypatch.setattr(steps, name, made)

    return switch
