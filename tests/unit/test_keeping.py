"""The archive that students take away: what is in it, and that it can be unpacked as told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import is_zipfile

import pytest

from labkit.errors import FileError
from labkit.exercises import sauvegarder
from labkit.exercises.keeping import ARCHIVE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in {
        "01-été.ipynb": 10,
        "ma-stack.yml": 20,
        "example-voting-app/vote/app.py": 30,
        ".ipynb_checkpoints/01-été.ipynb": 40,
        "__pycache__/x.pyc": 50,
        "film.mp4": 5_000_001,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (tmp_path / "lien").symlink_to("/etc/passwd")
    return tmp_path


def test_it_holds_the_work_and_nothing_else(folder: Path) -> None:
    for _ in range(2):  # the archive of before is not in it
        saved = sauvegarder(folder)
        assert saved.names == ("01-été.ipynb", "example-voting-app/vote/app.py", "ma-stack.yml")
    assert saved.path == folder / ARCHIVE
    assert f"<a href='{ARCHIVE}' download=" in saved._repr_html_()
    assert ARCHIVE in repr(saved)


def test_it_is_unpacked_as_the_start_page_says(folder: Path, tmp_path: Path) -> None:
    sauvegarder(folder)
    there = tmp_path / "new"
    there.mkdir()
    (there / "ma-stack.yml").write_text("of the new session")
    (folder / ARCHIVE).rename(there / ARCHIVE)
    subprocess.run([sys.executable, "-m", "zipfile", "-e", ARCHIVE, "."], cwd=there, check=True)
    assert (there / "01-été.ipynb").read_bytes() == b"x" * 10
    assert (there / "ma-stack.yml").read_bytes() == b"x" * 20


def test_a_planted_link_is_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    theirs = tmp_path_factory.mktemp("theirs") / "kept"
    theirs.write_text("kept")
    for name in (ARCHIVE, f".{ARCHIVE}.part"):
        (folder / name).symlink_to(theirs)
    sauvegarder(folder)
    assert theirs.read_text() == "kept"
    assert is_zipfile(folder / ARCHIVE) and not (folder / ARCHIVE).is_symlink()


def test_an_archive_that_cannot_be_written(folder: Path) -> None:
    (folder / ARCHIVE).mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(FileError, match=ARCHIVE):
        sauvegarder(folder)
    assert sorted(folder.iterdir()) == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        sauvegarder(tmp_path / "none")
    assert "Télécharger" in caught.value.remedy
