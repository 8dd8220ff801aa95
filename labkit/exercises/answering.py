"""``%%reponse``: run what the student typed under a question, then check what it shows."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any

from IPython.core.getipython import get_ipython

from labkit.errors import LabkitError
from labkit.exercises.catalogue import QUESTIONS
from labkit.exercises.progress import record
from labkit.exercises.questions import Question
from labkit.exercises.solutions import Solution
from labkit.state import ClusterState, capture
from labkit.verdict import Row, Verdict

_COMMAND = re.compile(r"^(?=(?:docker|labkit|curl) )", re.MULTILINE)
_INTERRUPTED = 130  # exit code


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
    """Run the commands of a cell, and check their output against the cluster's real state.

    They are typed as in any other cell; a ``docker …`` does without its exclamation mark, too. The
    outcome is kept in the student's own file. A cell without a command awaits one; one that ended
    in an error, or was interrupted, answers nothing, nor is an engine that is off a wrong answer.
    """
    name = line.strip()
    if (question := QUESTIONS.get(name)) is None:
        return Verdict.of("Question inconnue", [Row.fault("Nom", "une question", name, _KEEP)])
    typed = "\n".join(text for text in cell.splitlines() if not text.startswith("#")).strip()
    if not typed:
        print(_AWAITS.format(name))
        return None
    if not typed.startswith("%%"):  # which is no Python
        typed = _COMMAND.sub("!", typed)
    shell: Any = get_ipython()
    shell.user_ns["_exit_code"] = 0
    heard: Any = _Heard()
    with contextlib.redirect_stdout(heard):
        result = shell.run_cell(typed, store_history=False)
    interrupted = shell.user_ns.get("_exit_code") == _INTERRUPTED
    if not result.success or interrupted or isinstance(result.result, Solution):
        return None
    return _judged(question, f"{heard.text}\n{_text(result.result)}")


def judge_answer(question: Question, state: ClusterState, said: str, more: Any = None) -> Verdict:
    """Return the verdict of an output; pure."""
    return Verdict.of(question.title, question.check(state, said, more))


def _judged(question: Question, said: str) -> Verdict:
    try:
        state = capture()
        more = question.more() if question.more else None
    except LabkitError as error:
        row = Row.fault("Cluster", "répond", error.message, error.remedy)
        return Verdict.of(question.title, [row])
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
