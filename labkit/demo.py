"""A notebook played in a terminal, one cell at a key press: nothing can be mistyped.

The text of each cell is shown, then the command, which runs in a real kernel when a key says so.
Where students have to find a command, the solution's is played.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager

from labkit.errors import LabkitError, SettingError
from labkit.exercises.catchup import headings, sections, steps_before
from labkit.terminal import plain

COURSE = Path(__file__).resolve().parent.parent / "notebooks"
_READY_SECONDS = 60
_INTERRUPT_SECONDS = 10
_TRY = "a-vous"
_FOLDED = re.compile(r"<details>(?:(?!<details>).)*?</details>", re.DOTALL)  # the innermost
_SOLUTION = re.compile(r"\*\*Solution\*\*\s*:")
_MAGIC = re.compile(r"%%(?:solution|etape)[^\n]*\n")
_KEYS = "espace : suite   s : sauter   q : arrêter"


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One key press: the cells that it plays."""

    cell: str  # id of the cell
    text: str  # what is shown: Markdown, or the command
    source: str | None = None  # what is run; None for a text


def find(name: str, folder: Path = COURSE) -> Path:
    """Return the notebook of a path or of the beginning of a name, or raise ``SettingError``."""
    if Path(name).is_file():
        return Path(name).resolve()
    known = sorted(folder.glob("*.ipynb"))
    meant = [p for p in known if p.stem.partition("-")[0] == name]
    meant = meant or [p for p in known if p.name.startswith(name)]
    if len(meant) == 1:
        return meant[0]
    raise SettingError(
        f"« {name} » désigne {'plusieurs notebooks' if meant else 'un notebook inconnu'}.",
        remedy="Donnez un chemin, ou le début de l’un de ces noms : "
        + (", ".join(p.name for p in meant or known) or "aucun ici")
        + ".",
    )


def title(notebook: Any, section: str) -> str:
    """Return the section that a number, from 1, or a beginning means, or raise ``SettingError``."""
    known = [t for cell in notebook.cells if cell.cell_type == "markdown" for t in headings(cell)]
    if section.isdecimal() and 1 <= int(section) <= len(known):
        return known[int(section) - 1]
    wanted = _plain(section)
    meant = [t for t in known if _plain(t) == wanted] or [
        t for t in known if _plain(t).startswith(wanted)
    ]
    if len(meant) == 1:
        return meant[0]
    raise SettingError(
        f"« {section} » désigne {'plusieurs sections' if meant else 'une section inconnue'}.",
        remedy="Donnez le numéro ou le début de l’une de celles-ci : "
        + " ; ".join(f"{number}. {t}" for number, t in enumerate(known, 1))
        + ".",
    )


def _plain(text: str) -> str:
    return " ".join(text.replace("`", "").replace("'", "’").casefold().split())


def script(notebook: Any, section: str | None = None) -> tuple[DemoStep, ...]:
    """Return what is to be played, in order; pure.

    Hints, what is folded and the cells where students try are left out.
    """
    steps: list[DemoStep] = []
    inside = section is None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = headings(cell)
            if section is not None and found:
                inside = section in found
            text = unfolded(cell.source).strip()
            if inside and text and not _SOLUTION.match(text):
                steps.append(DemoStep(cell["id"], text))
        elif inside and cell.cell_type == "code" and _TRY not in cell.metadata.get("tags", ()):
            shown = _MAGIC.sub("", cell.source, count=1).strip()
            if shown:
                steps.append(DemoStep(cell["id"], shown, cell.source))
    return tuple(steps)


def unfolded(markdown: str, blank: str = "") -> str:
    """Return Markdown without what is folded, each character of which becomes ``blank``; pure."""
    while (less := _FOLDED.sub(lambda m: blank * len(m[0]), markdown)) != markdown:
        markdown = less
    return markdown


def play(path: Path, section: str | None = None) -> bool:
    """Play a notebook, or a section of it; return whether it was played to its end.

    A section is named by its number, its title or the beginning of its title. Raises
    ``SettingError`` when the section is unknown, standard input is no terminal, or this Python
    lacks what the extra ``presenter`` installs.
    """
    try:
        from rich.console import Console
    except ImportError:
        raise SettingError(
            "Cette commande demande le paquet « rich ».", remedy="pip install 'labkit[presenter]'"
        ) from None
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    entered = None if section is None else title(notebook, section)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingError(
            "Une démonstration se pilote au clavier.", remedy="Lancez-la dans un terminal."
        )
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))  # the terminal was closed
    stage = _Stage(Console(highlight=False))
    done = False
    with _kernel(path.parent) as kernel, _keys(), contextlib.suppress(_Stop, KeyboardInterrupt):
        _enter(stage, kernel, notebook, path.name, entered)
        stage.play(kernel, script(notebook, entered))
        done = True
    again = f"labkit demo {path.name}" + (f" '{entered}'" if entered else "")
    end = "Fin." if done else f"Démonstration arrêtée ; pour la reprendre : {again}"
    stage.say(f"\n{end} Le cluster tourne toujours.", "bold")
    return done


class _Stop(Exception):  # not an error: the way out of a demonstration
    """The presenter has had enough."""


