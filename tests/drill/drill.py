"""Faults, measured: what each costs while a client keeps asking, and what mends it. ::

    python tests/drill/drill.py [--short] [--only FAULT …] [--write]

On a cluster of its own (fresh, three nodes, whoami in five tasks on the mesh) each fault is
done in turn. One client asks whoami all the time, with a new connection each time, through the
door of a node that the fault leaves alone; a cluster view's look is taken beside it. For each
fault: requests sent and failed, the longest time without an answer, the time until five tasks
run again and until the cluster is whole (every node ready, five tasks, the page from every
door), what a student reads meanwhile, how long the one command takes that mends it, processes
left over, and whether the student's files are as they were.

Prints Markdown; ``--write`` puts it into tests/drill/README.md. Thirteen minutes at most on a
quiet machine. The full disk wants root, for a small file system of its own. Exits with 1 when a
fault leaves a process or changes a file, or when its one command fails or takes over 15 s.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import nbformat
import psutil
from actions import create
from docker.errors import APIError
from jupyter_client import KernelManager

import labkit
from labkit import nodes
from labkit.engine.clients import talk
from labkit.engine.embedded.faults import in_guest
from labkit.engine.embedded.machine import waits_for_room
from labkit.engine.embedded.processes import process_of
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import LabkitError
from labkit.lab.launch import FOLDER
from labkit.nodes import Activate, Drain
from labkit.services import Scale
from labkit.state import capture
from labkit.views import cluster_picture
from labkit.views.cluster_picture import error_picture
from labkit.views.live import Look, Seen

PORT = 9999
REPLICAS = 5
GOAL = 15.0  # s that the one command may take
PATIENCE = 600.0  # s until a wait is given up; a busy machine is many times slower
CLUSTER = "drill"
DRAFT = "drill-"  # how the names of this drill's own notebooks begin
DISK = 700  # MiB of the file system for the run directory
ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("README.md")
MARK = "<!-- figures: LABKIT_ACCEL={} python tests/drill/drill.py --write -->\n"


# -- the client, and the student's eyes -----------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """What one client got: requests, those that failed, the longest time without an answer."""

    sent: int
    failed: int
    gap: float


class Client(threading.Thread):
    """Asks whoami ten times a second, with a new connection each time, whatever happens.

    :func:`labkit.traffic.send` asks the cluster who answered; this one knows an address alone,
    as a browser does, and has no reason to stop.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.door = ("127.0.0.1", 9)
        self._rows: list[tuple[float, bool]] = []  # end of each request, and its success
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.1):
            good = False
            with contextlib.suppress(OSError, http.client.HTTPException):
                good = whoami(self.door, timeout=3)
            self._rows.append((time.monotonic(), good))

    def stop(self) -> None:
        self._over.set()
        self.join()

    def between(self, start: float, end: float) -> Traffic:
        rows = [(at, good) for at, good in self._rows.copy() if start <= at <= end]
        answers = [start, *(at for at, good in rows if good), end]
        gap = max(b - a for a, b in itertools.pairwise(answers))
        return Traffic(len(rows), sum(not good for _, good in rows), gap)


def whoami(door: tuple[str, int], timeout: float) -> bool:
    """Ask once, with a connection of its own, and tell whether whoami answered."""
    connection = http.client.HTTPConnection(*door, timeout=timeout)
    try:
        connection.request("GET", "/")
        return b"Hostname:" in connection.getresponse().read()
    finally:
        connection.close()


