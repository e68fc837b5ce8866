"""Mutated .gir files: a result or a short error, never a traceback from inside."""

import random

import pytest

from tests.cli.command_line import MLP, run

SPARE = '%(),:[]{}=.#"@->\\ \t\n0123456789abcdefgnxé\x00'


def mutated(stream: random.Random) -> str:
    """The text with one to four of its parts changed, dropped, doubled or swapped."""
    text = MLP
    for _ in range(stream.randint(1, 4)):
        at, length = stream.randrange(len(text)), stream.choice([1, 1, 1, 4, 20, 200])
        part = text[at : at + length]
        new = stream.choice(
            [
                "",
                part * 2,
                "".join(stream.choice(SPARE) for _ in range(stream.randint(1, 4))),
                part[::-1],
                str(stream.choice([-1, 0, 10**30, 1e400])),
            ]
        )
        text = text[:at] + new + text[at + length :]
    return text


@pytest.mark.parametrize("block", range(4))
def test_mutated_text_is_refused_in_a_few_lines(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stream = random.Random(block)
    refused = 0
    for _ in range(50):
        text = mutated(stream)
        (tmp_path / "mutated.gir").write_text(text, encoding="utf-8")
        code = run("show", "mutated.gir", "--format", "listing")
        said = capsys.readouterr().err
        assert code in (0, 1), text
        assert len(said.splitlines()) <= 8
        assert "from inside" not in said, text
        refused += code
    assert refused > 25
