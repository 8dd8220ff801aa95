"""One machine: boot it, save it, restore it, stop it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from labkit.engine.embedded import identity
from labkit.engine.embedded.build.guest import Guest, Step
from labkit.engine.embedded.build.sealed import atomic_directory, fingerprint, invalidate, verify
from labkit.engine.embedded.build.shared_cache import damaged_error, find_directory, is_shared
from labkit.engine.embedded.egress import routes
from labkit.engine.embedded.qemu import API_PORT, SANDBOX, Qemu, arguments, split_network
from labkit.engine.embedded.qemu import qmp as control
from labkit.engine.embedded.settings import MAX_NODES, Settings
from labkit.engine.embedded.tls import make_keys
from labkit.engine.endpoint import API_VERSION, Endpoint
from labkit.errors import EngineNotRunning, MachineFailed

__all__ = ["Machine", "Snapshot"]

BOOT_SECONDS = 120.0
ANSWER_SECONDS = 120.0  # a whole class may start at the same moment
PLACES = 64  # that are tried for the addresses of the engines
_NETWORKS = 63 * 256  # from 127.64.0 to 127.126.255
GOSSIP = 7946  # the port at which engines of a swarm speak of networks


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A saved machine: its memory and its data disk. Never written once made."""

    directory: Path

    def verify(self, *, thorough: bool = False) -> bool:
        """Tell whether it was saved, and is whole; ``thorough`` reads all of it."""
        return verify(self.directory, thorough=thorough)

    @property
    def images(self) -> list[dict[str, Any]]:
        """The images that it holds: the fields of an ``ImageStatus`` for each."""
        facts = json.loads((self.directory / "snapshot.json").read_text())
        return list(facts["images"])


def snapshot_of(guest: Guest, qemu: Qemu, settings: Settings) -> Snapshot:
    """Return where the snapshot of a guest under these settings is, made or not."""
    # Any other command line would be another machine, and a guest built again is another disk:
    # the state would not fit.
    line = arguments(
        Qemu(("qemu",), qemu.version, qemu.accel),
        replace(settings, cluster="any"),
        Guest(Path("guest"), guest.key),
        Path("run"),
        "127.0.0",
    )
    line.append(fingerprint(guest.directory))
    digest = hashlib.sha256("\0".join(line).encode()).hexdigest()[:12]
    name = f"snapshot-{guest.key}-{qemu.accel}-{qemu.version}-n{settings.nodes}-{digest}"
    return Snapshot(find_directory(settings, name))


class Machine:
    """A QEMU process and its run directory.

    Parameters
    ----------
    run
        Directory for sockets, keys and logs; made with mode 0700.
    """

    def __init__(self, run: Path, guest: Guest, qemu: Qemu, settings: Settings) -> None:
        self.run = run
        self.guest = guest
        self.qemu = qemu
        self.settings = settings
        self.network = ""

    @property
    def tls(self) -> Path:
        """Directory of the client's keys."""
        return self.run / "tls"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The engines, once the machine was started."""
        return endpoints_of(self.network, range(1, self.settings.nodes + 1), self.run)

    def boot(self, step: Step) -> None:
        """Start from nothing; returns when every engine answers."""
        self._prepare()
        data = self.run / "tmp/data.ext4"
        step("Démarrage de la machine")
        copy_sparse(self.guest.directory / "data.ext4", data)
        self._start(f"file={data},format=raw")
        self._wait_for_engines(step)

    def save(self, snapshot: Snapshot, images: list[dict[str, Any]]) -> None:
        """Freeze the machine into a snapshot; the machine ends."""
        # the engines' logs begin with what students do, not with the warming up
        empty = "for log in /run/node?.log; do : >$log; done"
        self.shell(f"killall stunnel 2>/dev/null; rm -f /run/tls.pem; {empty}; sync", timeout=60)
        with atomic_directory(snapshot.directory) as work:
            state = work / "state"
            control.migrate(self.run / "qmp", "migrate", f"file:{state}")
            self.stop(keep_disk=True)
            state.chmod(0o644)  # a cache may be shared; no key of a later start is in it
            move_sparse(self.run / "tmp/data.ext4", work / "data.ext4")
            (work / "snapshot.json").write_text(json.dumps({"images": images}))
        shutil.rmtree(self.run, ignore_errors=True)

    def restore(self, snapshot: Snapshot) -> None:
        """Start from a snapshot; returns when every engine answers."""
        self._prepare()
        disk = f"file={snapshot.directory / 'data.ext4'},format=raw,snapshot=on,file.locking=off"
        self._start(disk, "-incoming", "defer")
        state = f"file:{snapshot.directory / 'state'}"
        try:
            control.migrate(self.run / "qmp", "migrate-incoming", state)
            control.qmp(self.run / "qmp", ("cont", {}))
            self._open_engines(ANSWER_SECONDS)
        except control.NotMigrated as error:
            if is_shared(self.settings, snapshot.directory):
                raise damaged_error(self.settings) from error
            invalidate(snapshot.directory)
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
        return control.guest_shell(self.run / "agent", script, timeout)

    def end_gossip(self) -> None:
        """See that no engine gossips on for a swarm that it left.

        A slow engine may leave and keep its listener on port 7946, of which nothing frees it; in
        the next swarm it would have no part in the routing mesh. Such an engine starts anew.
        """
        numbers = range(1, self.settings.nodes + 1)
        self.shell(
            f"""