class Student(threading.Thread):
    """Looks at the cluster every second, as the cluster view does, and keeps the words."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._look = Look(None)
        self._rows: list[tuple[float, str]] = []
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(1.0):
            self._rows.append((time.monotonic(), words(self._look())))

    def stop(self) -> None:
        self._over.set()
        self.join()

    def between(self, start: float, end: float) -> list[str]:
        """Return what could be read, each once, in order."""
        return list(dict.fromkeys(said for at, said in self._rows.copy() if start <= at <= end))


def words(seen: Seen) -> str:
    """Return the first line of the cluster view, and what it marks on nodes; or the remedy."""
    if isinstance(seen, LabkitError):
        return f"{error_picture(seen).title} → {seen.remedy}"
    if not seen.active:
        picture = cluster_picture(seen)
        remedy = picture.description.partition(f". {seen.engines[0].name} :")[0]
        return f"{picture.title} → {remedy}"
    marks = [f"{n.name} ✖ {n.state}" for n in seen.nodes if n.state != "ready"]
    marks += [f"{n.name} {n.availability}" for n in seen.nodes if n.availability != "active"]
    return ", ".join([cluster_picture(seen).title, *marks])


# -- the cluster ----------------------------------------------------------------------------


@dataclass
class Row:
    """What one fault cost."""

    fault: str
    traffic: Traffic | None = None
    five: float | None = None  # s from the fault until five tasks run again
    whole: float | None = None  # s from its repair until the cluster is whole
    repair: str = ""
    sees: list[str] = field(default_factory=list)
    command: str = ""
    mended: float | None = None
    orphans: list[str] = field(default_factory=list)
    intact: bool = True
    note: str = ""

    @property
    def good(self) -> bool:
        in_time = self.mended is None or self.mended <= GOAL
        return in_time and not self.orphans and self.intact and not self.note


class Missing(Exception):
    """A fault cannot be done on this machine."""


def until(what: str, reached: Callable[[], Any], limit: float = PATIENCE) -> float:
    """Wait, and return how long it took."""
    start = time.monotonic()
    while True:
        with contextlib.suppress(LabkitError, OSError, http.client.HTTPException):
            if reached():
                return time.monotonic() - start
        if time.monotonic() - start > limit:
            raise TimeoutError(f"{what}: not within {limit:.0f} s")
        time.sleep(0.25)


def run_labkit(*words: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run the command as a student does, and return how long it took."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "labkit", *words], capture_output=True, text=True, timeout=PATIENCE
    )
    return time.monotonic() - start, done


class Drill:
    """A cluster of its own in a temporary place, a client, and a student with a notebook."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.small_disk = False
        self.notebook = home / "cours.ipynb"
        cells = [nbformat.v4.new_markdown_cell("Mes notes"), nbformat.v4.new_code_cell("1 + 1")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), self.notebook)
        self.files = self.fingerprint()
        self.client = Client()
        self.student = Student()
        self.again = True  # do a fault of nodes once more, for one command to mend it

    @property
    def run(self) -> Path:
        return Settings.read().run

    @property
    def fleet(self) -> Fleet:
        return labkit.connect()

    def close(self) -> None:
        self.client.stop()
        self.student.stop()
        labkit.down()

    def fingerprint(self) -> str:
        """Return what changes when any of the student's files does."""
        digest = hashlib.sha256(self.notebook.read_bytes())
        for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
            if ".ipynb_checkpoints" not in path.parts and not path.name.startswith(DRAFT):
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def orphans(self) -> list[str]:
        """Return the processes of this cluster that nobody should have left."""
        for _ in range(20):  # what ends has a moment to do it
            machine = process_of(self.run)
            beside = ("keeper.pid", "switch.pid") if machine else ()
            known = (machine, *(process_of(self.run, name) for name in beside))
            meant = {p.pid for p in known if p} | {os.getpid()}
            found = [f"{p.pid} {' '.join(p.cmdline())[:80]}" for p in self._processes(meant)]
            if not found:
                break
            time.sleep(0.5)
        return found

    def _processes(self, meant: set[int]) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid in meant or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                ours = process.environ().get("XDG_STATE_HOME") == os.environ["XDG_STATE_HOME"]
                if ours or any(str(self.home) in part for part in process.cmdline()):
                    yield process

    def door(self, endpoint: Endpoint) -> tuple[str, int]:
        return self.fleet.published(endpoint.name, PORT)

    def prepare(self, managers: int = 3) -> None:
        """Have a whole cluster with that many managers, fresh unless the last fault left one."""
        state = None
        with contextlib.suppress(LabkitError, OSError, http.client.HTTPException):
            state = capture(self.fleet, timeout=5)
            if state.active and len(state.managers) == managers and self.whole():
                self.aim(self.fleet.endpoints[0].name)
                return
        if state is None or state.swarm != "inactive":
            _, done = run_labkit("reset")
            if done.returncode:
                raise RuntimeError(done.stderr)
        self.furnish(managers)

    def furnish(self, managers: int = 3) -> None:
        """Make the swarm and the service on engines that have none."""
        fleet = labkit.up(quiet=True)
        first, *others = fleet.endpoints
        with talk(first, 60) as api:
            api.init_swarm(advertise_addr=first.swarm_address)
            tokens = api.inspect_swarm()["JoinTokens"]
        for i, endpoint in enumerate(others, 2):
            token = tokens["Manager" if i <= managers else "Worker"]
            join(endpoint, first, token)
        until("three nodes", lambda: len(capture(fleet, timeout=5).require().nodes) == len(fleet))
        options = ("--replicas", str(REPLICAS), "--publish", f"{PORT}:80")
        create("whoami", *options, fleet=fleet, timeout=PATIENCE)
        until("a whole cluster", self.whole)
        self.aim(fleet.endpoints[0].name)

    def aim(self, name: str) -> None:
        """Send the client to a node's door."""
        self.client.door = self.door(self.fleet[name])

    def five(self, *without: str) -> bool:
        """Tell whether five tasks run on other nodes than those, and the other doors answer."""
        return placed(self.fleet, *without) and all(self.doors(*without).values())

    def doors(self, *without: str) -> dict[str, bool]:
        """Ask for the page at every door but those, and tell which gave it."""
        given = {}
        for endpoint in self.fleet:
            if endpoint.name not in without:
                given[endpoint.name] = False
                with contextlib.suppress(OSError, http.client.HTTPException):
                    given[endpoint.name] = whoami(self.door(endpoint), timeout=3)
        return given

    def whole(self) -> bool:
        """Tell whether every node is ready, five tasks run, and the page is at every door."""
        state = capture(self.fleet, timeout=5).require()
        sound = all(n.state == "ready" and n.availability == "active" for n in state.nodes)
        led = all(n.reachability == "reachable" for n in state.managers)
        at_rest = not any(t.stopping for t in state.tasks)
        return sound and led and at_rest and len(state.nodes) == len(self.fleet) and self.five()

    def parts(self) -> tuple[str, str, str]:
        """Return the leader, another node for the client, and a third."""
        state = capture(self.fleet).require()
        assert state.leader is not None
        leader = state.leader.name
        door, third = [e.name for e in self.fleet if e.name != leader]
        return leader, door, third

    @contextlib.contextmanager
    def measured(self, row: Row) -> Iterator[None]:
        """Count requests and collect words; leave time for the last of both."""
        start = time.monotonic()
        healthy = words(capture(self.fleet))
        try:
            yield
        finally:
            time.sleep(1.0)
            end = time.monotonic()
            row.traffic = self.client.between(start, end)
            row.sees += [w for w in self.student.between(start, end) if w != healthy]

    def mend(self, row: Row, *command: str) -> None:
        """Let one command mend what the fault left, and look at what is there then."""
        row.command = f"labkit {' '.join(command)}"
        row.mended, done = run_labkit(*command)
        if done.returncode:
            raise RuntimeError(f"{row.command}: {done.stderr.strip()}")
        for endpoint in self.fleet:
            with talk(endpoint, 10) as api:
                api.ping()

    def judge(self, row: Row) -> None:
        """Look for what the fault left."""
        row.orphans = self.orphans()
        row.intact = self.fingerprint() == self.files


