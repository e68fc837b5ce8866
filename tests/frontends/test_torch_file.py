"""torch's files without torch: reading, sharing, and what hostile or broken files do (nothing)."""

import io
import os
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest

from graphc.frontends.torch_file import LoadedStorage
from graphc.ir.dtype import BF16, F32
from tests.frontends.array_tensor import ArrayTensor, load, save, tensor

FILE = Path(__file__).parent.parent / "data" / "torch_state.pt"


def archive(pickled: bytes, records: dict[str, bytes] | None = None, **options) -> io.BytesIO:
    """A torch file with this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as target:
        target.writestr("archive/data.pkl", pickled)
        for name, data in (records or {}).items():
            target.writestr(f"archive/{name}", data)
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def loaded():
    return load(FILE)


def test_tensors_have_torchs_values(loaded):
    assert loaded["base"].numpy().tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert loaded["view"].numpy().tolist() == loaded["base"].numpy().T[1:].tolist()
    assert loaded["expanded"].numpy().sum() == 1000
    assert loaded["scalar"].numpy() == 2.5
    assert loaded["empty"].numpy().shape == (0, 3)
    assert loaded["conjugate"].numpy().tolist() == [1 - 2j]
    assert loaded["optimizer"]["state"][0]["exp_avg"].numpy().shape == (4, 3)
    assert loaded["model"]._metadata[""] == {"version": 1}


def test_every_element_type_is_read(loaded):
    for name, value in loaded["types"].items():
        assert value.numpy().dtype.name == name
        expected = [0, 1, 1, 1] if name == "bool" else [0, 1, 2, 100]
        if name == "float8_e4m3fn":
            expected[3] = 96
        elif name == "float8_e5m2":
            expected[3] = 96
        assert value.numpy().astype(complex).tolist() == expected, name


def test_views_share_one_storage(loaded):
    assert loaded["view"].storage is loaded["base"].storage
    assert loaded["parameter"].storage is loaded["model"]["0.weight"].storage


def test_gradient_flags_and_parameters(loaded):
    flags = {
        name: (loaded[name].requires_grad, loaded[name].is_parameter)
        for name in ("parameter", "frozen", "leaf", "base")
    }
    assert flags == {
        "parameter": (True, True),
        "frozen": (False, True),
        "leaf": (True, False),
        "base": (False, False),
    }


def test_plain_objects(loaded):
    assert loaded["plain"][:7] == [1, -(2**40), 2**100, 2.5, 1 + 2j, "é", b"\x00\xff"]
    assert loaded["plain"][7:] == [True, None, {1, 2}, (3, (4,))]
    assert loaded["bytes"] == bytearray(b"ab")
    assert type(loaded["counter"]) is Counter and loaded["counter"] == Counter("aab")
    assert loaded["torch"] == [F32, "cpu", "cuda:1", (1, 2)]


def test_what_is_written_is_read_back(tmp_path):
    base = tensor(np.arange(6, dtype=np.float32))
    contents = OrderedDict(
        base=base,
        part=ArrayTensor(base.storage, 2, (2,), (2,)),
        half=tensor([1.5, -0.0], BF16.numpy),
        flags=tensor([True, False], is_parameter=True),
        dtype=BF16,
        nested={"a": [1, (2, "x")], 3: None},
    )
    save(contents, tmp_path / "weights.pt")
    found = load(tmp_path / "weights.pt")
    assert list(found) == list(contents)
    assert found["part"].numpy().tolist() == [2, 4]
    assert found["part"].storage is found["base"].storage
    assert found["half"].numpy().tobytes() == contents["half"].numpy().tobytes()
    assert found["flags"].is_parameter and found["flags"].numpy().dtype == np.bool_
    assert found["dtype"] is BF16 and found["nested"] == contents["nested"]


def test_storages_begin_at_multiples_of_64(tmp_path):
    path = tmp_path / "a_long_name_for_a_file.pt"
    save([tensor(np.ones(n)) for n in (1, 3, 5)], path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        for entry in file.infolist():
            name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
            assert (entry.header_offset + 30 + name + extra) % 64 == 0


def test_files_that_cannot_seek_are_written_too():
    class Pipe(io.RawIOBase):
        data = b""

        def writable(self):
            return True

        def write(self, piece):
            self.data += bytes(piece)
            return len(piece)

    pipe = Pipe()
    save({"x": tensor([1.0, 2.0])}, pipe)
    assert load(io.BytesIO(pipe.data))["x"].numpy().tolist() == [1, 2]


def test_one_storage_cannot_be_saved_under_two_dtypes():
    base = tensor(np.zeros(4, np.float32))
    other = ArrayTensor(base.storage.view(np.int32), 0, (4,), (1,))

    from graphc.frontends.torch_file import TensorRecord, save_file

    def describe(value):
        return TensorRecord("same", value.storage, 0, value.size, value.stride)

    with pytest.raises(RuntimeError, match="view the same data as different types"):
        save_file([base, other], io.BytesIO(), describe_tensor=describe)


def test_element_types_that_torch_lacks_are_refused():
    with pytest.raises(TypeError, match="datetime64"):
        save(tensor(np.zeros(1, "M8[s]")), io.BytesIO())


def test_map_location():
    data = FILE.read_bytes()
    state = load(io.BytesIO(data), map_location="cpu")
    assert state["scalar"].numpy() == 2.5
    with pytest.raises(RuntimeError, match="device meta.*\n.*map_location='cpu'"):
        load(io.BytesIO(data), map_location={"cpu": "meta"})
    seen = []

    def function(storage, location):
        seen.append((type(storage), location))
        return storage

    load(io.BytesIO(data), map_location=function)
    assert set(seen) == {(LoadedStorage, "cpu")}
    placed = []

    def place(array, device):
        placed.append(device)
        return array

    load(io.BytesIO(data), map_location=lambda storage, location: "cuda:0", place_storage=place)
    assert set(placed) == {"cuda:0"}


def test_bytes_in_the_other_order_are_swapped():
    other = "big" if sys.byteorder == "little" else "little"
    file = io.BytesIO()
    save([tensor([1.0, 2.5]), tensor([3, 4], np.int16), tensor([1 + 2j])], file)
    swapped = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(swapped, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("byteorder"):
                data = other.encode()
            elif "/data/" in name:
                width = {0: 8, 1: 2, 2: 8}[int(name[-1])]
                data = np.frombuffer(data, f"u{width}").byteswap().tobytes()
            target.writestr(name, data)
    swapped.seek(0)
    values = [value.numpy().tolist() for value in load(swapped)]
    assert values == [[1.0, 2.5], [3, 4], [1 + 2j]]


# -- hostile files


class Mark:
    """Runs a function when unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "function, arguments, name",
    [
        (os.system, ("touch {path}",), "posix.system"),
        (os.mkdir, ("{path}",), "posix.mkdir"),
        (eval, ("open('{path}', 'w')",), "eval"),
        (open, ("{path}", "w"), "open"),
        (getattr, (np, "array"), "getattr"),
        (io.StringIO, (), "_io.StringIO"),
    ],
)
def test_nothing_is_executed(tmp_path, function, arguments, name):
    path = tmp_path / "made_by_the_file"
    filled = [a.format(path=path) if isinstance(a, str) else a for a in arguments]
    if function is getattr:
        filled[0] = "text"
    for protocol in (2, 4):
        file = archive(pickle.dumps({"x": Mark(function, *filled)}, protocol))
        with pytest.raises(pickle.UnpicklingError, match=name) as caught:
            load(file)
        assert "weights_only" in str(caught.value) and str(caught.value).count("\n") < 8
    assert not path.exists()


