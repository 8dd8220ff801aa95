"""The model made from a file's data, or from a live stack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.compose.model import (
    ComposeFile,
    ComposeMount,
    ComposeNetwork,
    ComposePort,
    ComposeService,
    ComposeVolume,
)
from labkit.compose.reading import ComposeReader, Raw, load
from labkit.documents import read_text
from labkit.errors import ComposeError, NoSuchStack
from labkit.state import ClusterState, Service

__all__ = ["from_stack", "parse", "read"]

_MOST_PORTS = 64  # of one range


def read(path: str | Path, *, environment: Mapping[str, str] | None = None) -> ComposeFile:
    """Read a compose or stack file.

    ``extends`` and ``include`` are not followed; :func:`labkit.compose.explain` says so.

    Parameters
    ----------
    path
        Of the file.
    environment
        Values of variables; None sets none, so that only the file's defaults are used and the
        result is the same everywhere. ``os.environ`` does what Docker would.

    Raises
    ------
    ComposeError
        With file, line and reason.
    """
    path = Path(path)
    return parse(read_text(path, ComposeReader), path.name, environment=environment)


def parse(
    text: str, name: str = "compose.yml", *, environment: Mapping[str, str] | None = None
) -> ComposeFile:
    """Read the text of a compose file; ``name`` is for messages. See :func:`read`."""
    raw = load(text.removeprefix("\ufeff"), name, environment or {})
    data = raw.data
    services = tuple(
        _service(raw, key, value) for key, value in (data.get("services") or {}).items()
    )
    return ComposeFile(
        name=name,
        version=data.get("version", ""),
        services=services,
        networks=tuple(_networks(raw, services)),
        volumes=tuple(_volumes(raw, services)),
        variables=raw.variables,
        data=data,
        lines=raw.lines,
        substituted=raw.substituted,
    )


def _service(raw: Raw, name: str, options: Mapping[str, Any]) -> ComposeService:
    deploy = options.get("deploy") or {}
    build = options.get("build") or ""
    if isinstance(build, dict):
        build = build.get("context") or "."
    mode = deploy.get("mode") or "replicated"
    replicas = str(deploy.get("replicas", options.get("scale", 1)))
    network_mode = str(options.get("network_mode") or "")
    networks = tuple(options.get("networks") or ())
    return ComposeService(
        name=name,
        image=options.get("image") or "",
        build=build,
        mode=mode,
        replicas=None if mode.startswith("global") else replicas,
        networks=networks or (() if network_mode else ("default",)),
        ports=tuple(sorted(_ports(raw, name, options), key=lambda p: p.order)),
        mounts=tuple(sorted(_mounts(raw, name, options), key=lambda m: (m.target, m.source))),
        constraints=tuple((deploy.get("placement") or {}).get("constraints") or ()),
        depends_on=tuple(options.get("depends_on") or ()),
        network_mode=network_mode,
        line=raw.line(("services", name)),
        options=options,
    )


# -- ports ----------------------------------------------------------------------------------


def _ports(raw: Raw, service: str, options: Mapping[str, Any]) -> Iterator[ComposePort]:
    for i, port in enumerate(options.get("ports") or ()):
        line = raw.line(("services", service, "ports", i))
        if isinstance(port, dict):
            target, published = str(port.get("target", "")), str(port.get("published", ""))
            protocol, address = port.get("protocol") or "tcp", str(port.get("host_ip") or "")
            mode = port.get("mode") or "ingress"
        else:
            target, published, protocol, address = _split_port(str(port))
            mode = "ingress"
        outs, ins = _numbers(published), _numbers(target)
        if ins is None or outs is None or not target or len(outs) > _MOST_PORTS:
            raise ComposeError(
                raw.file,
                line,
                f"« {str(port)[:60]} » n’est pas un port du service « {service} ».",
                remedy='Écrivez « PORT_PUBLIÉ:PORT_DU_CONTENEUR », par exemple "5000:80".',
            )
        if len(ins) > 1 and len(outs) not in (0, len(ins)):
            raise ComposeError(
                raw.file, line, f"« {port} » : les deux plages n’ont pas la même longueur."
            )
        if len(ins) == 1 and len(outs) > 1:  # Docker chooses one of them
            ins, outs = [target], [published]
        for j, number in enumerate(ins):
            yield ComposePort(number, outs[j] if outs else "", protocol, mode, address)


def _split_port(text: str) -> tuple[str, str, str, str]:
    """Return target, published port, protocol and address of ``[[address:]port:]port[/tcp]``."""
    body, _, protocol = text.partition("/")
    rest, _, target = body.rpartition(":")
    address, _, published = rest.rpartition(":")
    return target.strip(), published.strip(), protocol or "tcp", address.strip("[]")


def _numbers(text: str) -> list[str] | None:
    """Return the ports of ``80``, ``80-82`` or a variable; None if it is none of these."""
    if not text:
        return []
    if "${" in text:
        return [text]
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    if not found:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    if not 0 <= first <= last <= 65535 or last - first >= 10 * _MOST_PORTS:
        return None
    return [str(n) for n in range(first, last + 1)]


# -- mounts ---------------------------------------------------------------------------------


def _mounts(raw: Raw, service: str, options: Mapping[str, Any]) -> Iterator[ComposeMount]:
    known = raw.data.get("volumes") or {}
    for i, mount in enumerate(options.get("volumes") or ()):
        if isinstance(mount, dict):
            yield ComposeMount(
                kind=mount.get("type", "volume"),
                source=str(mount.get("source") or ""),
                target=str(mount.get("target") or ""),
                read_only=mount.get("read_only") in (True, "true"),
            )
            continue
        parts = _split_mount(mount)
        if not all(parts) or len(parts) > 3:
            raise ComposeError(
                raw.file,
                raw.line(("services", service, "volumes", i)),
                f"« {mount[:60]} » n’est pas un volume du service « {service} ».",
                remedy="Écrivez « nom-du-volume:/chemin », ou « ./dossier:/chemin ».",
            )
        if len(parts) == 1:
            yield ComposeMount("volume", "", parts[0])
            continue
        source, target = parts[:2]
        outside = source not in known and re.match(r"[./~\\$]|[A-Za-z]:[\\/]", source)
        flags = parts[2].split(",") if len(parts) == 3 else []
        yield ComposeMount("bind" if outside else "volume", source, target, "ro" in flags)
    tmpfs = options.get("tmpfs") or ()
    for target in [tmpfs] if isinstance(tmpfs, str) else tmpfs:
        yield ComposeMount("tmpfs", "", target.partition(":")[0])


def _split_mount(text: str) -> list[str]:
    """Split at colons, but not after a Windows drive."""
    return re.split(r"(?<!^[A-Za-z]):|(?<=^[A-Za-z]):(?![\\/])", text)


# -- networks and volumes -------------------------------------------------------------------


def _label(key: str, options: Mapping[str, Any]) -> str:
    """Return the name that the engine uses, without the stack's."""
    external = options.get("external")
    older = external.get("name") if isinstance(external, dict) else None
    return str(options.get("name") or older or key)


