"""The embedded engine: what it closes, what it survives, what two restores never share."""

import datetime
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

import labkit
from labkit.engine.embedded import cluster, tls
from labkit.engine.embedded.build.guest import guest_of
from labkit.engine.embedded.driver import instance
from labkit.engine.embedded.machine import installation_of
from labkit.engine.embedded.processes import process_of
from labkit.engine.embedded.record import Record
from labkit.engine.embedded.settings import Settings
from labkit.errors import EngineNotRunning
from labkit.exercises import adresses

UML = os.environ.get("LABKIT_ACCEL") == "uml"
pytestmark = pytest.mark.engine


def labkit_command(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labkit", *args],
        capture_output=True, text=True, timeout=300, env={**os.environ, **env},
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def own_cluster() -> Iterator[None]:
    """A cluster of this module's own, so that it may be killed."""
    labkit.down()
    before = os.environ.get("LABKIT_CLUSTER")
    os.environ["LABKIT_CLUSTER"] = "essai"
    yield
    labkit.down()
    del os.environ["LABKIT_CLUSTER"]
    if before:
        os.environ["LABKIT_CLUSTER"] = before
    labkit.up(quiet=True)


@pytest.fixture
def fleet() -> labkit.Fleet:
    return labkit.up(quiet=True)


def test_status_json_names_nodes_and_images(fleet: labkit.Fleet) -> None:
    done = labkit_command("status", "--json")
    said: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0
    assert said["engine"] == "embedded"
    assert [n["name"] for n in said["nodes"]] == ["node1", "node2", "node3"]
    for node in said["nodes"]:
        assert node["address"].startswith("127.")
        assert node["swarm_address"].startswith("192.168.77.1")
        assert node["engine_version"]
        assert node["swarm"] == "inactive"
    origins = {i["name"]: i["origin"] for i in said["images"]}
    assert origins["traefik/whoami:latest"] in {"hub", "stand-in"}
    assert origins["examplevotingapp_vote:1"] == "course"


def test_the_cli_has_a_context_a_node(fleet: labkit.Fleet) -> None:
    for endpoint in fleet:
        done = subprocess.run(
            ["docker", "--context", endpoint.name, "info", "-f", "{{.Name}}"],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.stdout.strip() == endpoint.name, done.stderr
    assert os.environ["DOCKER_CONFIG"].startswith(str(Settings.read().run))


def test_env_gives_any_shell_the_cli(fleet: labkit.Fleet) -> None:
    script = f'eval "$({sys.executable} -m labkit env)"; docker info -f "{{{{.Name}}}}"'
    clean = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"]}
    kept = {k: v for k, v in os.environ.items() if k.startswith(("LABKIT_", "XDG_"))}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=30, env=clean | kept
    )
    assert done.stdout.strip() == "node1", done.stderr


def test_a_shell_of_a_node_speaks_to_it(fleet: labkit.Fleet) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labkit", "node", "shell", "node2"],
        input="docker info --format {{.Name}}\n",
        capture_output=True, text=True, timeout=120, env={**os.environ, "DOCKER_HOST": "tcp://x:1"},
    )  # fmt: skip
    assert done.stdout == "node2\n", done.stderr
    unknown = labkit_command("node", "shell", "node9")
    assert unknown.returncode == 1
    assert "node1, node2, node3" in unknown.stderr


def test_the_run_directory_is_closed_to_others(fleet: labkit.Fleet) -> None:
    run = Settings.read().run
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert stat.S_IMODE((run / "tls" / "key.pem").stat().st_mode) == 0o600


def test_an_engine_refuses_a_client_without_a_certificate(fleet: labkit.Fleet) -> None:
    address = (fleet["node1"].address, 2376)
    with socket.create_connection(address, timeout=10) as plain:
        plain.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.settimeout(10)
        try:
            answer = plain.recv(4096)
        except ConnectionError:
            answer = b""
    assert b"ApiVersion" not in answer
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(address, timeout=10) as raw,
        context.wrap_socket(raw) as secure,
    ):
        secure.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        if not secure.recv(4096):  # TLS 1.3: the refusal comes on reading
            raise ConnectionError("closed")


