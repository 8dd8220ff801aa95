"""The broken stack of the course: its file, a copy that students repair, questions on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.exercises.copies import write_copy
from labkit.exercises.course.nb02_voting import BROKEN, FILE, REGISTRY
from labkit.exercises.exercise import Measure
from labkit.exercises.measures.ballots import resultats
from labkit.exercises.questions import Question, alone, definition, listing, seen
from labkit.exercises.rows import find_service
from labkit.stacks import services_of
from labkit.state import ClusterState, capture
from labkit.verdict import Row

COPY = "stack-a-debugger.yml"
WORKER = f"{BROKEN}_worker"


def stale(text: str) -> str:
    """Return a stack file with the images of before the voting app sent a password."""
    return re.sub(r"(image: examplevotingapp_(?:worker|result)):\S+", r"\1:before", text)


def preparer_panne() -> str:
    """Write the file of the stack to debug beside the notebook; return what was done, in French."""
    text = stale(Path(FILE).read_text(encoding="utf-8"))
    return write_copy(Path(COPY), text, deployed=bool(services_of(capture(), BROKEN)))


# -- the questions at the end ---------------------------------------------------------------


def _failures(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    there = find_service(state, WORKER)
    past = [t for t in state.tasks_of(WORKER, current=False) if not t.current] if there else []
    number = sum(t.failed for t in past) if there else ""
    forms = (listing(past), alone(number))
    hint = f"Quelle liste garde aussi les tasks passées de {WORKER}, et leur dernier état ?"
    yield seen(said, "Tasks en échec", "leur nombre, ou leur liste", number, hint, *forms)


def _registry(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    service = find_service(state, WORKER)
    host = service.image.rpartition("/")[0] if service else ""
    hint = "Que dit le début du nom de l’image, et quelle liste donne ce nom ?"
    yield seen(said, "Registre", "son nom, et son port", host, hint)


def _digest(state: ClusterState, said: str, service: Any) -> Iterator[Row]:
    image = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] if service else ""
    hint = "La liste abrège le nom de l’image : que dit la définition du service ?"
    yield seen(said, "Empreinte", "celle de l’image", image.partition("@")[2], hint)


def _catalogue(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    images = {s.image for s in state.services if s.image.startswith(REGISTRY)}
    names = sorted(i.removeprefix(REGISTRY).partition(":")[0] for i in images)
    hint = "Avez-vous interrogé un moteur, ou le registre ? Son API répond à « /v2/_catalog »."
    if REGISTRY in said:  # what an engine says of its own images
        yield Row.fault("Images du registre", "leurs noms", "les images d’un moteur", hint)
        return
    for name in names or [""]:
        yield seen(said, "Image du registre", "son nom", name, hint, f'"{name}"', alone(name))


def _ask_votes() -> int | None:
    return (scores.a + scores.b) if (scores := resultats()) else None


def _votes(state: ClusterState, said: str, number: Any) -> Iterator[Row]:
    forms = (alone(number), rf"\b{number}\s+votes?\b")
    hint = "Quelle page additionne les votes, et quelle fonction la lit ?"
    wanted = "leur nombre"
    yield seen(said, "Votes comptés", wanted, "" if number is None else number, hint, *forms)


def _waiting(state: ClusterState, said: Any) -> str | None:
    """Return where a vote is, of the length of the queue."""
    length = re.search(r"(?m)(\d+)\s*$", said)
    return ("dans la file de redis" if int(length[1]) else "perdu") if length else None


BREAKDOWN_MEASURES = {"file-en-panne": Measure("file", _waiting)}

BREAKDOWN_QUESTIONS = (
    Question("echecs-du-worker", "Les échecs du worker", _failures),
    Question("registre-du-worker", "Le registre de l’image", _registry),
    Question("empreinte-du-worker", "L’empreinte de l’image", _digest, definition(WORKER)),
    Question("images-du-registre", "Les images du registre", _catalogue),
    Question("votes-comptes", "Les votes comptés", _votes, _ask_votes),
)
