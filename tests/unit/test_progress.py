"""Progress: every check leaves a line; nothing leaves the account unless asked to."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from labkit.cli import main
from labkit.errors import SettingError
from labkit.exercises import EXERCISES, Confrontation, ne_plus_partager, partager, progression
from labkit.exercises.catalogue import QUESTIONS
from labkit.exercises.progress import (
    FILE,
    FOLDER,
    Attempt,
    Student,
    class_table,
    classe,
    read,
    reasons,
    record,
    standing,
)
from labkit.files import account
from labkit.verdict import Row, Verdict

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ALL = len(EXERCISES) + len(QUESTIONS)
PASSED = Verdict("Initialiser le Swarm", (Row("node1", "manager", "manager", True),))
FAILED = Verdict(
    "Créer le service",
    (Row("Image", "traefik/whoami", "nginx", False), Row("Port", "9999", "9999", True)),
)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "own" / "progression.jsonl"
    monkeypatch.setenv(FILE, str(path))
    monkeypatch.delenv(FOLDER, raising=False)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shared = tmp_path / "class"
    shared.mkdir()
    monkeypatch.setenv(FOLDER, str(shared))
    return shared


def attempt(minutes: int, exercise: str, ok: bool, *wrong: str) -> Attempt:
    at = NOON + timedelta(minutes=minutes)
    return Attempt(at, exercise, EXERCISES[exercise].title, ok, wrong)


def test_checks_are_read_back(own: Path) -> None:
    record("initialiser", PASSED)
    record("creer-service", FAILED)
    first, second = read()
    assert (first.exercise, first.ok, first.wrong) == ("initialiser", True, ())
    assert (second.title, second.ok, second.wrong) == ("Créer le service", False, ("Image",))
    assert datetime.now(UTC) - second.at < timedelta(minutes=5)
    assert progression().summary == f"1 exercice sur {ALL} réussi"
    assert "Créer le service" in repr(progression())
    assert "<td style='text-align:left'>Image</td>" in progression()._repr_html_()


def test_without_a_check_there_is_nothing() -> None:
    assert read() == ()
    assert repr(progression()) == f"0 exercice sur {ALL} réussi"


def test_torn_and_foreign_lines_are_left_out(own: Path) -> None:
    record("initialiser", PASSED)
    line = own.read_text(encoding="utf-8")
    naive = json.dumps({**json.loads(line), "at": "2026-01-05T12:00:00"})
    first = json.dumps({**json.loads(line), "at": "0001-01-01T00:00:00+14:00"})
    nothing = ["", "{", "[1]", "null", "[" * 5000, '{"at": 3}', naive, first, line[:40]]
    own.write_text("\n".join(nothing) + "\n" + line, encoding="utf-8")
    assert [a.exercise for a in read()] == ["initialiser"]


def test_a_file_that_cannot_be_written_does_not_spoil_a_check(own: Path) -> None:
    own.parent.write_text("a file where the directory should be", encoding="utf-8")
    record("initialiser", PASSED)
    assert read() == ()


def test_a_line_that_a_full_disk_cut_takes_no_other_with_it(own: Path) -> None:
    record("initialiser", PASSED)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (own.stat().st_size + 20, before[1]))
    try:
        record("creer-service", FAILED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not own.read_text(encoding="utf-8").endswith("\n")
    record("creer-service", PASSED)
    assert [(a.exercise, a.ok) for a in read()] == [("initialiser", True), ("creer-service", True)]


def test_standing_says_since_when_one_is_stuck() -> None:
    frame = standing(
        [
            attempt(0, "initialiser", False, "node1"),
            attempt(1, "initialiser", True),
            attempt(2, "creer-service", False, "Image"),
            attempt(5, "creer-service", False, "Port publié"),
        ]
    ).set_index("exercise")
    assert frame["attempts"].to_dict() == {"initialiser": 2, "creer-service": 2}
    assert pd.isna(frame.loc["initialiser", "stuck_since"])
    assert frame.loc["creer-service", "stuck_since"] == NOON + timedelta(minutes=2)
    assert frame.loc["creer-service", "wrong"] == "Port publié"


def test_nothing_is_shared_without_consent(folder: Path) -> None:
    record("initialiser", PASSED)
    assert list(folder.iterdir()) == []


def test_a_student_who_agrees_appears_and_can_leave(folder: Path) -> None:
    record("initialiser", PASSED)
    assert "Ada" in partager("  Ada\n L. ")
    record("creer-service", FAILED)
    table = classe()
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["Nom"], row["Compte"]) == ("Ada L.", account(os.geteuid()))
    assert (row["Section"], row["Résultat"], row["À revoir"]) == (
        "Créer le service",
        "à revoir",
        "Image",
    )
    assert row["Réussis"] == 1
    assert 0 <= row["Bloqué depuis"] < 5
    ne_plus_partager()
    ne_plus_partager()
    record("creer-service", FAILED)
    assert list(folder.iterdir()) == []
    assert len(read()) == 3


def test_sharing_says_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="Sous quel nom"):
        partager("  ")
    folder.rmdir()
    with pytest.raises(SettingError, match="ne peut pas être écrit"):
        partager("Ada")
    with pytest.raises(SettingError, match="n’est pas un dossier"):
        classe()
    monkeypatch.delenv(FOLDER)
    with pytest.raises(SettingError, match="Aucun dossier"):
        partager("Ada")


def test_those_stuck_the_longest_come_first(folder: Path) -> None:
    students = {
        "fine": [attempt(0, "initialiser", True)],
        "long": [attempt(0, "initialiser", False), attempt(9, "initialiser", False)],
        "short": [attempt(8, "initialiser", False)],
        "new": [],
    }
    known = [Student(name, name, tuple(attempts)) for name, attempts in students.items()]
    table = class_table(known, NOON + timedelta(minutes=10))
    assert list(table["Nom"]) == ["long", "short", "fine", "new"]
    assert list(table["Bloqué depuis"])[:2] == [10.0, 2.0]
    assert list(table["Essais"])[:3] == [2, 1, 1]


def test_files_that_are_no_progress_are_passed_over(folder: Path) -> None:
    (folder / "binary.jsonl").write_bytes(b"\0\xff\n")
    (folder / "deep.jsonl").write_text("[" * 100_000, encoding="utf-8")
    (folder / "folder.jsonl").mkdir()
    (folder / "link.jsonl").symlink_to("named.jsonl")
    os.mkfifo(folder / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket.jsonl"))
    with (folder / "huge.jsonl").open("wb") as huge:
        huge.truncate(20_000_000_000)
    (folder / "list.jsonl").write_text("[]\n", encoding="utf-8")
    (folder / "empty.jsonl").write_text("", encoding="utf-8")
    (folder / "named.jsonl").write_text('{"name": "Bo"}\nrubbish\n', encoding="utf-8")
    assert list(classe(folder)["Nom"]) == ["Bo"]


def test_what_a_file_says_is_no_formula_and_moves_no_cursor(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = ["=cmd|'/C calc'!A0", "@SUM(1)", "+1", "-1", "\t=1", "\r=1", "a;=1", 'a;"=1"', "\uff1d1"]
    evil += ["\x1b[2J\x1b]0;x\x07", "\x9b2J", "\ud800", "a\u202eb", "ligne\nautre"]
    for number, text in enumerate(evil):
        check = {"at": NOON.isoformat(), "exercise": text, "title": text, "ok": False}
        lines = [json.dumps({"name": text}), json.dumps({**check, "wrong": [text]})]
        (folder / f"{number}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for more in ([], ["--csv"]):
        assert main(["progress", "--class", str(folder), *more]) == 0
        out = capsys.readouterr().out
        assert len(out.splitlines()) == len(evil) + 1
        assert re.findall("[^\\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out) == []
    for raw in (out, classe(folder).to_csv(index=False)):
        cells = re.split('[;,\n]"?', raw)
        assert [cell for cell in cells if cell.startswith(tuple("=+-@\uff1d"))] == []


def test_the_command_shows_both_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("initialiser", PASSED)
    partager("Ada")
    assert main(["progress"]) == 0
    assert "Initialiser le Swarm" in capsys.readouterr().out
    assert main(["progress", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("exercise,title,ok,attempts,last")
    assert main(["progress", "--class", "--csv"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("Nom,Compte,Section,")
    assert out[1].startswith("Ada,")
    assert main(["progress", "--class", str(folder / "absent")]) == 1
    assert "LABKIT_CLASS" in capsys.readouterr().err


def test_what_a_student_wrote_on_a_wrong_prediction_is_kept(own: Path, folder: Path) -> None:
    wrong = Confrontation("Combien de replicas ?", "1", "5")
    assert "Écrivez" in wrong.expliquer("  ")
    assert not own.exists()
    wrong.expliquer("Je pensais à une seule connexion.")
    assert "Gardé" in wrong.expliquer("Le mesh choisit\nà chaque connexion.")
    assert [(r.predicted, r.why) for r in reasons()] == [
        ("1", "Le mesh choisit à chaque connexion.")
    ]
    assert read() == ()
    shown = progression()
    assert "Le mesh choisit" in repr(shown)
    assert "Le mesh choisit" in shown._repr_html_()
    partager("Ada")
    assert "mesh" not in next(folder.glob("*.jsonl")).read_text()


def test_only_a_wrong_prediction_asks_why() -> None:
    view = "application/vnd.jupyter.widget-view+json"
    assert view in Confrontation("Q ?", "1", "5")._repr_mimebundle_()[0]
    for fine in (Confrontation("Q ?", "5", "5"), Confrontation("Q ?", None, "5")):
        assert set(fine._repr_mimebundle_()[0]) == {"text/plain", "text/html"}