def test_blocked_modules_stay_blocked_when_allowed():
    file = archive(pickle.dumps(Mark(os.getcwd), 2))
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.getcwd.*blocked"):
        load(file, allowed=[(os.getcwd, "posix.getcwd")])


class Settings:
    def __init__(self, rate):
        self.rate = rate


def test_allowed_classes_are_made():
    data = pickle.dumps(Settings(0.5), 2)
    name = f"{Settings.__module__}.Settings"
    with pytest.raises(pickle.UnpicklingError, match=r"add_safe_globals\(\[.*Settings\]\)"):
        load(archive(data))
    assert load(archive(data), allowed=[Settings]).rate == 0.5
    assert load(archive(data), allowed=[(Settings, name)]).rate == 0.5


def test_without_weights_only_the_pickle_runs(tmp_path):
    file = archive(pickle.dumps([Mark(os.mkdir, str(tmp_path / "made")), Settings(2)], 2))
    assert load(file, weights_only=False)[1].rate == 2
    assert (tmp_path / "made").is_dir()
    state = load(FILE, weights_only=False)
    assert state["view"].storage is state["base"].storage


def test_without_weights_only_torchs_names_are_this_packages():
    data = b"\x80\x02ctorch.ir.dtype\nDType\n."
    from graphc.ir.dtype import DType

    assert load(archive(data), weights_only=False) is DType
    missing = b"\x80\x02ctorch.ir.dtype.nothing\nNoSuchLayer\n."
    with pytest.raises(pickle.UnpicklingError, match="NoSuchLayer"):
        load(archive(missing), weights_only=False)