gossips() {{
    nsenter --net="/run/netns/node$1" cat /proc/net/tcp /proc/net/tcp6 |
        grep -q ":{GOSSIP:04X} .* 0A "
}}
for number in {" ".join(map(str, numbers))}; do
    tries=0
    while gossips $number && [ $tries -lt 50 ]; do
        usleep 200000
        tries=$((tries + 1))
    done
    gossips $number || continue
    node stop $number
    rm -f /run/node$number.sock
    node start $number
    until [ -S /run/node$number.sock ]; do usleep 50000; done
done
""",
            240,
        )
        for endpoint in self.endpoints:
            wait_for_engine(endpoint, ANSWER_SECONDS, "Relancez.")

    def share_images(self) -> None:
        """Give the images of the first engine to all, without a copy.

        Layers are never written, so the engines share their files: one place on the disk, and
        one in memory for a program that runs on several nodes. What is added later gets them
        from ``/var/lib/docker/images``.
        """
        others = " ".join(f"node{n}" for n in range(2, self.settings.nodes + 1))
        self.shell(
            f"""set -e
mkdir /run/disk
mount --bind /var /run/disk # without the mounts that engines make of their directories
for node in {others}; do
    engine=$(cat /run/$node/docker.pid)
    kill "$engine"
    while kill -0 "$engine" 2>/dev/null; do usleep 50000; done
    cd /run/disk/lib/docker/$node
    rm -rf image overlay2
    cp -a ../node1/image image
    cp -al ../node1/overlay2 overlay2
    cd /
    setsid node-start "${{node#node}}" </dev/null >/dev/null 2>&1 &
done
mkdir /run/disk/lib/docker/images
cd /run/disk/lib/docker/images
cp -a ../node1/image image
cp -al ../node1/overlay2 overlay2
cd /
umount /run/disk
rmdir /run/disk
for node in {others}; do
    until [ -S /run/$node.sock ]; do usleep 50000; done
