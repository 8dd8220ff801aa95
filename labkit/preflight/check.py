"""Preflight: is everything there that a course needs, and what to do if not."""

import os
import shutil
from collections.abc import Iterable, Iterator

from labkit.engine import connect, status
from labkit.engine.embedded.images import WHOAMI
from labkit.engine.embedded.limits import limits
from labkit.engine.embedded.record import ImageStatus
from labkit.errors import LabkitError
from labkit.preflight.machines import machine_rows
from labkit.preflight.survey import survey
from labkit.state import ClusterState, capture
from labkit.verdict import Row, Verdict

MEMORY_NEEDED = 300e6  # bytes still free once the cluster is up
DISK_NEEDED = 500e6  # bytes
_TITLE = "Vérifications avant le départ"
_DOCTOR = "« labkit doctor » dans un terminal dit quoi faire."
_ORIGINS = {
    "hub": "image d’origine (Docker Hub)",
    "stand-in": "image de remplacement, au même comportement",
}


def preflight() -> Verdict:
    """Check engines, images, the docker CLI, memory and disk.

    Of engines that labkit did not make: versions, clocks, the swarms they are in, addresses,
    and Swarm's ports from machine to machine. Nothing is changed on them.
    """
    try:
        fleet = connect()
        if fleet.kind == "host":
            rows = [*machine_rows(survey(fleet, image=WHOAMI.name)), *_amiss(capture(fleet))]
            return Verdict.of(_TITLE, rows)
        state = capture(fleet)
        images = tuple(image for image in status().images if image.loaded)
    except LabkitError as error:
        return Verdict.of(_TITLE, [Row.fault("Cluster", "répond", error.message, error.remedy)])
    cli, memory = shutil.which("docker") is not None, limits().free
    disk = shutil.disk_usage(os.environ.get("HOME") or ".").free
    return Verdict.of(_TITLE, preflight_rows(state, images, cli=cli, memory=memory, disk=disk))


def _amiss(state: ClusterState) -> Iterator[Row]:
    for trouble in state.troubles:
        yield Row.fault("Cluster", "rien d’anormal", trouble.what, trouble.remedy)


def preflight_rows(
    state: ClusterState, images: Iterable[ImageStatus], *, cli: bool, memory: float, disk: float
) -> Iterator[Row]:
    """Return the rows of the preflight; pure.

    ``memory`` and ``disk`` are free bytes, ``cli`` whether the ``docker`` command was found.
    """
    for engine in state.engines:
        found = f"Docker Engine {engine.version}" if engine.reachable else "ne répond pas"
        yield Row(f"Moteur de {engine.name}", "répond", found, engine.reachable, _DOCTOR)
    versions = {e.version for e in state.engines if e.reachable}
    found = ", ".join(sorted(versions)) or "inconnues"
    hint = "Des versions différentes se côtoient dans un Swarm, mais les messages changent."
    yield Row.whether("Versions", "la même partout", len(versions) == 1, found, hint)
    known = list(images)
    for image in (i for i in known if i.origin != "course"):
        found, hint = _ORIGINS.get(image.origin, image.origin), _DOCTOR
        if image.missing:
            found = f"n’est plus sur {', '.join(image.missing)}"
            hint = f"« docker --context {image.missing[0]} pull {image.name} » la reprend dans le "
            hint += "registre de la machine ; une task aussi, dès qu’il la lui faut."
        ok = bool(image.origin) and not image.missing
        yield Row(f"Image {image.name.removesuffix(':latest')}", "présente", found, ok, hint)
    if own := [i for i in known if i.origin == "course"]:
        yield Row.fine("Images de l’application de vote", "présentes", f"{len(own)} images")
    if not known:
        yield Row.fault("Images", "présentes", "aucune", _DOCTOR)
    hint = "Lancez d’abord labkit.up() : la commande vient avec le cluster."
    yield Row.whether("Commande docker", "trouvée", cli, "introuvable", hint)
    yield from _amiss(state)
    yield _enough("Mémoire libre", memory, MEMORY_NEEDED, "Fermez d’autres noyaux et programmes.")
    yield _enough("Disque libre", disk, DISK_NEEDED, "« labkit build --prune » libère de la place.")


def _enough(what: str, free: float, needed: float, hint: str) -> Row:
    return Row(what, f"{_giga(needed)} ou plus", _giga(free), free >= needed, hint)


def _giga(size: float) -> str:
    return f"{size / 1e9:.1f} Go".replace(".", ",")
