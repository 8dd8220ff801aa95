"""Facts about external machines before they join a swarm; they are judged elsewhere.

:func:`labkit.engine.machines.ask_machines` asks each engine who it is; :func:`survey` also tries
Swarm's ports from machine to machine. For that a small program (``engine/probe.py``) runs on each
machine for some seconds: by ssh where the engine is reached by ssh, here where it is this
machine's own, else in a container on the host's network, from an image with Python that the
engine already has. Nothing is pulled, and what cannot run is said: a port is never taken for
open.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from docker import APIClient

from labkit.engine import probe
from labkit.engine.clients import NO_ANSWER, explain, talk
from labkit.engine.contexts import environment
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.machines import OwnMachine, ask_machines
from labkit.engine.progress import Report
from labkit.engine.ssh import ssh_command

PORTS = probe.PORTS
_START = 30.0  # seconds for a probe to start and to end
_EXCHANGE = 8.0  # seconds of knocking, when not all ports are open
_TOGETHER = 4.0  # seconds that two machines must have done so together for silence to tell


@dataclass(frozen=True, slots=True)
class Survey:
    """All machines, and what was heard from one to another."""

    machines: tuple[OwnMachine, ...]  # in the order of the fleet
    # ``(from, to, address, port)`` of each way that was found open; names of endpoints, and a port
    # such as ``7946/udp``
    reached: frozenset[tuple[str, str, str, str]] = frozenset()


def survey(fleet: Fleet, *, image: str) -> Survey:
    """Collect what is to be known of the machines of a fleet before they join."""
    with Report(quiet=False) as report, ThreadPoolExecutor(max_workers=len(fleet)) as pool:
        report.step("Questions aux moteurs")
        machines = ask_machines(fleet, image=image)
        clis = pool.map(lambda endpoint: _cli(fleet, endpoint), fleet)
        machines = tuple(replace(m, cli=cli) for m, cli in zip(machines, clis, strict=True))
        report.step("Adresses des machines")
        machines = tuple(pool.map(_locate, fleet, machines))
        found = Survey(machines)
        if sum(bool(m.addresses) for m in machines) > 1:
            report.step(f"Essai des ports de Swarm entre les machines ({_EXCHANGE:.0f} s au plus)")
            found = _exchange(fleet, machines, pool)
    return found


def _cli(fleet: Fleet, endpoint: Endpoint) -> str | None:
    """Return what the docker command says against the context of an engine."""
    cli = shutil.which("docker")
    if cli is None or fleet.docker_config is None or not fleet.docker_config.exists():
        return None
    env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
    env |= environment(fleet.docker_config, Path(cli), env.get("PATH", os.defpath))
    command = [cli, "--context", endpoint.name, "version", "--format", "{{.Server.Version}}"]
    try:
        _by_command(command, "", _START, env)
    except _NotRun as error:
        return str(error)
    return ""


# -- the probe ------------------------------------------------------------------------------


class _NotRun(Exception):
    """The probe cannot run on a machine; the text says why, in French."""


def _locate(endpoint: Endpoint, machine: OwnMachine) -> OwnMachine:
    if machine.error:
        return replace(machine, unprobed="son moteur ne répond pas")
    try:
        said = _run_probe(endpoint, machine, {"do": "addresses"}, 0)
    except _NotRun as error:
        return replace(machine, unprobed=str(error))
    return replace(machine, addresses=tuple(said["addresses"]), busy=tuple(said["busy"]))


def _exchange(fleet: Fleet, machines: Sequence[OwnMachine], pool: ThreadPoolExecutor) -> Survey:
    """Let all machines that can knock on each other at the same time."""
    nonce = secrets.token_hex(8)
    known = [(i, e, m) for i, (e, m) in enumerate(zip(fleet, machines, strict=True)) if m.addresses]

    def part(one: tuple[int, Endpoint, OwnMachine]) -> Mapping[str, Any]:
        me, endpoint, machine = one
        targets = [(j, a, m.busy) for j, _, m in known if j != me for a in m.addresses or ()]
        order = {"do": "exchange", "me": me, "nonce": nonce, "seconds": _EXCHANGE}
        try:
            said = _run_probe(endpoint, machine, {**order, "targets": targets}, _EXCHANGE)
        except _NotRun as error:
            return {"heard": (), "reached": (), "busy": machine.busy, "unprobed": str(error)}
        return {**said, "started": time.monotonic() - said["ran"]}

    answers = {me: said for (me, _, _), said in zip(known, pool.map(part, known), strict=True)}
    first = min((said["started"] for said in answers.values() if "started" in said), default=0.0)
    late = first + _EXCHANGE - _TOGETHER

    def why_not(said: Mapping[str, Any]) -> str:
        if said.get("started", first) > late:
            return "l’essai y a commencé trop tard, recommencez"
        return str(said.get("unprobed", ""))

    machines = tuple(
        replace(m, busy=tuple(answers[i]["busy"]), unprobed=why_not(answers[i]))
        if i in answers
        else m
        for i, m in enumerate(machines)
    )
    ways = set()
    for me, said in answers.items():
        here = machines[me]
        ways |= {(machines[i].name, here.name, at, port) for i, at, port in said["heard"]}
        ways |= {
            (here.name, machines[j].name, at, port)
            for j, at, port in said["reached"]
            if port in machines[j].busy  # what answered is what is there already: an engine
        }
    return Survey(machines, frozenset(ways))


def _run_probe(
    endpoint: Endpoint, machine: OwnMachine, order: Mapping[str, object], seconds: float
) -> Mapping[str, Any]:
    """Run the probe on a machine and return what it says."""
    text = Path(probe.__file__).read_text()
    argument = json.dumps(order)
    limit = _START + seconds
    if endpoint.url.startswith("ssh://"):
        try:
            said = _by_command(
                ssh_command(endpoint.url, "python3", "-I", "-", argument), text, limit
            )
        except _NotRun as by_ssh:
            try:
                said = _by_container(endpoint, text, argument, limit)
            except _NotRun:
                raise by_ssh from None
    elif endpoint.url.startswith("unix://") and machine.hostname == socket.gethostname():
        said = _by_command([sys.executable, "-", argument], text, limit)
    else:
        said = _by_container(endpoint, text, argument, limit)
    try:
        answer: Mapping[str, Any] = json.loads(said)
    except ValueError:
        raise _NotRun(_last_line(said) or "le programme d’essai n’a rien dit") from None
    return answer


def _by_command(
    command: Sequence[str], text: str, limit: float, env: Mapping[str, str] | None = None
) -> str:
    try:
        done = subprocess.run(
            command, env=env, input=text, capture_output=True, text=True, timeout=limit,
            start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _NotRun("pas de réponse dans le délai") from None
    except OSError as error:
        raise _NotRun(f"{command[0]} : {error.strerror}") from None
    if done.returncode:
        raise _NotRun(_last_line(done.stderr) or f"code de retour {done.returncode}")
    return done.stdout


def _by_container(endpoint: Endpoint, text: str, argument: str, limit: float) -> str:
    """Run Python on the host's network, from an image that is there already."""
    try:
        with talk(endpoint, limit) as api:
            image = _python_image(api)
            if image is None:
                raise _NotRun("aucune image avec Python n’y est")
            made = api.create_container(
                image,
                entrypoint=["python3"],
                command=["-I", "-c", text, argument],
                labels={"labkit": "probe"},
                host_config=api.create_host_config(network_mode="host"),
            )
            try:
                api.start(made["Id"])
                ended = api.wait(made["Id"], timeout=limit)
                failed = bool(ended["StatusCode"])
                said: bytes = api.logs(made["Id"], stdout=not failed, stderr=failed)
            finally:
                api.remove_container(made["Id"], force=True, v=True)
    except NO_ANSWER as error:
        raise _NotRun(explain(error)) from None
    answer = said.decode(errors="replace")
    if failed:
        raise _NotRun(_last_line(answer))
    return answer


def _python_image(api: APIClient) -> str | None:
    """Return the smallest image that says it has Python, as the official ones do."""
    for image in sorted(api.images(), key=lambda i: i["Size"]):
        config = api.inspect_image(image["Id"])["Config"] or {}
        if any(text.startswith("PYTHON_VERSION=") for text in config.get("Env") or ()):
            return str(image["Id"])
    return None


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