def placed(fleet: Fleet, *without: str) -> bool:
    """Tell whether five tasks run on other nodes than those."""
    tasks = capture(fleet, timeout=5).require().running("whoami")
    return len(tasks) == REPLICAS and not {t.node for t in tasks} & set(without)


def join(endpoint: Endpoint, manager: Endpoint, token: str) -> None:
    """Let a node join; what takes a slow engine over 20 s goes on behind, and is awaited later."""
    at = [f"{manager.swarm_address}:2377"]
    with talk(endpoint, 60) as api:
        try:
            api.join_swarm(at, token, advertise_addr=endpoint.swarm_address)
        except APIError as error:
            if "will continue in the background" not in str(error.explanation):
                raise


# -- faults ---------------------------------------------------------------------------------


def lose_a_node(drill: Drill, row: Row, victim: str, door: str) -> None:
    """Kill a node; see the others take over; give it power again; kill it and reset."""
    drill.aim(door)
    row.repair = f"labkit node start {victim}"
    with drill.measured(row):
        nodes.kill(victim, quiet=True)
        row.five = until("five tasks elsewhere", lambda: drill.five(victim))
        started = time.monotonic()
        nodes.start(victim, quiet=True)
        until("a whole cluster", drill.whole)
        row.whole = time.monotonic() - started
    if drill.again:
        nodes.kill(victim, quiet=True)
        drill.mend(row, "reset")


