"""Three machines made on the spot: Docker Engines in network namespaces, one behind a real sshd.

Each has network, mount, host-name and process namespaces of its own, and ends with all that it
started. The kernel of a test machine may have no IPVS: no routing mesh here.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from labkit.engine import probe
from labkit.engine.embedded import cluster, images
from labkit.engine.embedded.build.guest import guest_of
from labkit.engine.embedded.images import WHOAMI
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.tls import make_keys
from labkit.engine.endpoint import Endpoint

TOOLS = ("dockerd", "containerd", "sshd", "ssh", "ssh-keygen", "iptables", "ip", "cc")
SSH_PORT = 2222
TLS_PORT = 2376
PYTHON3 = getattr(sys, "_base_executable", sys.executable)  # not a virtual environment's link
DOCKER = cluster.docker_cli(guest_of(Settings.read())).absolute()
SBIN = os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"])


def missing() -> str:
    """Say why the machines cannot be made here; "" when they can."""
    if os.geteuid() != 0:
        return "own machines are namespaces, which want root"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=SBIN) is None]
    if absent:
        return f"own machines want {', '.join(absent)} (docker.io, openssh-server, iptables, gcc)"
    if not DOCKER.exists():
        return "own machines want a docker command: the system's, or that of « labkit build »"
    namespaces = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "true"]
    if subprocess.run(namespaces, capture_output=True).returncode:
        return "own machines want namespaces, which are refused here"
    return ""


def run(*command: str | Path) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": SBIN}
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def eventually(reached: object, what: str, seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        assert time.monotonic() < limit, what
        time.sleep(0.1)


@dataclass(frozen=True)
class Machine:
    """One machine: its engine's addresses, and commands in its network."""

    name: str
    address: str
    namespace: str
    socket: str
    process: subprocess.Popen[bytes]

    def ip(self, *args: str) -> None:
        run("ip", "-n", self.namespace, *args)

    def iptables(self, *args: str) -> None:
        run("nsenter", f"--net=/run/netns/{self.namespace}", "iptables", "-w", *args)

    @contextmanager
    def closed(self, port: str, how: str) -> Iterator[None]:
        """Close ``2377/tcp`` and the like to the others; ``how`` is DROP or REJECT."""
        number, protocol = port.split("/")
        rule = ("INPUT", "-i", "eth0", "-p", protocol, "--dport", number, "-j", how)
        self.iptables("-I", *rule)
        try:
            yield
        finally:
            self.iptables("-D", *rule)

    @property
    def daemon(self) -> psutil.Process:
        """The engine, which is the first process of its namespace."""
        (first,) = psutil.Process(self.process.pid).children()
        return first

    def engine(self) -> Endpoint:
        """The engine as reached from here, whatever the test says of it."""
        return Endpoint(self.name, f"unix://{self.socket}", "127.0.0.1")


@dataclass(frozen=True)
class Machines:
    """All three: reached over TLS, over a unix socket and over ssh."""

    directory: Path
    all: tuple[Machine, ...]

    def __iter__(self) -> Iterator[Machine]:
        return iter(self.all)

    def __getitem__(self, at: int) -> Machine:
        return self.all[at]

    @property
    def urls(self) -> tuple[str, str, str]:
        return (f"tcp://{self[0].address}:{TLS_PORT}", f"unix://{self[1].socket}", "ssh://vm3")

    @property
    def certificates(self) -> Path:
        return self.directory / "tls"

    @property
    def programs(self) -> Path:
        """A directory for ``PATH``: labkit's ``docker``, and an ``ssh`` with keys of its own."""
        return self.directory / "bin"

    def leave(self) -> None:
        """Take every engine out of its swarm."""
        for machine in self:
            client = machine.engine().client(timeout=60)
            try:
                if client.info()["Swarm"]["LocalNodeState"] != "inactive":
                    client.api.leave_swarm(force=True)
            finally:
                client.close()


