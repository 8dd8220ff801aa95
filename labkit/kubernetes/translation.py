"""A manifest in the terms of a compose file, as far as they go; pure.

A workload is a service, a Service that selects its Pods gives it its published ports, a claim is
a volume. All Pods of a cluster reach each other: that is one network.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
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
from labkit.documents import Table, below, table, value_at
from labkit.kubernetes.equivalents import KINDS
from labkit.kubernetes.manifest import KubeObject, Manifest, tables, word
from labkit.kubernetes.options import options_of
from labkit.kubernetes.pods import PODS

NETWORK = "cluster"
_CLAIM = "PersistentVolumeClaim"


def as_compose(manifest: Manifest) -> ComposeFile:
    """Describe a manifest in the terms of a compose file.

    The first container of a Pod is its service's; the others are its companions. What has no
    equivalent is left out; :func:`without_equivalent` lists it.
    """
    whole = _Whole(manifest)
    services = tuple(whole.service(o) for o in whole.workloads)
    joined = any(s.networks for s in services)
    kept = {
        option: {whole.named(o, o.name): None for o in manifest.of(kind)}
        for option, kind in (("configs", "ConfigMap"), ("secrets", "Secret"))
    }
    return ComposeFile(
        name=manifest.name,
        services=services,
        networks=(ComposeNetwork(NETWORK, NETWORK),) if joined else (),
        volumes=tuple(whole.volumes(services)),
        data={option: names for option, names in kept.items() if names},
        notes=tuple(_notes(services)),
    )


def draw(manifest: Manifest, *, dark: bool = False) -> Architecture:
    """Draw the architecture of a manifest; see :func:`labkit.compose.draw`."""
    return draw_compose(as_compose(manifest), dark=dark)


def without_equivalent(manifest: Manifest) -> tuple[KubeObject, ...]:
    """Return the objects for which Swarm has nothing, in the file's order.

    Some are drawn all the same, as what comes nearest: a StatefulSet, a CronJob. A Service that
    selects none of the manifest's Pods is one of them.
    """
    useful = _Whole(manifest).useful
    return tuple(
        o
        for o in manifest.objects
        if not (_own(o) and o.kind in KINDS) or (o.kind == "Service" and id(o) not in useful)
    )


def _own(one: KubeObject) -> bool:
    """Whether an object is of Kubernetes's own groups, in whatever version."""
    return "." not in one.api_version.partition("/")[0]