def kill_worker(drill: Drill, row: Row) -> None:
    drill.prepare(managers=1)
    lose_a_node(drill, row, "node3", "node1")


def kill_manager(drill: Drill, row: Row) -> None:
    drill.prepare()
    leader, _, third = drill.parts()
    lose_a_node(drill, row, third, leader)


def kill_leader(drill: Drill, row: Row) -> None:
    drill.prepare()
    leader, door, _ = drill.parts()
    lose_a_node(drill, row, leader, door)


def drain(drill: Drill, row: Row) -> None:
    drill.prepare()
    leader, _, third = drill.parts()
    drill.aim(leader)
    row.repair = f"docker node update --availability active {third}"

    def emptied() -> bool:
        with talk(drill.fleet[third], 10) as api:
            return drill.five(third) and not api.containers()

    with drill.measured(row):
        start = time.monotonic()
        Drain(third).apply(timeout=PATIENCE)
        until("five tasks elsewhere", emptied)
        row.five = time.monotonic() - start
        start = time.monotonic()
        Activate(third).apply(timeout=PATIENCE)
        until("a whole cluster", drill.whole)
        row.whole = time.monotonic() - start
    Drain(third).apply(timeout=PATIENCE)
    drill.mend(row, "reset")


def cut(drill: Drill, row: Row) -> None:
    drill.prepare()
    leader, _, third = drill.parts()
    drill.aim(leader)
    row.repair = f"labkit node heal {third}"
    with drill.measured(row):
        nodes.cut(third, quiet=True)
        row.five = until("five tasks elsewhere", lambda: drill.five(third))
        start = time.monotonic()
        nodes.heal(third, quiet=True)
        until("a whole cluster", drill.whole)
        row.whole = time.monotonic() - start
    if drill.again:
        nodes.cut(third, quiet=True)
        drill.mend(row, "reset")


