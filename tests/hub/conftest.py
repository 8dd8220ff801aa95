"""A JupyterHub with three students, and a machine that was built once for all of them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from real_hub import NAMES, PLACE, Hub, Student, accounts, running_hub

PUBLISH = """
import subprocess, time
def sh(line, goes_on="never said"):
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == 0 or goes_on in done.stderr, done.stderr
    return done.stdout
sh("docker swarm init --advertise-addr 192.168.77.11")
token = sh("docker swarm join-token --quiet worker").strip()
for node in ("node2", "node3"):
    join = f"docker --context {node} swarm join --token {token} 192.168.77.11:2377"
    sh(join, "will continue in the background")  # docker waits 20 s, on a busy host in vain
while sh("docker node ls --format '{{.Status}}'").split() != ["Ready"] * 3:
    time.sleep(0.5)
sh("docker service create --quiet --name whoami --replicas 3 --publish 9999:80 traefik/whoami")
"""


def missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """What ``labkit build --shared`` made in ``tests/hub/install``, read-only even for root."""
    if os.geteuid():
        missing("only root may make accounts and start their servers")
    if not (PLACE / "cache").is_dir():
        missing(f"no JupyterHub and its cache in {PLACE}: tests/hub/install {PLACE}")
    with tempfile.TemporaryDirectory(prefix="labkit-hub-") as place:
        Path(place).chmod(0o755)
        seen = Path(place) / "cache"
        seen.mkdir(mode=0o755)
        subprocess.run(["mount", "--bind", PLACE / "cache", seen], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", seen], check=True)
            yield seen
        finally:
            subprocess.run(["umount", seen], check=True)


@pytest.fixture(scope="session")
def hub(shared: Path) -> Iterator[tuple[Hub, dict[str, str]]]:
    environment = {
        "LABKIT_SHARED_CACHE": str(shared),
        "LABKIT_ACCEL": os.environ.get("LABKIT_ACCEL", "tcg"),
        "LABKIT_MAX_NODES": "3",
        "LABKIT_NICE": "5",
    }
    with (
        tempfile.TemporaryDirectory(prefix="labkit-hub-") as home,
        accounts() as passwords,
        running_hub(Path(home), environment) as hub,
    ):
        yield hub, passwords


def with_cluster(student: Student) -> Student:
    """Start a student's server, kernel and cluster, with a service in it; note the seconds."""
    begin = time.monotonic()
    student.start_server()
    student.seconds["server"] = time.monotonic() - begin
    student.open_kernel()
    student.do("from labkit.exercises import adresses, commencer")
    begin = time.monotonic()
    assert "3 moteurs Docker sur 3 répondent" in student.do("commencer()")
    student.seconds["cluster"] = time.monotonic() - begin
    begin = time.monotonic()
    student.do(PUBLISH)
    student.seconds["service"] = time.monotonic() - begin
    return student


@pytest.fixture(scope="session")
def class_(hub: tuple[Hub, dict[str, str]]) -> list[Student]:
    """Three students who all begin at the same moment."""
    server, passwords = hub
    students = [Student(server, name, passwords[name]) for name in NAMES]
    with ThreadPoolExecutor(len(students)) as pool:
        return list(pool.map(with_cluster, students))
