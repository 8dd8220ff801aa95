"""What an administrator sets: a cache for everybody, limits, and when clusters end."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit import cli
from labkit.engine.embedded import cluster, identity, lifetime, snapshot
from labkit.engine.embedded.addresses import endpoints_of, engine_forward, free_network
from labkit.engine.embedded.build.guest import guest_of
from labkit.engine.embedded.build.sealed import atomic_directory
from labkit.engine.embedded.build.shared_cache import find_guest, is_shared
from labkit.engine.embedded.keeper import ended_idle
from labkit.engine.embedded.lifetime import end
from labkit.engine.embedded.qemu.network import rule
from labkit.engine.embedded.settings import SHARED, Settings
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.errors import EngineNotRunning, LabkitError, MachineFailed, SettingError
from labkit.exercises.measures.access import Addresses


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A student's home, and a shared cache beside it."""
    for name in [n for n in os.environ if n.startswith("LABKIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "shared").mkdir(mode=0o755)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(SHARED, str(tmp_path / "shared"))
    monkeypatch.setenv("LABKIT_ACCEL", "tcg")
    monkeypatch.setenv("LABKIT_MIRROR", "http://127.0.0.1:9/debian")
    return tmp_path


def sealed(target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    with atomic_directory(target) as work:
        (work / "root.ext4").write_bytes(b"r" * 5000)
    return target


def name_of_guest() -> str:
    return guest_of(Settings.read()).directory.name


# The shared cache


def test_what_is_shared_is_found_first_and_the_own_cache_not_made(home: Path) -> None:
    theirs = sealed(home / "shared" / name_of_guest())
    settings = Settings.read()
    assert find_guest(settings).directory == theirs
    assert is_shared(settings, theirs)
    assert not settings.cache.exists()
    sealed(settings.cache / name_of_guest())
    assert find_guest(settings).directory == theirs


def test_without_what_is_shared_the_own_cache_is_filled(home: Path) -> None:
    settings = Settings.read()
    own = find_guest(settings).directory
    assert own.parent == settings.cache
    assert not is_shared(settings, own)
    steps: list[str] = []

    class Saying(Report):
        def step(self, text: str) -> None:
            steps.append(text)

    with pytest.raises(LabkitError, match="InRelease"):  # a mirror that nobody has
        cluster.build(settings, Saying())
    assert steps[0].startswith(f"Le cache partagé {home}/shared n’a pas tout")
    assert not list((home / "shared").iterdir())


def test_a_damaged_one_is_never_replaced_unasked(home: Path) -> None:
    theirs = sealed(home / "shared" / name_of_guest())
    (theirs / "root.ext4").write_bytes(b"r" * 4999)
    for command in (cluster.build, cluster.up, cluster.reset):
        with pytest.raises(MachineFailed, match="abîmé ou incomplet") as caught:
            command(Settings.read(), Report(quiet=True))
        assert "labkit build --shared" in caught.value.remedy
    assert not (home / "cache").exists()
    own = sealed(home / "cache" / name_of_guest())
    assert find_guest(Settings.read()).directory == own, "what the student has already serves"


def test_a_changed_block_is_seen_when_all_is_read(home: Path) -> None:
    theirs = sealed(home / "shared" / name_of_guest())
    (theirs / "root.ext4").write_bytes(b"r" * 4999 + b"x")
    assert find_guest(Settings.read()).directory == theirs, "sizes say nothing"
    with pytest.raises(MachineFailed, match="abîmé ou incomplet"):
        cluster.build(Settings.read(), Report(quiet=True), thorough=True)
    with pytest.raises(MachineFailed, match="abîmé ou incomplet"):
        snapshot.built(Settings.read())


def test_programs_are_not_run_from_where_others_write(home: Path) -> None:
    sealed(home / "shared" / name_of_guest())
    (home / "shared").chmod(0o777)
    with pytest.raises(SettingError, match="d’autres comptes peuvent écrire dans") as caught:
        find_guest(Settings.read())
    assert "chmod go-w" in caught.value.remedy


def test_a_shared_cache_that_is_not_there_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, str(home / "nowhere"))
    with pytest.raises(SettingError, match="nowhere ne se lit pas") as caught:
        cluster.up(Settings.read(), Report(quiet=True))
    assert SHARED in caught.value.remedy
    monkeypatch.setenv(SHARED, "")
    assert Settings.read().shared is None


def test_the_administrator_fills_it_for_all(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SHARED, str(home / "site"))
    before = os.umask(0o077)
    try:
        assert cli.main(["build", "--shared"]) == 1  # the mirror does not answer
    finally:
        os.umask(before)
    assert "InRelease" in capsys.readouterr().err
    assert (home / "site").stat().st_mode & 0o777 == 0o755
    assert not (home / "cache").exists()


# Limits


@pytest.mark.parametrize(
    ("limits", "asked", "name"),
    [
        ({"LABKIT_MAX_NODES": "2"}, {"LABKIT_NODES": "3"}, "LABKIT_MAX_NODES"),
        ({"LABKIT_MAX_CPUS": "1"}, {"LABKIT_CPUS": "2"}, "LABKIT_MAX_CPUS"),
        ({"LABKIT_MAX_MEMORY": "1000"}, {"LABKIT_MEMORY": "1024"}, "LABKIT_MAX_MEMORY"),
        ({"LABKIT_MAX_MEMORY": "1000"}, {}, "LABKIT_MAX_MEMORY"),
    ],
)
def test_a_limit_that_is_met_says_which_and_whose(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, str],
    asked: dict[str, str],
    name: str,
) -> None:
    for variable, value in (limits | asked).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError) as caught:
        Settings.read()
    said = caught.value
    assert f"La limite est de {limits[name]}" in said.message
    assert "administre ce serveur" in said.message
    assert name in said.message
    assert said.remedy.startswith(f"Demandez-en {limits[name]} au plus.")


