"""Faults of a swarm that no waiting mends, in French, with the ways out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.state.refusals import locked, unlock
from labkit.text.french import enumerate_fr

if TYPE_CHECKING:
    from labkit.state.model import ClusterState, Service

_OWN_PORTS = {  # that a cluster needs itself, and what no longer works once a service has one
    (2377, "tcp"): "celui des managers : plus aucun nœud ne peut rejoindre le swarm",
    (7946, "tcp"): "celui par lequel les nœuds se connaissent : le réseau se défait",
    (7946, "udp"): "celui par lequel les nœuds se connaissent : le réseau se défait",
    (4789, "udp"): "celui des réseaux overlay : les conteneurs ne se joignent plus d’un nœud à "
    "l’autre",
    (9323, "tcp"): "celui des mesures des moteurs : Prometheus n’y trouve plus qu’un service",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something amiss that no waiting mends, in French, and the way out.

    ``what`` has no ids, which ``remedy`` may have; ``service`` and ``nodes`` name whom it
    concerns, if anybody.
    """

    what: str
    remedy: str
    service: str = ""
    nodes: tuple[str, ...] = ()  # names of engines


def find_troubles(state: ClusterState) -> Iterator[Trouble]:
    """Tell what is amiss in a swarm that answers: engines, nodes, then services."""
    if names := locked(state):
        yield Trouble(
            f"{enumerate_fr(names)} : verrouillé après son redémarrage, le manager attend la clé "
            "(autolock).",
            f"Dans un terminal : {unlock(names)} ; un autre manager dit la clé : « docker "
            f"--context {state.asked} swarm unlock-key ».",
            nodes=names,
        )
    known = {n.id for n in state.nodes}
    for engine in state.engines:
        if engine.swarm == "active" and engine.node_id and engine.node_id not in known:
            yield Trouble(
                f"{engine.name} se croit membre d’un swarm qui ne le compte pas parmi ses nœuds : "
                "il en a été retiré, ou il est dans un autre.",
                f"« docker --context {engine.name} swarm leave --force », puis « docker --context "
                f"{engine.name} swarm join --token … ».",
                nodes=(engine.name,),
            )
    for node in state.stale:
        demote = f"« docker node demote {node.id[:12]} », puis " if node.role == "manager" else ""
        what = (
            f"« {node.name} » est là deux fois : revenu sous un nouvel identifiant, il a laissé "
            "une ligne « down », et docker dit son nom ambigu."
            if node.name
            else "Un nœud sans nom est dans la liste : une adhésion qui n’a pas abouti."
        )
        force = "" if node.state == "down" else "--force "
        yield Trouble(what, f"Oubliez-le : {demote}« docker node rm {force}{node.id[:12]} ».")
    for service in state.services:
        yield from _port_troubles(service, state)
        yield from _task_troubles(service, state)


def _port_troubles(service: Service, state: ClusterState) -> Iterator[Trouble]:
    """Tell of the ports that a service took from the swarm itself."""
    waiting = tuple(e.name for e in state.engines if e.swarm in {"pending", "error"})
    for port in service.ports:
        if lost := _OWN_PORTS.get((port.published or 0, port.protocol)):
            joining = waiting if port.published == 2377 else ()
            again = "".join(
                f" ; puis « docker --context {name} swarm leave --force », et rejoignez le swarm"
                for name in joining
            )
            yield Trouble(
                f"Le service « {service.name} » publie le port {port.published}/{port.protocol}, "
                f"{lost}{f' ({enumerate_fr(joining)})' if joining else ''}.",
                f"« docker service update --publish-rm {port.target}/{port.protocol} "
                f"{service.name} », et publiez un autre port{again}.",
                service.name,
                joining,
            )


def _task_troubles(service: Service, state: ClusterState) -> Iterator[Trouble]:
    """Tell of the tasks of a service that wait or failed for good."""
    first = service.update is not None and service.update.order == "start-first"
    held = {t.slot or t.node_id for t in state.running(service.id)}  # by the tasks to be replaced
    tasks = state.tasks_of(service.id) if first else ()
    if any("host-mode port" in t.error and (t.slot or t.node_id) in held for t in tasks):
        yield Trouble(
            f"Le service « {service.name} » remplace ses tasks en start-first : la nouvelle attend "
            "le port que l’ancienne tient, en mode host, jusqu’à son départ.",
            f"« docker service update --update-order stop-first --force {service.name} »",
            service.name,
        )
    failed = [t for t in state.ended(service.id) if t.failed]
    if failed:
        count = "Une task" if len(failed) == 1 else f"{len(failed)} tasks"
        have = "a échoué et n’est" if len(failed) == 1 else "ont échoué et ne sont"
        why = "" if service.restart == "any" else f" (--restart-condition {service.restart})"
        what = f" : {failed[0].error}" if failed[0].error else ""
        yield Trouble(
            f"{count} du service « {service.name} » {have} pas relancée"
            f"{'s' if len(failed) > 1 else ''}{why}{what}.",
            f"« docker service logs {service.name} » dit pourquoi ; « docker service update "
            f"--force {service.name} » recommence.",
            service.name,
        )
