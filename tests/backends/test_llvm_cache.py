"""The caches on disk: what was put is found, damage and strangers are not trusted."""

import logging
import os
import subprocess
import sys
import threading
import warnings

import pytest

from graphc.backends.llvm import cache
from graphc.backends.llvm.cache import DiskCache, cache_key
from graphc.backends.llvm.settings import Settings, settings

KEY = "0" * 40
OTHER = "1" * 40


@pytest.fixture(autouse=True)
def directory(monkeypatch, tmp_path):
    root = tmp_path / "cache"
    monkeypatch.setattr(settings, "cache", True)
    monkeypatch.setattr(settings, "cache_dir", root)
    monkeypatch.setattr(cache, "_refused", set())
    return root


def test_what_was_put_is_found(directory):
    store = DiskCache("things")
    assert store.get(KEY) is None
    for data in (b"", b"some bytes", os.urandom(100_000)):
        store.put(KEY, data)
        assert store.get(KEY) == data
        assert DiskCache("things").get(KEY) == data
    assert store.get(OTHER) is None
    assert DiskCache("others").get(KEY) is None
    assert [p.name for p in entries(directory)] == [KEY]


def test_everything_is_private(directory):
    DiskCache("things").put(KEY, b"data")
    for path in (directory, directory / "things"):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (directory / "things" / KEY).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_entries_are_made_again(directory, caplog, damage):
    store = DiskCache("things")
    store.put(KEY, b"precious data")
    path = directory / "things" / KEY
    content = path.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"truncate": content[:-3], "flip": flipped, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, "graphc.cache"):
        assert store.get(KEY) is None
    assert "damaged" in caplog.text
    store.put(KEY, b"precious data")
    assert store.get(KEY) == b"precious data"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("place", ["", "things"])
def test_a_directory_that_others_can_write_is_refused(directory, mode, place):
    store = DiskCache("things")
    store.put(KEY, b"data")
    (directory / place).chmod(mode)
    with pytest.warns(RuntimeWarning, match="other users can write to it"):
        assert store.get(KEY) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns once
        assert store.get(KEY) is None
        store.put(OTHER, b"data")
    assert not (directory / "things" / OTHER).exists()


def test_a_directory_of_another_user_is_refused(directory, monkeypatch):
    store = DiskCache("things")
    store.put(KEY, b"data")
    monkeypatch.setattr(cache.os, "getuid", lambda: os.stat(directory).st_uid + 1)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert store.get(KEY) is None


def test_a_place_that_is_no_directory_turns_caching_off(directory):
    directory.write_text("a file")
    with pytest.warns(RuntimeWarning, match="writes no cache"):
        DiskCache("things").put(KEY, b"data")
    assert DiskCache("things").get(KEY) is None


def test_caching_can_be_switched_off(directory, monkeypatch):
    monkeypatch.setattr(settings, "cache", False)
    store = DiskCache("things")
    store.put(KEY, b"data")
    assert store.get(KEY) is None
    assert not directory.exists()


def test_the_environment_sets_the_defaults(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHC_CACHE", "0")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("GRAPHC_TARGET", "avx2")
    monkeypatch.setenv("GRAPHC_NUM_THREADS", "3")
    chosen = Settings()
    assert not chosen.cache and chosen.cache_dir == tmp_path
    assert (chosen.target, chosen.num_threads) == ("avx2", 3)
    monkeypatch.delenv("GRAPHC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Settings().cache_dir == tmp_path / "xdg" / "graphc"
    monkeypatch.setenv("GRAPHC_CACHE", "maybe")
    with pytest.raises(ValueError, match="GRAPHC_CACHE must be an integer, not 'maybe'"):
        Settings()


def entries(directory):
    """The files of the cache, without the one that counts their bytes."""
    return [path for path in (directory / "things").iterdir() if path.name != ".total"]


def test_the_least_recently_used_goes_first(directory, monkeypatch):
    monkeypatch.setattr(settings, "cache_bytes", 10_000)
    store = DiskCache("things")
    keys = [f"{number:040x}" for number in range(9)]
    for age, key in enumerate(keys):
        store.put(key, bytes(1000))
        os.utime(directory / "things" / key, (age, age))
    assert store.get(keys[0]) is not None  # used now
    store.put(OTHER, bytes(1000))
    assert {path.name for path in entries(directory)} == {keys[0], *keys[4:], OTHER}
    assert sum(path.stat().st_size for path in entries(directory)) <= 7500


def test_a_process_does_not_look_through_the_folder(directory, monkeypatch):
    """The bytes of all entries stand in a file, and are counted anew where it is lost."""
    DiskCache("things").put(KEY, bytes(1000))
    looked = []
    monkeypatch.setattr(cache, "_files", lambda folder: looked.append(folder) or iter(()))
    monkeypatch.setattr(cache, "_COUNT_AGAIN", 1 << 40)
    DiskCache("things").put(OTHER, bytes(1000))
    assert not looked
    note = directory / "things" / ".total"
    assert int(note.read_text()) == sum(path.stat().st_size for path in entries(directory))
    note.write_text("no number")
    DiskCache("things").put(OTHER, bytes(1000))
    assert len(looked) == 1


def test_clear_removes_all(directory):
    store = DiskCache("things")
    store.put(KEY, b"data")
    store.put(OTHER, b"data")
    store.clear()
    assert list((directory / "things").iterdir()) == []


def test_keys_depend_on_each_part():
    keys = [
        cache_key("a", "b"),
        cache_key("ab", ""),
        cache_key("ab"),
        cache_key("", "ab"),
        cache_key("b", "a"),
        cache_key("a", b"b", "c"),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key("a", b"b") == keys[0]


def test_keys_depend_on_versions(monkeypatch):
    import llvmlite

    import graphc

    before = cache_key("a")
    monkeypatch.setattr(llvmlite, "__version__", "0.0.test")
    other = cache_key("a")
    monkeypatch.setattr(graphc, "__version__", "0.0.test")
    assert len({before, other, cache_key("a")}) == 3


def test_readers_never_see_half_an_entry(directory, caplog):
    """Several threads and a process write one key; every read gives one of the values whole."""
    values = [bytes([number]) * 50_000 for number in range(4)]
    program = (
        "import sys\n"
        "from graphc.backends.llvm.cache import DiskCache\n"
        "store = DiskCache('things')\n"
        "for i in range(200): store.put(sys.argv[1], bytes([i % 4]) * 50_000)\n"
    )
    environment = os.environ | {"GRAPHC_CACHE_DIR": str(directory), "GRAPHC_CACHE": "1"}
    store = DiskCache("things")
    store.put(KEY, values[0])
    process = subprocess.Popen([sys.executable, "-c", program, KEY], env=environment)
    writers = [
        threading.Thread(target=lambda v=v: [store.put(KEY, v) for _ in range(100)]) for v in values
    ]
    for writer in writers:
        writer.start()
    while process.poll() is None or any(writer.is_alive() for writer in writers):
        assert store.get(KEY) in values
    assert process.returncode == 0 and "damaged" not in caplog.text