class _Whole:
    """A manifest's workloads, and what of it belongs to each."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.workloads = [o for o in manifest.of(*PODS) if _own(o)]
        self.several = len({o.space for o in self.workloads}) > 1
        self.shared = Counter((o.space, o.name) for o in self.workloads)
        by_label: dict[tuple[str, str, str], list[KubeObject]] = defaultdict(list)
        for service in manifest.of("Service"):
            for key, value in list(below(service.data, "spec", "selector").items())[:1]:
                by_label[service.space, key, str(value)].append(service)
        self.selecting: dict[int, list[KubeObject]] = {}  # Services by id of workload
        for workload in self.workloads:
            labels = below(workload.data, *PODS[workload.kind], "metadata", "labels")
            self.selecting[id(workload)] = [
                service
                for key, value in labels.items()
                for service in by_label.get((workload.space, key, str(value)), ())
                if all(
                    labels.get(k) == v for k, v in below(service.data, "spec", "selector").items()
                )
            ]
        self.useful = {id(s) for services in self.selecting.values() for s in services}

    def named(self, one: KubeObject, name: str) -> str:
        """Return a name with its namespace, where the manifest has several."""
        return f"{one.space}/{name}" if self.several and name else name

    def service(self, workload: KubeObject) -> ComposeService:
        pod = below(workload.data, *PODS[workload.kind], "spec")
        containers, first = tables(pod.get("containers")), tables(pod.get("initContainers"))
        sidecars = [c for c in first if c.get("restartPolicy") == "Always"]
        host = pod.get("hostNetwork") is True
        mode, replicas = _scale(workload)
        ports = [*self._published(workload, sidecars + containers),
                 *_host_ports(sidecars + containers)]  # fmt: skip
        mounts = self._mounts(workload, pod, first + containers, replicas)
        name = self.named(workload, workload.name)
        if self.shared[workload.space, workload.name] > 1:
            name += f" ({workload.kind})"
        main = containers[0] if containers else {}
        return ComposeService(
            name=name,
            image=word(main.get("image")),
            mode=mode,
            replicas=replicas,
            networks=() if host else (NETWORK,),
            ports=tuple(sorted(dict.fromkeys(ports), key=lambda p: p.order)),
            mounts=tuple(sorted(dict.fromkeys(mounts), key=lambda m: (m.target, m.source))),
            constraints=tuple(_constraints(pod)),
            network_mode="host" if host else "",
            line=workload.line,
            options=options_of(workload, pod, main),
            companions=(
                *(f"avant : {_image(c)}" for c in first if c not in sidecars),
                *(f"à côté : {_image(c)}" for c in (*sidecars, *containers[1:])),
            ),
        )

    def _published(self, workload: KubeObject, containers: list[Table]) -> Iterator[ComposePort]:
        """Return the ports that a Service opens to those outside the cluster."""
        names = {
            p["name"]: p.get("containerPort")
            for c in containers
            for p in tables(c.get("ports"))
            if isinstance(p.get("name"), str)
        }
        for service in self.selecting[id(workload)]:
            kind = service.get("spec", "type")
            if kind not in ("LoadBalancer", "NodePort"):
                continue
            for port in tables(service.get("spec", "ports")):
                target = port.get("targetPort") or port.get("port")
                if isinstance(target, str):
                    target = names.get(target, target)
                out = port.get("port") if kind == "LoadBalancer" else port.get("nodePort")
                protocol = str(port.get("protocol") or "tcp").lower()
                yield ComposePort(str(target), "" if out is None else str(out), protocol)

    def _mounts(
        self, workload: KubeObject, pod: Table, containers: list[Table], replicas: str | None
    ) -> Iterator[ComposeMount]:
        volumes = {str(v.get("name")): v for v in tables(pod.get("volumes"))}
        sources = {name: _source(volume) for name, volume in volumes.items()}
        for template in _claims(workload):
            sources[template] = ("volume", _numbered(workload, template, replicas), False)
        for container in containers:
            for mount in tables(container.get("volumeMounts")):
                name = str(mount.get("name"))
                kind, source, read_only = sources.get(name, ("volume", name, False))
                yield ComposeMount(
                    kind,
                    self.named(workload, source) if kind == "volume" else source,
                    str(mount.get("mountPath") or ""),
                    read_only or mount.get("readOnly") is True,
                )

    def volumes(self, services: Iterable[ComposeService]) -> Iterator[ComposeVolume]:
        """Return the claims, and those that the manifest expects to be there already."""
        claims = {self.named(o, o.name): o.line for o in self.manifest.of(_CLAIM)}
        made = {
            self.named(o, _numbered(o, template, _scale(o)[1]))
            for o in self.manifest.of("StatefulSet")
            for template in _claims(o)
        }
        used = [m.source for s in services for m in s.mounts if m.kind == "volume" and m.source]
        for name in dict.fromkeys([*claims, *used]):
            there = name not in claims and name not in made
            yield ComposeVolume(name, name, external=there, line=claims.get(name))


def _notes(services: Iterable[ComposeService]) -> Iterator[str]:
    """Say what Swarm would refuse of the translation."""
    taken: dict[tuple[str, str], list[str]] = defaultdict(list)
    for service in services:
        for port in service.ports:
            if port.published and port.mode == "ingress":
                taken[port.published, port.protocol].append(service.name)
    for (number, _), names in taken.items():
        if len(set(names)) > 1:
            yield (
                f"Port {number} publié par {', '.join(dict.fromkeys(names))} : chaque Service de "
                "Kubernetes a son adresse ; Swarm n’accepterait que le premier."
            )


# -- services -------------------------------------------------------------------------------


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


_NODE = {
    "kubernetes.io/os": "node.platform.os",
    "kubernetes.io/arch": "node.platform.arch",
    "kubernetes.io/hostname": "node.hostname",
}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # docker has the kernel's names
_MANAGERS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


def _constraints(pod: Table) -> Iterator[str]:
    """Return the nodes that a Pod wants, in the words of ``deploy.placement.constraints``."""
    for key, value in table(pod.get("nodeSelector")).items():
        yield _constraint(key, "==", value)
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = tables(value_at(pod, "affinity", "nodeAffinity", required, "nodeSelectorTerms"))
    for rule in tables(terms[0].get("matchExpressions")) if len(terms) == 1 else ():
        values = rule.get("values")
        values = values if isinstance(values, list) else []
        if rule.get("operator") == "NotIn" or (rule.get("operator") == "In" and len(values) == 1):
            sign = "==" if rule["operator"] == "In" else "!="
            for value in values:
                yield _constraint(str(rule.get("key")), sign, value)


def _constraint(key: str, sign: str, value: Any) -> str:
    if key in _MANAGERS:
        return f"node.role {sign} manager"
    value = _MACHINES.get(str(value), value) if key == "kubernetes.io/arch" else value
    return f"{_NODE.get(key, f'node.labels.{key}')} {sign} {value}"


def _host_ports(containers: list[Table]) -> Iterator[ComposePort]:
    for container in containers:
        for port in tables(container.get("ports")):
            if port.get("hostPort"):
                protocol = str(port.get("protocol") or "tcp").lower()
                target, out = str(port.get("containerPort")), str(port["hostPort"])
                yield ComposePort(target, out, protocol, "host", str(port.get("hostIP") or ""))


# -- volumes --------------------------------------------------------------------------------


def _source(volume: Table) -> tuple[str, str, bool]:
    """Return the kind and the source of a Pod's volume, and whether it cannot be written to."""
    kind, about = next(((k, table(v)) for k, v in volume.items() if k != "name"), ("emptyDir", {}))
    read_only = about.get("readOnly") is True
    match kind:
        case "persistentVolumeClaim":
            return "volume", word(about.get("claimName")), read_only
        case "hostPath":
            return "bind", word(about.get("path")), False
        case "emptyDir":
            return ("tmpfs" if about.get("medium") == "Memory" else "volume"), "", False
        case "ephemeral":
            return "volume", "", False
        case "configMap":
            return "config", f"configMap {word(about.get('name'))}", False
        case "secret":
            return "secret", f"secret {word(about.get('secretName'))}", False
        case "projected" | "downwardAPI":
            parts = [
                f"{key} {word(table(value).get('name'))}".strip()
                for one in tables(about.get("sources"))
                for key, value in one.items()
            ]
            return "config", ", ".join(parts) or kind, False
        case "image":
            return "image", word(about.get("reference")), True
        case "nfs":
            return "nfs", f"nfs {word(about.get('server'))}:{word(about.get('path'))}", read_only
        case _:  # a disk of some provider: the first text that it gives is its name
            names = [v for v in about.values() if isinstance(v, str)]
            return kind, " ".join([kind, *names[:1]]), read_only


def _claims(workload: KubeObject) -> Iterator[str]:
    """Return the names of the claims that a StatefulSet makes for each of its Pods."""
    for template in tables(workload.get("spec", "volumeClaimTemplates")):
        yield word(table(template.get("metadata")).get("name"))


def _numbered(workload: KubeObject, template: str, replicas: str | None) -> str:
    """Return the names of the claims of a StatefulSet's replicas, as one."""
    start = workload.get("spec", "ordinals", "start")
    start = start if isinstance(start, int) else 0
    first = f"{template}-{workload.name}-{start}"
    if replicas and replicas.isdecimal() and int(replicas) > 1:
        return f"{first}…{start + int(replicas) - 1}"
    return first


def _image(container: Table) -> str:
    return word(container.get("image")) or word(container.get("name"))