def test_memory_says_how_many_nodes_fit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_MAX_MEMORY", "1000")
    with pytest.raises(SettingError) as caught:
        Settings.read()
    assert "2 nœuds y tiennent" in caught.value.remedy
    assert Settings.read(nodes=2).guest_memory == 896


def test_what_nobody_asked_for_keeps_within_the_limits(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_MAX_NODES", "2")
    monkeypatch.setenv("LABKIT_MAX_CPUS", "1")
    settings = Settings.read()
    assert (settings.nodes, settings.cpus) == (2, 1)
    with pytest.raises(SettingError, match="LABKIT_MAX_NODES"):
        Settings.read(nodes=3)


@pytest.mark.parametrize(
    "variable, value",
    [("LABKIT_MAX_NODES", v) for v in ("0", "8", "x")]
    + [("LABKIT_MAX_CPUS", "0"), ("LABKIT_MAX_MEMORY", "100"), ("LABKIT_NICE", "20")]
    + [("LABKIT_NICE", "-1"), ("LABKIT_IDLE_STOP", "-1"), ("LABKIT_IDLE_STOP", "1.5")],
)
def test_a_bad_limit_says_which(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError, match=variable) as caught:
        Settings.read()
    assert value in caught.value.message
    assert caught.value.remedy


# Addresses that are a student's alone


@pytest.mark.parametrize("value", ["127.0.0", "127.63.0", "127.127.0", "127.80", "10.80.3", "x"])
def test_a_network_that_is_none_of_ours(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("LABKIT_NETWORK", value)
    with pytest.raises(SettingError, match="LABKIT_NETWORK"):
        Settings.read()


def test_a_neighbour_who_took_the_addresses_keeps_nobody_from_starting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_NETWORK", "127.126.255")
    assert free_network(Settings.read()) == "127.126.255"
    with contextlib.ExitStack() as neighbours:
        for number in range(1, 8):
            neighbours.enter_context(socket.create_server((f"127.126.255.{number}", 2376)))
        network = free_network(Settings.read())
        first, _, port = network.partition(":")
        assert first == "127.126.255" and int(port) != 2376
        (node,) = endpoints_of(network, [2], home)
        assert (node.url, node.address) == (f"tcp://127.126.255.2:{port}", "127.126.255.2")
        way = engine_forward(network, 2)
        assert rule(way) == f"tcp:127.126.255.2:{port}-192.168.77.9:2378"
    monkeypatch.delenv("LABKIT_NETWORK")
    usual = free_network(Settings.read())
    with socket.create_server((f"{usual}.7", 2376)):
        first, second = free_network(Settings.read()), free_network(Settings.read())
        assert len({usual, first, second}) == 3, "a place that a neighbour foresees"


ENDPOINTS = (Endpoint("node1", "tcp://127.80.3.1:2376", "127.80.3.1"),)


def test_a_page_through_the_notebook_server_is_never_a_neighbours() -> None:
    moved = Fleet("embedded", ENDPOINTS, remapped={("node1", 5000): 13000})
    assert moved.forwarded("node1", 5000) == ("127.80.3.1", 13000)
    assert moved.forwarded("node1", 5001) is None, "not published: a neighbour's, perhaps"
    assert Fleet("host", ENDPOINTS).forwarded("node1", 5000) == ("127.80.3.1", 5000)


def test_the_link_says_when_there_is_nothing_to_link_to() -> None:
    shown = Addresses(5000, (("node1", "http://127.80.3.1:5000/"),), ())._repr_html_()
    assert "Relancez cette cellule une fois le port 5000 publié" in shown
    assert "cluster/" not in shown


# When a cluster ends by itself


def running(home: Path) -> Path:
    run = Settings.read().run
    run.mkdir(parents=True, mode=0o700)
    record = {"network": "127.80.3", "nodes": 3, "numbers": [1, 2, 3], "accel": "tcg"}
    (run / "cluster.json").write_text(json.dumps(record))
    return run


def unused_for(run: Path, seconds: float) -> None:
    (run / "used").write_text(f"{time.monotonic() - seconds}")


def test_idle_counts_from_the_last_use(home: Path) -> None:
    run = running(home)
    assert lifetime.idle_seconds(run) < 60, "from the first look at the latest"
    unused_for(run, 600)
    assert 590 < lifetime.idle_seconds(run) < 660
    lifetime.mark_used(run)
    assert lifetime.idle_seconds(run) < 60


@pytest.mark.parametrize("years", [-1, 1])
def test_a_clock_that_is_set_makes_no_cluster_idle_and_keeps_none(home: Path, years: int) -> None:
    run = running(home)
    unused_for(run, 600)
    then = time.time() + years * 365 * 86400  # what the files' dates are after such a step
    for file in (run / "used", run / "cluster.json"):
        os.utime(file, (then, then))
    assert 590 < lifetime.idle_seconds(run) < 660


def test_a_cell_that_still_runs_is_use_and_one_whose_kernel_died_is_not(home: Path) -> None:
    run = running(home)
    unused_for(run, 600)
    busy = run / f"busy-{os.getpid()}"
    busy.write_text(identity.stamp())
    assert lifetime.idle_seconds(run) == 0
    pid, boot, ticks = busy.read_text().split()
    for other in (f"{pid} {boot} {int(ticks) - 1}", f"{pid} x {ticks}", ""):
        busy.write_text(other)  # a kernel that was killed, and whose number another process has
        assert lifetime.idle_seconds(run) > 590


def test_nothing_is_noted_of_a_cluster_that_does_not_run(home: Path) -> None:
    lifetime.mark_used(Settings.read().run)
    assert not Settings.read().run.exists()


def test_the_next_command_says_why_the_cluster_is_gone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = running(home)
    assert not end(run, lambda: False, "why"), "in use again"
    assert (run / "cluster.json").exists()
    assert end(run, lambda: True, ended_idle(20))
    assert [p.name for p in run.iterdir()] == ["ended"]
    with pytest.raises(EngineNotRunning, match="après 20 minutes sans activité") as caught:
        cluster.join(Settings.read())
    assert "LABKIT_IDLE_STOP" in caught.value.message
    assert "labkit up" in caught.value.remedy
    assert cli.main(["status"]) == 3
    assert "20 minutes" in capsys.readouterr().out
    cluster.down(Settings.read())
    assert not run.exists()


def test_nothing_is_left_of_a_cluster_whose_server_is_gone(home: Path) -> None:
    run = running(home)
    assert end(run, lambda: True, "")
    assert not list(run.parent.iterdir())


PARENT = """
import os, subprocess, sys
os.environ["JUPYTERHUB_SERVICE_PREFIX"] = "/user/a/"
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""
CHILD = """
import sys
from pathlib import Path
from labkit.engine.embedded import lifetime
lifetime.tie_to_server(Path({run!r}))
print("ready", flush=True)
input()
"""


def test_a_cluster_is_left_when_the_server_of_who_started_it_dies(home: Path) -> None:
    run = running(home)
    assert not lifetime.server_gone(run), "of no server"
    environment = os.environ | {lifetime.PREFIX: "/user/a/"}
    server = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD.format(run=str(run))],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        assert (run / "server").read_text().split()[0] == str(server.pid)
        assert not lifetime.server_gone(run)
        server.kill()
        deadline = time.monotonic() + 10
        while not lifetime.server_gone(run):  # also while nobody has asked for its status: a zombie
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        server.kill()
        server.communicate()
    assert lifetime.server_gone(run)


def test_a_pid_that_another_process_has_now_is_not_the_server(home: Path) -> None:
    run = running(home)
    pid, boot, ticks = identity.stamp().split()
    (run / "server").write_text(f"{pid} {boot} {ticks}")
    assert not lifetime.server_gone(run)
    (run / "server").write_text(f"{pid} {boot} {int(ticks) - 1}")
    assert lifetime.server_gone(run)


def test_outside_of_a_hub_a_cluster_is_of_no_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(lifetime.PREFIX, raising=False)
    run = running(home)
    lifetime.tie_to_server(run)
    assert not (run / "server").exists()


def test_the_administrator_builds_where_all_look(home: Path) -> None:
    settings = Settings.read().for_shared_cache()
    assert (settings.cache, settings.shared) == (home / "shared", None)
