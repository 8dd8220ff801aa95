"""A manifest in the terms of a compose file, as far as they go; pure.

A workload is a service, a Service that selects its Pods gives it its published ports, a claim is
a volume. All Pods of a cluster reach each other: that is one network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.compose import (
    Architecture,
    ComposeFile,
    ComposeMount,
    ComposeNetwork,
    ComposePort,
    ComposeService,
    ComposeVolume,
)
from labkit.compose import draw as draw_compose
from labkit.kubernetes.manifest import KubeObject, Manifest

__all__ = ["as_compose", "draw", "without_equivalent"]

NETWORK = "cluster"
_PODS = {  # where each kind of workload keeps the Pod that it makes
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
_CLAIM = "PersistentVolumeClaim"


def as_compose(manifest: Manifest) -> ComposeFile:
    """Describe a manifest in the terms of a compose file.

    Parameters
    ----------
    manifest
        From :func:`labkit.kubernetes.read`. What has no equivalent is left out;
        :func:`without_equivalent` lists it.
    """
    several = len({o.namespace for o in manifest.of(*_PODS)}) > 1
    services = tuple(_service(manifest, o, several) for o in manifest.of(*_PODS))
    joined = any(s.networks for s in services)
    return ComposeFile(
        name=manifest.name,
        services=services,
        networks=(ComposeNetwork(NETWORK, NETWORK),) if joined else (),
        volumes=tuple(_volumes(manifest, services)),
    )


def draw(manifest: Manifest, *, dark: bool = False) -> Architecture:
    """Draw the architecture of a manifest; see :func:`labkit.compose.draw`."""
    return draw_compose(as_compose(manifest), dark=dark)


def without_equivalent(manifest: Manifest) -> tuple[KubeObject, ...]:
    """Return the objects of which :func:`as_compose` says nothing, in the file's order.

    A Service that selects none of the manifest's Pods is one of them.
    """
    pods = manifest.of(*_PODS)
    return tuple(
        o
        for o in manifest.objects
        if not (
            o.kind in (*_PODS, _CLAIM)
            or (o.kind == "Service" and any(_selects(o, pod) for pod in pods))
        )
    )


# -- services -------------------------------------------------------------------------------


def _service(manifest: Manifest, workload: KubeObject, several: bool) -> ComposeService:
    pod = _table(workload.get(*_PODS[workload.kind], "spec"))
    containers = _tables(pod.get("containers"))
    host = pod.get("hostNetwork") is True
    mode, replicas = _scale(workload)
    ports = [*_published(manifest, workload, containers), *_host_ports(containers)]
    mounts = _mounts(workload, pod, containers)
    named = several and workload.namespace
    return ComposeService(
        name=f"{workload.namespace}/{workload.name}" if named else workload.name,
        image=", ".join(str(c.get("image") or "") for c in containers),
        mode=mode,
        replicas=replicas,
        networks=() if host else (NETWORK,),
        ports=tuple(sorted(dict.fromkeys(ports), key=lambda p: p.order)),
        mounts=tuple(sorted(dict.fromkeys(mounts), key=lambda m: (m.target, m.source))),
        constraints=tuple(f"{k} == {v}" for k, v in _table(pod.get("nodeSelector")).items()),
        network_mode="host" if host else "",
        line=workload.line,
    )


def _scale(workload: KubeObject) -> tuple[str, str | None]:
    match workload.kind:
        case "DaemonSet":
            return "global", None
        case "Job" | "CronJob":
            spec = ("spec",) if workload.kind == "Job" else ("spec", "jobTemplate", "spec")
            count = workload.get(*spec, "completions") or workload.get(*spec, "parallelism")
            return "replicated-job", str(count or 1)
        case _:
            count = workload.get("spec", "replicas")
            return "replicated", "1" if count is None else str(count)


def _selects(service: KubeObject, workload: KubeObject) -> bool:
    """Whether a Service sends what it gets to the Pods of a workload."""
    wanted = _table(service.get("spec", "selector"))
    labels = _table(workload.get(*_PODS[workload.kind], "metadata", "labels"))
    same = service.namespace == workload.namespace
    return bool(wanted) and same and all(labels.get(k) == v for k, v in wanted.items())


def _published(
    manifest: Manifest, workload: KubeObject, containers: list[Mapping[str, Any]]
) -> Iterator[ComposePort]:
    """Return the ports that a Service opens to those outside the cluster."""
    names = {
        p["name"]: p.get("containerPort")
        for c in containers
        for p in _tables(c.get("ports"))
        if isinstance(p.get("name"), str)
    }
    for service in manifest.of("Service"):
        kind = service.get("spec", "type")
        if kind not in ("LoadBalancer", "NodePort") or not _selects(service, workload):
            continue
        for port in _tables(service.get("spec", "ports")):
            target = port.get("targetPort", port.get("port"))
            if isinstance(target, str):
                target = names.get(target, target)
            out = port.get("port") if kind == "LoadBalancer" else port.get("nodePort")
            protocol = str(port.get("protocol") or "tcp").lower()
            yield ComposePort(str(target), "" if out is None else str(out), protocol)


def _host_ports(containers: list[Mapping[str, Any]]) -> Iterator[ComposePort]:
    for container in containers:
        for port in _tables(container.get("ports")):
            if port.get("hostPort"):
                protocol = str(port.get("protocol") or "tcp").lower()
                target, out = str(port.get("containerPort")), str(port["hostPort"])
                yield ComposePort(target, out, protocol, "host", str(port.get("hostIP") or ""))


# -- volumes --------------------------------------------------------------------------------


def _mounts(
    workload: KubeObject, pod: Mapping[str, Any], containers: list[Mapping[str, Any]]
) -> Iterator[ComposeMount]:
    sources = {str(v.get("name")): _source(v) for v in _tables(pod.get("volumes"))}
    for template in _tables(workload.get("spec", "volumeClaimTemplates")):
        name = str(_table(template.get("metadata")).get("name") or "")
        sources[name] = ("volume", name)
    for container in containers:
        for mount in _tables(container.get("volumeMounts")):
            name = str(mount.get("name"))
            kind, source = sources.get(name, ("volume", name))
            target = str(mount.get("mountPath") or "")
            yield ComposeMount(kind, source, target, mount.get("readOnly") is True)


def _source(volume: Mapping[str, Any]) -> tuple[str, str]:
    """Return the kind and the source of a Pod's volume, as a compose file has them."""
    kind, about = next(((k, _table(v)) for k, v in volume.items() if k != "name"), ("", {}))
    match kind:
        case "persistentVolumeClaim":
            return "volume", str(about.get("claimName") or "")
        case "hostPath":
            return "bind", str(about.get("path") or "")
        case "emptyDir":
            return ("tmpfs" if about.get("medium") == "Memory" else "volume"), ""
        case _:
            name = about.get("name") or about.get("secretName") or volume.get("name")
            return "config", f"{kind} {name}"


def _volumes(manifest: Manifest, services: tuple[ComposeService, ...]) -> Iterator[ComposeVolume]:
    """Return the claims, and those that the manifest expects to be there already."""
    claims = {o.name: o.line for o in manifest.of(_CLAIM)}
    made = {
        str(_table(t.get("metadata")).get("name") or "")
        for o in manifest.of("StatefulSet")
        for t in _tables(o.get("spec", "volumeClaimTemplates"))
    }
    used = [m.source for s in services for m in s.mounts if m.kind == "volume" and m.source]
    for name in dict.fromkeys([*claims, *used]):
        there = name not in claims and name not in made
        yield ComposeVolume(name, name, external=there, line=claims.get(name))


def _table(value: Any) -> Mapping[str, Any]:
    """Return a table of keys; anything else, which the schema refuses, is an empty one."""
    return value if isinstance(value, Mapping) else {}


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []
