"""Exercises inside a notebook: ``verifier``, ``%%solution``, ``commencer``."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import HTML, display

from labkit import elections, engine
from labkit.commands import note
from labkit.elections import Leader
from labkit.errors import LabkitError
from labkit.exercises.catalogue import EXERCISES, judge
from labkit.exercises.exercise import PATIENCE
from labkit.exercises.leading import ask_first
from labkit.exercises.predictions import FRESH, set_against
from labkit.exercises.progress import record
from labkit.exercises.settling import moving, spread, unnoticed
from labkit.exercises.shell import TIMED_OUT, interleaved, resumed, run
from labkit.exercises.solutions import solution
from labkit.hints import way_out
from labkit.masking import contains_secret, mask, protect
from labkit.state import ClusterState, capture
from labkit.verdict import Row, Verdict

_FIELD = re.compile(r"\{\{.*?\}\}")
_STAND_IN = "\x1a"  # which nobody types
_NO_LEADER = "The swarm does not have a leader"
_LOOK = 1.0  # s between two looks at a cluster on its way
_LAST_LINES = 20  # of a command that failed, which may say why
_SOLUTION_TIMEOUT = 280.0  # seconds


def _write(text: str) -> None:
    sys.stdout.write(mask(text))
    sys.stdout.flush()


def verifier(nom: str, *, patience: float | None = None) -> Verdict:
    """Check an exercise against the cluster's real state, and against what its services answer.

    Tasks that are still starting or stopping are given ``patience`` seconds, or what the exercise
    needs; where that is long, the progress is printed. A cluster at rest is judged at once. The
    outcome is kept in the student's own file (:mod:`labkit.exercises.progress`), and what was
    predicted of it is set against what is. A fault asks a question before it tells the way out.
    """
    return checked(nom, patience, leading=True)


def checked(name: str, patience: float | None = None, *, leading: bool = False) -> Verdict:
    """Check an exercise like ``verifier``; only where it is ``leading``, it asks questions."""
    exercise = EXERCISES.get(name)
    if patience is None:
        patience = exercise.patience if exercise else 0.0
    found = look(name, patience, _write if patience > PATIENCE else None)
    verdict = conclude(name, found)
    return ask_first(name, verdict, found.state) if leading and exercise else verdict


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found."""

    verdict: Verdict
    state: ClusterState | None = None  # None where nothing was looked at
    answers: Any = None  # of the probe


def conclude(name: str, found: Found) -> Verdict:
    """Keep what a check found in the student's own file, and show it beside what was predicted."""
    exercise = EXERCISES.get(name)
    if exercise and not found.verdict.skipped:
        record(name, found.verdict)
    if exercise and found.verdict.ok and found.state:
        set_against(exercise.measures, found.state, found.answers)
    return found.verdict


def look(
    name: str, patience: float, say: Callable[[str], None] | None = None, *, acted: bool = True
) -> Found:
    """Judge an exercise on the cluster as it is, or comes to be within ``patience`` seconds."""
    exercise = EXERCISES.get(name)
    try:
        asked = exercise.obstacle if exercise else None
        if asked and not judge(name, capture()).ok and (reason := asked()):
            return Found(Verdict(exercise.title if exercise else name, skipped=reason))
        state = _settled(name, patience, say, acted=acted)
        verdict = judge(name, state)
        if exercise and exercise.probe and verdict.ok:
            probe = exercise.probe
            answers = probe.ask() if patience or not probe.now else probe.now()
            return Found(judge(name, state, answers), state, answers)
        return Found(verdict, state)
    except LabkitError as error:
        row = Row.fault("Cluster", "répond", error.message, error.remedy)
        return Found(Verdict.of(exercise.title if exercise else name, [row]))