def lose_quorum(drill: Drill, row: Row) -> None:
    drill.prepare()
    survivor, *lost = [e.name for e in drill.fleet]
    drill.aim(survivor)
    row.repair = (
        "docker swarm init --force-new-cluster, its engine restarted, docker node rm --force of "
        "the two lost, which then start, leave and join"
    )
    with drill.measured(row):
        start = time.monotonic()
        for name in lost:
            nodes.kill(name, quiet=True)
        until("no quorum", lambda: capture(drill.fleet, timeout=5).swarm == "no-quorum")
        try:
            Scale("whoami", 6).apply(timeout=10)
        except LabkitError as error:
            row.sees.append(f"{error.message} → {error.remedy}")
        repaired = time.monotonic()
        first = drill.fleet[survivor]
        with talk(first, 120) as api:
            api.init_swarm(force_new_cluster=True, advertise_addr=first.swarm_address)
        nodes.stop(survivor, quiet=True)  # its mesh stays empty until then: moby's issue 34987
        nodes.start(survivor, quiet=True)
        until("five tasks on the one that is left", lambda: placed(drill.fleet, *lost))
        row.five = time.monotonic() - start
        for name in lost:  # before they return: they still believe in the swarm that was
            with talk(first, 60) as api:
                api.remove_node(capture(drill.fleet).require().node(name).id, force=True)
        for name in lost:
            nodes.start(name, quiet=True)
            with talk(drill.fleet[name], 120) as api:
                api.leave_swarm(force=True)
        with talk(first, 60) as api:
            token = api.inspect_swarm()["JoinTokens"]["Manager"]
        for name in lost:
            join(drill.fleet[name], first, token)
        try:
            until("a whole cluster", drill.whole, 120)
            row.whole = time.monotonic() - repaired
        except TimeoutError:
            row.sees.append(f"not whole after 120 s more; page: {drill.doors()}")
    for name in lost:
        nodes.kill(name, quiet=True)
    drill.mend(row, "reset")


def kill_qemu(drill: Drill, row: Row) -> None:
    drill.prepare()
    row.repair = "labkit up, then swarm and service made again"
    machine = process_of(drill.run)
    assert machine is not None
    with drill.measured(row):
        start = time.monotonic()
        machine.kill()
        machine.wait(10)
        time.sleep(3)  # a student looks; the process beside the machine ends
        row.orphans = drill.orphans()
        drill.mend(row, "up")
        drill.furnish()
        row.five = row.whole = time.monotonic() - start


KERNEL = f"""
import threading
from labkit.exercises import commencer
from labkit.traffic import send
from labkit.views import ClusterView
commencer()
vue = ClusterView()
vue.start()
options = dict(requests=100_000, limit=600, concurrency=4)
threading.Thread(target=send, args=({PORT},), kwargs=options, daemon=True).start()
print("kernel", "ready", flush=True)
!docker events
"""


def kill_kernel(drill: Drill, row: Row) -> None:
    drill.prepare()
    kernel = KernelManager()
    kernel.start_kernel(cwd=str(drill.home))
    talker = kernel.client()
    talker.start_channels()
    try:
        talker.wait_for_ready(timeout=PATIENCE)
        talker.execute(KERNEL)
        said = ""
        while "kernel ready" not in said:
            message = talker.get_iopub_msg(timeout=PATIENCE)
            said += str(message["content"].get("text", message["content"].get("evalue", "")))
        time.sleep(3)  # docker events runs, traffic too
        pid = psutil.Process(kernel.provisioner.process.pid)
        family = [pid, *pid.children(recursive=True)]
        assert len(family) > 1, "docker events is no child of the kernel"
        with drill.measured(row):
            start = time.monotonic()
            pid.kill()
            kernel.provisioner.process.wait(10)
            row.repair = "Restart Kernel"
            drill.mend(row, "up")  # what the notebook's first cell does
            until("a whole cluster", drill.whole)
            row.five = row.whole = time.monotonic() - start
        row.sees.append("JupyterLab : le kernel est mort, il redémarre ; le cluster n’a rien vu")
    finally:
        talker.stop_channels()
        kernel.cleanup_resources()