@contextmanager
def three_machines() -> Iterator[Machines]:
    tag = f"lk{os.getpid()}"
    network = f"10.213.{os.getpid() % 250}"
    directory = Path(tempfile.mkdtemp(prefix="labkit-own-"))
    switch, here = f"{tag}s", f"{tag}b"
    made: list[str] = []
    started: list[Machine] = []
    try:
        server = make_keys(directory / "tls", [f"{network}.{n}" for n in (1, 2, 3)])
        (directory / "server.pem").write_text(server)
        write_ssh(directory, network)
        # The switch has a namespace of its own: where an engine of this machine's has once set
        # the firewall's FORWARD to DROP, a bridge beside it carries nothing.
        run("ip", "netns", "add", switch)
        made.append(switch)
        run("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "switch", "up")
        run("ip", "link", "add", here, "type", "veth", "peer", "here", "netns", switch)
        run("ip", "-n", switch, "link", "set", "here", "master", "switch", "up")
        run("ip", "address", "add", f"{network}.254/24", "dev", here)
        run("ip", "link", "set", here, "up")
        for n in (1, 2, 3):
            namespace = f"{tag}n{n}"
            run("ip", "netns", "add", namespace)
            made.append(namespace)
            cable = ("link", "add", f"vm{n}", "type", "veth", "peer", "eth0", "netns", namespace)
            run("ip", "-n", switch, *cable)
            run("ip", "-n", switch, "link", "set", f"vm{n}", "master", "switch", "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            run("ip", "-n", namespace, "address", "add", f"{network}.{n}/24", "dev", "eth0")
            run("ip", "-n", namespace, "link", "set", "eth0", "up")
            started.append(start(directory, n, f"{network}.{n}", namespace, tag))
        machines = Machines(directory, tuple(started))
        for machine in machines:
            ready(machine, directory)
        give_images(machines)
        yield machines
    finally:
        for machine in started:
            stop(machine)
        for namespace in made:
            run("ip", "netns", "delete", namespace)
        for group in Path("/sys/fs/cgroup").glob(f"**/{tag}"):
            for path in sorted(group.rglob("*/"), reverse=True):
                path.rmdir()
            group.rmdir()
        shutil.rmtree(directory)


def start(directory: Path, n: int, address: str, namespace: str, tag: str) -> Machine:
    home = directory / f"vm{n}"
    home.mkdir()
    pem, socket = directory / "server.pem", f"{home}/sock"
    sshd = f"{shutil.which('sshd', path=SBIN)} -f {directory}/sshd_config" if n == 3 else "true"
    (home / "boot").write_text(f"""set -eu
mount -t tmpfs none /run
mkdir /run/sshd
[ ! -d /etc/docker ] || mount -t tmpfs none /etc/docker
hostname vm{n}
{sshd}
exec dockerd -H unix:///run/docker.sock -H unix://{socket} -H tcp://{address}:{TLS_PORT} \\
    --tlsverify --tlscacert={directory}/tls/ca.pem --tlscert={pem} --tlskey={pem} \\
    --data-root={home}/data --exec-root={home}/exec --pidfile={home}/pid --cgroup-parent=/{tag}
""")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", "unshare", "--mount", "--uts", "--pid",
             "--fork", "--kill-child", "--mount-proc", "sh", home / "boot"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PATH": SBIN},
        )  # fmt: skip
    return Machine(f"vm{n}", address, namespace, socket, process)


def ready(machine: Machine, directory: Path) -> None:
    def answers() -> bool:
        log = (directory / machine.name / "log").read_text(errors="replace")
        assert machine.process.poll() is None, log[-2000:]
        return f"API listen on {machine.socket}" in log

    eventually(answers, f"the engine of {machine.name} does not start")


def stop(machine: Machine) -> None:
    for child in psutil.Process(machine.process.pid).children():
        child.resume()  # a test may have frozen it
        child.terminate()
    try:
        machine.process.wait(30)
    except subprocess.TimeoutExpired:
        machine.process.kill()  # and with it, all of its namespace
        machine.process.wait(10)


def write_ssh(directory: Path, network: str) -> None:
    """Make throw-away keys, the server's configuration, and an ``ssh`` that knows both."""
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / f"key_{name}")
    programs = directory / "bin"
    programs.mkdir()
    (programs / "docker").symlink_to(DOCKER)
    path = f"{programs}:{Path(PYTHON3).parent}:/usr/bin:/bin"
    (directory / "sshd_config").write_text(f"""Port {SSH_PORT}
ListenAddress {network}.3
HostKey {directory}/key_host
AuthorizedKeysFile {directory}/key_user.pub
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv PATH={path}
""")
    key = (directory / "key_host.pub").read_text()
    (directory / "known").write_text(f"[{network}.3]:{SSH_PORT} {key}")
    (directory / "ssh_config").write_text(f"""Host vm3
    UserKnownHostsFile {directory}/known
Host stranger
    UserKnownHostsFile /dev/null
Host *
    HostName {network}.3
    Port {SSH_PORT}
    User root
    IdentityFile {directory}/key_user
    IdentitiesOnly yes
    GlobalKnownHostsFile /dev/null
""")
    wrapper = programs / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {directory}/ssh_config "$@"\n')
    wrapper.chmod(0o755)


# -- images ---------------------------------------------------------------------------------

PYTHON = "python-of-this-machine:latest"


def give_images(machines: Machines) -> None:
    """Import the stand-in of whoami everywhere, and Python where nothing else can run it."""
    program = machines.directory / "whoami"
    source = Path(images.__file__).with_name("whoami.c")
    run("cc", "-static", "-Os", "-std=c99", "-w", "-o", program, source)
    whoami = archive({"whoami": program})
    changes = [f"ENTRYPOINT {json.dumps(WHOAMI.config['Entrypoint'])}"]
    for machine in machines:
        client = machine.engine().client(timeout=60)
        try:
            load(client.api, WHOAMI.name, whoami, changes)
        finally:
            client.close()
    for machine in machines.all[:2]:
        give_python(machine)


def give_python(machine: Machine) -> None:
    client = machine.engine().client(timeout=60)
    try:
        changes = ["ENV PYTHON_VERSION=3", "ENV PATH=/bin"]
        load(client.api, PYTHON, python_archive(), changes)
    finally:
        client.close()


def load(api: object, name: str, data: bytes, changes: Sequence[str]) -> None:
    repository, tag = name.rsplit(":", 1)
    api.import_image_from_data(  # type: ignore[attr-defined]
        data, repository=repository, tag=tag, changes=list(changes)
    )


def python_archive() -> bytes:
    """Return the parts of this Python that the probe takes, with the libraries they load."""
    python = Path(PYTHON3).resolve()
    loading = (
        f"import sys, runpy, encodings.idna; runpy.run_path({probe.__file__!r})\n"
        "print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)))"
    )
    modules = run(python, "-I", "-S", "-c", loading).split()
    binaries = [str(python), *(m for m in modules if m.endswith(".so"))]
    libraries = {path for b in binaries for path in re.findall(r"(/\S+) \(0x", run("ldd", b))}
    return archive({path: Path(path) for path in {*modules, *binaries, *libraries}},
                   link=("bin/python3", str(python)))  # fmt: skip


def archive(files: Mapping[str, Path], link: tuple[str, str] | None = None) -> bytes:
    """Return a tar archive: path in it -> file of this machine, and a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for name, path in sorted(files.items()):
            tar.add(path, name)
        if link:
            entry = tarfile.TarInfo(link[0])
            entry.type, entry.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(entry)
    return buffer.getvalue()
