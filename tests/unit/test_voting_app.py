"""The voting app's files and programs, without Redis and PostgreSQL (those: ``tests/voting``)."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest
import yaml
from docker.utils import exclude_paths
from packaging.requirements import Requirement
from ports import free_port

from labkit.engine.embedded.images.voting import BEFORE, before
from labkit.errors import BuildError

ROOT = Path(__file__).parents[2]
APP = ROOT / "notebooks" / "example-voting-app"
RECORDED = Path(__file__).parent / "recorded"
TRIXIE = {"redis": "6.1.0", "psycopg2-binary": "2.9.10"}  # python3-redis, python3-psycopg2
TOKEN = "SWMTKN-1-0a1b2c3d4e5f-6a7b8c9d"
SECRET = "UN_SECRET_D_ENVIRONNEMENT"


def document(name: str) -> Any:
    return yaml.safe_load((APP / name).read_text())


# -- files ----------------------------------------------------------------------------------


def test_the_files_that_the_course_names_are_there() -> None:
    assert {p.name for p in APP.glob("*.yml")} == {
        "docker-compose.yml",
        "docker-compose-simple.yml",
        "docker-stack.yml",
        "docker-stack-simple.yml",
        "kube-deployment.yml",
    }
    built = {"vote", "result", "worker", "worker-lua", "visualizer"}
    assert {p.parent.name for p in APP.glob("*/Dockerfile")} == built


def test_compose_files() -> None:
    five = {"vote", "result", "worker", "redis", "db"}
    for name in ("docker-compose.yml", "docker-compose-simple.yml"):
        compose = document(name)
        assert set(compose["services"]) == five
        assert not any("deploy" in service for service in compose["services"].values())
        assert compose["services"]["vote"]["ports"] == ["5000:80"]
        assert compose["services"]["result"]["ports"] == ["5001:80"]
        for service in compose["services"].values():
            if "build" in service:
                assert (APP / service["build"] / "Dockerfile").exists()
    assert "networks" not in document("docker-compose-simple.yml")
    assert set(document("docker-compose.yml")["networks"]) == {"front-tier", "back-tier"}


def test_stack_files() -> None:
    stack, simple = document("docker-stack.yml"), document("docker-stack-simple.yml")
    five = {"vote", "result", "worker", "redis", "db"}
    assert set(stack["services"]) == five | {"visualizer"}
    assert set(simple["services"]) == five
    networks = {name: set(s.get("networks", ())) for name, s in stack["services"].items()}
    assert networks == {
        "redis": {"frontend"},
        "db": {"backend"},
        "vote": {"frontend"},
        "result": {"backend"},
        "worker": {"frontend", "backend"},
        "visualizer": set(),
    }
    options = {key for s in stack["services"].values() for key in s.get("deploy", ())}
    assert options >= set("mode replicas labels update_config restart_policy placement".split())
    for service in ("redis", "db"):  # a volume, and the task where the volume is
        assert stack["services"][service]["volumes"]
        assert stack["services"][service]["deploy"]["placement"]["constraints"]
    for file in (stack, simple):  # what Docker Hub could answer for must not be the course's
        for service in file["services"].values():
            assert "build" not in service
            assert re.fullmatch(
                r"(redis:8\.0|postgres:17|examplevotingapp_\w+:1)", service["image"]
            )


def test_kubernetes_file() -> None:
    objects = list(yaml.safe_load_all((APP / "kube-deployment.yml").read_text()))
    kinds = {(o["kind"], o["metadata"]["name"]): o for o in objects}
    names = {"redis", "db", "result", "vote", "worker"}
    assert {n for k, n in kinds if k == "Deployment"} == names
    assert {n for k, n in kinds if k == "Service"} == names
    for name in names:
        service, deployment = kinds["Service", name]["spec"], kinds["Deployment", name]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert service["selector"] == labels == deployment["selector"]["matchLabels"]
        assert (service.get("clusterIP") == "None") == (name in ("redis", "db", "worker"))
    for name, port in (("vote", 5000), ("result", 5001)):
        service = kinds["Service", name]["spec"]
        assert service["type"] == "LoadBalancer" and service["ports"][0]["port"] == port
    assert kinds["Deployment", "vote"]["spec"]["replicas"] == 2
    claim = kinds["PersistentVolumeClaim", "db-data"]["spec"]
    assert claim["accessModes"] == ["ReadWriteOnce"]
    assert claim["resources"]["requests"]["storage"] == "1Gi"


def test_every_file_has_the_same_images() -> None:
    images: dict[str, set[str]] = {}
    for name in ("docker-stack.yml", "docker-stack-simple.yml"):
        for service, options in document(name)["services"].items():
            images.setdefault(service, set()).add(options["image"])
    for o in yaml.safe_load_all((APP / "kube-deployment.yml").read_text()):
        if o["kind"] == "Deployment":
            for container in o["spec"]["template"]["spec"]["containers"]:
                images[container["name"]].add(container["image"])
    assert all(len(found) == 1 for found in images.values()), images


@pytest.mark.parametrize("name", ["docker-stack.yml", "docker-stack-simple.yml"])
def test_the_real_cli_reads_the_stack_files(name: str) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker command on this machine")
    command = [docker, "stack", "config", "--compose-file", str(APP / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr


@pytest.mark.parametrize(
    "path", sorted(APP.glob("*/requirements.txt")), ids=lambda p: p.parent.name
)
def test_debian_trixie_satisfies_the_requirements(path: Path) -> None:
    for line in path.read_text().splitlines():
        wanted = Requirement(line)
        assert wanted.specifier.contains(TRIXIE[wanted.name]), line


@pytest.mark.parametrize("service", sorted(BEFORE))
def test_the_images_of_before_lack_the_password_and_nothing_else(service: str) -> None:
    source = (APP / service / BEFORE[service]).read_text()
    old = before(source)
    assert "password" not in old
    assert len(old.splitlines()) == len(source.splitlines()) - 1
    if BEFORE[service].endswith(".py"):
        compile(old, service, "exec")
    with pytest.raises(BuildError):
        before(old)


@pytest.mark.parametrize("page", sorted(APP.glob("*/page.html")), ids=lambda p: p.parent.name)
def test_a_page_names_no_absolute_address(page: Path) -> None:
    html = page.read_text()
    assert '<html lang="fr">' in html
    for address in re.findall(r"(?:href|src|action|url|fetch)\W{1,3}([^\"'\s>)]*)", html):
        assert not re.match(r"/|(?!data:)\w+:", address), address
    assert "http:" not in html and "https:" not in html and "//" not in html


# -- programs -------------------------------------------------------------------------------


def request(
    port: int, method: str = "GET", path: str = "/", body: str | None = None, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers


@contextmanager
def running(
    script: Path, *options: str, wrapper: tuple[str, ...] = (), **env: object
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    port = free_port()
    nowhere = {name: f"127.0.0.1:{free_port()}".split(":") for name in ("REDIS", "POSTGRES")}
    variables = {f"{name}_HOST": host for name, (host, _) in nowhere.items()}
    variables |= {f"{name}_PORT": number for name, (_, number) in nowhere.items()}
    variables |= {name: str(value) for name, value in env.items()}
    process = subprocess.Popen(
        [*wrapper, sys.executable, *options, str(script)],
        env={
            "PATH": os.environ["PATH"], "PORT": str(port),
            "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables,
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield port, process
    finally:
        process.kill()
        process.communicate()


def wait_for(port: int) -> None:
    limit = time.monotonic() + 20
    while True:
        try:
            assert request(port, path="/health")[:2] == (200, "ok\n")
            return
        except OSError:
            assert time.monotonic() < limit, "it does not answer"
            time.sleep(0.05)


def test_vote_without_redis() -> None:
    with running(APP / "vote/app.py", OPTION_A="<Tabs>", OPTION_B="Espaces") as (port, _):
        wait_for(port)
        status, page, headers = request(port)
        assert status == 200
        assert headers["Connection"] == "close" and headers["Cache-Control"] == "no-store"
        assert f"Processed by container ID <code>{socket.gethostname()}</code>" in page
        assert "&lt;Tabs&gt;" in page and "Espaces" in page and "<Tabs>" not in page
        voter = headers["Set-Cookie"]
        assert re.fullmatch(r"voter_id=[0-9a-f]{16}; HttpOnly; SameSite=Lax", voter)
        assert request(port)[2]["Set-Cookie"] != voter
        known = request(port, Cookie="a=b; voter_id=beef")[2]["Set-Cookie"]
        assert known.startswith("voter_id=beef;")
        for bad in ("voter_id=<x>", "voter_id=" + "f" * 17, "voter_id=", ";;==", 'voter_id="\\777'):
            new = request(port, Cookie=bad)[2]["Set-Cookie"]
            assert re.fullmatch(r"voter_id=[0-9a-f]{16}; HttpOnly; SameSite=Lax", new), bad
        status, page, _ = request(port, "POST", body="vote=a")
        assert status == 503 and "n’a pas été enregistré" in page
        assert "aria-pressed=" not in page.partition("<body>")[2]
        for body in ("vote=c", "", "vote=a" * 9000, "\xff=%00&vote"):
            assert request(port, "POST", body=body)[0] == 400
        assert request(port, "POST", **{"Content-Length": "-1"})[0] == 400
        assert request(port, path="/autre")[0] == 404


def test_vote_answers_many_new_connections_at_once() -> None:
    with running(APP / "vote/app.py") as (port, _):
        wait_for(port)
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(request(port)[0])) for _ in range(60)
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 60
        assert time.monotonic() - start < 5


def test_result_without_database() -> None:
    with running(APP / "result/app.py", OPTION_A="<Tabs>") as (port, process):
        wait_for(port)
        status, page, _ = request(port)
        assert status == 200 and "&lt;Tabs&gt;" in page and "$" not in page
        assert page.count("50,0 %") == 2 and "En attente de la base de données" in page
        scores = json.loads(request(port, path="/scores")[1])
        assert (scores["votes_a"], scores["votes_b"], scores["width_a"]) == (0, 0, "50.00%")
        for key in scores:  # what the script fills in is on the page
            assert f'id="{key}"' in page or key == "width_a"
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Waiting for db: ")


def test_the_health_check_tells() -> None:
    def check(port: int) -> int:
        command = [sys.executable, "-S", str(APP / "vote/health.py")]
        return subprocess.run(command, env={"PORT": str(port)}, capture_output=True).returncode

    assert check(free_port()) != 0
    with running(APP / "vote/app.py") as (port, _):
        wait_for(port)
        assert check(port) == 0


UNSHARE = ("unshare", "--fork", "--pid", "--kill-child")


def may_unshare() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize("service", ["vote", "result", "worker", "visualizer"])
def test_sigterm_ends_the_first_process_of_a_container(service: str, tmp_path: Path) -> None:
    if not may_unshare():
        pytest.skip("unshare --pid is not permitted here")
    script = image_of_visualizer(tmp_path) if service == "visualizer" else APP / service / "app.py"
    with running(script, wrapper=UNSHARE) as (port, process):
        if service == "worker":
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Waiting for redis: ")
        else:
            wait_for(port)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        start = time.monotonic()
        os.kill(int(children[0]), signal.SIGTERM)
        process.wait(10)
        assert time.monotonic() - start < 5  # not killed after a grace period


# -- visualizer -----------------------------------------------------------------------------


def image_of_visualizer(target: Path) -> Path:
    """Copy what the Dockerfile copies, from what .dockerignore lets through."""
    patterns = re.findall(r"^[^#\n]+$", (ROOT / ".dockerignore").read_text(), re.M)
    allowed = {p for p in exclude_paths(str(ROOT), patterns) if (ROOT / p).is_file()}
    dockerfile = (APP / "visualizer/Dockerfile").read_text()
    used = set()
    for words in re.findall(r"^COPY (.+)$", dockerfile, re.M):
        *sources, place = words.split()
        (target / place).mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(ROOT / source, target / place)
            used.add(source)
    assert used | {".dockerignore"} == allowed
    return target / "app.py"


class Replay:
    """Recorded answers of a real engine on a Unix socket, and what was asked of it."""

    def __init__(self, directory: Path, moment: str, engine: int = 0):
        raw = json.loads((RECORDED / f"{moment}.json").read_text())
        self.answers = {key: raw[key] for key in ("nodes", "services", "tasks")}
        self.answers["info"] = raw["engines"][engine]["info"]
        self.refusal = raw.get("refusal", "This node is not a swarm manager.")
        self.asked: set[str] = set()
        self.path = directory / "docker.sock"
        replay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                replay.asked.add(self.path)
                answer = replay.answers.get(self.path.strip("/"))
                status = 503 if answer is None else 200
                body = json.dumps({"message": replay.refusal} if answer is None else answer)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def address_string(self) -> str:
                return ""

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingUnixStreamServer(str(self.path), Handler)
        self.server.daemon_threads = True

    def __enter__(self) -> Replay:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def visualizer(tmp_path: Path, docker_socket: Path) -> Iterator[int]:
    """Run it as its image has it: copied files, Python's own library and nothing else."""
    script = image_of_visualizer(tmp_path / "image")
    with running(script, "-S", "-s", DOCKER_SOCKET=docker_socket) as (port, _):
        wait_for(port)
        yield port


