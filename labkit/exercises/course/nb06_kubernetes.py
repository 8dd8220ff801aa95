"""Kubernetes beside Swarm: what corresponds to what, read, matched, written and checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from labkit import compose, kubernetes
from labkit.compose import ComposeFile, ComposeService, from_stack
from labkit.errors import ManifestError, SettingError
from labkit.exercises.course.nb02_voting import FILE, removed
from labkit.exercises.exercise import Exercise, Probe
from labkit.exercises.forms import Form, Matching, keep
from labkit.exercises.questions import Question, alone, listing, only, seen, whole
from labkit.kubernetes import EQUIVALENTS, ONLY_KUBERNETES, Manifest, Validation, validate
from labkit.stacks import services_of
from labkit.state import ClusterState, capture
from labkit.text.french import enumerate_fr
from labkit.text.tables import table_html, table_text
from labkit.verdict import Row

MANIFEST = "example-voting-app/kube-deployment.yml"
COPY = "kube-a-vous.yml"
KEPT = "kube-a-vous.precedent.yml"
BEGUN = "kubernetes/kube-guet.yml"
STACK = "guet"
MESH, WATCHER = "accueil", "guetteur"
REPLICAS = 4
_START = 240.0  # s for seven tasks to start under emulation


# -- matching -------------------------------------------------------------------------------


def equivalence_form() -> Form:
    """Ask for the equivalent of each option of a stack."""
    return Matching(
        "Les équivalences",
        "Pour chaque option de la stack, choisissez son équivalent chez Kubernetes.",
        EQUIVALENTS,
        sorted(one.answer for one in EQUIVALENTS.values()),
        {option: [one.answer] for option, one in EQUIVALENTS.items()},
        {option: one.hint for option, one in EQUIVALENTS.items()},
    )


def associer_equivalences(nom: str) -> Form:
    """Ask for the equivalents; :func:`labkit.exercises.corriger` finds the form by its name."""
    return keep(nom, equivalence_form())


@dataclass(frozen=True, slots=True, repr=False)
class OnlyThere:
    """The objects of Kubernetes for which a stack has nothing: kinds and what they are."""

    kinds: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return table_text(_ONLY, self.kinds)

    def _repr_html_(self) -> str:
        return table_html("", _ONLY, self.kinds)


_ONLY = ("Objet de Kubernetes", "Ce que c’est, et ce que fait Swarm")


def sans_equivalent() -> OnlyThere:
    """Show which objects of Kubernetes a stack has nothing for, from labkit's own table."""
    return OnlyThere(tuple(ONLY_KUBERNETES.items()))


# -- side by side ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class SideBySide:
    """One service in a stack file and in a manifest, each in its own words."""

    service: str  # its name
    # left, right: name of the file, and the lines of it, each from its number
    left: tuple[str, tuple[tuple[int, str], ...]]
    right: tuple[str, tuple[tuple[int, str], ...]]

    def __repr__(self) -> str:
        return "\n\n".join(
            "\n".join([f"{name}, « {self.service} »", *(f"{n:4}  {text}" for n, text in lines)])
            for name, lines in (self.left, self.right)
        )

    def _repr_html_(self) -> str:
        columns = "".join(
            "<div style='flex:1 1 380px;min-width:0'>"
            f"<strong>{escape(name)}</strong>"
            "<pre tabindex='0' style='overflow-x:auto;line-height:1.35;margin:4px 0;"
            "white-space:pre;font-family:var(--jp-code-font-family,monospace)'>"
            + "\n".join(f"{n:4}  {escape(text)}" for n, text in lines)
            + "</pre></div>"
            for name, lines in (self.left, self.right)
        )
        return f"<div style='display:flex;flex-wrap:wrap;gap:24px'>{columns}</div>"


def cote_a_cote(service: str, stack: str = FILE, manifeste: str = MANIFEST) -> SideBySide:
    """Set what the stack says of a service beside what the manifest says of it.

    Raises ``SettingError`` when one of the files knows no such service.
    """
    file, manifest = compose.read(stack), kubernetes.read(manifeste)
    starts = sorted(
        [s.line or 1 for s in file.services]
        + [file.line(key) or 1 for key in file.data if key != "services"]
    )
    found = file.service(service)
    objects = [o for o in manifest.objects if o.name == service]
    if found is None or not objects:
        both = [s.name for s in file.services if manifest.object("Deployment", s.name)]
        raise SettingError(
            f"« {service} » n’est pas dans les deux fichiers.",
            remedy=f"Services communs : {', '.join(both)}.",
        )
    lines = _cut(Path(stack), [found.line or 1], starts)
    others = _cut(Path(manifeste), [o.line for o in objects], [o.line for o in manifest.objects])
    return SideBySide(service, (file.name, lines), (manifest.name, others))