class _Stage:
    """The screen of the audience."""

    def __init__(self, console: Any) -> None:
        self._console = console

    def play(self, kernel: _Kernel, steps: Sequence[DemoStep]) -> None:
        """Show each step, and run it when a key says so."""
        for number, step in enumerate(steps, 1):
            self.show(step)
            if self.key(f"[{number}/{len(steps)}]  {_KEYS}") and step.source is not None:
                self.run(kernel, step.source)

    def show(self, step: DemoStep) -> None:
        """Show a text, or a command."""
        from rich.markdown import Markdown
        from rich.padding import Padding
        from rich.syntax import Syntax

        self._console.print()
        if step.source is None:
            self._console.print(Markdown(step.text))
            return
        shell = step.source.startswith(("!", "%%"))
        code = Syntax(step.text, "bash" if shell else "python", word_wrap=True)
        self._console.print(Padding(code, (0, 0, 0, 2)))

    def run(self, kernel: _Kernel, source: str) -> None:
        """Run a cell and show what it says as it comes."""
        for kind, text in kernel.run(source):
            self._write(plain(text if kind == "stream" else f"{text}\n", colours=True))

    def say(self, text: str, style: str = "") -> None:
        """Say one thing that is not the notebook's."""
        self._console.print(text, style=style, markup=False, highlight=False)

    def key(self, prompt: str) -> bool:
        """Wait for a key: True to go on, False to leave this one out; raise ``_Stop`` to end."""
        termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed while a command ran
        self._console.print(f"\n{prompt}", style="dim", end="", markup=False)
        try:
            while True:
                typed = os.read(sys.stdin.fileno(), 1)
                if typed in (b"", b"\x04", b"q", b"Q"):
                    raise _Stop
                if typed in (b" ", b"\r", b"\n", b"s", b"S"):
                    return typed not in (b"s", b"S")
                if typed == b"\x1b":
                    _skip_sequence()
        finally:
            self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


def _enter(stage: _Stage, kernel: _Kernel, notebook: Any, name: str, section: str | None) -> None:
    """Bring the cluster to where a section starts."""
    if section is None:
        return
    if section not in sections(notebook):  # nothing stands before it but imports
        for step in steps_before(notebook, section):
            stage.run(kernel, step.source)
        return
    stage.say(f"\nLe cluster doit d’abord arriver à « {section} ».", "bold")
    if stage.key("espace : l’y amener   s : il y est   q : arrêter"):
        call = f"from labkit.exercises import rattraper\nrattraper({name!r}, {section!r})"
        stage.run(kernel, call)
        return
    for step in steps_before(notebook, section):
        if step.exercise is None:
            stage.run(kernel, step.source)


def _skip_sequence() -> None:
    """Read what an arrow or another special key sends after its Escape, and no key after that."""
    inside = False
    while select.select([sys.stdin], [], [], 0.05)[0]:
        byte = os.read(sys.stdin.fileno(), 1)
        if (inside and b"@" <= byte <= b"~") or (not inside and byte not in (b"[", b"O")):
            return
        inside = True


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Take keys one by one, unseen; the terminal is as it was afterwards."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class _Kernel:
    """A kernel that runs cells, one at a time."""

    def __init__(self, manager: Any, client: Any) -> None:
        self._manager, self._client = manager, client
        self._busy = ""

    def run(self, source: str) -> Iterator[tuple[str, str]]:
        """Yield the outputs of a cell as they come: ``stream`` or ``result``, and the text.

        Raises ``LabkitError`` when the kernel died.
        """
        self._busy = self._client.execute(source, allow_stdin=False)
        for kind, content in self._messages(self._busy):
            if kind == "stream":
                yield "stream", content["text"]
            elif kind in ("execute_result", "display_data"):
                yield "result", content["data"].get("text/plain", "")
            elif kind == "error":
                yield "result", "\n".join(content["traceback"])
        self._busy = ""

    def interrupt(self) -> None:
        """End the cell under way, if there is one, and what it started."""
        if not self._busy:
            return
        self._manager.interrupt_kernel()
        with contextlib.suppress(LabkitError, TimeoutError):
            for _ in self._messages(self._busy, _INTERRUPT_SECONDS):
                pass

    def _messages(
        self, request: str, seconds: float | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        waited = 0.0
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=1)
            except Empty:
                waited += 1
                if not self._manager.is_alive():
                    raise LabkitError(
                        "Le noyau qui exécute les cellules s’est arrêté.",
                        remedy="Relancez la démonstration ; le cluster, lui, tourne toujours.",
                    ) from None
                if seconds is not None and waited >= seconds:
                    raise TimeoutError from None
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                return
            yield message["msg_type"], content


@contextlib.contextmanager
def _kernel(folder: Path) -> Iterator[_Kernel]:
    """Run a kernel of this very Python in a folder; it ends with what it started."""
    manager = KernelManager()
    client = manager.client()
    kernel = _Kernel(manager, client)
    try:
        manager.start_kernel(cwd=str(folder))
        client.load_connection_info(manager.get_connection_info())
        client.start_channels()
        client.wait_for_ready(timeout=_READY_SECONDS)
        yield kernel
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C
        if manager.has_kernel:
            kernel.interrupt()
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        signal.signal(signal.SIGINT, before)
