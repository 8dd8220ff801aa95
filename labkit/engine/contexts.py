"""The ``docker`` CLI's side of a fleet: one context a node, in a configuration of its own.

The user's ``~/.docker`` is neither read nor written.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import EngineError

__all__ = ["activate", "add_context", "environment", "remove_context", "write_contexts"]


def write_contexts(fleet: Fleet, config: Path, cli: Path, plugins: Iterable[Path]) -> None:
    """Write one docker context an endpoint under ``config`` and make the first one current.

    Parameters
    ----------
    fleet
        The engines; the names of the endpoints become the names of the contexts.
    config
        The directory for ``DOCKER_CONFIG``; made anew, readable by its owner alone.
    cli
        The ``docker`` command.
    plugins
        Its plugins, such as that for ``docker build``; those that are not there are left out.
    """
    shutil.rmtree(config, ignore_errors=True)
    config.mkdir(mode=0o700, parents=True)
    for endpoint in fleet:
        add_context(endpoint, config, cli)
    _docker(cli, config, "context", "use", fleet.endpoints[0].name)
    (config / "cli-plugins").mkdir()
    for plugin in plugins:
        if plugin.exists():
            (config / "cli-plugins" / plugin.name).symlink_to(plugin)


def add_context(endpoint: Endpoint, config: Path, cli: Path) -> None:
    """Write the context of one endpoint beside the others that ``config`` has."""
    _docker(cli, config, "context", "create", endpoint.name, "--docker", _host(endpoint))


def remove_context(name: str, config: Path, cli: Path) -> None:
    """Remove a context; node1's becomes the current one if it was. It may be gone already."""
    if json.loads((config / "config.json").read_text()).get("currentContext") == name:
        _docker(cli, config, "context", "use", "node1")
    _docker(cli, config, "context", "rm", "--force", name)


def environment(config: Path, cli: Path, path: str) -> dict[str, str]:
    """Return the variables that give a shell the CLI and its contexts, and ``labkit``.

    A notebook's kernel may run in a virtual environment that its shells know nothing of.

    Parameters
    ----------
    config
        The directory that :func:`write_contexts` wrote, or will write.
    cli
        The ``docker`` command; its directory comes first in ``PATH``.
    path
        The present ``PATH``.
    """
    here, last = str(cli.parent), str(Path(sys.executable).parent)
    entries = [here, *(p for p in path.split(os.pathsep) if p and p != here)]
    entries += [last] * (last not in entries)
    return {
        "DOCKER_CONFIG": str(config),
        "DOCKER_CLI_HINTS": "false",
        "PATH": os.pathsep.join(entries),
    }


def activate(variables: Mapping[str, str]) -> None:
    """Make ``docker …`` in this process and its children speak to the fleet."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        os.environ.pop(name, None)
    os.environ.update(variables)


def _host(endpoint: Endpoint) -> str:
    parts = [f"host={endpoint.url}"]
    if endpoint.tls is not None:
        for key, name in (("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")):
            parts.append(f"{key}={endpoint.tls / name}")
    return ",".join(parts)


def _docker(cli: Path, config: Path, *args: str) -> None:
    env = {"PATH": os.environ.get("PATH", os.defpath), "DOCKER_CONFIG": str(config)}
    done = subprocess.run([cli, *args], env=env, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise EngineError(f"« docker {args[0]} {args[1]} » a échoué : {done.stderr.strip()}")
