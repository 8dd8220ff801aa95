"""Connect the machine to the Internet: pass on its frames, and tell whether images come."""

import logging
import socket
import threading
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import docker

from labkit.engine.embedded.driver import Instance, instance
from labkit.engine.embedded.egress import Rule
from labkit.polling import until

log = logging.getLogger("labkit.egress")
HUB_SECONDS = 3.0


def watch(run: Path, egress: str) -> None:
    """Pass on what may leave the machine of a run directory, in a thread, while it lives."""
    machine = instance(run)
    rule = Rule(egress, machine.gateway, machine.resolver)

    def pass_out() -> None:
        try:
            machine.pass_out(rule.lets)
        except OSError as error:
            log.info("egress: %s", error)

    gone = partial(until, pass_out, lambda _: not run.exists(), every=1)
    threading.Thread(target=gone, daemon=True).start()


def hub_answers(client: docker.DockerClient) -> bool:
    """Tell whether the registry that an engine pulls from can be reached from here."""
    address = urlsplit(client.info().get("IndexServerAddress", ""))
    if not address.hostname:
        return False
    try:
        with socket.create_connection((address.hostname, address.port or 443), HUB_SECONDS):
            return True
    except OSError:
        return False


def go_on_line(machine: Instance) -> None:
    """Give the guest a resolver; without one, pulls fail at once."""
    machine.shell(f"echo nameserver {machine.resolver} >/etc/resolv.conf")
