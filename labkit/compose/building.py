"""The model made from a file's data, or from a live stack."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.compose import values
from labkit.compose.model import (
    ComposeFile,
    ComposeMount,
    ComposeNetwork,
    ComposePort,
    ComposeService,
    ComposeVolume,
)
from labkit.compose.reading import ComposeReader, load
from labkit.documents import read_text
from labkit.errors import ComposeError, NoSuchStack
from labkit.state import ClusterState, Service

_MOST_PORTS = 1000  # of one range that are told one by one


def read(path: str | Path, *, environment: Mapping[str, str] | None = None) -> ComposeFile:
    """Read a compose or stack file.

    ``extends`` and ``include`` are not followed; :func:`labkit.compose.explain` says so.
    ``environment`` has the values of variables; None sets none, so that the result is the same
    everywhere, and ``os.environ`` does what Docker would. Raises ``ComposeError`` with file, line
    and reason.
    """
    path = Path(path)
    text = read_text(path, ComposeReader)
    return replace(parse(text, path.name, environment=environment), directory=path.parent)


def parse(
    text: str, name: str = "compose.yml", *, environment: Mapping[str, str] | None = None
) -> ComposeFile:
    """Read the text of a compose file; ``name`` is for messages. See :func:`read`."""
    file = load(text.removeprefix("\ufeff"), name, environment or {})
    services = tuple(
        _service(file, key, value) for key, value in (file.data.get("services") or {}).items()
    )
    return replace(
        file,
        services=services,
        networks=tuple(_networks(file, services)),
        volumes=tuple(_volumes(file, services)),
    )


def _service(file: ComposeFile, name: str, options: Mapping[str, Any]) -> ComposeService:
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
        ports=tuple(sorted(_ports(file, name, options), key=lambda p: p.order)),
        mounts=tuple(sorted(_mounts(file, name, options), key=lambda m: (m.target, m.source))),
        constraints=tuple((deploy.get("placement") or {}).get("constraints") or ()),
        depends_on=tuple(options.get("depends_on") or ()),
        network_mode=network_mode,
        line=file.line("services", name),
        options=options,
    )


# -- ports ----------------------------------------------------------------------------------


def _ports(file: ComposeFile, service: str, options: Mapping[str, Any]) -> Iterator[ComposePort]:
    for i, port in enumerate(options.get("ports") or ()):
        if isinstance(port, dict):
            target, published = str(port.get("target", "")), str(port.get("published", ""))
            protocol, address = port.get("protocol") or "tcp", str(port.get("host_ip") or "")
            mode = port.get("mode") or "ingress"
        else:
            text, mode = str(port), "ingress"
            try:
                if "${" not in text:
                    values.check_ports(text)
            except values.Bad as bad:
                raise ComposeError(
                    file.name,
                    file.line("services", service, "ports", i),
                    f"« {text[:60]} » n’est pas un port du service « {service} » : {bad}",
                    remedy='Écrivez « PORT_PUBLIÉ:PORT_DU_CONTENEUR », par exemple "5000:80".',
                ) from None
            target, published, protocol, address = values.split_port(text)
            protocol, address = protocol.lower(), address.strip("[]")
        outs, ins = _numbers(published), _numbers(target)
        if len(ins) != len(outs) and outs:  # Docker chooses one of them
            ins, outs = [target], [published]
        for j, number in enumerate(ins):
            yield ComposePort(number, outs[j] if outs else "", protocol, mode, address)


def _numbers(text: str) -> list[str]:
    """Return the ports of ``80-82``; what is no range, or a wide one, stays as it is written."""
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    count = int(found[2]) - int(found[1]) + 1 if found else 0
    if not found or not 0 < count <= _MOST_PORTS:
        return [text] if text else []
    return [str(int(found[1]) + n) for n in range(count)]


# -- mounts ---------------------------------------------------------------------------------


def _mounts(file: ComposeFile, service: str, options: Mapping[str, Any]) -> Iterator[ComposeMount]:
    for i, mount in enumerate(options.get("volumes") or ()):
        long = mount if isinstance(mount, dict) else _long(file, service, i, mount)
        yield ComposeMount(
            kind=long.get("type", "volume"),
            source=str(long.get("source") or ""),
            target=str(long.get("target") or ""),
            read_only=long.get("read_only") in (True, "true"),
        )
    tmpfs = options.get("tmpfs") or ()
    for target in [tmpfs] if isinstance(tmpfs, str) else tmpfs:
        yield ComposeMount("tmpfs", "", target.partition(":")[0])


def _long(file: ComposeFile, service: str, i: int, mount: str) -> dict[str, Any]:
    try:
        long = values.long_mount(mount)
    except values.Bad as bad:
        raise ComposeError(
            file.name,
            file.line("services", service, "volumes", i),
            f"« {mount[:60]} » n’est pas un volume du service « {service} » : {bad}",
            remedy="Écrivez « nom-du-volume:/chemin », ou « ./dossier:/chemin ».",
        ) from None
    source = long.get("source", "")
    if source in (file.data.get("volumes") or {}):
        return long | {"type": "volume"}
    return long | {"type": "bind"} if source.startswith("$") else long


# -- networks and volumes -------------------------------------------------------------------


def _label(key: str, options: Mapping[str, Any]) -> str:
    """Return the name that the engine uses, without the stack's."""
    external = options.get("external")
    older = external.get("name") if isinstance(external, dict) else None
    return str(options.get("name") or older or key)


def _external(options: Mapping[str, Any]) -> bool:
    return options.get("external") not in (None, False, "false")


def _networks(file: ComposeFile, services: tuple[ComposeService, ...]) -> Iterator[ComposeNetwork]:
    declared = file.data.get("networks") or {}
    for key, options in declared.items():
        options, line = options or {}, file.line("networks", key)
        label, driver = _label(key, options), options.get("driver") or ""
        yield ComposeNetwork(key, label, external=_external(options), driver=driver, line=line)
    seen = set(declared)
    for service in services:
        for key in service.networks:
            if key not in seen:
                seen.add(key)
                line = file.line("services", service.name, "networks")
                yield ComposeNetwork(key, key, declared=key == "default", line=line)


def _volumes(file: ComposeFile, services: tuple[ComposeService, ...]) -> Iterator[ComposeVolume]:
    declared = file.data.get("volumes") or {}
    for key, options in declared.items():
        options = options or {}
        line = file.line("volumes", key)
        yield ComposeVolume(key, _label(key, options), external=_external(options), line=line)
    seen = set(declared)
    for service in services:
        for mount in service.mounts:
            named = mount.kind in ("volume", "cluster") and not mount.source.startswith("group:")
            if named and mount.source and mount.source not in seen:
                seen.add(mount.source)
                line = file.line("services", service.name, "volumes")
                yield ComposeVolume(mount.source, mount.source, declared=False, line=line)


# -- the live stack -------------------------------------------------------------------------


def from_stack(state: ClusterState, stack: str) -> ComposeFile:
    """Describe a live stack in the terms of a file.

    Raises ``NoSuchStack`` when no service belongs to it, and what
    :meth:`labkit.state.ClusterState.require` does when no manager answered.
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
    named = {source: volume.name for source, volume in volumes.items()}
    mounts = (
        ComposeMount(m.type, named.get(m.source, m.source), m.target, m.read_only)
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