def storage_pickle(numel: int, size, stride, offset=0, key="0") -> bytes:
    """A tensor as torch pickles it."""
    ints = pickle.dumps
    parts = [b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("]
    parts.append(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n")
    for value in (key, "cpu", numel):
        parts.append(ints(value, 2)[2:-1].split(b"q\x00")[0])
    parts.append(b"tQ")
    for value in (offset, size, stride):
        parts.append(ints(value, 2)[2:-1].split(b"q\x00")[0])
    return b"".join(parts) + b"\x89}tR."


def test_the_tensor_pickle_of_these_tests_is_right():
    [value] = [load(archive(storage_pickle(4, (2, 2), (2, 1)), {"data/0": bytes(16)}))]
    assert value.numpy().tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    "numel, size, stride, offset",
    [
        (4, (5,), (1,), 0),
        (4, (2, 2), (3, 1), 0),
        (4, (2,), (1,), 3),
        (4, (2,), (-1,), 1),
        (4, (-2,), (1,), 0),
        (4, (2,), (1, 1), 0),
        (4, (), (), 4),
        (4, (0,), (1,), 5),
        (4, (2**40, 2**40), (0, 0), 0),
        (5, (4,), (1,), 0),
        (2**61, (2**61,), (1,), 0),
        (4, (1,) * 65, (1,) * 65, 0),
    ],
)
def test_views_outside_their_storage_are_refused(numel, size, stride, offset):
    file = archive(storage_pickle(numel, size, stride, offset), {"data/0": bytes(16)})
    with pytest.raises(RuntimeError):
        load(file)


def test_compressed_records_are_refused():
    file = archive(storage_pickle(4, (4,), (1,)), {"data/0": bytes(16)}, compression=8)
    with pytest.raises(RuntimeError, match=r"compressed.*\n.*zip -0"):
        load(file)


def test_records_that_claim_more_than_the_file_are_refused():
    file = archive(storage_pickle(2**28, (4,), (1,)), {"data/0": bytes(16)})
    data = bytearray(file.getvalue())
    for at in range(len(data)):  # the size of data/0 in the local header and in the directory
        if data[at : at + 4] == b"PK\x01\x02" and b"data/0" in data[at : at + 70]:
            struct.pack_into("<II", data, at + 20, 2**30, 2**30)
    tracemalloc.start()
    with pytest.raises(RuntimeError, match="claim more bytes"):
        load(io.BytesIO(bytes(data)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


def bomb_copies() -> bytes:
    """A list of 1,000 elements, made a set 100,000 times."""
    items = b"]q\x00(" + b"N" * 1000 + b"e0" if False else b"]q\x00(" + b"K\x01" * 1000 + b"e"
    return (
        b"\x80\x02"
        + items
        + b"]"
        + b"".join([b"c__builtin__\nset\nq\x01h\x00\x85Ra"])
        + (b"h\x01h\x00\x85Ra" * 100_000)
        + b"."
    )


def bomb_memo() -> bytes:
    return b"\x80\x02]r\xff\xff\xff\x7f."


def bomb_string() -> bytes:
    return b"\x80\x02X\xff\xff\xff\x7fabc."


def bomb_bytearray() -> bytes:
    return b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."


def bomb_key() -> bytes:
    """A tuple that holds a tuple twice, 60 deep, as a key: 2**60 steps to hash."""
    return b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns."


def bomb_message() -> bytes:
    """Calls such a tuple: an error that showed it would be 2**60 characters long."""
    return b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b")R."


def bomb_depth() -> bytes:
    """A tuple nested 100,000 deep in a set: overflows the C stack of hash()."""
    return b"\x80\x02c__builtin__\nset\n]" + b")" + b"\x85" * 100_000 + b"a\x85R."


@pytest.mark.parametrize(
    "make",
    [bomb_copies, bomb_string, bomb_bytearray, bomb_key, bomb_message, bomb_depth],
    ids=lambda make: make.__name__,
)
def test_bombs_are_refused_within_bounds(make):
    pickled = make()
    file = archive(pickled)
    tracemalloc.start()
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        load(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 << 20


def test_a_huge_memo_index_costs_nothing():
    assert load(archive(bomb_memo())) == []


@pytest.mark.parametrize(
    "data, error, message",
    [
        (b"", EOFError, "Ran out of input"),
        (b"hello world, not a torch file", RuntimeError, "not a torch file"),
        (b"PK\x03\x04 and nothing", RuntimeError, "not a zip file"),
        (
            bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + b"rest",
            RuntimeError,
            "before version 1",
        ),
    ],
)
def test_other_files_are_named(data, error, message):
    with pytest.raises(error, match=message):
        load(io.BytesIO(data))


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "no.pt")


def test_names_in_errors_are_short_and_printable():
    name = b"x\x1b[31m" + b"y" * 5000
    with pytest.raises(pickle.UnpicklingError) as caught:
        load(archive(b"\x80\x02c" + name + b"\nf\n."))
    assert len(str(caught.value)) < 600 and "\x1b" not in str(caught.value)


def mutated(data: bytes, generator: random.Random) -> bytes:
    """The file with some bytes changed, or a piece cut, doubled or swapped."""
    changed = bytearray(data)
    kind = generator.randrange(4)
    start = generator.randrange(len(data))
    length = generator.randrange(1, 200)
    if kind == 0:
        for _ in range(generator.randrange(1, 20)):
            changed[generator.randrange(len(data))] = generator.randrange(256)
    elif kind == 1:
        del changed[start : start + length]
    elif kind == 2:
        changed[start:start] = changed[start : start + length]
    else:
        del changed[start:]
    return bytes(changed)


def mutated_pickle(source: bytes, generator: random.Random) -> io.BytesIO:
    """The file with a changed pickle under a right checksum, so that the change reaches the
    interpreter."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(source)) as before, zipfile.ZipFile(file, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            after.writestr(name, mutated(data, generator) if name.endswith("data.pkl") else data)
    file.seek(0)
    return file


@pytest.mark.parametrize("inside", [False, True], ids=["archive", "pickle"])
def test_mutated_files_raise_clear_errors(inside):
    generator = random.Random(2024)
    source = FILE.read_bytes()
    refused = 0
    tracemalloc.start()
    for _ in range(200):
        broken = (
            mutated_pickle(source, generator) if inside else io.BytesIO(mutated(source, generator))
        )
        try:
            load(broken)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            refused += 1
            assert str(error) and str(error).count("\n") < 8 and len(str(error)) < 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 50
    assert peak < 20 << 20