def _cut(path: Path, firsts: list[int], starts: list[int]) -> tuple[tuple[int, str], ...]:
    """Return the lines of the parts that begin there, without comments and empty lines."""
    text = path.read_text(encoding="utf-8-sig").splitlines()
    found: list[tuple[int, str]] = []
    for first in firsts:
        end = min((s for s in starts if s > first), default=len(text) + 1)
        part = [(n, text[n - 1]) for n in range(first, end)]
        found += [(n, x) for n, x in part if x.strip() and not x.lstrip().startswith("#")]
    while found and found[-1][1] == "---":
        found.pop()
    return tuple(found)


# -- writing --------------------------------------------------------------------------------


def preparer_manifeste() -> str:
    """Write the manifest to work on beside the notebook; return what was done, in French.

    A copy that is there is the student's work, and stays; the tests, which start from a new
    cluster, put it aside.
    """
    copy = Path(COPY)
    if copy.exists():
        if os.environ.get("LABKIT_FRESH") != "1":
            return f"{COPY} est déjà là : votre travail est conservé."
        copy.replace(KEPT)
    copy.write_text(Path(BEGUN).read_text(encoding="utf-8"), encoding="utf-8")
    return f"{COPY} est écrit."


@dataclass(frozen=True, slots=True)
class Translation:
    """The student's manifest, and the live stack that it has to describe."""

    stack: ComposeFile  # the live stack
    # manifest, validation: none where the file cannot be read
    manifest: Manifest | None = None
    validation: Validation | None = None
    fault: ManifestError | None = None  # why it cannot


def _ask() -> Translation:
    stack = from_stack(capture(), STACK)
    try:
        manifest = kubernetes.read(COPY)
    except ManifestError as error:
        return Translation(stack, fault=error)
    return Translation(stack, manifest, validate(manifest))


def _judge(found: Translation) -> Iterator[Row]:
    manifest, validation, fault = found.manifest, found.validation, found.fault
    where = f"ligne {fault.line} : " if fault and fault.line else ""
    yield Row.whether(
        f"Lecture de {COPY}",
        "des objets",
        fault is None,
        f"{where}{fault.reason}" if fault else "",
        (fault.remedy if fault else "") or "Corrigez cette ligne, enregistrez, puis revérifiez.",
    )
    if manifest is None or validation is None:
        return
    first = next(iter(validation), None)
    yield Row.whether(
        f"Ce que refuse Kubernetes {kubernetes.SCHEMA_VERSION}",
        "rien",
        first is None,
        f"ligne {first.line}, {first.where} : {first.reason}" if first else "",
        (first.remedy if first else "") or "Comparez cet objet avec ceux de kube-deployment.yml.",
    )
    if validation.unknown:
        strange = validation.unknown[0]
        yield Row.fault(
            "Objets connus",
            "tous",
            f"ligne {strange.line} : {strange.kind} de « {strange.api_version} »",
            "Un cluster ne connaît un tel objet que si l’on y a installé sa définition : vérifiez "
            "« apiVersion ».",
        )
    written = kubernetes.as_compose(manifest)
    for service in found.stack.services:
        same = written.service(service.name)
        yield Row.whether(
            f"Service {service.name}",
            _said(service),
            same is not None and _said(same) == _said(service),
            _said(same) if same else "absent du manifeste",
            f"La stack le dit ainsi ; le manifeste, à partir de la ligne {same.line}."
            if same
            else "Ajoutez un objet de ce nom : lequel met un Pod sur chaque nœud ?"
            if service.replicas is None
            else f"Ajoutez un Deployment nommé {service.name}.",
        )
    more = [s.name for s in written.services if found.stack.service(s.name) is None]
    if more:
        yield Row.fault("En plus", "rien", enumerate_fr(more), "Retirez ce que la stack n’a pas.")


def _said(service: ComposeService) -> str:
    """Say what a stack and a manifest can both say of a service."""
    parts = [service.scale, service.image.removesuffix(":latest")]
    parts += [f"port {port}" for port in service.ports]
    return ", ".join(parts)


# -- the live stack -------------------------------------------------------------------------


