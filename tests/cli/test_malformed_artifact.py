"""Mutated .gcx files: a result or a short error, never a traceback from inside."""

import random
import zipfile

import pytest

import graphc
from tests.cli.command_line import run


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / "net.gcx"
    net = graphc.nn.Sequential(graphc.nn.Linear(4, 8), graphc.nn.ReLU(), graphc.nn.Linear(8, 2))
    graphc.jit.save(graphc.jit.trace(net.eval(), graphc.ones(3, 4)), str(path))
    return path


def mutated(stream: random.Random, data: bytes) -> bytes:
    """The bytes with one to four places changed, dropped or doubled, or the end cut off."""
    made = bytearray(data)
    for _ in range(stream.randint(1, 4)):
        at, length = stream.randrange(len(made) + 1), stream.randint(1, 12)
        kind = stream.randrange(4)
        if kind == 0:
            del made[at : at + length]
        elif kind == 1:
            made[at:at] = made[at : at + length]
        elif kind == 2:
            made[at : at + 1] = bytes([stream.randrange(256)])
        elif stream.randrange(8) == 0:
            del made[at:]
    return bytes(made)


def with_one_part_mutated(stream: random.Random, path) -> dict[str, bytes]:
    """The parts of the archive, one of them changed: its checksums are right again."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = stream.choice(list(parts))
    parts[name] = mutated(stream, parts[name])
    return parts


def refused(capsys, path) -> bool:
    code = run("run", path)
    said = capsys.readouterr().err
    assert code in (0, 1)
    assert len(said.splitlines()) <= 8
    assert "from inside" not in said, said
    return code == 1


def test_mutated_archives_are_refused_in_a_few_lines(artifact, tmp_path, capsys):
    stream, count = random.Random(0), 0
    path = tmp_path / "mutated.gcx"
    for _ in range(100):
        path.write_bytes(mutated(stream, artifact.read_bytes()))
        count += refused(capsys, path)
    assert count > 50


def test_mutated_parts_of_an_archive_are_refused_in_a_few_lines(artifact, tmp_path, capsys):
    stream, count = random.Random(1), 0
    path = tmp_path / "mutated.gcx"
    for _ in range(100):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in with_one_part_mutated(stream, artifact).items():
                archive.writestr(name, data)
        count += refused(capsys, path)
    assert count > 25
