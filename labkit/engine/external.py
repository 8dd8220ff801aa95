"""Reach engines that labkit did not make: those that ``LABKIT_ENGINE`` names.

``host`` is the engine that ``docker`` already speaks to (``DOCKER_HOST``, or the active
context); a list of addresses is one node each. Nothing here starts, stops or changes an engine,
and the user's ``~/.docker`` is only read: contexts are written in a directory of labkit's own.
"""

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docker.context import ContextAPI
from docker.context.config import get_tls_dir

from labkit.engine.contexts import environment, write_contexts
from labkit.engine.embedded.build.shared_cache import find_guest
from labkit.engine.embedded.directories import writable
from labkit.engine.embedded.docker_cli import docker_cli, refused
from labkit.engine.embedded.settings import STATE, Settings
from labkit.engine.embedded.status import Status, node_status
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.machines import ask_machines
from labkit.errors import EngineError, SettingError

ENGINE = "LABKIT_ENGINE"
_CERTIFICATES = "DOCKER_CERT_PATH"


def named() -> Fleet | None:
    """Return the engines that ``LABKIT_ENGINE`` names; None for the embedded ones.

    Raises ``SettingError`` when it names none, or one that cannot be.
    """
    value = os.environ.get(ENGINE, "").strip()
    if value in {"", "embedded"}:
        return None
    if value == "host":
        endpoints = [_active()]
    else:
        urls = [url for part in value.split(",") if (url := part.strip())]
        odd = next((url for url in urls if "://" not in url), None)
        if odd is not None or not urls:
            raise SettingError(
                f"{ENGINE}={value} n’est pas utilisable.",
                remedy="Écrivez host (le moteur auquel « docker » s’adresse déjà), embedded (celui "
                "de labkit), ou des adresses : ssh://etudiante@vm1,ssh://etudiant@vm2.",
            )
        twice = next((url for url in urls if urls.count(url) > 1), None)
        if twice:
            raise SettingError(
                f"{ENGINE} nomme deux fois {twice}.", remedy="Chaque moteur n’y va qu’une fois."
            )
        tls = _certificates()
        endpoints = [Endpoint.parse(url, f"node{i}", tls=tls) for i, url in enumerate(urls, 1)]
    return Fleet(kind="host", endpoints=tuple(endpoints), docker_config=_config(endpoints))


def prepare(fleet: Fleet) -> dict[str, str]:
    """Write the contexts of the engines, and return the environment that gives them to a shell.

    Raises ``EngineError`` when there is no ``docker`` command.
    """
    guest = find_guest(Settings.read())
    cli = docker_cli(guest)
    config = fleet.docker_config
    writable(Settings.read().state, STATE)
    if not cli.exists() or config is None:
        raise EngineError(
            f"La commande docker ({theirs}) n’est pas utilisable : {refused(theirs)}."
            if (theirs := shutil.which("docker"))
            else "La commande docker est introuvable.",
            remedy="Installez-la (paquet docker-cli ou docker.io), ou lancez « labkit build », qui "
            "en apporte une.",
        )
    made_of = "\n".join(f"{e.url} {_stamp(e)}" for e in fleet)
    mark = config / "labkit"
    within = any(e.tls and e.tls.is_relative_to(config) for e in fleet)  # it keeps its certificates
    if not (mark.exists() and mark.read_text() == made_of) and not within:
        config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=config.parent, prefix="making-") as making:
            fresh = Path(making) / "docker"
            write_contexts(fleet, fresh, cli, guest.plugins)
            (fresh / "labkit").write_text(made_of)
            shutil.rmtree(config, ignore_errors=True)
            fresh.rename(config)
    addresses = [known for node in fleet for known in (node.name, node.address)]
    variables = environment(config, cli, os.environ.get("PATH", os.defpath), addresses)
    if os.environ.get(_CERTIFICATES):  # it is looked up again at each connect()
        variables[_CERTIFICATES] = os.environ[_CERTIFICATES]
    return variables


def status(fleet: Fleet) -> Status:
    """Say what the engines are."""
    with ThreadPoolExecutor(max_workers=len(fleet)) as pool:
        nodes = tuple(pool.map(node_status, fleet))
    silent = any(node.swarm == "unreachable" for node in nodes)
    detail = "« labkit doctor » dit pourquoi un moteur ne répond pas." if silent else ""
    return Status("host", nodes=nodes, detail=detail)


def refusal(fleet: Fleet, what: str) -> SettingError:
    """Return the error for one who wants engines stopped or reset that labkit did not make.

    ``what`` is in French, such as ``n’arrête jamais``.
    """
    swarms = [f"{m.name} : {m.standing}." for m in ask_machines(fleet)]
    return SettingError(
        f"labkit {what} des moteurs qu’il n’a pas créés :\n  " + "\n  ".join(swarms),
        remedy="S’ils sont à vous et que vous voulez qu’un moteur quitte son Swarm, tapez-le : "
        "« docker --context node1 swarm leave --force ». Pour revenir aux moteurs de labkit, "
        f"retirez {ENGINE}.",
    )


def _active() -> Endpoint:
    """Return the engine to which ``docker`` speaks."""
    host = os.environ.get("DOCKER_HOST")
    if host:
        secure = os.environ.get("DOCKER_TLS_VERIFY") or os.environ.get("DOCKER_TLS")
        tls = _certificates() or Path.home() / ".docker" if secure else None
        return Endpoint.parse(host, "node1", tls=tls)
    name = os.environ.get("DOCKER_CONTEXT") or None
    context = ContextAPI.get_context(name)
    if context is None:
        raise SettingError(
            f"Le contexte docker « {name or 'actif'} » n’existe pas.",
            remedy="« docker context ls » les liste ; « docker context use … » en choisit un.",
        )
    tls = Path(get_tls_dir(context.name, "docker"))
    return Endpoint.parse(context.Host, "node1", tls=tls if tls.is_dir() else None)


def _certificates() -> Path | None:
    path = os.environ.get(_CERTIFICATES)
    return Path(path).absolute() if path else None


def _config(endpoints: list[Endpoint]) -> Path:
    """Return where the contexts of these engines are: two lists never share a directory."""
    settings = Settings.read()
    key = hashlib.sha256("\n".join(e.url for e in endpoints).encode()).hexdigest()[:8]
    return settings.state / f"{settings.cluster}.own-{key}" / "docker"


def _stamp(endpoint: Endpoint) -> str:
    """Return what changes when the certificates of an engine do."""
    if endpoint.tls is None:
        return ""
    return str((endpoint.tls / "cert.pem").stat().st_mtime_ns)