@contextlib.contextmanager
def lab(drill: Drill) -> Iterator[tuple[subprocess.Popen[bytes], Callable[..., Any]]]:
    """Run ``labkit lab``; yields it once it answers, and a function that asks it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    places = {
        f"JUPYTER_{name}_DIR": str(drill.home / name.lower())
        for name in ("CONFIG", "DATA", "RUNTIME")
    }
    with (drill.home / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "labkit", "lab", "--no-browser", f"--ServerApp.port={port}",
             "--ServerApp.port_retries=0"],
            env={**os.environ, **places, "JUPYTER_TOKEN": token}, cwd=drill.home,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip

    def ask(path: str, method: str = "GET", body: object = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    try:
        until("the Lab", lambda: ask("status"))
        yield server, ask
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def restart_lab(drill: Drill, row: Row) -> None:
    drill.prepare()
    row.repair = "labkit lab, again"
    draft = drill.home / FOLDER / f"{DRAFT}{secrets.token_hex(4)}.ipynb"
    content = json.loads(drill.notebook.read_text())
    try:
        with drill.measured(row):
            with lab(drill) as (server, ask):
                body = {"type": "notebook", "content": content}
                ask(f"contents/{draft.name}", "PUT", body)
                kernel = {"name": "python3"}
                session = {"path": draft.name, "type": "notebook", "name": "", "kernel": kernel}
                ask("sessions", "POST", session)
                saved = draft.read_bytes()
                start = time.monotonic()
                server.send_signal(signal.SIGTERM)
                server.wait(60)
                row.sees.append(f"labkit lab : {last_line(drill.home / 'lab.log')}")
            row.orphans = drill.orphans()
            again = time.monotonic()
            with lab(drill) as (server, ask):
                row.command, row.mended = "labkit lab", time.monotonic() - again
                until("a whole cluster", drill.whole)
                row.five = row.whole = time.monotonic() - start
                read = ask(f"contents/{draft.name}")["content"]["cells"]
                meant = nbformat.read(drill.notebook, as_version=4).cells
                kept = [c["source"] for c in read] == [c["source"] for c in meant]
                row.intact = kept and draft.read_bytes() == saved
                server.send_signal(signal.SIGTERM)
                server.wait(60)
    finally:
        draft.unlink(missing_ok=True)


def last_line(log: Path) -> str:
    return log.read_text(errors="replace").strip().splitlines()[-1]


def fill_disk(drill: Drill, row: Row) -> None:
    if not drill.small_disk:
        raise Missing("a file system of its own wants root")
    drill.prepare()
    row.repair = "room is made, labkit up"
    filler = drill.run.parent / "filler"
    with drill.measured(row):
        start = time.monotonic()
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free)
        file = "/var/lib/docker/filler"
        in_guest(
            f"(dd if=/dev/urandom of={file} bs=1M count=24; sync; rm {file}) >/dev/null 2>&1 &"
        )
        until("the machine in pause", lambda: waits_for_room(drill.run), 120)
        row.sees.append(f"labkit status : {labkit.engine.status().detail}")
        _, refused = run_labkit("up")
        said = " ".join(refused.stderr.split()).replace(
            str(drill.run.parent), "~/.local/state/labkit"
        )
        row.sees.append(f"labkit up : {said.removeprefix('labkit : ')}")
        time.sleep(20)  # a student looks; three engines are waited for
        filler.unlink()
        drill.mend(row, "up")
        until("a whole cluster", drill.whole)
        row.five = row.whole = time.monotonic() - start


FAULTS: dict[str, tuple[str, Callable[[Drill, Row], None]]] = {
    "worker": ("a worker is killed", kill_worker),
    "manager": ("a manager is killed", kill_manager),
    "leader": ("the leader is killed", kill_leader),
    "drain": ("a node is drained, and returns", drain),
    "cut": ("a manager is cut off, and healed", cut),
    "quorum": ("two managers of three are killed", lose_quorum),
    "qemu": ("QEMU is killed", kill_qemu),
    "kernel": ("a notebook’s kernel is killed", kill_kernel),
    "lab": ("the Lab is ended, and started again", restart_lab),
    "disk": ("the disk is full", fill_disk),
}
SHORT = ("leader", "qemu", "cut")


@contextlib.contextmanager
def place() -> Iterator[Drill]:
    """Make a drill in a temporary directory; everything of it is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="drill-"))
    state = home / "state"
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "tmpfs", str(state)]
    small = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    ours = {"LABKIT_CLUSTER": CLUSTER, "XDG_STATE_HOME": str(state), "LABKIT_NODES": "3"}
    names = (*ours, "LABKIT_ENGINE", "LABKIT_MEMORY", "PATH", "DOCKER_CONFIG", "DOCKER_CONTEXT")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update({"PATH": before["PATH"], **ours})
    try:
        drill = Drill(home)
        drill.small_disk = small
        try:
            yield drill
        finally:
            drill.close()
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
        if small:
            subprocess.run(["umount", "--lazy", str(state)], check=False)
        shutil.rmtree(home, ignore_errors=True)