def _settled(
    name: str, patience: float, say: Callable[[str], None] | None, *, acted: bool
) -> ClusterState:
    """Return the state once the exercise is done, the cluster is at rest, or time is up.

    A cluster that does not answer may be too busy to: where there is patience, it is asked again.
    Where tasks still come and go when time is up, as much is given once more, and said.
    Until a solution has ``acted``, neither moving tasks nor a dead node are waited for: to repair
    them may be the exercise.
    An election is awaited whatever the patience, and said.
    """
    patient = patience > PATIENCE
    start = time.monotonic()
    deadline = start + patience
    changed, more = start, patient
    said, told = "", False
    if say:
        say(f"Vérification, {patience:.0f} s au plus…\n")
    while True:
        state = capture()
        silent = state.swarm in {"no-leader", "no-quorum", "unreachable"}
        asleep = silent and patient and (acted or time.monotonic() < start + PATIENCE)
        if state.swarm == "no-leader" and (passed := time.monotonic() - start) < elections.LIMIT:
            asleep, deadline = True, max(deadline, start + elections.LIMIT)
            if passed > elections.QUIET and not told:
                (say or _write)(f"… on attend {elections.awaited(state)}\n")
                told = True
        at_rest = not (moving(state) or asleep or (acted and unnoticed(state)))
        if judge(name, state).ok or at_rest:
            return state
        running = sum(t.running for t in state.tasks)
        moves = sum(t.starting or t.stopping for t in state.tasks)
        text = f"… tasks : {running} en marche, {moves} en route\n"
        if text != said and not silent:
            if say:
                say(text)
            said, changed = text, time.monotonic()
        if (now := time.monotonic()) > deadline:
            if not more or now - changed > patience / 2:
                return state
            more, deadline = False, now + patience
            if say:
                say(f"… les tasks changent encore : {patience:.0f} s de plus\n")
        time.sleep(_LOOK)


def attendre_leader() -> Leader:
    """Wait until the swarm has a leader that all its managers know; return it and the time taken.

    The first line is said however short the wait is: what a cell says must not depend on it.
    """
    _write("On attend un leader que tous les managers connaissent…\n")
    return elections.wait(_write)


def tasks_par_noeud(service: str) -> str:
    """Return how many running tasks each node has, most first, such as ``2, 2 et 1``."""
    return spread(elections.led(), service)


class Start:
    """The cluster as a notebook finds it."""

    def __init__(
        self, state: ClusterState, stand_ins: Sequence[str] = (), warnings: Sequence[str] = ()
    ) -> None:
        answering = sum(e.reachable for e in state.engines)
        self._lines = [f"{answering} moteurs Docker sur {len(state.engines)} répondent."]
        off = [] if state.swarm == "unreachable" else [e for e in state.engines if not e.reachable]
        self._lines += [
            f"{e.name} ne répond pas. Sans courant, ou arrêté ? « labkit node start {e.name} »."
            for e in off
        ]
        self._lines += _where_one_is(state)
        if stand_ins:
            self._lines.append(
                "Images de remplacement, au même comportement dans ce cours : "
                + ", ".join(stand_ins)
                + "."
            )
        self._lines += [f"⚠ {t.what}\n  → {t.remedy}" for t in state.troubles]
        self._lines += [warning for warning in warnings if warning]

    def __repr__(self) -> str:
        return "\n".join(self._lines)


def _where_one_is(state: ClusterState) -> list[str]:
    again = "Pour repartir de zéro : labkit.reset()."
    if state.swarm == "inactive":
        return ["Aucun Swarm n’est actif : vous partez de zéro."]
    if state.active:
        names = ", ".join(service.name for service in state.services) or "aucun"
        return [
            f"Un Swarm existe déjà (services : {names}) : votre travail est conservé, et ce qui "
            "est déjà fait ne sera pas refait.",
            again,
        ]
    if state.swarm == "locked":
        return [again]  # why is said with what is amiss
    if state.swarm == "unreachable":
        return ["Dans un terminal, « labkit doctor » dit ce qui manque et quoi faire.", again]
    return ["Un Swarm existe, mais aucun manager ne répond pour lui (quorum perdu ?).", again]


def commencer() -> Start:
    """Start or rejoin the cluster, keep what is there, and say where one is."""
    fresh = os.environ.get(FRESH) == "1"
    if fresh:
        engine.reset(quiet=True)
    engine.up(quiet=fresh)
    images = engine.status().images
    stand_ins = [
        i.name.removesuffix(":latest") for i in images if i.loaded and i.origin == "stand-in"
    ]
    missing = [
        f"⚠ L’image {i.name} manque, et ce qui s’en sert ne démarrera pas : {i.why} Pour essayer "
        "de nouveau : « labkit down », puis « labkit build »."
        for i in images
        if i.origin == "missing"
    ]
    return Start(capture(), stand_ins, [*missing, engine.crowded()])


# -- IPython --------------------------------------------------------------------------------


def _system(shell: Any, command: str) -> None:
    """Run what follows ``!`` in a cell.

    IPython puts variables in the place of ``{name}`` and takes ``{{`` for a brace; to docker,
    ``{{.Name}}`` is a field, and stays.
    """
    fields = _FIELD.findall(command)
    kept = _FIELD.sub(_STAND_IN, command)
    expanded = shell.var_expand(kept, depth=2)
    for field in fields:
        expanded = expanded.replace(_STAND_IN, field, 1)
    execute(shell, expanded)


