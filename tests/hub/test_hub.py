"""Three students on a real JupyterHub, each with a cluster, at once: what each can reach.

``pytest tests/hub``, as root, after ``tests/hub/install``. The figures and the table of attacks of
binder/instructors.md come from ``artefacts/hub.json``, which this writes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from real_hub import PATIENCE, PLACE, ROOT, Hub, Student, fences, until

from labkit.engine.embedded.upkeep import written
from labkit.exercises.progress import classe

pytestmark = pytest.mark.timeout(900)
ARTEFACTS = ROOT / "artefacts"
ATTACKS = Path(__file__).with_name("attacks.py")
FENCED = (  # what the example's hook closes, where labkit itself does not
    "Docker engine, no TLS",
    "Docker engine, TLS without a certificate",
    "Docker engine, TLS with the attacker's own certificate",
    "A published page through the Hub",
    "A published page at its loopback address",
)
OPEN = {"A published page at its loopback address"}  # without the hook
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
WORK = (
    "docker service create --quiet --name web --replicas 5 --publish 8080:80 traefik/whoami",
    "docker service ps web",
    "docker service scale web=8",
    "docker node update --availability drain node2",
    "while docker node ps node2 --filter desired-state=running -q | grep -q .; do sleep 1; done",
    "docker node update --availability active node2",
    "docker service scale web=2",
    "docker service rm web",
)
READABLE = {"QEMU process: its command line"}  # paths, no key


def note(**facts: Any) -> None:
    """Keep facts for the instructor's page."""
    ARTEFACTS.mkdir(exist_ok=True)
    file = ARTEFACTS / "hub.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | facts, indent=1))


def record(student: Student) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((student.run / "cluster.json").read_text())
    return found


def machine(student: Student) -> psutil.Process:
    return psutil.Process(int((student.run / "pid").read_text().split()[0]))


# Three at once


def test_three_students_have_three_clusters(class_: list[Student]) -> None:
    seen = set()
    for student in class_:
        said = student.shell("docker node ls --format '{{.Hostname}} {{.Status}}'")
        assert said.split() == ["node1", "Ready", "node2", "Ready", "node3", "Ready"]
        seen.add(student.shell("docker info --format '{{.Swarm.Cluster.ID}}'"))
        assert machine(student).uids().real == student.uid
        assert machine(student).nice() == 5
    assert len(seen) == 3
    until(lambda: all(running(s) == 3 for s in class_), "three tasks each")
    time.sleep(20)  # what starting touched is given back
    rows = {s.name: s.seconds | s.memory() for s in class_}
    note(
        students=rows,
        idle_cpu={s.name: busy(machine(s)) for s in class_},
    )


def test_three_work_at_once(class_: list[Student]) -> None:
    """What students do in ten minutes of notebook 01, typed without a pause: what it takes."""

    def work(student: Student) -> tuple[float, float]:
        before, begin = spent(machine(student)), time.monotonic()
        for line in WORK:
            student.shell(line)
        return spent(machine(student)) - before, time.monotonic() - begin

    with ThreadPoolExecutor(len(class_)) as pool:
        rows = dict(zip((s.name for s in class_), pool.map(work, class_), strict=True))
    until(lambda: all(running(s) == 3 for s in class_), "three tasks each, as it was")
    note(work_cpu={name: row[0] for name, row in rows.items()})
    note(work_seconds={name: row[1] for name, row in rows.items()})


def spent(process: psutil.Process) -> float:
    """Return the processor seconds of a machine, with the programs that it started."""
    total = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            total += sum(child.cpu_times()[:2])
    return total


def busy(process: psutil.Process, seconds: float = 10) -> float:
    """Return what a machine takes of a core, in percent, with the programs that it starts."""
    before = spent(process)
    time.sleep(seconds)
    return 100 * (spent(process) - before) / seconds


def running(student: Student) -> int:
    line = "docker service ps whoami --filter desired-state=running --format '{{.CurrentState}}'"
    return student.shell(line).count("Running")


def test_each_has_the_students_edition(class_: list[Student]) -> None:
    """The example's hook wrote it, and what a student changed stays when it comes again."""
    for student in class_:
        page = student.home / "cours/02-la-stack-example-voting-app.ipynb"
        assert page.stat().st_uid == student.uid
        cells = json.loads(page.read_text())["cells"]
        assert not any(cell.get("outputs") for cell in cells)
        assert "solution(" in page.read_text()