def test_worn_keys_are_replaced_on_rejoining(
    fleet: labkit.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.read()
    worn, half = settings.run / "tls/cert.pem", datetime.timedelta(days=44)
    record = Record.read(settings.run)
    assert record is not None
    with monkeypatch.context() as old:
        old.setattr(tls, "VALID", half)
        cluster.renew(settings, record)
    before = worn.read_bytes()
    machine = process_of(settings.run)
    assert labkit_command("doctor").stdout.count("« labkit up » les renouvelle") == 1
    said = labkit_command("up")
    assert "renouvelés" in said.stdout
    assert "renouvelés" not in labkit_command("up").stdout
    assert worn.read_bytes() != before
    assert not tls.worn(settings.run / "tls")
    assert process_of(settings.run) == machine
    for endpoint in fleet:
        client = endpoint.client()
        assert client.ping()
        client.close()
        done = subprocess.run(
            ["docker", "--context", endpoint.name, "info", "-f", "{{.Name}}"],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.stdout.strip() == endpoint.name, done.stderr


def test_the_machine_listens_on_loopback_only_and_on_nothing_else(fleet: labkit.Fleet) -> None:
    run = Settings.read().run
    programs = [p for p in (process_of(run), process_of(run, "switch.pid")) if p]
    listening = {(c.laddr.ip, c.laddr.port) for p in programs for c in p.net_connections("tcp")
                 if c.status == psutil.CONN_LISTEN}  # fmt: skip
    assert listening == {(e.address, 2376) for e in fleet}


def test_two_starts_at_once_give_one_cluster() -> None:
    labkit.down()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: labkit_command("up"), range(2)))
    assert [b.returncode for b in both] == [0, 0], [b.stderr for b in both]
    mine = str(Settings.read().run / "qmp")
    machines = [p for p in psutil.process_iter(["cmdline"])
                if any(mine in part for part in p.info["cmdline"] or ())]  # fmt: skip
    assert len(machines) == 1


def test_a_killed_machine_is_told_and_made_again(fleet: labkit.Fleet) -> None:
    process = process_of(Settings.read().run)
    assert process is not None
    process.send_signal(signal.SIGKILL)
    psutil.wait_procs([process], timeout=10)
    done = labkit_command("status")
    assert done.returncode == 3
    assert "s’est arrêtée" in done.stdout
    with pytest.raises(EngineNotRunning, match="labkit up"):
        labkit.connect()
    again = labkit.up(quiet=True)
    with_node1 = again["node1"].client()
    assert with_node1.ping()
    with_node1.close()


def test_up_again_rejoins_the_same_machine(fleet: labkit.Fleet) -> None:
    before = process_of(Settings.read().run)
    labkit.up(quiet=True)
    assert process_of(Settings.read().run) == before


def init_and_describe(fleet: labkit.Fleet) -> tuple[str, str]:
    client = fleet["node1"].client()
    try:
        client.swarm.init(advertise_addr="192.168.77.11")
        client.swarm.reload()
        attrs = client.swarm.attrs
        return attrs["JoinTokens"]["Worker"], attrs["TLSInfo"]["TrustRoot"]
    finally:
        client.close()


def test_two_restores_share_no_secret() -> None:
    first = init_and_describe(labkit.reset(quiet=True))
    second = init_and_describe(labkit.reset(quiet=True))
    assert first[0] != second[0], "the same join token twice"
    assert first[1] != second[1], "the same certificate authority twice"


def test_published_ports_follow_the_services(fleet: labkit.Fleet) -> None:
    labkit.reset(quiet=True)
    fleet = labkit.connect()
    client = fleet["node1"].client()
    try:
        container = client.containers.run("traefik/whoami", detach=True, ports={"80/tcp": 9997})
        assert reaches(fleet.published("node1", 9997), 15)
        container.remove(force=True)
        assert gone(fleet.published("node1", 9997), 15)
    finally:
        client.close()