done
""",
            timeout=120,
        )

    def stop(self, *, keep_disk: bool = False) -> None:
        """End the machine and remove all that it left."""
        stop_process(self.run)
        if not keep_disk:
            shutil.rmtree(self.run, ignore_errors=True)

    def _prepare(self) -> None:
        refuse_elsewhere(self.run)
        stop_process(self.run)
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir(parents=True, mode=0o700)
        self.run.chmod(0o700)
        identity.note_host(self.run)
        os.mkfifo(self.run / "pass", 0o600)  # see egress
        if self.run.parent == self.settings.state:
            (self.run / "tmp").mkdir()
        else:  # such a place is short, and may be small
            self.settings.overflow.mkdir(mode=0o700, exist_ok=True)
            (self.run / "tmp").symlink_to(self.settings.overflow)

    def _start(self, disk: str, *extra: str) -> None:
        self.network = free_network(self.settings)
        command = arguments(self.qemu, self.settings, self.guest, self.run, self.network)
        if self.settings.nice:
            command = ["nice", "-n", str(self.settings.nice), *command]
        command += ["-drive", f"id=d,{disk},if=none,cache=unsafe,discard=unmap", *extra]
        environment = {**os.environ, "TMPDIR": str(self.run / "tmp")}
        log = self.run / "qemu.log"
        for sandbox in (SANDBOX, ()):
            with identity.hold(self.run) as held:  # QEMU lives on with it
                detached = subprocess.run(  # the shell ends at once: QEMU is nobody's child
                    ["sh", "-c", 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!',
                     "sh", log, *command, *sandbox],
                    stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment,
                    umask=0o077, cwd="/", check=True, pass_fds=[held],
                )  # fmt: skip
            if self._answers(int(detached.stdout)):
                break
        else:
            said = log.read_text(errors="replace").strip()[-400:] if log.exists() else ""
            if not said:
                log.write_bytes(bytes(4096))  # where there is no room, that is an OSError
            raise MachineFailed(f"QEMU n’a pas démarré : {said or 'sans un mot'}")
        pid = (self.run / "pid").read_text().strip()
        note_process(self.run, int(pid))
        if self.settings.nice:  # where each session is a group of its own, for the group, too
            with contextlib.suppress(OSError):
                group = Path(f"/proc/{pid}/autogroup")
                group.write_text(str(self.settings.nice))

    def _answers(self, pid: int) -> bool:
        """Wait until QEMU takes commands; tell whether it does, or ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            while process.status() != psutil.STATUS_ZOMBIE:
                if (self.run / "qmp").exists():
                    with contextlib.suppress(MachineFailed):
                        control.qmp(self.run / "qmp", ("query-status", {}))
                        return True
                time.sleep(0.02)
        return False

    def _wait_for_engines(self, step: Step) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        sockets = " ".join(f"/run/node{n}.sock" for n in range(1, self.settings.nodes + 1))
        count = f"for s in {sockets}; do [ -S $s ] && echo up; done; true"
        step("Démarrage des moteurs Docker")
        while True:
            with contextlib.suppress(MachineFailed):
                if self.shell(count, timeout=5).count("up") == self.settings.nodes:
                    break
            if not alive(self.run) or time.monotonic() > deadline:
                tail = (self.run / "console").read_text(errors="replace")[-400:]
                raise MachineFailed(
                    f"La machine n’a pas démarré ({self.qemu.accel}) : {tail or 'console muette'}",
                    remedy="Relancez ; si cela recommence : LABKIT_ACCEL=tcg, puis labkit up.",
                )
            time.sleep(0.3)
        self._open_engines(BOOT_SECONDS)

    def _open_engines(self, patience: float) -> None:
        self.secure(patience)
        deadline = time.monotonic() + patience
        for endpoint in self.endpoints:
            wait_for_engine(endpoint, deadline - time.monotonic(), "Lancez « labkit reset ».")

    def secure(self, patience: float = ANSWER_SECONDS) -> None:
        """Set the clock, mix in fresh randomness, and open the engines behind mutual TLS, anew."""
        numbers = range(1, MAX_NODES + 1)  # those that are added later, too
        pem = make_keys(
            self.tls, [e.address for e in endpoints_of(self.network, numbers, self.run)]
        )
        services = "".join(
            f"[node{n}]\naccept = 192.168.77.9:{API_PORT + n}\nconnect = /run/node{n}.sock\n"
            for n in numbers
        )
        script = f"""umask 077
date -s @{time.time():.0f} >/dev/null
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
{routes(self.settings.egress)}ROUTES
cmp -s /run/closed.new /run/closed || {{
    mv /run/closed.new /run/closed
    for node in $(ls /run/netns); do node close ${{node#node}}; done
}}
"""
        self.shell(script, patience)


def wait_for_engine(endpoint: Endpoint, patience: float, remedy: str) -> None:
    """Wait until an engine answers.

    Raises
    ------
    MachineFailed
        With this remedy, when it does not within ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    client = endpoint.client(timeout=5)
    try:
        while True:
            try:
                client.ping()
                return
            except Exception as error:  # any transport's error but this one means: not yet
                if refused := _refused_certificate(error):
                    raise MachineFailed(
                        f"Le moteur de {endpoint.name} répond, mais la poignée de main TLS "
                        f"échoue : {refused}.",
                        remedy=remedy,
                    ) from error
                if time.monotonic() > deadline:
                    raise MachineFailed(
                        f"Le moteur de {endpoint.name} ne répond pas.", remedy=remedy
                    ) from error
                time.sleep(0.05)
    finally:
        client.close()


def _refused_certificate(error: BaseException | None) -> str:
    """Return why this Python refuses an engine's certificate; "" for any other error."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        causes = (*error.args, error.__cause__, error.__context__, getattr(error, "reason", None))
        error = next((c for c in causes if isinstance(c, BaseException)), None)
    return ""


