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