def _external(options: Mapping[str, Any]) -> bool:
    return options.get("external") not in (None, False, "false")


def _networks(raw: Raw, services: tuple[ComposeService, ...]) -> Iterator[ComposeNetwork]:
    declared = raw.data.get("networks") or {}
    for key, options in declared.items():
        options = options or {}
        yield ComposeNetwork(
            key,
            _label(key, options),
            external=_external(options),
            driver=options.get("driver") or "",
            line=raw.line(("networks", key)),
        )
    seen = set(declared)
    for service in services:
        for key in service.networks:
            if key not in seen:
                seen.add(key)
                line = raw.line(("services", service.name, "networks"))
                yield ComposeNetwork(key, key, declared=key == "default", line=line)


def _volumes(raw: Raw, services: tuple[ComposeService, ...]) -> Iterator[ComposeVolume]:
    declared = raw.data.get("volumes") or {}
    for key, options in declared.items():
        options = options or {}
        line = raw.line(("volumes", key))
        yield ComposeVolume(key, _label(key, options), external=_external(options), line=line)
    seen = set(declared)
    for service in services:
        for mount in service.mounts:
            named = mount.kind in ("volume", "cluster") and not mount.source.startswith("group:")
            if named and mount.source and mount.source not in seen:
                seen.add(mount.source)
                line = raw.line(("services", service.name, "volumes"))
                yield ComposeVolume(mount.source, mount.source, declared=False, line=line)