def execute(shell: Any, command: str) -> None:
    """Run a command, or a script, as a terminal would; its exit code goes into ``_exit_code``."""
    note(command)
    said: list[str] = []
    try:
        code = _run_led(command, _keeping(said))
        _hint(code, said)
    except KeyboardInterrupt:
        code = 130
        _write("Interrompu.\n")
    shell.user_ns["_exit_code"] = code


def _run_led(
    command: str,
    write: Callable[[str], object],
    *,
    again: Callable[[Sequence[str]], str] | None = None,
    timeout: float | None = None,
) -> int:
    """Run a command; once more after an election, where docker refused it for want of a leader.

    What is to be run then is the command, or what ``again`` makes of the lines that it said.
    """
    said: list[str] = []
    code = run(command, _keeping(said, write), timeout=timeout)
    if not code or not any(_NO_LEADER in text for text in said):
        return code
    with suppress(LabkitError):
        if (state := capture()).swarm == "no-leader":
            write(f"… on attend {elections.awaited(state)}. La commande est ensuite relancée.\n")
            elections.wait()
            return run(again(said) if again else command, write, timeout=timeout)
    return code


def _solution(line: str, cell: str) -> Verdict | None:
    name = line.strip()
    return solve(name, cell) if name in EXERCISES else judge(name, capture())


def solve(name: str, commands: str) -> Verdict | None:
    """Run the commands of a solution or a given step, unless it is already done; check it.

    Returns None where nothing was checked: the check is elsewhere, or the commands were
    interrupted.
    """
    exercise = EXERCISES[name]
    before = look(name, exercise.patience, acted=False)
    if before.verdict.skipped:
        return before.verdict
    if before.verdict.ok:
        print(f"Déjà fait : « {exercise.title} ». Rien n’est relancé.")
        return None if exercise.apart else conclude(name, before)
    note(commands)
    said: list[str] = []
    try:
        code = _run_led(
            interleaved(commands),
            _keeping(said),
            again=partial(resumed, commands),
            timeout=_SOLUTION_TIMEOUT,
        )
        _hint(code, said)
    except KeyboardInterrupt:
        print("Interrompu.")
        return None
    if code == TIMED_OUT:
        print(f"Arrêté après {_SOLUTION_TIMEOUT:.0f} s : la commande n’a pas abouti.")
    elif code:
        print(
            f"La dernière commande a échoué (code {code}) : lisez le message ci-dessus. Celles qui "
            "la suivent n’ont pas été lancées."
        )
    return None if exercise.apart else checked(name)


def _keeping(said: list[str], write: Callable[[str], object] = _write) -> Callable[[str], None]:
    """Return what writes lines, and keeps them."""

    def keep(text: str) -> None:
        said.append(text)
        write(text)

    return keep


def _hint(code: int, said: Sequence[str]) -> None:
    """Say the way out of what a command that failed complained of."""
    if code and (way := way_out("".join(said[-_LAST_LINES:]))):
        _write(f"→ {way}\n")


def _warn_of_secret(result: Any) -> None:
    source = getattr(result.info, "raw_cell", "") or ""
    if not contains_secret(source):
        return
    display(  # type: ignore[no-untyped-call]
        HTML(  # type: ignore[no-untyped-call]
            "<p role='alert' style='border-left:5px solid #d55e00;padding:2px 10px'><strong>⚠ "
            "Cette cellule contient en clair un jeton d’adhésion ou une clé.</strong> Un notebook "
            "s’enregistre et se partage : effacez le secret de la cellule et gardez-le dans une "
            "variable. S’il a déjà été partagé, « docker swarm join-token --rotate worker » (et "
            "« manager ») rend un jeton inutilisable, « docker swarm unlock-key --rotate » une clé "
            "de déverrouillage.</p>"
        )
    )


def install() -> None:
    """Register everything with the running IPython, if there is one; twice is harmless."""
    shell: Any = get_ipython()
    if shell is None or getattr(shell, "_labkit_exercises", False):
        return
    shell._labkit_exercises = True
    from labkit.exercises import rattraper, repondre  # which stand on this module
    from labkit.exercises.answering import answer

    # what the student's edition and the widgets name without an import
    for call in (solution, rattraper, repondre):
        shell.user_ns.setdefault(call.__name__, call)
    for name in ("solution", "etape"):
        shell.register_magic_function(_solution, "cell", name)
    shell.register_magic_function(answer, "cell", "reponse")
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        protect(kernel.session)
        shell.system = lambda command: _system(shell, command)
        shell.events.register("post_run_cell", _warn_of_secret)
