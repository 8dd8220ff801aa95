"""One machine: find, once, all that it starts from; boot it, save it, restore it, stop it."""

import errno
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.engine.clients import causes
from labkit.engine.embedded import identity
from labkit.engine.embedded.addresses import MACHINE, endpoints_of, engine_port, free_network
from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.build.sealed import atomic_directory, fingerprint, invalidate, verify
from labkit.engine.embedded.build.shared_cache import (
    damaged_error,
    find_directory,
    find_guest,
    is_shared,
)
from labkit.engine.embedded.driver import Driver, Instance, Plan, StateLost, find_driver, instance
from labkit.engine.embedded.egress import routes
from labkit.engine.embedded.processes import alive, refuse_elsewhere
from labkit.engine.embedded.settings import MAX_NODES, Settings
from labkit.engine.embedded.tls import make_keys
from labkit.engine.endpoint import Endpoint
from labkit.errors import MachineFailed
from labkit.polling import until

BOOT_SECONDS = 120.0
ANSWER_SECONDS = 120.0  # a whole class may start at the same moment


@dataclass(frozen=True, slots=True)
class Installation:
    """All that machines of these settings are started from."""

    settings: Settings
    guest: Guest
    driver: Driver
    snapshot: Path  # a saved machine: its memory and its disk; never written once made

    @property
    def images(self) -> list[dict[str, Any]]:
        """The images that the snapshot holds: the fields of an ``ImageStatus`` for each."""
        return list(json.loads((self.snapshot / "snapshot.json").read_text())["images"])


def installation_of(settings: Settings, guest: Guest) -> Installation:
    """Return the installation of a guest that is built; its snapshot may not be made yet."""
    driver = find_driver(guest, settings)
    return Installation(settings, guest, driver, snapshot_of(guest, driver, settings))


def find_installation(settings: Settings, *, thorough: bool = False) -> Installation | None:
    """Return the installation of these settings; None where a part is not there, whole.

    Raises ``MachineFailed`` when a part of the shared cache is damaged.
    """
    guest = find_guest(settings)
    if not verify(guest.directory, thorough=thorough):
        if is_shared(settings, guest.directory):
            raise damaged_error(settings)
        return None
    found = installation_of(settings, guest)
    if verify(found.snapshot, thorough=thorough):
        return found
    if is_shared(settings, found.snapshot):
        raise damaged_error(settings)
    return None


def snapshot_of(guest: Guest, driver: Driver, settings: Settings) -> Path:
    """Return where the snapshot of a guest under these settings is, made or not."""
    # a guest built again is another disk: the state would not fit
    traits = [*driver.traits(settings, guest), fingerprint(guest.directory)]
    digest = hashlib.sha256("\0".join(traits).encode()).hexdigest()[:12]
    name = f"snapshot-{guest.key}-{driver.name}-{driver.version}-n{settings.nodes}-{digest}"
    return find_directory(settings, name)


