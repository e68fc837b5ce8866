"""What several tests of recording share."""

import pytest

from graphc.frontends import record


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
