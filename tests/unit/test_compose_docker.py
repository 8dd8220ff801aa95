"""What labkit says of files is what the course's docker command said of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from labkit.compose import Explanation, Fate, explain, parse, read
from labkit.errors import ComposeError

sys.path.insert(0, str(Path(__file__).parents[1] / "compose"))

from inputs import FILES, INPUTS, Input
from probes import VALUES, asked, file_with, options, recorded


def refused(text: str, folder: Path | None = None) -> list[int | None]:
    """Return the lines for which docker is said to refuse a file."""
    try:
        if folder is None:
            explanation = explain(parse(text))
        else:
            path = folder / "stack.yml"
            path.write_text(text, encoding="utf-8")
            explanation = explain(read(path))
    except ComposeError as error:
        return [error.line]
    return [finding.line for finding in explanation.of(Fate.REJECTED)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the inputs name."""
    made = tmp_path_factory.mktemp("inputs")
    for name, content in FILES.items():
        (made / name).write_bytes(content)
    return made


@pytest.mark.parametrize("given", INPUTS, ids=lambda given: given.text)
def test_a_file_is_refused_at_its_line_or_taken(given: Input, folder: Path) -> None:
    assert refused(given.text, folder)[:1] == ([given.line] if given.line else [])


def test_every_option_with_every_value_is_judged_as_docker_does(
    tmp_path: Path,
) -> None:
    answers = recorded()
    assert set(answers) == set(options()), "run tests/compose/record.py"
    wrong = []
    for option, row in answers.items():
        for name, letter in zip(asked(option), row, strict=True):
            given = file_with(option, VALUES[name])
            if bool(refused(given, tmp_path)) != (letter == "-"):
                wrong.append((option, name, letter))
    assert not wrong


def explained(options: str, more: str = "") -> Explanation:
    return explain(parse(f"services:\n  web:\n    image: nginx\n    {options}\n{more}"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("read_only: yes", "docker compose et docker 28 y lisent un texte"),
        ("image: redis", "déjà écrite ligne 3"),
        ("command: test $? && echo $HOME", "docker ôte ce dollar"),
        ("restart: no", "docker 28 y lit un texte"),
        ("oom_score_adj: 5", "La commande docker 27 le prend ; celle du cours est en 26.1"),
        ("networks: {net: {driver_opts: {a: b}}}", "La commande docker 27 le prend"),
        ("volumes: [{type: image, source: x, target: /x}]", "docker 28 prend aussi « image »"),
        ("x-a: 1\n---", "le premier document"),
    ],
)
def test_what_a_newer_command_does_otherwise_is_said(options: str, said: str) -> None:
    words = " ".join(finding.why for finding in explained(options).findings)
    assert said in words.replace("\u00a0", " ")


def test_the_version_of_docker_is_named() -> None:
    assert "docker stack deploy (26.1) refuse ce fichier" in explained("restart: oui").conclusion


def test_a_later_merge_key_replaces_what_is_above_it() -> None:
    file = parse("x-a: &a {image: b}\nservices:\n  web:\n    image: a\n    <<: *a\n")
    assert file.services[0].image == "b"
    (note,) = explain(file).of(Fate.NOTE)
    assert (note.line, note.option, note.place) == (4, "image", "web")


def test_the_files_that_docker_reads_are_looked_at_and_that_which_it_does_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "stack.yml"
    path.write_text("services: {web: {image: 'x:${TAG}'}}")
    assert [f.option for f in explain(read(path)).of(Fate.NOTE)] == ["${TAG}"]
    (tmp_path / ".env").write_text("TAG=1\n")
    assert ".env" in [f.option for f in explain(read(path)).of(Fate.NOTE)]
    assert not explain(read(path, environment={"TAG": "1"})).of(Fate.NOTE)


def labkit(*words: str | Path, stdout: int | IO[bytes] = subprocess.PIPE) -> tuple[int, str]:
    """Run ``labkit compose`` in a process of its own; return its status and what it says wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "labkit", "compose", *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, check=False,
        env={**os.environ, "LABKIT_TEST_NEEDED": "1"},
    )  # fmt: skip
    return done.returncode, done.stderr.decode()


def test_the_exit_status_says_whether_docker_would_refuse(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text("services: {web: {image: 'x:${LABKIT_TEST_NEEDED:?}'}}")
    bad.write_text("services: {web: {image: x, restart: maybe}}")
    assert labkit("explain", good) == (0, "")
    assert labkit("explain", bad) == (1, "")
    assert labkit("explain", "--lenient", bad) == (0, "")


def test_an_output_that_breaks_leaves_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(
        "services: {" + ", ".join(f"s{i}: {{image: x, restart: no}}" for i in range(900)) + "}"
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        assert labkit("explain", path, stdout=write_end) == (141, "")
    finally:
        os.close(write_end)
    with Path("/dev/full").open("wb") as full:
        status, said = labkit("explain", path, stdout=full)
    assert status == 1 and "il n’y a plus de place" in said and "Traceback" not in said


def test_what_cannot_be_read_is_said_in_french(tmp_path: Path) -> None:
    status, said = labkit("explain", tmp_path)
    assert status == 1 and "c’est un dossier" in said
    status, said = labkit("explain", "/dev/zero")
    assert status == 1 and "Mo" in said
