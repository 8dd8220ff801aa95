"""A student who does what the text says: on a new account, one cell after the other, by hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from labkit import course
from labkit.engine.embedded.settings import Settings
from labkit.exercises.catalogue import MEASURES, QUESTIONS
from labkit.exercises.solutions import shown
from labkit.masking import contains_secret

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CELL_TIMEOUT = 400  # s
AGAIN, PAUSE = 6, 5.0  # a command that is refused is typed again, as the text advises; s between
_SUMMARY = re.compile(r"<details><summary>.*?</summary>|</details>")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SOLUTION = re.compile(r"%%solution (\S+)\n(.*)", re.DOTALL)
_PREDICTION = re.compile(r'^\s*predire\(\s*"([^"]+)"', re.MULTILINE)
_ALONE = {"puis", "et", "enfin"}  # words between commands that are all to be typed
_QUESTION = re.compile(r"%%reponse (\S+)\n")
_STEP = re.compile(r"%%etape (\S+)\n")
_VERIFIER = re.compile(r'^verifier\("([^"]+)"\)', re.MULTILINE)
_SCRIPT = re.compile(r"^\w+=|^(until|while|for) |\\$", re.MULTILINE)


@contextmanager
def new_account() -> Iterator[dict[str, str]]:
    """Give the environment of an account that was never used, with its own copy of the course.

    Only what was built is shared: the cache. No cluster runs at its beginning, nor at its end.
    """
    home = Path(tempfile.mkdtemp(prefix="lk-"))
    cache = Settings.read().cache
    course.write(home / "notebooks")
    kept = {"PATH", "LANG", "LABKIT_ACCEL", "VIRTUAL_ENV"}
    environment = {k: v for k, v in os.environ.items() if k in kept}
    environment |= {"HOME": str(home), "LABKIT_CACHE": str(cache), "TERM": "dumb"}
    environment["LABKIT_CLUSTER"] = f"lecture{os.getpid()}"
    try:
        yield environment
    finally:
        subprocess.run(["labkit", "down"], env=environment, check=True, capture_output=True)
        shutil.rmtree(home)


@dataclass
class Reader:
    """What a student did with one notebook.

    Attributes
    ----------
    solutions, commands
        The corrected edition's cells with solutions, and with commands to type, by their ids.
    typed
        ``(cell, command)``, in their order.
    shown
        Solutions that were asked for.
    passed
        Exercises whose check said that all is well.
    answered
        Questions whose check said that the output holds the answer.
    skipped
        Exercises whose check said that what they need is not to be had here.
    """

    client: NotebookClient
    solutions: dict[str, str]
    commands: dict[str, str] = field(default_factory=dict)
    typed: list[tuple[str, str]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def of(cls, name: str, environment: dict[str, str]) -> Iterator[Reader]:
        """Open a notebook in a kernel of its own."""
        folder = Path(environment["HOME"]) / "notebooks"
        notebook = nbformat.read(folder / name, as_version=4)
        client = NotebookClient(
            notebook, timeout=CELL_TIMEOUT, resources={"metadata": {"path": folder}}
        )
        with client.setup_kernel(env=environment):
            full = course.corrected(name).cells
            yield cls(
                client,
                {c.id: c.source for c in full if _SOLUTION.match(c.source)},
                {c.id: _typed(c.source) for c in full if "a-taper" in c.metadata.get("tags", ())},
            )

    def read(self) -> None:
        """Go through the whole notebook."""
        cells = list(self.client.nb.cells)
        for at, cell in enumerate(cells):
            if cell.cell_type != "code":
                continue
            solution = _SOLUTION.match(self.solutions.get(cell.id, ""))
            if "a-vous" in cell.metadata.get("tags", ()):
                self._try(cells, at)
            elif solution:
                # typed at the room to try before; a second one, now
                if cell is not self._first_solution(cells, _room_before(cells, at)):
                    self._type(cell["id"], as_typed(self._ask(cell)))
            else:
                self._run(cell)
        assert not contains_secret(nbformat.writes(self.client.nb))

    def _run(self, cell: Any) -> None:
        """Run a given cell: answer what it asks, and believe what it checks."""
        said, failed = self._execute(cell.source)
        assert not failed, f"{cell['id']}: {said}"
        for name in _PREDICTION.findall(cell.source):
            self._execute(
                "from labkit.exercises.predictions import _predictions as asked\n"
                f"asked[{name!r}].choose(asked[{name!r}].choices[0])"
            )
        if "confronter(" in cell.source:
            assert "rien prédit" not in said, f"{cell['id']}: {said}"
        if checks := _VERIFIER.findall(cell.source) or _STEP.findall(cell.source):
            self._believe(cell, checks[0], said)

    def _believe(self, cell: Any, name: str, said: str) -> None:
        """Take what a check of an exercise says; look again where it says to."""
        for _ in range(AGAIN):
            if "réussi" in said or "puis revérifiez" not in said:
                break
            time.sleep(PAUSE)  # as the check advises
            said, _ = self._execute(f'verifier("{name}")')
        if re.search(r"\s: sauté$", said, re.MULTILINE):
            self.skipped.append(name)
            return
        typed = "\n".join(c for _, c in self.typed[-6:])
        assert "réussi" in said, f"{cell['id']}, after\n{typed}\n{said}"
        self.passed.append(name)

    def _try(self, cells: list[Any], at: int) -> None:
        """Type what the text leads to, into the room to try."""
        cell, text = cells[at], _text_of(cells, at)
        magic = cell.source.partition("\n")[0] if cell.source.startswith("%%reponse") else ""
        asked = magic.removeprefix("%%reponse ")
        if cell.id in self.commands:
            said = self._type(cell["id"], [self.commands[cell.id]], magic)
            if asked in QUESTIONS:
                assert "réussi" in said, f"{cell['id']}: {said}"
                self.answered.append(asked)
            elif asked in MEASURES:
                assert "Mesure" in said and "rien prédit" not in said, f"{cell['id']}: {said}"
                self.answered.append(asked)
            elif asked:
                self._believe(cell, asked, said)
            return
        solution = self._first_solution(cells, at)
        hints = [c.source for c in text if "<summary>Un indice" in c.source]
        if solution is not None:
            whole = self._ask(solution)
            # where a file is to be edited, the earlier hints count as much as the last
            told = last_hint(hints[0]) if hints and "sed " not in whole else []
            said = self._type(cell["id"], [f"!{c}" for c in told] or as_typed(whole), magic)
            if asked:
                self._believe(cell, asked, said)
            return
        for command in (c for t in text for c in commands_of(t.source)):
            self._type(cell["id"], [f"!{command}"], again=False)

    def _first_solution(self, cells: list[Any], room: int) -> Any:
        """Return the first solution after a room to try and before the next; None without one."""
        for cell in cells[room + 1 :] if room >= 0 else ():
            if "a-vous" in cell.metadata.get("tags", ()):
                return None
            if cell.id in self.solutions:
                return cell
        return None

    def _ask(self, cell: Any) -> str:
        """Ask for a solution until it is shown: it is not at the first demand."""
        whole = _SOLUTION.match(self.solutions[cell.id])[2].strip()
        wanted = shown(whole)
        first, failed = self._execute(cell.source)
        assert not failed and (wanted not in first or wanted in self.shown), first
        again, failed = self._execute(cell.source)
        assert not failed and wanted in again, again
        self.shown.append(wanted)
        return whole

    def _type(self, cell: str, commands: list[str], magic: str = "", *, again: bool = True) -> str:
        """Type commands one by one; the last, under the magic, is checked."""
        said = ""
        for number, command in enumerate(commands, 1):
            self.typed.append((cell, command))
            last = magic if number == len(commands) else ""
            # the file that it copies stands for what a student writes, who was shown the text
            course.provide(command, Path(self.client.resources["metadata"]["path"]))
            for attempt in range(AGAIN):
                said, failed = self._execute(f"{last}\n{command}".lstrip())
                if command.startswith("!"):
                    failed = self._execute("print(_exit_code)")[0].strip() != "0"
                if not failed or not again:
                    break
                assert attempt < AGAIN - 1, f"{cell}, {command}: {said}"
                time.sleep(PAUSE)
        return said

    def _execute(self, source: str) -> tuple[str, bool]:
        """Run a cell of these lines; return what it says, and whether it ended in an error."""
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["raises-exception"]})
        self.client.nb.cells.append(cell)
        done: Any = self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        failed = any(output.output_type == "error" for output in done.outputs)
        return "".join(_texts(done.outputs)), failed


def _texts(outputs: list[Any]) -> Iterator[str]:
    for output in outputs:
        yield output.get("text", "") or output.get("data", {}).get("text/plain", "")
        yield "\n".join(output.get("traceback", ()))


def _typed(source: str) -> str:
    """Return what a student types of a cell that asks for a command."""
    if step := _STEP.match(source):
        return f"%%bash\n{source[step.end() :]}"
    return _QUESTION.sub("", source, count=1)


def _room_before(cells: list[Any], at: int) -> int:
    rooms = (i for i in range(at, -1, -1) if "a-vous" in cells[i].metadata.get("tags", ()))
    return next(rooms, -1)


def _text_of(cells: list[Any], at: int) -> list[Any]:
    """Return the Markdown beside a room to try: what leads to it, and its hints."""
    around = (cells[at - 1], *cells[at + 1 : at + 2])
    return [c for c in around if c.cell_type == "markdown"]


def commands_of(markdown: str) -> list[str]:
    """Return the whole commands that a text says to type, without their exclamation mark."""
    found = [c[1:] for c in _CODE.findall(markdown) if c.startswith("!")]
    return [c for c in found if "…" not in c and not c.endswith("--help")]


def last_hint(markdown: str) -> list[str]:
    """Return the commands of the last hint, where it is these and nothing more."""
    text = _SUMMARY.split(markdown)
    last = next(part for part in reversed(text) if part.strip())
    commands = commands_of(last)
    if len(commands) != len(_CODE.findall(last)):
        return []
    between = set(re.findall(r"\w+", _CODE.sub(" ", last).lower()))
    if between <= _ALONE:
        return commands
    return commands[:1] if between == {"ou"} else []


def as_typed(solution: str) -> list[str]:
    """Return a solution as a student types it: a line each, or as a script where it is one."""
    lines = [line for line in solution.splitlines() if line.strip() and line[:2] != "# "]
    if _SCRIPT.search(solution):
        return ["%%bash\n" + "\n".join(lines)]
    return [f"!{line}" for line in lines]
