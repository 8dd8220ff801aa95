"""Find the values that ``docker stack deploy`` refuses in a file of the right form.

The docker command loads a file, then converts it for the cluster, and each step has rules that no
schema tells: a mode that does not exist, a source that a mount must have, a file that is not there.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.compose import values
from labkit.compose.schema import short
from labkit.documents import Step, table, value_at

_Refusals = Iterator[tuple[tuple[Step, ...], str]]

_MODES = ("replicated", "global", "replicated-job", "global-job")
_RESTARTS = ("no", "always", "unless-stopped", "on-failure")
_MOUNTS = {  # by type: the options that go with it
    "volume": ("volume",),
    "bind": ("bind",),
    "tmpfs": ("tmpfs",),
    "npipe": ("bind", "cluster"),
    "cluster": ("cluster",),
}
_BIGGEST_ENV = 1_000_000  # bytes of an env_file that are looked at
_LONGEST = 64 * 1024  # bytes of a line of an env_file


def refusals(data: Mapping[str, Any], directory: Path | None) -> _Refusals:
    """Yield what docker refuses, as a path and a reason in French.

    ``data`` are as the docker command has them, variables replaced. The file's relative paths begin
    at ``directory``; None looks at no other file.
    """
    for name, service in table(data.get("services")).items():
        for path, why in _service(table(service), data, directory):
            yield ("services", name, *path), why
    for kind in ("networks", "volumes", "secrets", "configs"):
        for name, options in table(data.get(kind)).items():
            for path, why in _declared(kind, options, directory):
                yield (kind, name, *path), why


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# -- services -------------------------------------------------------------------------------


def _service(
    options: Mapping[str, Any], data: Mapping[str, Any], directory: Path | None
) -> _Refusals:
    yield from _limits(options)
    yield from _ports(options)
    for i, mount in enumerate(_list(options.get("volumes"))):
        for inner, why in _mount(mount, table(data.get("volumes"))):
            yield ("volumes", i, *inner), why
    yield from _env_files(options, directory)
    yield from _deployment(options)
    yield from _references(options, data)


def _limits(options: Mapping[str, Any]) -> _Refusals:
    for name, limit in table(options.get("ulimits")).items():
        numbers = limit.values() if isinstance(limit, dict) else [limit]
        complete = not isinstance(limit, dict) or {"soft", "hard"} <= limit.keys()
        if not complete or not all(type(n) is int for n in numbers):
            yield ("ulimits", name), "une limite est un entier, ou « soft » et « hard » entiers."


def _ports(options: Mapping[str, Any]) -> _Refusals:
    for i, port in enumerate(_list(options.get("ports"))):
        if isinstance(port, float):
            yield ("ports", i), f"« {short(port)} » n’est pas un port."
        elif not isinstance(port, dict):
            try:
                values.check_ports(str(port))
            except values.Bad as bad:
                yield ("ports", i), str(bad)


def _mount(mount: Any, volumes: Mapping[str, Any]) -> _Refusals:
    if isinstance(mount, str):
        try:
            mount = values.long_mount(mount)
        except values.Bad as bad:
            yield (), str(bad)
            return
    if not isinstance(mount, dict):
        return
    kind, source = mount.get("type") or "volume", mount.get("source") or ""
    if not isinstance(kind, str) or not isinstance(source, str):
        return
    if kind not in _MOUNTS:
        newer = " La commande docker 28 prend aussi « image »." if kind == "image" else ""
        yield ("type",), f"un volume est du type {', '.join(_MOUNTS)}.{newer}"
        return
    if not source and kind in ("bind", "npipe", "cluster"):
        yield (), f"un volume « type: {kind} » veut une « source »."
    elif source and kind == "tmpfs":
        yield ("source",), "un tmpfs n’a pas de « source »."
    for other in ("volume", "bind", "tmpfs"):
        if mount.get(other) is not None and other not in _MOUNTS[kind]:
            yield (), f"les options « {other} » ne vont pas avec un volume « type: {kind} »."
    named = kind == "volume" or (kind == "cluster" and not source.startswith("group:"))
    if named and source and source not in volumes:
        yield (), f"le volume « {source} » n’est déclaré nulle part : ajoutez-le sous volumes."


def _deployment(options: Mapping[str, Any]) -> _Refusals:
    deploy = table(options.get("deploy"))
    mode = deploy.get("mode") or "replicated"
    if not isinstance(mode, str):
        pass
    elif mode not in _MODES:
        yield ("deploy", "mode"), f"« {short(mode)} » n’est pas un mode : {', '.join(_MODES)}."
    elif mode.startswith("global") and deploy.get("replicas") is not None:
        why = f"« mode: {mode} » fait une task par nœud : ôtez replicas, ou ce mode."
        yield ("deploy", "replicas"), why
    restart = options.get("restart")
    if isinstance(restart, str) and restart and deploy.get("restart_policy") is None:
        name, _, count = restart.partition(":")
        if name not in _RESTARTS or not (count == "" or count.lstrip("+-").isdecimal()):
            yield ("restart",), f"« {short(restart)} » n’existe pas : {', '.join(_RESTARTS)}."
    check = table(options.get("healthcheck"))
    if check.get("disable") and (isinstance(check.get("test"), str) or check.get("test")):
        yield ("healthcheck",), "« test » et « disable: true » ne vont pas ensemble."
    spec = table(options.get("credential_spec"))
    given = [key for key in ("config", "file", "registry") if spec.get(key)]
    if len(given) > 1:
        yield ("credential_spec",), f"{' et '.join(given)} ne vont pas ensemble."


def _references(options: Mapping[str, Any], data: Mapping[str, Any]) -> _Refusals:
    networks = options.get("networks")
    declared = table(data.get("networks"))
    for name in networks if isinstance(networks, dict | list) else ():
        if isinstance(name, str) and name not in declared and name != "default":
            why = f"le réseau « {name} » n’est déclaré nulle part : ajoutez-le sous networks."
            yield ("networks",), why
    for kind, title in (("secrets", "le secret"), ("configs", "la config")):
        used = [item.get("source") or "" if isinstance(item, dict) else item
                for item in _list(options.get(kind))]  # fmt: skip
        for i, name in enumerate(used):
            if isinstance(name, str) and name not in table(data.get(kind)):
                yield (kind, i), f"{title} « {name} » n’est pas sous {kind}, au premier niveau."
        targets: set[Any] = set()
        for i, item in enumerate(_list(options.get(kind))):
            target = table(item).get("target") or used[i]
            if isinstance(target, str) and target in targets:
                yield (kind, i), f"« {target} » y est deux fois : gardez-en une."
            targets.add(target if isinstance(target, str) else None)
    config = value_at(options, "credential_spec", "config")
    if isinstance(config, str) and config and config not in table(data.get("configs")):
        why = f"la config « {config} » n’est pas sous configs, au premier niveau."
        yield ("credential_spec", "config"), why


# -- what a file declares --------------------------------------------------------------------


def _declared(kind: str, options: Any, directory: Path | None) -> _Refusals:
    if not isinstance(options, dict):
        if options is not None:
            yield (), "docker veut une table « clé : valeur »."
        return
    external = options.get("external")
    if external is True or isinstance(external, dict):
        if kind == "volumes":
            for key in ("driver", "driver_opts", "labels"):
                if options.get(key):
                    yield (key,), "un volume externe existe déjà : il n’a pas cette option ici."
        if table(external).get("name") and options.get("name"):
            yield ("name",), "le nom est déjà dit par external.name : gardez « name »."
        return
    if kind == "volumes":
        for key in ("required_bytes", "limit_bytes"):
            path = ("x-cluster-spec", "capacity_range", key)
            size = value_at(options, *path)
            if isinstance(size, str) and values.size(size) is None:
                yield path, "une taille est un nombre et son unité : 512M, 1G."
    if kind not in ("secrets", "configs"):
        return
    file = options.get("file") or ""
    if options.get("driver"):
        if file:
            yield ("file",), "« file » ne va pas avec « driver »."
    elif not file:
        yield (), "docker veut « file », ou « external: true »."
    elif directory is not None and isinstance(file, str):
        why = _unreadable(directory / file)
        if why:
            yield ("file",), why


# -- other files ----------------------------------------------------------------------------


def _unreadable(path: Path) -> str:
    """Say why docker could not read a file; empty if it could."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return f"docker lit ce fichier, et « {path.name} » n’existe pas."
    except (OSError, ValueError):
        return f"docker lit ce fichier, et n’arrive pas à « {path.name} »."
    if stat.S_ISDIR(found.st_mode):
        return f"docker lit un fichier, et « {path.name} » est un dossier."
    if not os.access(path, os.R_OK):
        return f"docker lit ce fichier, et vous n’avez pas le droit de lire « {path.name} »."
    return ""


def _env_files(options: Mapping[str, Any], directory: Path | None) -> _Refusals:
    files = options.get("env_file")
    for i, name in enumerate([files] if isinstance(files, str) else _list(files)):
        if directory is None or not isinstance(name, str):
            continue
        path = directory / name
        why = _unreadable(path) or (_bad_env(path) if path.is_file() else "")
        if why:
            yield (("env_file", i) if isinstance(files, list) else ("env_file",)), why


def _bad_env(path: Path) -> str:
    """Say what docker refuses in a file of variables; empty if it takes it."""
    with path.open("rb") as file:
        content = file.read(_BIGGEST_ENV).removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            text = line.decode().lstrip()
        except UnicodeDecodeError:
            return f"« {path.name} », ligne {number} : un caractère n’est pas en UTF-8."
        name, _, _ = text.partition("=")
        if len(line) >= _LONGEST:
            return f"« {path.name} », ligne {number} : la ligne est trop longue pour docker."
        if not text or text.startswith("#"):
            continue
        if " " in name or "\t" in name:
            return f"« {path.name} », ligne {number} : un nom de variable contient une espace."
        if not name:
            return f"« {path.name} », ligne {number} : il n’y a pas de nom devant le « = »."
    return ""
