"""``labkit demo`` on a pseudo-terminal, with a real kernel: plays, skips, stops, leaves nothing."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pexpect
import psutil
import pytest

from labkit.demo import COURSE, find, script, title
from labkit.errors import SettingError

V4 = nbformat.v4
SLEEPER = "import subprocess\nprint('début')\nsubprocess.run(['sleep', '987654'])"


def notebook() -> Any:
    def code(source: str, *tags: str) -> Any:
        return V4.new_code_cell(source, metadata={"tags": list(tags)})

    cells = [
        V4.new_markdown_cell("# Le titre"),
        code("n = 6"),
        V4.new_markdown_cell("## Compter `n`\n\nDes **replicas**.\n\n| a |\n|---|\n| x |"),
        code("# À vous", "a-vous"),
        V4.new_markdown_cell("<details><summary>Un indice</summary>\n\nsecret\n\n</details>"),
        V4.new_markdown_cell("**Solution**\u00a0: la barre"),
        code("import os\nprint(n * 7 if 'n' in globals() else 'sans n', os.getcwd())"),
        V4.new_markdown_cell("## Attendre"),
        code(SLEEPER),
        code("1 / 0"),
        code("'la ' + 'fin'"),
    ]
    return V4.new_notebook(cells=cells)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nbformat.write(notebook(), tmp_path / "essai.ipynb")
    return tmp_path / "essai.ipynb"


class Terminal:
    def __init__(self, *arguments: str) -> None:
        self.child = pexpect.spawn(
            sys.executable, ["-m", "labkit", "demo", *arguments],
            encoding="utf-8", timeout=90, dimensions=(40, 100),
        )  # fmt: skip
        self.family: list[psutil.Process] = []

    def expect(self, text: str) -> str:
        """Wait for a text; return what came before it, as it reads."""
        self.child.expect(re.escape(text))
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.child.before)

    def press(self, key: str) -> None:
        self.family = psutil.Process(self.child.pid).children(recursive=True)
        self.child.send(key)

    def end(self) -> int:
        """Wait for the end; nothing that it started may be left."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        gone, alive = psutil.wait_procs(self.family, timeout=30)
        assert gone and not alive
        return self.child.exitstatus if self.child.signalstatus is None else -1


@pytest.fixture
def terminal(path: Path) -> Iterator[Terminal]:
    terminal = Terminal(str(path))
    yield terminal
    terminal.child.close(force=True)


NEXT = "q : arrêter"


def to(terminal: Terminal, step: int) -> str:
    """Press on until a step is shown; return what was said meanwhile."""
    said = terminal.expect(NEXT)
    for _ in range(step - 1):
        terminal.press(" ")
        said = terminal.expect(NEXT)
    return said


def test_a_notebook_is_played_to_its_end(terminal: Terminal, path: Path) -> None:
    said = to(terminal, 3)
    assert "Compter n" in said and "replicas" in said and "**" not in said
    assert "secret" not in said and "[3/8]" in said
    terminal.press(" ")
    assert "print(n * 7" in terminal.expect(NEXT)
    terminal.press("\r")
    said = terminal.expect(NEXT)
    assert f"42 {path.parent}" in said  # what ran before counts, in the notebook's own folder
    terminal.press(" ")
    assert "sleep" in terminal.expect(NEXT)
    terminal.press("s")  # left out
    said = terminal.expect(NEXT)
    assert "début" not in said
    terminal.press(" ")
    assert "ZeroDivisionError" in terminal.expect(NEXT)
    terminal.press(" ")
    assert "'la fin'" in terminal.expect("Fin. Le cluster tourne toujours.")
    assert terminal.end() == 0


@pytest.mark.parametrize("key", ["q", "\x03", "\x04"], ids=["q", "ctrl-c", "ctrl-d"])
def test_it_stops_between_two_cells(terminal: Terminal, key: str) -> None:
    to(terminal, 2)
    terminal.press(key)
    assert "Démonstration arrêtée" in terminal.expect("tourne toujours.")
    assert terminal.end() == 0


