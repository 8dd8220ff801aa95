"""The class's folder, which every student may write to: one attacks another, and the instructor."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import Account

from labkit.exercises.progress import FOLDER, classe

CHECK = """from labkit.exercises import partager
from labkit.exercises.progress import record
from labkit.verdict import Row, Verdict
record("initialiser", Verdict("Initialiser le Swarm", (Row("node1", "m", "m", True),)))
"""
PRECIOUS = "what the student wrote"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="class-") as place:
        made = Path(place)
        made.chmod(0o1777)
        yield made


def share(account: Account, folder: Path) -> str:
    code = f"{CHECK}print(partager('Ada'))"
    done = account.python(code, env={FOLDER: str(folder)}, timeout=200)
    assert done.returncode == 0, done.stdout
    return done.stdout


def seen(folder: Path) -> list[tuple[str, str, int]]:
    """Return the class's table as the instructor reads it."""
    table = classe(folder)
    return sorted(zip(table["Nom"], table["Compte"], table["Réussis"], strict=True))


@pytest.mark.parametrize(("before", "draft"), [("touch", "ln -s {}"), ("mkfifo", "mkfifo")])
def test_what_is_planted_under_a_students_name(
    before: str, draft: str, student: Account, neighbour: Account, folder: Path
) -> None:
    precious = student.home / "precious"
    assert student.run("sh", "-c", f"umask 077; echo '{PRECIOUS}' > precious").returncode == 0
    for plant, end in ((before, "jsonl"), (draft, "tmp")):
        planted = f"{plant.format(precious)} {folder}/{student.name}.{end}"
        assert neighbour.run("sh", "-c", planted).returncode == 0
    share(student, folder)
    assert precious.read_text() == f"{PRECIOUS}\n"
    assert precious.stat().st_mode & 0o777 == 0o600
    assert seen(folder) == [("Ada", student.name, 1)]


def test_nobody_passes_for_another(student: Account, neighbour: Account, folder: Path) -> None:
    share(student, folder)
    copied = f"cat {folder}/*.jsonl > {folder}/{student.name}.jsonl"
    assert neighbour.run("sh", "-c", copied).returncode == 0
    assert seen(folder) == sorted([("Ada", student.name, 1), ("Ada", neighbour.name, 1)])
    # nor takes away, or writes to, what is another's
    neighbour.run("sh", "-c", f"rm -f {folder}/*.jsonl; echo >> {folder}/*.jsonl")
    assert seen(folder) == [("Ada", student.name, 1)]


def test_a_students_own_file_in_a_place_of_all(
    student: Account, neighbour: Account, folder: Path
) -> None:
    """``LABKIT_PROGRESS`` may name a shared directory, too."""
    precious = student.home / "precious"
    assert student.run("sh", "-c", f"echo '{PRECIOUS}' > precious").returncode == 0
    planted = f"ln -s {precious} {folder}/1; mkfifo {folder}/2; touch {folder}/3"
    assert neighbour.run("sh", "-c", planted).returncode == 0
    record = CHECK.splitlines()[-1]
    again = "".join(
        f"os.environ['LABKIT_PROGRESS'] = '{folder}/{name}'\n{record}\n" for name in (1, 2, 3)
    )
    done = student.python(f"import os\n{CHECK}{again}", timeout=200)
    assert done.returncode == 0, done.stdout
    assert precious.read_text() == f"{PRECIOUS}\n"
    assert (folder / "3").read_text() == ""


def test_a_folder_where_files_can_be_taken_away(student: Account, folder: Path) -> None:
    folder.chmod(0o777)
    done = student.python(f"{CHECK}partager('Ada')", env={FOLDER: str(folder)})
    assert done.returncode != 0
    assert f"chmod +t {folder}" in done.stdout
    assert list(folder.iterdir()) == []


def test_students_may_be_kept_from_listing(student: Account, folder: Path) -> None:
    folder.chmod(0o1733)
    assert f"un dossier de « {folder.owner()} »" in share(student, folder)
    assert seen(folder) == [("Ada", student.name, 1)]
    done = student.run(sys.executable, "-m", "labkit", "progress", "--class", folder)
    assert done.returncode == 1
    assert "ne peut pas être lu" in done.stdout


def test_an_account_without_a_home_or_an_entry(able: None, folder: Path) -> None:
    code = f"""import os
from labkit.errors import SettingError
from labkit.exercises import progression
{CHECK}for ask in (progression, lambda: partager("Ada")):
    try:
        ask()
    except SettingError as error:
        print(error.remedy)
os.environ["LABKIT_PROGRESS"] = "own.progress"
partager("Ada")
{CHECK}"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], user=54321, group=54321, extra_groups=[], cwd=folder,
        env={FOLDER: str(folder)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line[:22] for line in done.stdout.splitlines()] == ["Réglez la variable HOME"[:22]] * 2
    assert not (folder / "~").exists()
    assert seen(folder) == [("Ada", "54321", 1)]
