"""Stack files that students edit: working copies beside the notebook, which are never lost."""

from dataclasses import dataclass
from pathlib import Path

from labkit import compose
from labkit.errors import ComposeError
from labkit.exercises.course.nb02_voting import FILE, STACK
from labkit.stacks import services_of
from labkit.state import capture

COPY = "ma-stack.yml"


def write_copy(copy: Path, text: str, *, deployed: bool) -> str:
    """Write a working copy; say in French what was done.

    While its stack is deployed, a copy that is there is the student's work, and stays. Otherwise
    one that was edited is put aside, under a name of its own.
    """
    if copy.exists() and deployed:
        return f"{copy.name} est là, et sa stack est déployée : votre travail est conservé."
    aside = ""
    if copy.exists() and (before := copy.read_bytes()) != text.encode():
        kept = _aside(copy, before)
        copy.replace(kept)
        aside = f" L’ancien fichier s’appelle maintenant {kept.name}."
    copy.write_text(text, encoding="utf-8")
    return f"{copy.name} est écrit.{aside}"


def _aside(copy: Path, content: bytes) -> Path:
    """Return the first name that is free, or that holds the same already."""
    number = 1
    while True:
        last = f"-{number}" if number > 1 else ""
        kept = copy.with_name(f"{copy.stem}.precedente{last}{copy.suffix}")
        if not kept.exists() or kept.read_bytes() == content:
            return kept
        number += 1


def preparer_stack(fichier: str = FILE) -> str:
    """Copy the voting app's stack file beside the notebook; return what was done, in French.

    What is copied is the app's own file, or one of the course's solutions. A swarm that does not
    answer may hold the stack: the copy that is there then stays.
    """
    if not Path(fichier).exists():
        from labkit import course  # which imports nbformat: that takes a second

        course.provide(fichier, Path.cwd())
    state = capture()
    held = bool(services_of(state, STACK)) or state.swarm not in {"active", "inactive"}
    return write_copy(Path(COPY), Path(fichier).read_text(encoding="utf-8"), deployed=held)


@dataclass(frozen=True, slots=True)
class WrittenCopy:
    """Replicas that a student's stack file asks for."""

    problem: str  # why the file cannot be read, in French; empty when it can
    # ``(service, replicas)`` as written, ``1`` where nothing is; ``—`` for a global service
    replicas: tuple[tuple[str, str], ...] = ()


def written() -> WrittenCopy:
    """Read the student's file in the working directory."""
    try:
        file = compose.read(COPY)
    except ComposeError as error:
        return WrittenCopy(error.message)
    return WrittenCopy("", tuple((s.name, s.replicas or "—") for s in file.services))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Replicas in a student's stack file and in the deployed stack."""

    problem: str  # why the file cannot be read, in French; empty when it can
    # in French, such as ``vote : 2 dans le fichier, 3 sur le cluster``
    differences: tuple[str, ...] = ()


def agreement() -> Agreement:
    """Compare the student's file with the stack, for what concerns modes and replicas."""
    try:
        file = compose.read(COPY)
    except ComposeError as error:
        return Agreement(error.message)
    told = compose.compare(file, compose.from_stack(capture(), STACK))
    differences = tuple(
        f"{d.place}, {d.option or 'présence'} : {d.left or '—'} dans le fichier, "
        f"{d.right or '—'} sur le cluster"
        for d in told.differences
        if d.option in {"", "deploy.mode", "deploy.replicas"} and "service" in d.place
    )
    return Agreement("", differences)
