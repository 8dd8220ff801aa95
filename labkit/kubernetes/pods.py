"""Check the Pods of a workload: their containers, volumes, ports, probes and resources."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from labkit.documents import Step, Table, below

Fault = tuple[tuple[Step, ...], str, str]
"""A path in the object, the reason and the remedy, in French."""

_ALWAYS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController")
PODS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*_ALWAYS, "Job"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
"""The path to the Pod in each kind of workload."""


def pod_faults(kind: str, pod: Table, path: tuple[Step, ...], spec: Table) -> Iterator[Fault]:
    """Yield what Kubernetes refuses in the Pods of a workload."""
    policy = pod.get("restartPolicy") or "Always"
    if kind in _ALWAYS and policy != "Always":
        why = f"« restartPolicy: {policy} » est refusé : un {kind} relance toujours ses Pods."
        yield (*path, "restartPolicy"), why, "Retirez-le, ou faites de cet objet un Job."
    if kind in ("Job", "CronJob") and policy == "Always":
        yield (
            (*path, "restartPolicy"),
            f"un {kind} a une fin : « restartPolicy » doit être écrit, « OnFailure » ou « Never ».",
            f"Ajoutez « restartPolicy: OnFailure » à « {'.'.join(map(str, path))} ».",
        )
    containers = [
        ((*path, key, i), c)
        for key in ("initContainers", "containers")
        for i, c in enumerate(pod.get(key, []))
    ]
    yield from twice(
        (((*at, "name"), c.get("name")) for at, c in containers),
        "le nom de conteneur « {} »",
        "Donnez à chaque conteneur du Pod un nom à lui.",
    )
    taken = (
        ((*at, "ports", i, "hostPort"),
         (p.get("hostPort"), p.get("protocol") or "TCP", p.get("hostIP", "")))
        for at, c in containers for i, p in enumerate(c.get("ports", [])) if p.get("hostPort")
    )  # fmt: skip
    yield from twice(
        taken, "le port {0[0]} du nœud", "Un port du nœud ne sert qu’une fois par Pod."
    )
    volumes = pod.get("volumes", [])
    yield from twice(
        (((*path, "volumes", i, "name"), v.get("name")) for i, v in enumerate(volumes)),
        "le nom de volume « {} »",
        "Donnez à chaque volume du Pod un nom à lui.",
    )
    for i, volume in enumerate(volumes):
        sources = [key for key in volume if key != "name"]
        if len(sources) > 1:
            yield both((*path, "volumes", i), *sources[:2])
    names = {v.get("name") for v in volumes}
    names |= {below(t, "metadata").get("name") for t in spec.get("volumeClaimTemplates", [])}
    for at, container in containers:
        yield from _container(container, at, names, pod)
    if kind == "Pod":
        for at, c in containers:
            if c.get("image", "") != c.get("image", "").strip():
                yield (*at, "image"), "l’image commence ou finit par une espace.", "Retirez-la."


def _container(
    container: Table, path: tuple[Step, ...], volumes: set[Any], pod: Table
) -> Iterator[Fault]:
    ports = container.get("ports", [])
    yield from twice(
        (((*path, "ports", i, "name"), p.get("name")) for i, p in enumerate(ports)),
        "le nom de port « {} »",
        "Donnez à chaque port du conteneur un nom à lui.",
    )
    if pod.get("hostNetwork"):
        for i, port in enumerate(ports):
            if port.get("hostPort", 0) not in (0, port.get("containerPort")):
                why = "avec « hostNetwork », « hostPort » et « containerPort » sont le même port."
                yield (*path, "ports", i, "hostPort"), why, "Retirez « hostPort »."
    for i, variable in enumerate(container.get("env", [])):
        if variable.get("value") and "valueFrom" in variable:
            yield both((*path, "env", i), "value", "valueFrom")
        if len(variable.get("valueFrom", {"": 0})) != 1:
            why = "« valueFrom » demande une source, et une seule."
            remedy = "Gardez « configMapKeyRef », « secretKeyRef », « fieldRef » ou un autre."
            yield (*path, "env", i, "valueFrom"), why, remedy
    mounts = container.get("volumeMounts", [])
    for i, mount in enumerate(mounts):
        if mount["name"] not in volumes:
            yield (
                (*path, "volumeMounts", i, "name"),
                f"le volume « {mount['name']} » n’est pas parmi ceux du Pod.",
                f"Ajoutez-le à « volumes » : {', '.join(sorted(filter(None, volumes))) or 'rien'} "
                "pour l’instant.",
            )
        inside = mount.get("subPath", "")
        if inside.startswith("/") or ".." in inside.split("/"):
            why = "« subPath » est un chemin dans le volume, sans « .. » et sans « / » au début."
            remedy = "Écrivez-le à partir de la racine du volume."
            yield (*path, "volumeMounts", i, "subPath"), why, remedy
    yield from twice(
        (((*path, "volumeMounts", i, "mountPath"), m["mountPath"]) for i, m in enumerate(mounts)),
        "le chemin « {} »",
        "Un seul volume se monte à un chemin.",
    )
    yield from _resources(container.get("resources", {}), (*path, "resources"))
    waits = "initContainers" in path and container.get("restartPolicy") != "Always"
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if key not in container:
            continue
        probe = container[key]
        if waits:
            why = f"« {key} » est refusé dans un conteneur d’initialisation, qui doit finir."
            yield (*path, key), why, "Retirez-le."
        elif len(probe.keys() & {"exec", "httpGet", "tcpSocket", "grpc"}) != 1:
            why = f"« {key} » demande une façon de sonder, et une seule."
            yield (*path, key), why, "Gardez « httpGet », « tcpSocket », « exec » ou « grpc »."
        if key != "readinessProbe" and probe.get("successThreshold", 1) > 1:
            why = f"« successThreshold » vaut toujours 1 pour « {key} »."
            yield (*path, key, "successThreshold"), why, "Retirez-le."


def _resources(resources: Table, path: tuple[Step, ...]) -> Iterator[Fault]:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for section, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if str(amount).startswith("-"):
                yield (*path, section, name), f"« {name} » est négatif.", "Ôtez le signe « - »."
            known = name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-")
            if not known and "/" not in name:
                remedy = "Les ressources courantes sont « cpu » et « memory »."
                yield (*path, section, name), f"« {name} » n’est pas une ressource.", remedy
    for name in limits.keys() & requests.keys():
        if quantity(requests[name]) > quantity(limits[name]):
            yield (
                (*path, "requests", name),
                f"« requests.{name} » ({requests[name]}) dépasse « limits.{name} » "
                f"({limits[name]}).",
                "Demandez au plus ce que la limite accorde.",
            )


_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0} | {
    unit: float(1000**i) for i, unit in enumerate("kMGTPE", 1)
} | {f"{unit}i": float(1024**i) for i, unit in enumerate("KMGTPE", 1)}  # fmt: skip


def quantity(value: Any) -> float:
    """Return what a quantity such as ``128Mi`` or ``500m`` amounts to; 0.0 if it is none."""
    found = re.fullmatch(
        r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]{1,2})|([KMGTPE]i|[numkMGTPE]?))", str(value)
    )
    try:
        return float(found[1] + (found[2] or "")) * _UNITS[found[3] or ""] if found else 0.0
    except ValueError:
        return 0.0


def both(path: tuple[Step, ...], one: str, other: str) -> Fault:
    """Say that of two keys one is too many."""
    return (*path, other), f"« {one} » et « {other} » s’excluent.", "Gardez l’un des deux."


def twice(items: Iterable[tuple[tuple[Step, ...], Any]], what: str, remedy: str) -> Iterator[Fault]:
    """Yield each value that is there for the second time; nothing is no value."""
    seen = set()
    for path, value in items:
        if value in seen:
            yield path, f"{what.format(value)} est là deux fois.", remedy
        elif value:
            seen.add(value)
