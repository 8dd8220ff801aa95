"""Errors that say why a swarm does not answer, or has no such node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.errors import (
    EngineUnreachable,
    NoLeader,
    NoSuchNode,
    NoSwarm,
    NotAManager,
    QuorumLost,
    SwarmError,
    SwarmLocked,
)
from labkit.text.french import enumerate_fr

if TYPE_CHECKING:
    from labkit.state.model import ClusterState, EngineState


def no_such_node(name: str, known: Sequence[str]) -> NoSuchNode:
    """Return the error of a name that none of the known nodes has."""
    return NoSuchNode(
        f"Aucun nœud ne s’appelle « {name} ».",
        remedy=f"Les nœuds sont : {', '.join(known)}."
        if known
        else "Aucun nœud n’est connu : le cluster n’est pas initialisé.",
    )


def why_not(state: ClusterState) -> SwarmError | EngineUnreachable:
    """Return the error that says why no manager answered."""
    if state.swarm == "unreachable":
        return EngineUnreachable(
            "Aucun moteur Docker ne répond : "
            + ", ".join(f"{e.name} ({e.error})" for e in state.engines)
            + ".",
            remedy="Vérifiez le cluster avec « labkit status », puis « labkit up ».",
        )
    if state.swarm == "inactive":
        why = "Aucun cluster Swarm n’est actif sur ces moteurs."
        return NoSwarm(why, remedy="Lancez « docker swarm init ».")
    if state.swarm == "locked":
        names = locked(state)
        return SwarmLocked(
            f"Le swarm est verrouillé : après un redémarrage, {enumerate_fr(names)} "
            f"{'attendent' if len(names) > 1 else 'attend'} la clé (autolock). Les tasks des "
            "autres nœuds continuent.",
            remedy=f"Donnez la clé dans un terminal : {unlock(names)}. Sans elle, « labkit "
            "reset » repart de zéro.",
        )
    if all(e.reachable and not e.manager for e in state.engines):
        return NotAManager(
            "Aucun des moteurs interrogés n’est un manager : un worker ne peut rien changer au "
            "cluster.",
            remedy="Adressez-vous à un manager, par exemple « docker --context node1 … ».",
        )
    alive, wanted = count_voters(state.engines)
    if state.swarm == "no-leader":
        who = "Le manager vit" if wanted == 1 else f"{alive} managers sur {wanted} vivent"
        return NoLeader(
            f"{who}, mais le swarm ne répond pas pour l’instant : il élit un leader, ou il est "
            "débordé. Les tasks continuent.",
            remedy="Attendez une quarantaine de secondes. Si cela dure, les managers ne se "
            "joignent plus : un câble est-il coupé (« labkit node ls ») ?",
        )
    return QuorumLost(
        "Les managers n’ont plus la majorité (quorum perdu) : les tasks continuent, mais plus "
        "rien ne peut être changé.",
        remedy="Un manager vient de tomber ? Les autres élisent un leader en une quarantaine de "
        "secondes. Sinon, rallumez les managers manquants, ou, sur un manager survivant : "
        "« docker swarm init --force-new-cluster --advertise-addr … », puis redémarrez son "
        "moteur : sans cela, son routing mesh reste vide.",
    )


def count_voters(engines: Sequence[EngineState]) -> tuple[int, int]:
    """Return how many managers answer, and how many there are.

    When no engine says how many it knows, each that is no worker may be one, and one engine
    alone is not all of a swarm.
    """
    alive = sum(e.manager for e in engines)
    workers = sum(e.swarm == "active" and not e.manager for e in engines)
    known = max((e.managers for e in engines), default=0)
    return alive, known or max(2, len(engines) - workers)


def locked(state: ClusterState) -> tuple[str, ...]:
    """Return the engines whose manager waits for the key of autolock."""
    return tuple(e.name for e in state.engines if e.swarm == "locked")


def unlock(names: Sequence[str]) -> str:
    """Name the commands that unlock engines."""
    return enumerate_fr([f"« docker --context {name} swarm unlock »" for name in names])