def endpoints_of(network: str, numbers: Iterable[int], run: Path) -> tuple[Endpoint, ...]:
    """Return the engines of a machine that runs.

    Parameters
    ----------
    network
        The first three numbers of its loopback addresses, and perhaps the port of its engines.
    numbers
        Those of its nodes.
    run
        Its run directory.
    """
    first, port = split_network(network)
    return tuple(
        Endpoint(
            name=f"node{n}",
            url=f"tcp://{first}.{n}:{port}",
            address=f"{first}.{n}",
            swarm_address=f"192.168.77.1{n}",
            tls=run / "tls",
            api_version=API_VERSION,
        )
        for n in numbers
    )


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


def waits_for_room(run: Path) -> bool:
    """Tell whether QEMU paused a machine because the host's disk is full."""
    try:
        (state,) = control.qmp(run / "qmp", ("query-status", {}), timeout=5)
    except (MachineFailed, OSError):
        return False
    return isinstance(state, dict) and state.get("status") == "io-error"


def free_network(settings: Settings) -> str:
    """Return a loopback /24, and perhaps a port, on which no engine listens yet.

    Usual places come first; then places that no neighbour can foresee and take beforehand.
    """
    seed = hashlib.sha256(f"{os.getuid()} {settings.cluster}".encode()).digest()
    usual = int.from_bytes(seed[:4], "big") % _NETWORKS
    strange = random.SystemRandom()
    for attempt in range(PLACES):
        number = strange.randrange(_NETWORKS) if attempt else usual
        network = settings.network or f"127.{64 + number // 256}.{number % 256}"
        if attempt >= (1 if settings.network else PLACES // 2):
            network = f"{network}:{strange.randrange(10_240, 32_000)}"
        if _is_free(network):
            return network
    if settings.network:
        raise MachineFailed(
            f"Les adresses {settings.network}.x ne sont pas libres ; LABKIT_NETWORK n’en permet "
            "pas d’autres.",
            remedy="Prévenez la personne qui administre ce serveur.",
        )
    raise MachineFailed("Aucune adresse de bouclage n’est libre.", remedy="Lancez labkit doctor.")


def _is_free(network: str) -> bool:
    first, port = split_network(network)
    return all(can_bind(f"{first}.{n}", port) for n in range(1, MAX_NODES + 1))


def can_bind(address: str, port: int, kind: int = socket.SOCK_STREAM) -> bool:
    """Tell whether this user may listen on an address, and nobody does."""
    with socket.socket(type=kind) as probe:
        if kind == socket.SOCK_STREAM:  # for datagrams, it would share the place
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def refuse_elsewhere(run: Path) -> None:
    """See that no process of a run directory is on another host, which has the same home.

    Raises
    ------
    EngineNotRunning
        It names the host.
    """
    host = identity.elsewhere(run)
    if host:
        raise EngineNotRunning(
            f"Votre cluster tourne sur une autre machine ou dans un autre conteneur : « {host} ».",
            remedy="Travaillez là-bas, ou arrêtez-le là-bas : « labkit down ». Si "
            f"« {host} » n’existe plus : rm -r {shlex.quote(str(run))}. Pour un second cluster, "
            "ici : LABKIT_CLUSTER=ici devant vos commandes.",
        )


def note_process(run: Path, pid: int, file: str = "pid") -> None:
    """Write which process a run directory holds.

    Raises
    ------
    MachineFailed
        When it has ended already.
    """
    try:
        stamp = identity.stamp(pid)
    except OSError as error:
        raise MachineFailed("Un programme du cluster s’est arrêté dès son démarrage.") from error
    (run / file).write_text(stamp)


def process_of(run: Path, file: str = "pid") -> psutil.Process | None:
    """Return the process that :func:`note_process` wrote into a run directory, if it lives."""
    try:
        text = (run / file).read_text()
        if not text.strip().isdigit():
            return identity.find(text)
        # QEMU's own writing: labkit ended before it could say more. Not only the same beginning:
        # the directory of « lab » begins that of « lab2 ».
        process = psutil.Process(int(text))
        if process.status() != psutil.STATUS_ZOMBIE and any(
            part == str(run) or f"{run}/" in part for part in process.cmdline()
        ):
            return process
    except (OSError, ValueError, OverflowError, psutil.Error):
        pass
    return None


def alive(run: Path) -> bool:
    """Tell whether the machine of a run directory lives."""
    return process_of(run) is not None


def stop_process(run: Path, file: str = "pid") -> None:
    """End the process that a run directory names."""
    process = process_of(run, file)
    if process is not None:
        end_process(process)


def end_process(process: psutil.Process, patience: float = 3.0) -> None:
    """End a process: politely, then not."""
    with contextlib.suppress(psutil.Error):
        process.terminate()
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(5)
