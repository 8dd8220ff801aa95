"""What is printed moves no cursor and hides nothing, whoever wrote it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from labkit.cli import main
from labkit.terminal import plain, plain_stdout

EVIL = "a\x1b]0;title\x07b\x9b2J\rc\x00\u202ed\ud800"


def test_text_stays_and_control_characters_go() -> None:
    assert plain(EVIL) == "a?]0;title?b?2J?c??d?"
    fine = "é : « x » \t→ 1\u202fGo ✔\r\nfin\n"
    assert plain(fine) == fine


def test_colours_may_stay() -> None:
    assert plain("\x1b[31mred\x1b[0m\x1b[2J\r", colours=True) == "\x1b[31mred\x1b[0m?[2J?"


def test_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_stdout():
        print(EVIL, end="", flush=True)
        assert sys.stdout.isatty() is False
    assert capsys.readouterr().out == plain(EVIL)


def test_the_command_prints_what_a_file_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stack\x1b[2J.yml"
    path.write_text('services:\n  web:\n    image: "x\\e[2J"\n    labels: ["a=\\x9bm"]\n')
    main(["compose", "explain", str(path)])
    main(["compose", "explain", f"{path}\x1b"])
    said = capsys.readouterr()
    assert "?[2J" in said.out
    assert "?[2J" in said.err
    assert not {"\x1b", "\x9b"} & set(said.out + said.err)