def _deployed(state: ClusterState) -> Iterator[Row]:
    ready = sum(n.state == "ready" and n.availability == "active" for n in state.nodes)
    found = {s.name.removeprefix(f"{STACK}_"): s for s in services_of(state, STACK)}
    for name, mode, count in ((MESH, "replicated", REPLICAS), (WATCHER, "global", ready)):
        service = found.get(name)
        running = sum(t.running for t in state.tasks_of(service.id)) if service else 0
        yield Row.whether(
            f"{STACK}_{name}",
            f"{mode}, {count} en marche",
            service is not None and service.mode == mode and running == count > 0,
            f"{service.mode}, {running} en marche" if service else "absent",
            f"Lisez « docker service ps --no-trunc {STACK}_{name} », attendez, puis revérifiez."
            if service
            else f"« docker stack deploy --compose-file kubernetes/stack-guet.yml {STACK} »",
        )


KUBERNETES_EXERCISES = (
    Exercise("deployer-guet", "La stack à traduire", _deployed, None, _START),
    Exercise("manifeste", "Le manifeste à compléter", _deployed, Probe(_ask, _judge), _START),
    Exercise("retirer-guet", "Retirer la stack", partial(removed, STACK), None, _START),
)


# -- the questions at the end ---------------------------------------------------------------


def _read() -> Manifest | None:
    """Return the manifest of the voting app; None where it cannot be read."""
    try:
        return kubernetes.read(MANIFEST)
    except (ManifestError, SettingError):
        return None


def _kinds(state: ClusterState, said: str, manifest: Any) -> Iterator[Row]:
    kinds = [o.kind for o in manifest.objects] if manifest else []
    hint = "Chaque objet dit sa sorte sur une ligne « kind: » : comment les compter ?"
    for kind in dict.fromkeys(kinds) or ("Service",):
        n = kinds.count(kind)
        forms = (rf"\b{n}\W+(?:kind\W+)?{whole(kind)}", rf"{whole(kind)}\W+{n}\b")
        yield seen(said, kind, "leur nombre", n or "", hint, *forms)


def _line(state: ClusterState, said: str, manifest: Any) -> Iterator[Row]:
    found = manifest.object("Service", "vote") if manifest else None
    first = found.line if found else ""
    hint = "Un objet a un nom, et il y a deux objets « vote » : lequel est le Service ?"
    # numbered by grep, its other lines lead to it as well
    numbered = "|".join(str(found.line + n) for n in range(4)) if found else "0"
    forms = (alone(first), rf"(?m)^\W*(?:{numbered})[:-].*(?:Service|apiVersion|name: vote)")
    yield seen(said, "Première ligne", "son numéro", first, hint, *forms)


def _inside(state: ClusterState, said: str, manifest: Any) -> Iterator[Row]:
    services = kubernetes.as_compose(manifest).services if manifest else ()
    inside = [s.name for s in services if not s.ports]
    hint = "Le type d’un Service dit qui peut le joindre : lesquels n’en ont pas ?"
    names = [s.name for s in services]
    yield only(said, "Services de l’intérieur", inside, names, "LoadBalancer|NodePort", hint)


def _volume(state: ClusterState, said: str, manifest: Any) -> Iterator[Row]:
    service = kubernetes.as_compose(manifest).service("db") if manifest else None
    mount = next(iter(service.mounts), None) if service else None
    hint = (
        "Le Pod de db a des « volumes », et son conteneur des « volumeMounts » : que disent-ils ?"
    )
    yield seen(said, "Volume de db", "son nom", mount.source if mount else "", hint)
    yield seen(said, "Dossier", "celui du conteneur", mount.target if mount else "", hint)


def _fourth(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    name = f"{STACK}_{WATCHER}"
    there = any(s.name == name for s in state.services)
    tasks = state.tasks_of(name) if there else ()
    forms = (listing(tasks), rf"{whole(name)}.*\bglobal\b", r"\bGlobal\b", alone("global"))
    hint = "Qu’est-ce qui fixe le nombre de tasks de chaque service : des replicas, ou un mode ?"
    yield seen(said, name, "son mode, ou ses tasks", "global" if there else "", hint, *forms)


KUBERNETES_QUESTIONS = (
    Question("objets-du-manifeste", "Les objets du manifeste", _kinds, _read),
    Question("ligne-du-service", "La ligne du Service vote", _line, _read),
    Question("services-internes", "Les services de l’intérieur", _inside, _read),
    Question("volume-de-db", "Le volume de db", _volume, _read),
    Question("quatrieme-noeud", "Un quatrième nœud", _fourth),
)