def test_what_the_notebook_server_reaches_is_never_a_neighbours(fleet: labkit.Fleet) -> None:
    """A neighbour on the same machine has the node's port 9996 already."""
    client = fleet["node1"].client()
    try:
        with socket.socket() as neighbour:
            neighbour.bind((fleet["node1"].address, 9996))
            neighbour.listen()
            assert adresses(9996).proxied == () and not fleet.forwarded("node1", 9996)
            container = client.containers.run("traefik/whoami", detach=True, ports={"80/tcp": 9996})
            limit = time.monotonic() + 15
            while not (place := fleet.forwarded("node1", 9996)):
                assert time.monotonic() < limit
            assert place[1] != 9996 and reaches(place, 15)
            assert adresses(9996).proxied[0] == "/cluster/node1/9996/"
            container.remove(force=True)
    finally:
        client.close()


def reaches(address: tuple[str, int], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            with socket.create_connection(address, timeout=2) as connection:
                connection.sendall(b"GET /api HTTP/1.0\r\n\r\n")
                if b"hostname" in connection.recv(4096):
                    return True
        except OSError:
            pass
        time.sleep(0.2)
    return False


def gone(address: tuple[str, int], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            socket.create_connection(address, timeout=2).close()
        except ConnectionRefusedError:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.skipif(UML, reason="no memory is saved")
def test_a_snapshot_that_qemu_refuses_says_what_repairs_it(tmp_path: Path) -> None:
    settings = Settings.read()
    guest = guest_of(settings)
    whole = installation_of(settings, guest).snapshot
    (tmp_path / guest.directory.name).symlink_to(guest.directory)
    copy = tmp_path / whole.name
    copy.mkdir()
    (copy / "data.ext4").symlink_to(whole / "data.ext4")
    for name in ("seal.json", "snapshot.json"):
        (copy / name).write_bytes((whole / name).read_bytes())
    with (copy / "state").open("wb") as state:
        state.write(os.urandom(1 << 16))
        state.truncate((whole / "state").stat().st_size)
    other = {"LABKIT_CACHE": str(tmp_path), "LABKIT_CLUSTER": "abime"}
    done = labkit_command("up", **other)
    assert done.returncode == 1
    assert "labkit build" in done.stderr
    assert not Settings.read().run.with_name("abime").exists()
    doctor = labkit_command("doctor", **other)
    labkit_command("down", **other)
    assert "L’instantané est abîmé" in doctor.stdout


def test_down_leaves_nothing(fleet: labkit.Fleet) -> None:
    run = Settings.read().run
    addresses = [(e.address, 2376) for e in fleet]
    labkit.down()
    assert not Path(run).exists()
    ours = [p for p in psutil.process_iter(["cmdline"])
            if any(str(run) in part for part in p.info["cmdline"] or ())]  # fmt: skip
    assert ours == []
    assert all(gone(a, 5) for a in addresses)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk wants root")
def test_a_full_disk_pauses_the_machine_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(tempfile.mkdtemp(prefix="labkit-"))
    size = f"size={350 if UML else 150}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=True)
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(place))
        monkeypatch.setenv("LABKIT_CLUSTER", "plein")
        labkit.up(quiet=True)
        subprocess.run(["docker", "swarm", "init"], check=True, capture_output=True)
        fill = "(dd if=/dev/zero of=/var/fill bs=1M count=300; sync) >/dev/null 2>&1 &"
        instance(Settings.read().run).shell(fill)
        limit = time.monotonic() + 60
        while "disque est plein" not in labkit.status().detail:
            assert time.monotonic() < limit, labkit.status()
            time.sleep(0.5)
        refused = labkit_command("up")
        assert refused.returncode == 1
        assert "Mo nécessaires" in refused.stderr
        subprocess.run(["mount", "-o", "remount,size=900m", place], check=True)
        labkit.up(quiet=True)
        assert [n.swarm for n in labkit.status().nodes] == ["active", "inactive", "inactive"]
    finally:
        labkit.down()
        subprocess.run(["umount", place], check=True)
        place.rmdir()