def test_a_start_writes_nothing_but_its_own_run(class_: list[Student], shared: Path) -> None:
    for student in class_:
        assert not (student.home / ".cache/labkit").exists()
        opened = set()
        for file in Path(f"/proc/{machine(student).pid}/fd").iterdir():
            target = str(file.readlink())
            flags = int(Path(str(file).replace("/fd/", "/fdinfo/")).read_text().split()[3], 8)
            if target.startswith(str(shared)):
                opened.add(Path(target).name)
                assert flags & os.O_ACCMODE == os.O_RDONLY, target
        assert {"data.ext4", "root.ext4"} <= opened
        assert written(student.run, machine(student).pid) < 400_000_000


def test_the_administrators_limit_is_named(class_: list[Student]) -> None:
    said = class_[0].shell("labkit node add", fails=True)
    assert "La limite est de 3, fixée par la personne qui administre ce serveur" in said
    assert "LABKIT_MAX_NODES" in said


# What a neighbour can reach


@contextmanager
def no_fence(student: Student) -> Iterator[None]:
    """Take away for a moment the firewall's rules that the example's hook made for a student."""
    rules = fences(student.uid)
    assert len(rules) == 4
    for rule in rules:
        subprocess.run(["iptables", "-w", "-D", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-A", *rule], check=True)


def attacked(
    attacker: Student, victim: Student, shared: Path, only: tuple[str, ...] = ()
) -> list[list[str]]:
    network = record(victim)["network"]
    snapshot = next(shared.glob("snapshot-*"))
    target = {
        "name": victim.name,
        "base": victim.base,
        "hub": victim.hub.url,
        "my_token": attacker.token,
        "run": str(victim.run),
        "runtime": str(victim.home / ".local/share/jupyter/runtime"),
        "address": f"{network}.1",
        "published": 9999,
        "proxied": "cluster/node1/9999/",
        "qemu": machine(victim).pid,
        "server_ports": [
            int(s.split(":")[1]) for s in victim.sockets() if s.startswith("127.0.0.1:")
        ],
        "docker": str(next(shared.glob("guest-*")) / "cli/docker"),
        "snapshot": str(snapshot / "data.ext4"),
        "agent": "agent" if (victim.run / "agent").exists() else "agent.in",
        "loot": str(victim.home / "loot"),
    }
    if only:
        target["only"] = only
    code = f"TARGET = {target!r}\n" + ATTACKS.read_text()
    rows: list[list[str]] = json.loads(attacker.do(code).splitlines()[-1])
    return rows


def test_a_neighbour_reaches_nothing(class_: list[Student], shared: Path) -> None:
    attacker, victim = class_[:2]
    with no_fence(victim):
        bare = attacked(attacker, victim, shared, FENCED)
    rows = attacked(attacker, victim, shared)
    note(attacks=rows, attacks_without_the_fence=bare)
    assert {name for name, verdict, _ in rows if verdict != "refused"} == READABLE
    assert {name for name, verdict, _ in bare if verdict != "refused"} == OPEN
    # none of that did any harm, and what was refused is there: the victim's own attempts succeed
    assert not (victim.home / "loot").exists()
    own = ("Run directory: list it", "QEMU's control socket (QMP)",
                 "Docker engine, TLS with the attacker's own certificate",
                 "Notebook server through the Hub, the attacker's token",
                 "A published page at its loopback address",
                 "A published page through the Hub")  # fmt: skip
    for name, verdict, said in attacked(victim, victim, shared, own):
        assert verdict == "open", (name, said)


def test_the_victim_still_has_its_cluster(class_: list[Student]) -> None:
    until(lambda: running(class_[1]) == 3, "three tasks")


def test_each_sees_its_own_page_through_the_hub(class_: list[Student]) -> None:
    for student in class_:
        link = student.do("print(*adresses(9999).proxied)")
        assert link.startswith(student.base + "cluster/node1/9999/ ")
        status, page = student.hub.ask(link.split()[0], token=student.token)
        assert status == 200
        # it says all that it was told
        assert student.token not in page and "Cookie" not in page and "Referer" not in page
        (host,) = re.findall(r"^Hostname: (\w+)$", page, re.M)
        nodes = ("node1", "node2", "node3")
        asked = [f"docker --context {n} ps --filter name=whoami --quiet" for n in nodes]
        tasks = student.shell("; ".join(asked))
        assert host in tasks.split()


def test_addresses_are_an_accounts_own(class_: list[Student]) -> None:
    assert len({record(s)["network"] for s in class_}) == 3


LISTEN = """
import http.server, threading
class Loot(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(str(self.headers))
        self.send_response(200)
        self.end_headers()
seen = []
loot = http.server.HTTPServer(({address!r}, 9998), Loot)
threading.Thread(target=loot.serve_forever, daemon=True).start()
"""


def test_a_freed_port_gives_a_neighbour_nothing(class_: list[Student]) -> None:
    attacker, victim = class_[:2]
    page, address = f"{victim.base}cluster/node1/9998/", f"{record(victim)['network']}.1"
    victim.shell("docker run --detach --name left --publish 9998:80 traefik/whoami")
    until(lambda: victim.hub.ask(page, token=victim.token)[0] == 200, "its page")
    victim.shell("docker rm --force left")
    until(lambda: victim.hub.ask(page, token=victim.token)[0] == 404, "no page")
    attacker.do(LISTEN.format(address=address))
    try:
        assert victim.hub.ask(page, token=victim.token)[0] == 404
        victim.shell(f"curl --silent --max-time 10 --cookie secret=1 {address}:9998", fails=True)
        assert attacker.do("print(seen)") == "[]"
    finally:
        attacker.do("loot.shutdown(); loot.server_close()")


def test_a_container_does_not_reach_the_host(class_: list[Student]) -> None:
    student = class_[0]
    ports = [s.split(":")[1] for s in student.sockets() if s.startswith("127.0.0.1:")]
    assert ports
    code = (
        "import socket, sys\n"
        "for host in '192.168.77.2', '10.0.2.2', '127.0.0.1':\n"
        "    for port in sys.argv[1:]:\n"
        "        try: socket.create_connection((host, port), 2).close(); print('open', host)\n"
        "        except OSError: print('closed')\n"
    )
    run = "docker run --rm --privileged --network host --entrypoint python examplevotingapp_vote:1"
    said = student.shell(f"{run} -c {shlex.quote(code)} {' '.join(ports)}")
    assert set(said.splitlines()) == {"closed"}


SHARE = """
import os
os.environ["LABKIT_CLASS"] = {folder!r}
from labkit.exercises import partager, verifier
verifier("initialiser")
print(partager("Ada"))
"""
PLANT = """
import os
for end, plant in (("jsonl", os.mkfifo), ("tmp", lambda file: os.symlink({precious!r}, file))):
    plant({folder!r} + "/{victim}." + end)
print(os.listdir({folder!r}))
"""


def test_a_neighbour_spoils_nothing_in_the_classs_folder(class_: list[Student]) -> None:
    """As binder/instructors.md says to make it, for a class without a group."""
    attacker, victim = class_[:2]
    precious = victim.home / "precious"
    victim.do(f"with open({str(precious)!r}, 'w') as file: file.write('mine')")
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        Path(folder).chmod(0o1777)  # the attacker may even list it
        plant = {"folder": folder, "victim": victim.name, "precious": str(precious)}
        assert victim.name in attacker.do(PLANT.format(**plant))
        victim.do(SHARE.format(folder=folder))
        attacker.do(SHARE.format(folder=folder).replace("Ada", "Ada "))
        take = f"rm -f {folder}/*; cat {folder}/*.jsonl > {folder}/{victim.name}.1.jsonl"
        attacker.shell(f"timeout 5 sh -c '{take}' || true")
        table = classe(Path(folder))
        assert set(zip(table["Nom"], table["Compte"], strict=True)) >= {("Ada", victim.name)}
        assert list(table["Compte"]).count(victim.name) == 1
    assert precious.read_text() == "mine"


# The front ends, as a student sees them


@contextmanager
def logged_in(student: Student, **context: Any) -> Iterator[Page]:
    """Log in with a password, in a browser; the Hub leads to the course."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 720}, **context).new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{student.hub.url}/hub/login")
        page.get_by_label("Username").fill(student.name)
        page.get_by_label("Password").fill(student.password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**{student.base}lab/tree/00-demarrer.ipynb*")
        yield page
        browser.close()


@contextmanager
def deployed(student: Student, file: str, stack: str) -> Iterator[None]:
    student.shell(f"docker stack deploy --detach=false -c {file} {stack}")
    try:
        yield
    finally:
        student.shell(f"docker stack rm {stack}")


def link(student: Student, port: int, *domains: str) -> str:
    """Return the address to which a notebook's cell links."""
    until(lambda: student.do(f"print(*adresses({port}).proxied)"), f"port {port} is not published")
    path = student.do(f"print(adresses({', '.join(map(repr, (port, *domains)))}).proxied[0])")
    assert path.startswith(student.base)
    return student.hub.url + path


def shoot(page: Page, name: str) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"hub-{name}.png")


@needs_chromium
def test_a_vote_and_its_result_through_the_hub(class_: list[Student]) -> None:
    student = class_[2]
    stack = "example-voting-app/docker-stack.yml"
    with deployed(student, stack, "vote"), logged_in(student) as page:
        vote, result, view = (page.context.new_page() for _ in range(3))
        for other in (vote, result, view):
            other.set_default_timeout(PATIENCE * 1000)
        vote.goto(link(student, 5000))
        result.goto(link(student, 5001))
        expect(result.locator("#message")).to_have_text("Aucun vote pour l’instant", timeout=90_000)
        vote.get_by_role("button", name="Chiens").click()
        expect(vote.get_by_role("status")).to_have_text("Votre vote : Chiens")
        expect(result.locator("#votes_b")).to_have_text("1", timeout=60_000)
        vote.get_by_role("button", name="Chats").click()
        expect(result.locator("#votes_a")).to_have_text("1", timeout=60_000)
        view.goto(link(student, 8080))
        expect(view.locator("svg text", has_text="vote_worker.1")).to_be_visible(timeout=60_000)
        for other, name in ((vote, "vote"), (result, "result"), (view, "visualizer")):
            shoot(other, name)


@needs_chromium
def test_traefik_through_the_hub(class_: list[Student]) -> None:
    student = class_[2]
    folder = str(student.home / "cours/traefik")
    student.do(f"from labkit.exercises import preparer_traefik\npreparer_traefik({folder!r})")
    password = student.shell("cat traefik/mot-de-passe.txt").strip()
    account = {"username": "ada", "password": password}
    stack = deployed(student, "traefik/stack-traefik.yml", "web")
    with stack, logged_in(student, http_credentials=account) as page:
        whoami = link(student, 8000, "whoami.localhost")
        until(lambda: page.goto(whoami).ok, "the route")  # Traefik reads them every five seconds
        expect(page.locator("body")).to_contain_text("Host: whoami.localhost")
        assert "jupyterhub" not in page.inner_text("body"), "no cookie of the Hub's"
        page.goto(link(student, 8000, "traefik.localhost/dashboard/") + "#/http/routers")
        expect(page.locator("body")).to_contain_text("Host(`essai.localhost`)", timeout=60_000)
        shoot(page, "traefik")


@needs_chromium
def test_prometheus_through_the_hub(class_: list[Student]) -> None:
    student = class_[2]
    stack = deployed(student, "supervision/stack-supervision.yml", "supervision")
    with stack, logged_in(student) as page:
        start = link(student, 9090, "prometheus.localhost")
        until(lambda: page.goto(start).ok, "Prometheus")
        page.get_by_role("button", name="Status").click()
        page.get_by_role("link", name="Targets").click()
        expect(page.locator("body")).to_contain_text("node-exporter (3/3 up)", timeout=60_000)
        shoot(page, "prometheus")


# The end of a server is the end of its cluster


def test_a_server_that_the_teacher_or_a_culler_stops(class_: list[Student]) -> None:
    student = class_[0]
    student.stop_server()
    until(student.nothing_left, f"left: {student.processes()} {student.sockets()}")


def test_a_server_that_is_killed(class_: list[Student]) -> None:
    student = class_[1]
    (server,) = (p for p in student.processes() if "jupyterhub-singleuser" in " ".join(p.cmdline()))
    server.send_signal(signal.SIGKILL)
    until(student.nothing_left, f"left: {student.processes()} {student.sockets()}")


@contextmanager
def taken(neighbour: Student, network: str) -> Iterator[None]:
    """Have a neighbour listen wherever a student's engines would."""
    code = (
        "import socket, time\n"
        f"kept = [socket.create_server((f'{network}.{{n}}', 2376)) for n in range(1, 8)]\n"
        "print('listens', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [PLACE / "bin/python", "-c", code], user=neighbour.uid, extra_groups=[], cwd="/",
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout and process.stdout.readline() == "listens\n"
        yield
    finally:
        process.kill()
        process.communicate()


@needs_chromium
def test_a_student_who_logs_out(class_: list[Student]) -> None:
    student = class_[2]
    with logged_in(student) as page:
        page.goto(f"{student.hub.url}/hub/logout")
    until(student.nothing_left, f"left: {student.processes()} {student.sockets()}")


def test_the_culler_ends_a_server_that_nobody_uses(class_: list[Student], hub: Any) -> None:
    server: Hub = hub[0]
    student, neighbour = class_[:2]
    student.start_server()
    student.open_kernel()
    network = student.do("import os\nprint(os.environ['LABKIT_NETWORK'])")
    with taken(neighbour, network):  # which keeps nobody from starting
        said = student.do("from labkit.exercises import commencer\ncommencer()")
        assert "3 moteurs Docker sur 3 répondent" in said
    assert machine(student).is_running()
    culler = subprocess.Popen(
        [PLACE / "bin/jupyterhub-idle-culler", f"--url={server.url}/hub/api", "--timeout=5",
         "--cull-every=5", "--cull-users=false"],
        env=os.environ | {"JUPYTERHUB_API_TOKEN": server.token},
    )  # fmt: skip
    try:
        until(student.nothing_left, f"left: {student.processes()} {student.sockets()}")
    finally:
        culler.terminate()
        culler.wait()
