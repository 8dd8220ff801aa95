"""The images of the course on the embedded cluster: built, pushed, pulled and run, off line."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import labkit.engine
from labkit.engine.embedded.images import catalogue
from labkit.engine.endpoint import Fleet
from labkit.exercises.measures.access import fetch

pytestmark = pytest.mark.engine

APP = Path(__file__).parents[2] / "notebooks" / "example-voting-app"
REGISTRY = "registry:5000"
METRICS = "http://{}:9323/metrics"


def docker(*args: str, ok: bool = True) -> str:
    """Type a docker command as a student does, and return what it printed."""
    done = subprocess.run(
        ["docker", *args], capture_output=True, text=True, timeout=240, env=dict(os.environ)
    )
    said = done.stdout + done.stderr
    assert (done.returncode == 0) is ok, said
    return said.strip()


@pytest.fixture
def container() -> Iterator[str]:
    """A name for a container, which is removed at the end."""
    yield "under-test"
    docker("rm", "--force", "--volumes", "under-test")


def test_every_node_has_every_image_and_its_digest(fleet: Fleet) -> None:
    names = {image.name for image in catalogue() if image.loaded}
    for node in fleet:
        client = node.client()
        try:
            digests = {
                tag: image.attrs["RepoDigests"]
                for image in client.images.list()
                for tag in image.tags
            }
        finally:
            client.close()
        assert names <= set(digests), node.name
        for name in names:
            repository = name.partition(":")[0]
            assert any(d.startswith(f"{repository}@sha256:") for d in digests[name]), name
    origins = {i.name: i.origin for i in labkit.engine.status().images if i.loaded}
    assert set(origins) == names
    assert {origins[n] for n in names if n.startswith("examplevotingapp")} == {"course"}


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("traefik:v3", ["version"], "Version:      3."),
        ("haproxy:3.0", ["-v"], "HAProxy version 3.0"),
        ("prom/prometheus", ["--version"], "prometheus, version"),
        ("prom/node-exporter", ["--version"], "node_exporter, version"),
    ],
)
def test_what_one_notebook_uses_comes_from_the_registry(
    fleet: Fleet, name: str, words: list[str], said: str
) -> None:
    tagged = name if ":" in name else f"{name}:latest"
    kept = {image.name: image for image in labkit.engine.status().images}[tagged]
    assert not kept.loaded
    assert kept.origin in {"hub", "stand-in"}
    docker("--context", "node3", "pull", "--quiet", name)
    assert said in docker("--context", "node3", "run", "--rm", "--network=none", name, *words)
    labels = docker("--context", "node3", "image", "inspect", "--format",
                    "{{json .Config.Labels}}", name)  # fmt: skip
    assert (f"remplace {tagged}" in labels) is (kept.origin == "stand-in")
    docker("--context", "node3", "image", "rm", name)


def test_the_proxies_run_what_they_are_told(fleet: Fleet, container: str) -> None:
    check = docker("run", "--rm", "--network=none", "haproxy:3.0", "haproxy", "-c", "-f",
                   "/etc/haproxy/haproxy.cfg")  # fmt: skip
    assert "Fatal" not in check
    docker("run", "--detach", "--name", container, "--network=none", "traefik:v3",
           "--ping=true", "--entryPoints.web.address=:80", "--ping.entryPoint=web")  # fmt: skip
    limit = time.monotonic() + 60
    alive = ["docker", "exec", container, "traefik", "healthcheck", "--ping=true",
             "--entryPoints.web.address=:80", "--ping.entryPoint=web"]  # fmt: skip
    while subprocess.run(alive, capture_output=True, env=dict(os.environ)).returncode:
        assert time.monotonic() < limit
        time.sleep(1)


def test_prometheus_has_its_page_and_what_the_page_is_made_of(fleet: Fleet, container: str) -> None:
    docker("run", "--detach", "--name", container, "--publish", "9091:9090", "prom/prometheus")
    origins = {image.name: image.origin for image in labkit.engine.status().images}
    if origins["prom/prometheus:latest"] == "hub":
        pytest.skip("Docker Hub's own image has a page of another make")
    place = fleet.published("node1", 9091)

    def page(path: str) -> tuple[int, str]:
        try:
            status, body = fetch(*place, path=path)
        except OSError:
            return 0, ""
        return status, body.decode(errors="replace")

    limit = time.monotonic() + 60
    while page("/classic/targets")[0] != 200:
        assert time.monotonic() < limit
        time.sleep(1)
    said = page("/classic/targets")[1] + page("/classic/graph")[1]
    made_of = set(re.findall(r'(?:href|src)="(/classic/static/[^"]+)"', said))
    assert len(made_of) > 15
    assert {path for path in made_of if page(path)[0] != 200} == set()


def test_each_engine_tells_its_metrics_to_containers(fleet: Fleet) -> None:
    for node in fleet:
        ask = f"import urllib.request as r; print(r.urlopen('{METRICS.format(node.swarm_address)}')"
        said = docker("run", "--rm", "python:3.13-slim", "python", "-c", f"{ask}.read().decode())")
        assert 'engine_daemon_engine_info{architecture="x86_64"' in said
        assert "swarm_node_manager" in said


@pytest.mark.parametrize("directory", ["worker", "worker-lua"])
def test_what_a_student_builds_and_pushes_is_pulled_by_another_node(
    fleet: Fleet, directory: str
) -> None:
    name = f"{REGISTRY}/built-{directory}:1"
    docker("build", "--tag", name, str(APP / directory))
    pushed = docker("push", name)
    assert "Mounted from" in pushed or "already exists" in pushed  # not the layers of its base
    docker("--context", "node3", "pull", name)
    there = docker("--context", "node3", "image", "inspect", "--format", "{{.Id}}", name)
    assert there == docker("image", "inspect", "--format", "{{.Id}}", name)


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("examplevotingapp_worker:1", "worker"),
        ("examplevotingapp_worker:lua", "worker-lua"),
        ("examplevotingapp_visualizer:1", "visualizer"),
    ],
)
def test_an_image_of_the_course_is_what_docker_build_makes(
    fleet: Fleet, name: str, directory: str
) -> None:
    context = APP.parents[1] if directory == "visualizer" else APP / directory
    docker("build", "--tag", "same", "--file", str(APP / directory / "Dockerfile"), str(context))
    what = "{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Env}} " \
        "{{.Config.WorkingDir}} {{json .Config.ExposedPorts}}"  # fmt: skip
    said = [docker("image", "inspect", "--format", what, n) for n in (name, "same")]
    assert said[0] == said[1]
    files = [
        docker("run", "--rm", "--network=none", "--entrypoint=sh", n, "-c",
               "find /app -type f ! -name '*.pyc' | sort | xargs sha256sum")
        for n in (name, "same")
    ]  # fmt: skip
    assert files[0] == files[1] != ""


def test_the_engine_socket_in_a_container_is_its_own_nodes(fleet: Fleet) -> None:
    ask = (
        "import http.client, json, socket\n"
        "c = http.client.HTTPConnection('engine')\n"
        "c.sock = socket.socket(socket.AF_UNIX)\n"
        "c.sock.connect('/var/run/docker.sock')\n"
        "c.request('GET', '/info')\n"
        "print(json.load(c.getresponse())['Name'])\n"
    )
    for node in fleet:
        said = docker(
            "--context", node.name, "run", "--rm", "--network=none",
            "--volume=/var/run/docker.sock:/var/run/docker.sock",
            "python:3.13-slim", "python", "-c", ask,
        )  # fmt: skip
        assert said == node.name


def test_postgres_wants_a_password(fleet: Fleet) -> None:
    said = docker("run", "--rm", "--network=none", "postgres:17", ok=False)
    assert "POSTGRES_PASSWORD" in said


def query(container: str, sql: str, user: str = "postgres", database: str = "postgres") -> str:
    """Ask over TCP, with the right password, as soon as the server answers."""
    words = ("exec", "--env=PGPASSWORD=it's \"so\"", container, "psql", "--host=127.0.0.1",
             f"--username={user}", f"--dbname={database}", "--tuples-only", "--no-align",
             f"--command={sql}")  # fmt: skip
    limit = time.monotonic() + 60
    while True:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return done.stdout.strip()
        assert time.monotonic() < limit, done.stderr
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("more", "user", "database"),
    [((), "postgres", "postgres"), (("--env=POSTGRES_USER=ada",), "ada", "ada")],
)
def test_postgres_keeps_its_password_and_its_rows(
    fleet: Fleet, container: str, more: tuple[str, ...], user: str, database: str
) -> None:
    docker("run", "--detach", "--name", container, "--network=none", *more,
           "--env=POSTGRES_PASSWORD=it's \"so\"", "postgres:17")  # fmt: skip
    query(container, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)", user, database)
    docker("kill", container)
    docker("start", container)
    assert query(container, "SELECT n FROM kept", user, database) == "7"
    docker("exec", "--env=PGPASSWORD=wrong", container, "psql", "--host=127.0.0.1",
           f"--username={user}", "--command=SELECT 1", ok=False)  # fmt: skip
    begun = time.monotonic()
    docker("stop", container)
    assert time.monotonic() - begun < 9  # at once, not after the grace period of ten seconds
    state = docker("inspect", "--format", "{{.State.ExitCode}}", container)
    assert state == "0"


def test_redis_keeps_what_it_was_told_to_keep(fleet: Fleet, container: str) -> None:
    docker("run", "--detach", "--name", container, "--network=none", "redis:8.0",
           "redis-server", "--appendonly", "yes", "--appendfsync", "always")  # fmt: skip
    limit = time.monotonic() + 30
    while (
        "PONG"
        not in subprocess.run(
            ["docker", "exec", container, "redis-cli", "ping"], capture_output=True, text=True
        ).stdout
    ):
        assert time.monotonic() < limit
        time.sleep(0.3)
    docker("exec", container, "redis-cli", "rpush", "votes", "one")
    docker("kill", container)
    docker("start", container)
    assert docker("exec", container, "redis-cli", "llen", "votes") == "1"
    assert "redis" in docker("exec", container, "ps", "-o", "user=", "-p", "1")