def _sleeping(terminal: Terminal) -> None:
    to(terminal, 6)
    terminal.press(" ")
    terminal.expect("début")
    limit = time.monotonic() + 30
    while not any("987654" in p.cmdline() for p in terminal.family):
        assert time.monotonic() < limit
        terminal.family = psutil.Process(terminal.child.pid).children(recursive=True)


def test_it_stops_in_the_middle_of_a_cell(terminal: Terminal) -> None:
    _sleeping(terminal)
    terminal.child.send("\x03")
    terminal.expect("Démonstration arrêtée")
    assert terminal.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_is_ended_in_the_middle_of_a_cell(terminal: Terminal, number: int) -> None:
    _sleeping(terminal)
    terminal.child.kill(number)
    assert terminal.end() == 128 + number


def test_keys_pressed_too_early_play_nothing(terminal: Terminal) -> None:
    terminal.expect(NEXT)
    terminal.press("x\x1b[B")  # neither is a key of its own
    terminal.press(" ")
    terminal.expect(NEXT)
    terminal.press("q")
    assert terminal.end() == 0


def test_a_section_is_entered_with_what_it_imports(path: Path) -> None:
    terminal = Terminal(str(path), "compter")
    said = terminal.expect(NEXT)
    assert "Compter n" in said and "[1/2]" in said
    terminal.press(" ")
    terminal.expect(NEXT)
    terminal.press(" ")
    assert "sans n" in terminal.expect("Fin.")  # the cell before it has not run
    assert terminal.end() == 0


# -- what is played -------------------------------------------------------------------------


def test_the_script_plays_solutions_and_leaves_hints_out() -> None:
    course = nbformat.read(find("01"), as_version=4)
    steps = script(course, title(course, "Créer un service"))
    assert [s.cell for s in steps] == [
        "creer", "creer-predire", "creer-solution", "creer-lire", "creer-ls",
    ]  # fmt: skip
    solution = steps[2]
    assert solution.text.startswith("docker service create") and "%%" not in solution.text
    assert solution.source and solution.source.startswith("%%solution creer-service\n")
    assert script(course, "Nulle part") == ()
    assert len(script(course)) > len(steps)


@pytest.mark.parametrize("path", sorted(COURSE.glob("*.ipynb")), ids=lambda p: p.name)
def test_every_solution_of_the_course_is_played(path: Path) -> None:
    course = nbformat.read(path, as_version=4)
    played = {s.source for s in script(course)}
    solutions = [c.source for c in course.cells if c.source.startswith(("%%solution", "%%etape"))]
    assert played.issuperset(solutions)
    assert all("<details" not in s.text for s in script(course))


def test_sections_are_meant_by_number_or_beginning() -> None:
    course = notebook()
    assert title(course, "1") == title(course, "compt") == title(course, "Compter n") == "Compter n"
    for wrong in ("0", "3", "Nulle part", ""):
        with pytest.raises(SettingError, match="section") as caught:
            title(course, wrong)
        assert "1. Compter n ; 2. Attendre" in caught.value.remedy


def test_notebooks_are_meant_by_the_beginning_of_their_name(path: Path) -> None:
    assert find("essai", path.parent) == find(str(path)) == path
    (path.parent / "essai-2.ipynb").touch()
    with pytest.raises(SettingError, match="plusieurs notebooks"):
        find("essai", path.parent)
    with pytest.raises(SettingError, match="un notebook inconnu") as caught:
        find("99", path.parent)
    assert "essai.ipynb" in caught.value.remedy
    (path.parent / "essaib-3.ipynb").touch()
    assert find("essaib", path.parent).name == "essaib-3.ipynb"
    assert find("05").name.startswith("05-") and find("05b").name.startswith("05b-")


def test_without_a_terminal_it_says_so(path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "labkit", "demo", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Lancez-la dans un terminal" in done.stderr
