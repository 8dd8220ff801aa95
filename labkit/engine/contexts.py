"""Write docker contexts, one for each node, in a configuration directory of their own.

The user's ``~/.docker`` is neither read nor written.
"""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.names import write_names
from labkit.errors import EngineError

SECONDS = 30.0  # that one docker command may take


def write_contexts(fleet: Fleet, config: Path, cli: Path, plugins: Iterable[Path]) -> None:
    """Write one docker context an endpoint under ``config`` and make the first one current.

    The directory is made anew, readable by its owner alone. Plugins that are not there are left
    out.
    """
    shutil.rmtree(config, ignore_errors=True)
    config.mkdir(mode=0o700, parents=True)
    for endpoint in fleet:
        write_context(endpoint, config, cli)
    _docker(cli, config, "context", "use", fleet.endpoints[0].name)
    (config / "cli-plugins").mkdir()
    for plugin in plugins:
        if plugin.exists():
            (config / "cli-plugins" / plugin.name).symlink_to(plugin)
    write_names(config, fleet)


def write_context(endpoint: Endpoint, config: Path, cli: Path, verb: str = "create") -> None:
    """Write the context of one endpoint; ``update`` it once its keys have changed."""
    _docker(cli, config, "context", verb, endpoint.name, "--docker", _host(endpoint))


def remove_context(name: str, config: Path, cli: Path) -> None:
    """Remove a context; node1's becomes the current one if it was. It may be gone already."""
    if json.loads((config / "config.json").read_text()).get("currentContext") == name:
        _docker(cli, config, "context", "use", "node1")
    _docker(cli, config, "context", "rm", "--force", name)


def runs(cli: str, config: Path) -> str:
    """Try a ``docker`` command; say in French why it is not usable, "" when it is.

    What is called docker may be Podman, a program that is not there any more, or one that may not
    read what labkit writes, as in a snap.
    """
    try:
        version = _ask(cli, config, "--version")
        if not re.match(r"Docker version \d", version.stdout):
            said = (version.stdout + version.stderr).strip().splitlines()
            return f"ce n’est pas le client de Docker ({said[0] if said else 'il ne dit rien'})"
        config.mkdir(mode=0o700)
        made = _ask(cli, config, "context", "create", "try", "--docker", "host=tcp://127.0.0.1:1")
        if made.returncode or not (config / "contexts").exists():
            return f"il ne crée pas de contexte ({made.stderr.strip()[-200:] or 'sans un mot'})"
    except OSError as error:
        return f"il ne se lance pas ({error.strerror})"
    except subprocess.TimeoutExpired:
        return "il ne répond pas"
    finally:
        shutil.rmtree(config, ignore_errors=True)
    return ""


def environment(
    config: Path, cli: Path, path: str, addresses: Iterable[str] = ()
) -> dict[str, str]:
    """Return the variables that give a shell the CLI and its contexts, and ``labkit``.

    ``curl`` finds the nodes by name. A notebook's kernel may run in a virtual environment that its
    shells know nothing of. ``addresses`` are the nodes', and their names: no proxy can reach them.
    """
    here, last = str(cli.parent), str(Path(sys.executable).parent)
    entries = [here, *(p for p in path.split(os.pathsep) if p and p != here)]
    entries += [last] * (last not in entries)
    # some programs know no ranges, others look at one of the two spellings only
    direct = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    direct += ["localhost", "127.0.0.1", "127.0.0.0/8", *addresses]
    names = dict.fromkeys(name.strip() for text in direct for name in text.split(",") if name)
    return {
        "DOCKER_CONFIG": str(config),
        "DOCKER_CLI_HINTS": "false",
        "CURL_HOME": str(config),
        "PATH": os.pathsep.join(entries),
        "no_proxy": ",".join(names),
        "NO_PROXY": ",".join(names),
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
    line = io.StringIO()  # docker reads it as CSV: a path may have quotes and commas
    csv.writer(line, lineterminator="").writerow(parts)
    return line.getvalue()


def _docker(cli: Path, config: Path, *args: str) -> None:
    done = _ask(str(cli), config, *args)
    if done.returncode:
        raise EngineError(f"« docker {args[0]} {args[1]} » a échoué : {done.stderr.strip()}")


def _ask(cli: str, config: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ.get("PATH", os.defpath), "DOCKER_CONFIG": str(config)}
    return subprocess.run(
        [cli, *args], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        encoding="utf-8", errors="replace", timeout=SECONDS,
    )  # fmt: skip


def speaking_to(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a shell whose ``docker`` and prompt are those of one node."""
    environment = {
        **environment,
        "DOCKER_CONTEXT": name,
        "PROMPT_COMMAND": f'PS1="{name}: ${{PS1#{name}: }}"',
    }
    for other in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        environment.pop(other, None)
    return environment