def text_of(svg: str) -> str:
    return " ".join("".join(ET.fromstring(svg).itertext()).split())


def test_visualizer_shows_the_notebooks_picture(tmp_path: Path) -> None:
    from labkit.state import from_raw
    from labkit.views import cluster_svg

    moment = "three_nodes_whoami_5"
    with Replay(tmp_path, moment) as replay, visualizer(tmp_path, replay.path) as port:
        status, svg, headers = request(port, path="/picture")
        page = request(port)[1]
    assert status == 200 and headers["Content-Type"].startswith("image/svg+xml")
    assert svg == cluster_svg(from_raw(json.loads((RECORDED / f"{moment}.json").read_text())))
    assert svg in page
    assert replay.asked == {"/info", "/nodes", "/services", "/tasks"}


def test_visualizer_exposes_no_secret(tmp_path: Path) -> None:
    replay = Replay(tmp_path, "three_nodes_whoami_5")
    secret = [f"PASSWORD={SECRET}", f"TOKEN={TOKEN}"]
    for thing in [*replay.answers["services"], *replay.answers["tasks"]]:
        template = thing["Spec"].get("TaskTemplate", thing["Spec"])
        container = template["ContainerSpec"]
        container.update(Env=secret, Args=secret, Command=secret, Labels={"x": SECRET})
        container["Secrets"] = [{"SecretName": SECRET, "File": {"Name": SECRET}}]
        thing["Spec"].setdefault("Labels", {})["x"] = TOKEN
    for node in replay.answers["nodes"]:
        node["Spec"].setdefault("Labels", {})["x"] = TOKEN
    replay.answers["info"]["Swarm"]["JoinTokens"] = {"Worker": TOKEN}
    replay.answers["swarm"] = {"JoinTokens": {"Worker": TOKEN}}
    with replay, visualizer(tmp_path, replay.path) as port:
        pages = ["/", "/picture", "/health", "/nodes", "/services", "/info", "/swarm", "/secrets"]
        answers = [request(port, path=path) for path in pages]
    assert [status for status, _, _ in answers] == [200] * 3 + [404] * 5
    assert "whoami" in answers[1][1]
    for _, text, headers in answers:
        for forbidden in (SECRET, TOKEN, "SWMTKN", "PASSWORD"):
            assert forbidden not in text and forbidden not in str(headers)
    assert replay.asked == {"/info", "/nodes", "/services", "/tasks"}


def test_visualizer_on_a_worker_says_what_to_do(tmp_path: Path) -> None:
    replay = Replay(tmp_path, "three_nodes_whoami_5", engine=1)
    with replay, visualizer(tmp_path, replay.path) as port:
        said = text_of(request(port, path="/picture")[1])
    assert "est un worker" in said and "node.role == manager" in said
    assert replay.asked == {"/info"}


@pytest.mark.parametrize(
    ("moment", "says"), [("no_swarm", "docker swarm init"), ("quorum_lost", "quorum perdu")]
)
def test_visualizer_without_a_manager(tmp_path: Path, moment: str, says: str) -> None:
    with Replay(tmp_path, moment) as replay, visualizer(tmp_path, replay.path) as port:
        assert says in text_of(request(port, path="/picture")[1])


def test_visualizer_without_an_engine(tmp_path: Path) -> None:
    with visualizer(tmp_path, tmp_path / "absent.sock") as port:
        said = text_of(request(port, path="/picture")[1])
    assert "Le moteur Docker ne répond pas" in said and "volumes" in said