class Machine:
    """A machine that is to run, and its run directory, for sockets, keys and logs."""

    def __init__(self, run: Path, made_of: Installation) -> None:
        self.run = run
        self.made_of = made_of
        self.settings = made_of.settings
        self.network = ""

    @property
    def instance(self) -> Instance:
        """The machine that runs."""
        return instance(self.run)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The engines, once the machine was started."""
        return endpoints_of(self.network, range(1, self.settings.nodes + 1), self.run)

    def boot(self, step: Callable[[str], None]) -> None:
        """Start from nothing; returns when every engine answers."""
        plan = self._prepare()
        data = self.run / "tmp/data.ext4"
        step("Démarrage de la machine")
        copy_sparse(plan.guest.directory / "data.ext4", data)
        self.made_of.driver.start(plan, data)
        self._wait_for_engines(step)

    def save(self, snapshot: Path, images: list[dict[str, Any]]) -> None:
        """Freeze the machine into a snapshot; the machine ends."""
        # the engines' logs begin with what students do, not with the warming up
        empty = "for log in /run/node?.log; do : >$log; done"
        self.shell(f"killall stunnel 2>/dev/null; rm -f /run/tls.pem; {empty}; sync", timeout=60)
        with atomic_directory(snapshot) as work:
            self.instance.save(work)
            self.instance.stop()
            move_sparse(self.run / "tmp/data.ext4", work / "data.ext4")
            (work / "snapshot.json").write_text(json.dumps({"images": images}))
        shutil.rmtree(self.run, ignore_errors=True)

    def restore(self) -> None:
        """Start from the snapshot; returns when every engine answers."""
        plan, snapshot = self._prepare(), self.made_of.snapshot
        try:
            self.made_of.driver.restore(plan, snapshot)
            self._open_engines(ANSWER_SECONDS)
        except StateLost as error:
            if is_shared(self.settings, snapshot):
                raise damaged_error(self.settings) from error
            invalidate(snapshot)
            remedy = "Lancez « labkit build », qui le refait, puis la même commande."
            raise MachineFailed(error.message, remedy=remedy) from error
        except MachineFailed as error:
            raise MachineFailed(
                f"La machine n’a pas repris : {error.message}",
                remedy="Relancez. Si cela recommence : « labkit build » relit l’instantané, et le "
                "refait s’il est abîmé.",
            ) from error

    def shell(self, script: str, timeout: float = 20) -> str:
        """Run a shell script as root in the guest."""
        return self.instance.shell(script, timeout)

    def end_gossip(self) -> None:
        """Restart engines that still listen for the members of a swarm that they left."""
        numbers = range(1, self.settings.nodes + 1)
        self.shell("".join(f"node quiet {n}\n" for n in numbers), 240)
        for endpoint in self.endpoints:
            wait_for_engine(endpoint, ANSWER_SECONDS, "Relancez.")

    def stop(self) -> None:
        """End the machine and remove all that it left."""
        self.instance.stop()
        shutil.rmtree(self.run, ignore_errors=True)

    def _prepare(self) -> Plan:
        refuse_elsewhere(self.run)
        self.stop()
        self.run.mkdir(parents=True, mode=0o700)
        self.run.chmod(0o700)
        identity.note_host(self.run)
        if self.run.parent == self.settings.state:
            (self.run / "tmp").mkdir()
        else:  # such a place is short, and may be small
            self.settings.overflow.mkdir(mode=0o700, exist_ok=True)
            (self.run / "tmp").symlink_to(self.settings.overflow)
        self.network = free_network(self.settings)
        return Plan(self.run, self.made_of.guest, self.settings, self.network)

    def _wait_for_engines(self, step: Callable[[str], None]) -> None:
        nodes = self.settings.nodes
        sockets = " ".join(f"/run/node{n}.sock" for n in range(1, nodes + 1))
        count = f"for s in {sockets}; do [ -S $s ] && echo up; done; true"

        def up() -> int | None:
            try:
                return self.shell(count, timeout=5).count("up")
            except MachineFailed:
                return 0 if alive(self.run) else None

        step("Démarrage des moteurs Docker")
        if until(up, lambda found: found in (nodes, None), BOOT_SECONDS, 0.3) != nodes:
            raise MachineFailed(
                f"La machine n’a pas démarré ({self.made_of.driver.name}) : "
                f"{self.instance.console() or 'console muette'}",
                remedy="Relancez ; si cela recommence : LABKIT_ACCEL=tcg, puis labkit up.",
            )
        self._open_engines(BOOT_SECONDS)

    def _open_engines(self, patience: float) -> None:
        secure(self.run, self.network, self.settings, patience)
        deadline = time.monotonic() + patience
        for endpoint in self.endpoints:
            wait_for_engine(endpoint, deadline - time.monotonic(), "Lancez « labkit reset ».")


def secure(run: Path, network: str, settings: Settings, patience: float = ANSWER_SECONDS) -> None:
    """Set the clock, mix in fresh randomness, and open the engines behind mutual TLS, anew."""
    numbers = range(1, MAX_NODES + 1)  # those that are added later, too
    pem = make_keys(run / "tls", [e.address for e in endpoints_of(network, numbers, run)])
    services = "".join(
        f"[node{n}]\naccept = {MACHINE}:{engine_port(n)}\nconnect = /run/node{n}.sock\n"
        for n in numbers
    )
    now = int(time.time())
    script = f"""until [ -e /run/plugged ]; do usleep 20000; done
umask 077
[ $(($(date +%s) - {now})) -ge 0 ] && [ $(($(date +%s) - {now})) -lt {patience:.0f} ] ||
    date -s @{now} >/dev/null # else it is this host's own, by the time that this is run
echo {os.urandom(64).hex()} >/dev/urandom
cat >/run/tls.pem <<'PEM'
{pem}PEM
cat >/run/stunnel.conf <<'CONF'
pid =
foreground = no
syslog = no
output = /run/stunnel.log
debug = 4
cert = /run/tls.pem
CAfile = /run/tls.pem
verifyChain = yes
requireCert = yes
sslVersionMin = TLSv1.3
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
{services}CONF
tries=0
while killall -9 stunnel 2>/dev/null && [ $tries -lt 50 ]; do
    usleep 20000
    tries=$((tries + 1))
done
stunnel /run/stunnel.conf </dev/null >/run/stunnel.log 2>&1
rm -f /run/tls.pem
cat >/run/closed.new <<'ROUTES'
{routes(settings.egress)}ROUTES
cmp -s /run/closed.new /run/closed || {{
    mv /run/closed.new /run/closed
    for node in $(ls /run/netns); do node close ${{node#node}}; done
}}
"""
    instance(run).shell(script, patience)


def wait_for_engine(endpoint: Endpoint, patience: float, remedy: str) -> None:
    """Wait until an engine answers, or raise ``MachineFailed`` after ``patience`` seconds."""

    def failure() -> Exception | None:
        try:
            client.ping()
        except Exception as error:  # any transport's error but this one means: not yet
            for cause in causes(error):
                if isinstance(cause, ssl.SSLCertVerificationError):
                    raise MachineFailed(
                        f"Le moteur de {endpoint.name} répond, mais la poignée de main TLS "
                        f"échoue : {cause.verify_message}.",
                        remedy=remedy,
                    ) from error
            return error
        return None

    with closing(endpoint.client(timeout=5)) as client:
        error = until(failure, lambda error: error is None, patience, 0.05)
    if error:
        what = f"Le moteur de {endpoint.name} ne répond pas."
        raise MachineFailed(what, remedy=remedy) from error


def waits_for_room(run: Path) -> bool:
    """Tell whether a machine is paused because the host's disk is full."""
    try:
        return instance(run).state() == "full"
    except (MachineFailed, OSError):
        return False


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a disk image without writing its holes."""
    done = subprocess.run(["cp", "--sparse=always", source, target], capture_output=True, text=True)
    if done.returncode:
        needed = 512 * source.stat().st_blocks
        full = shutil.disk_usage(target.parent).free < needed
        raise OSError(errno.ENOSPC if full else errno.EIO, done.stderr.strip()[-300:], str(target))


def move_sparse(source: Path, target: Path) -> None:
    """Move a disk image, to another file system too."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_sparse(source, target)
        source.unlink()