# -- the live stack -------------------------------------------------------------------------


def from_stack(state: ClusterState, stack: str) -> ComposeFile:
    """Describe a live stack in the terms of a file.

    Parameters
    ----------
    state
        The cluster.
    stack
        As in ``docker stack deploy -c FILE STACK``.

    Raises
    ------
    NoSuchStack
        No service belongs to it.
    SwarmError, EngineUnreachable
        No manager answered; see :meth:`labkit.state.ClusterState.require`.
    """
    state.require()
    found = [s for s in state.services if s.stack == stack]
    if not found:
        known = sorted({s.stack for s in state.services if s.stack})
        raise NoSuchStack(
            f"Aucune stack ne s’appelle « {stack} ».",
            remedy=f"Stacks du cluster : {', '.join(known)}."
            if known
            else f"Déployez-la avec « docker stack deploy -c FICHIER {stack} ».",
        )
    networks: dict[str, ComposeNetwork] = {}
    volumes: dict[str, ComposeVolume] = {}
    for service in found:
        for name in service.networks:
            networks.setdefault(name, _live_network(state, name, stack))
        for mount in service.mounts:
            if mount.type in ("volume", "cluster") and mount.source:
                label = _short(mount.source, stack) if mount.stack == stack else mount.source
                external = mount.stack != stack
                volumes.setdefault(mount.source, ComposeVolume(label, label, external=external))
    return ComposeFile(
        name=stack,
        live=True,
        services=tuple(_live_service(state, s, stack, networks, volumes) for s in found),
        networks=tuple(sorted(networks.values(), key=lambda n: n.name)),
        volumes=tuple(sorted(volumes.values(), key=lambda v: v.name)),
    )


def _short(name: str, stack: str) -> str:
    return name.removeprefix(f"{stack}_")


def _live_network(state: ClusterState, name: str, stack: str) -> ComposeNetwork:
    network = state.network(name)
    external = network is None or network.stack != stack
    label = name if external else _short(name, stack)
    return ComposeNetwork(label, label, external=external, driver=network.driver if network else "")


def _live_service(
    state: ClusterState,
    service: Service,
    stack: str,
    networks: Mapping[str, ComposeNetwork],
    volumes: Mapping[str, ComposeVolume],
) -> ComposeService:
    ports = (
        ComposePort(str(p.target), str(p.published or ""), p.protocol, p.mode)
        for p in service.ports
    )
    mounts = (
        ComposeMount(
            m.type,
            volumes[m.source].name if m.source in volumes else m.source,
            m.target,
            m.read_only,
        )
        for m in service.mounts
    )
    return ComposeService(
        name=_short(service.name, stack),
        image=service.image,
        mode=service.mode,
        replicas=None if service.replicas is None else str(service.replicas),
        networks=tuple(networks[n].name for n in service.networks),
        ports=tuple(sorted(ports, key=lambda p: p.order)),
        mounts=tuple(sorted(mounts, key=lambda m: (m.target, m.source))),
        constraints=service.constraints,
        running=len(state.running(service.id)),
    )