def practise(drill: Drill, names: tuple[str, ...]) -> Iterator[Row]:
    """Do the faults one after another; one that goes wrong does not stop the others.

    In the short form only the last is done again to be mended by one command.
    """
    for name in names:
        drill.again = names != SHORT or name == SHORT[-1]
        title, fault = FAULTS[name]
        row = Row(title)
        try:
            fault(drill, row)
        except Missing as reason:
            row.note = f"not measured: {reason}"
        except Exception as error:
            traceback.print_exc()
            row.note = f"FAILED: {type(error).__name__}: {error}"[:300]
        left, intact = row.orphans, row.intact
        drill.judge(row)
        row.orphans, row.intact = left + row.orphans, intact and row.intact
        yield row


# -- the table ------------------------------------------------------------------------------

HEAD = (
    "| fault | requests | failed | longest gap (s) | 5/5 again (s) | whole after repair (s) | "
    "one command | s | processes left | files |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def line(row: Row) -> str:
    traffic = row.traffic or Traffic(0, 0, 0.0)
    late = "" if row.mended is None or row.mended <= GOAL else " ✘"
    cells = [
        row.fault, str(traffic.sent), str(traffic.failed), number(traffic.gap), number(row.five),
        number(row.whole), f"`{row.command}`" if row.command else "", number(row.mended) + late,
        str(len(row.orphans)), "intact" if row.intact else "CHANGED ✘",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |\n"


def told(row: Row) -> str:
    text = f"- **{row.fault}**"
    if row.repair:
        text += f", repaired by: {row.repair}"
    text += "".join(f"\n  - {said}" for said in row.sees) or "\n  - (nothing else than before)"
    text += "".join(f"\n  - left over: `{orphan}`" for orphan in row.orphans)
    return text + (f"\n  - {row.note}\n" if row.note else "\n")


def report(rows: list[Row], seconds: float, loads: tuple[float, float]) -> str:
    cores = len(os.sched_getaffinity(0))
    head = (
        f"One run of {seconds / 60:.1f} minutes on {cores} cores, {Settings.read().accel}; load "
        f"average {loads[0]:.1f} before, {loads[1]:.1f} at the end.\n\n"
    )
    table = HEAD + "".join(map(line, rows))
    return f"{head}{table}\nWhat the student reads meanwhile:\n\n{''.join(map(told, rows))}"


def write(page: Path, mark: str, made: str) -> None:
    """Put figures into a page, after a mark, in place of those up to the next mark or the end."""
    before, _, old = page.read_text(encoding="utf-8").partition(mark)
    after = "".join(old.partition("<!-- figures: ")[1:])
    page.write_text(f"{before}{mark}\n{made}{after and chr(10)}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}")
    parser.add_argument("--only", nargs="+", choices=FAULTS, help="only these faults")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    options = parser.parse_args()
    names = tuple(options.only or (SHORT if options.short else FAULTS))
    os.environ.setdefault("LABKIT_ACCEL", "tcg")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left of it
    start, load = time.monotonic(), os.getloadavg()[0]
    rows = []
    with place() as drill:
        for row in practise(drill, names):
            print(line(row), told(row), sep="", end="", file=sys.stderr, flush=True)
            rows.append(row)
        made = report(rows, time.monotonic() - start, (load, os.getloadavg()[0]))
    print(made)
    if options.write:
        write(PAGE, MARK.format(Settings.read().accel), made)
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
