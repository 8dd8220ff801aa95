"""Odd hosts: foreign docker commands, quotes in paths, proxies, encodings, two Labs."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import cli
from labkit.engine.contexts import environment, runs, write_contexts
from labkit.engine.embedded import cluster, docker_cli
from labkit.engine.embedded.build.shared_cache import find_guest
from labkit.engine.embedded.processes import note_process
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.tls import make_keys
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.names import write_names
from labkit.lab.launch import Labs

DOCKER = shutil.which("docker") or str(find_guest(Settings.read()).cli)
with_docker = pytest.mark.skipif(not os.path.exists(DOCKER), reason="wants a docker command")  # noqa: PTH110


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [n for n in os.environ if n.startswith("LABKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LABKIT_MIRROR", "http://127.0.0.1:9/debian")
    docker_cli.refused.cache_clear()
    return Settings.read()


FOREIGN = {  # what is first on PATH, and what is said of it
    "Podman": ('echo "Emulate Docker CLI …" >&2; echo "podman version 4.3.1"', "podman"),
    "a stub that only fails": ("exit 127", "il ne dit rien"),
    "a snap that may not write there": (
        f'[ "$1" = --version ] && exec {DOCKER} --version\necho denied >&2; exit 1', "denied"),
    "one that writes elsewhere": (
        f'unset DOCKER_CONFIG; HOME="$(mktemp -d)" exec {DOCKER} "$@"', "contexte"),
    "a program of another machine": (None, "ne se lance pas"),
}  # fmt: skip


@with_docker
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_docker_command_gives_way_to_labkits(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    script, why = FOREIGN[kind]
    foreign = tmp_path / "bin/docker"
    foreign.parent.mkdir()
    foreign.write_bytes(
        b"\x7fELF\x02\x01\x01" + bytes(57) if script is None else f"#!/bin/sh\n{script}\n".encode()
    )
    foreign.chmod(0o755)
    monkeypatch.setenv("PATH", f"{foreign.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert why in docker_cli.refused(str(foreign))
    guest = find_guest(settings)
    assert docker_cli.docker_cli(guest) == guest.cli
    assert not list(settings.state.iterdir())
    cli.main(["doctor"])
    (row,) = [r for r in capsys.readouterr().out.splitlines() if "commande docker" in r]
    assert f"celle de labkit, car {foreign} ne convient pas" in row
    assert why in row


@with_docker
@pytest.mark.parametrize("name", ["plain", 'l"été', "a,b", 'a ",b" c', "l’été $HOME 'x'"])
def test_contexts_are_made_wherever_a_home_is(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    assert runs(DOCKER, home / "try") == ""
    assert not (home / "try").exists()
    make_keys(home / "tls", ["127.126.253.1"])
    endpoint = Endpoint("node1", "tcp://127.126.253.1:2376", "127.126.253.1", tls=home / "tls")
    write_contexts(Fleet("embedded", (endpoint,)), home / "docker", Path(DOCKER), ())
    said = subprocess.run(
        [DOCKER, "context", "inspect", "node1"], capture_output=True, text=True, check=True,
        env={**os.environ, "DOCKER_CONFIG": str(home / "docker")},
    ).stdout  # fmt: skip
    (context,) = json.loads(said)
    assert context["Endpoints"]["docker"]["Host"] == endpoint.url
    assert sorted(context["TLSMaterial"]["docker"]) == ["ca.pem", "cert.pem", "key.pem"]


@pytest.fixture
def page() -> Iterator[str]:
    """A page at a node's address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.126.253.2", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.126.253.2:{server.server_address[1]}/"
        server.shutdown()


ASKERS = {
    "urllib": "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())",
    "requests": "import sys, requests; print(requests.get(sys.argv[1]).text)",
    "httpx": "import sys, httpx; print(httpx.get(sys.argv[1]).text)",
}


@pytest.mark.parametrize("asker", [*ASKERS, "curl"])
@pytest.mark.parametrize("before", ["", "intern.example,.lan"])
def test_no_proxy_is_asked_for_a_nodes_page(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asker: str, before: str
) -> None:
    if asker == "curl" and not shutil.which("curl"):
        pytest.skip("curl is missing")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.setenv("NO_PROXY", before)
        monkeypatch.delenv("no_proxy", raising=False)
        addresses = [f"127.126.253.{n}" for n in range(1, 8)]
        given = environment(tmp_path, Path(DOCKER), os.environ["PATH"], addresses)
        assert set(filter(None, before.split(","))) < set(given["no_proxy"].split(","))
        code = [sys.executable, "-P", "-c", ASKERS[asker]] if asker in ASKERS else ["curl", "-sS"]
        for extra in ({}, given):
            done = subprocess.run(
                [*code, page], capture_output=True, text=True, env={**os.environ, **extra}
            )
            assert (done.stdout.strip() == "here") == bool(extra), done.stderr


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")
def test_curl_knows_the_nodes_by_name(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, config = tmp_path / 'l"été', tmp_path / "docker"
    home.mkdir()
    (home / ".curlrc").write_text('write-out = "mine"\n')  # the student's own
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    port = int(page.rpartition(":")[2].rstrip("/"))
    node = Endpoint("node2", "tcp://127.126.253.2:2376", "127.126.253.2")
    write_names(config, [node], {("node2", 80): port, ("node1", 81): port})
    given = environment(config, Path(DOCKER), os.environ["PATH"], [node.name, node.address])
    said = []
    for url in (f"http://node2:{port}/", "http://node2/", "http://node2:81/", "http://node1:81/"):
        done = subprocess.run(
            ["curl", url], capture_output=True, text=True, env={**os.environ, **given}
        )
        said.append((done.stdout, "% Total" in done.stderr))
    assert said == [("heremine", False)] * 2 + [("mine", False)] * 2


def test_an_account_without_a_home_has_the_nodes_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    write_names(tmp_path, [Endpoint("node1", "tcp://127.126.253.1:2376", "127.126.253.1")])
    assert 'connect-to = "node1::127.126.253.1:"' in (tmp_path / ".curlrc").read_text()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("iso-8859-15", "Aucun cluster n'est démarré"), ("ascii", "Aucun cluster n'est demarre")],
)
def test_output_is_shown_in_any_encoding(settings: Settings, encoding: str, expected: str) -> None:
    code = "import sys; from labkit import cli; [cli.main(l.split()) for l in sys.argv[1:]]"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "status", "node ls", "up --nodes 9", "doctor", "-h"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    said = (done.stdout + done.stderr).decode(encoding)
    assert not done.returncode, said
    assert expected in said
    assert "v Python" in said
    assert "affichage : " in said
    assert "\n-> " in said


def test_the_cluster_ends_with_the_last_lab(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def start() -> subprocess.Popen[bytes]:
        machine = subprocess.Popen(["sleep", "600"])
        settings.run.mkdir(mode=0o700)
        note_process(settings.run, machine.pid)
        return machine

    settings.state.mkdir(parents=True, mode=0o700)
    first = Labs(settings)
    machine = start()
    second = Labs(settings)
    first.leave()
    assert "Un autre" in capsys.readouterr().out
    assert machine.poll() is None
    third = Labs(settings)
    third.leave()
    assert machine.poll() is None
    second.leave()
    assert machine.wait(10) is not None
    assert not list(settings.state.iterdir())

    machine = start()  # « labkit up », before any Lab
    for _ in range(2):
        only = Labs(settings)
        only.leave()
        assert "tourne encore" in capsys.readouterr().out
        assert machine.poll() is None
    cluster.down(settings)
    assert machine.wait(10) is not None
    assert not list(settings.state.iterdir())
