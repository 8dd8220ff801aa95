"""``%%reponse``: run what the student typed, then check what it shows or what it did."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import sys
from typing import Any

from IPython.core.getipython import get_ipython

from labkit.errors import LabkitError
from labkit.exercises.catalogue import EXERCISES, MEASURES, QUESTIONS
from labkit.exercises.notebook import conclude, execute, look, verifier
from labkit.exercises.predictions import set_against
from labkit.exercises.progress import record
from labkit.exercises.questions import Question
from labkit.exercises.solutions import Solution
from labkit.state import ClusterState, capture
from labkit.verdict import Row, Verdict

_COMMAND = re.compile(r"^(?=(?:docker|labkit|curl) )", re.MULTILINE)
_SCRIPT = re.compile(r"^\w+=\$\(", re.MULTILINE)  # the shell's, as solutions are shown
_WORDS = {"cd", "export", "for", "if", "set", "until", "while"}  # the shell's own
_INTERRUPTED = 130  # exit code
_asked: set[str] = set()  # exercises whose cell was run without a command, and were not done


class _Heard:
    """A stream that passes on what is written to it, and keeps it; else it is the one before."""

    def __init__(self) -> None:
        self.text = ""
        self._out = sys.stdout

    def write(self, text: str) -> int:
        self.text += text
        return self._out.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


def answer(line: str, cell: str) -> Verdict | None:
    """Run the commands of a cell, and check what they answer, or what they did to the cluster.

    They are typed as in any other cell; a ``docker …`` does without its exclamation mark, too, and
    a script of the shell, such as ``sed …`` or one that keeps an answer in a variable, without
    ``%%bash``. The outcome is kept in the student's own file. A cell that ended in an error, or was
    interrupted, or only asked for help, is not checked, nor is an engine that is off a wrong
    answer. Without a command, a question awaits one, and an exercise may have been done in a
    terminal.
    """
    name = line.strip()
    if not any(name in known for known in (EXERCISES, QUESTIONS, MEASURES)):
        row = Row.fault("Nom", "un exercice ou une question", name, _KEEP)
        return Verdict.of("Nom inconnu", [row])
    typed = "\n".join(text for text in cell.splitlines() if not text.startswith("#")).strip()
    if not typed:
        if name in EXERCISES:
            return _done_elsewhere(name)
        print(_AWAITS.format(name))
        return None
    if (said := _run(typed)) is None:
        return None
    if name in EXERCISES:
        helped = all("--help" in text for text in typed.splitlines())
        return None if helped else verifier(name)
    return _judged(name, said)


def _run(typed: str) -> str | None:
    """Run what was typed and return its output; None where it came to nothing, or to a verdict."""
    shell: Any = get_ipython()
    shell.user_ns["_exit_code"] = 0
    heard: Any = _Heard()
    with contextlib.redirect_stdout(heard):
        if _is_script(shell, typed):
            # to its end, though a line fails: the check says the rest
            execute(shell, re.sub(r"^!", "", typed, flags=re.MULTILINE))
            result = None
        else:
            typed = typed if typed.startswith("%%") else _COMMAND.sub("!", typed)  # %% is no Python
            ran = shell.run_cell(typed, store_history=False)
            if not ran.success:
                return None
            result = ran.result
    interrupted = shell.user_ns.get("_exit_code") == _INTERRUPTED
    if interrupted or isinstance(result, Solution | Verdict):
        return None
    return f"{heard.text}\n{_text(result)}"


def _is_script(shell: Any, typed: str) -> bool:
    """Tell whether what was typed is the shell's, such as ``sed …``, and no Python."""
    if typed.startswith("%"):
        return False
    if not typed.startswith("!") and _SCRIPT.search(typed):
        return True
    try:
        ast.parse(shell.transform_cell(_COMMAND.sub("!", typed)))
    except SyntaxError:
        program = next(iter(typed.lstrip("! ").split()), "")
        return program in _WORDS or shutil.which(program) is not None
    return False


def _done_elsewhere(name: str) -> Verdict | None:
    """Check an exercise as the cluster is; say what it lacks only to who asks a second time."""
    if name in _asked:
        return verifier(name)
    if (found := look(name, 0.0, acted=False)).verdict.ok:
        return conclude(name, found)
    _asked.add(name)
    print(_ELSEWHERE)
    return None


def judge_answer(question: Question, state: ClusterState, said: str, more: Any = None) -> Verdict:
    """Return the verdict of an output; pure."""
    return Verdict.of(question.title, question.check(state, said, more))


def _judged(name: str, said: str) -> Verdict | None:
    question = QUESTIONS.get(name)
    try:
        state = capture()
        if question is None:
            set_against([MEASURES[name]], state, said)
            return None
        more = question.more() if question.more else None
    except LabkitError as error:
        row = Row.fault("Cluster", "répond", error.message, error.remedy)
        return Verdict.of(question.title if question else "Prédiction", [row])
    verdict = judge_answer(question, state, said, more)
    record(question.name, verdict)
    return verdict


def _text(result: Any) -> str:
    """Return a result as text; a table is not cut short."""
    if result is None:
        return ""
    return str(result.to_string() if hasattr(result, "to_string") else repr(result))


_KEEP = "Reprenez la première ligne de la cellule telle qu’elle était."
_AWAITS = (
    "Cette cellule attend votre commande, sous la question. "
    'Avec « solution("{}") », elle en montrera une.'
)
_ELSEWHERE = (
    "Cette cellule attend votre commande. Si vous avez travaillé dans un terminal ou dans un "
    "fichier, relancez-la : elle dira ce qui manque encore."
)
