"""User-Mode Linux as the machine: its modes, its wall, its processor, its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import labkit
from labkit.engine.embedded.build.shared_cache import find_guest
from labkit.engine.embedded.driver import find_driver, instance
from labkit.engine.embedded.machine import find_installation
from labkit.engine.embedded.processes import alive, process_of
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.uml import wheel
from labkit.engine.embedded.uml.confined import landlock
from labkit.engine.embedded.uml.driver import SWITCH, Uml
from labkit.engine.embedded.uml.finding import probe
from labkit.polling import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.environ.get("LABKIT_ACCEL") != "uml", reason="LABKIT_ACCEL=uml is not"),
]


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.fixture(params=["seccomp", "ptrace"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster in each mode."""
    monkeypatch.setenv("LABKIT_UML", request.param)
    labkit.down()
    labkit.up(quiet=True)
    yield Settings.read().run
    labkit.down()


def test_a_service_answers_in_both_modes(run: Path) -> None:
    assert labkit.status().accel == "uml"
    docker("swarm", "init", "--advertise-addr", "192.168.77.11")
    docker("service", "create", "--quiet", "--name", "whoami", "--publish", "9999:80",
           "traefik/whoami")  # fmt: skip
    fleet = labkit.engine.connect()

    def answer() -> str:
        if ("node1", 9999) not in fleet.remapped:
            return ""
        host, port = fleet.published("node1", 9999)
        return subprocess.run(
            ["curl", "-s", "-m", "5", f"http://{host}:{port}/"], capture_output=True, text=True
        ).stdout

    assert "Hostname" in until(answer, bool, 60)


def test_its_own_root_finds_no_way_to_the_host(run: Path) -> None:
    machine = instance(run)
    kinds = machine.shell("cat /proc/filesystems").split()
    assert "ext4" in kinds and "hostfs" not in kinds
    assert machine.shell("ls /dev/mem /dev/kmem /proc/kcore 2>/dev/null; true") == ""
    assert machine.shell("ls /proc/modules 2>/dev/null; true") == ""  # it loads none


@pytest.mark.skipif(landlock() < 1, reason="this host's kernel knows no Landlock")
def test_what_it_is_made_of_is_behind_the_wall_on_one_processor(run: Path) -> None:
    process = process_of(run)
    assert process
    family = [process, *process.children(recursive=True)]
    assert len(family) > 10  # each program of the guest
    for member in family:
        if member.is_running() and member.status() != psutil.STATUS_ZOMBIE:
            said = Path(f"/proc/{member.pid}/status").read_text()
            assert "NoNewPrivs:\t1" in said
            assert member.cpu_affinity() == process.cpu_affinity()
    assert len(process.cpu_affinity() or ()) == 1


def kernel(run: Path) -> psutil.Process | None:
    return process_of(run)


def network(run: Path) -> psutil.Process | None:
    return process_of(run, SWITCH)


@pytest.mark.parametrize("victim, other", [(kernel, network), (network, kernel)])
def test_neither_lives_without_the_other(
    run: Path,
    victim: Callable[[Path], psutil.Process | None],
    other: Callable[[Path], psutil.Process | None],
) -> None:
    killed, left = victim(run), other(run)
    assert killed and left
    family = left.children(recursive=True) + killed.children(recursive=True)
    killed.kill()
    assert until(lambda: not alive(run) and not other(run), bool, 20)
    assert until(lambda: not any(ends(p) for p in family), bool, 20)
    labkit.up(quiet=True)
    assert labkit.status().engine == "embedded"


def ends(process: psutil.Process) -> bool:
    """Whether a process still lives."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_both_modes_are_found_to_work() -> None:
    settings = Settings.read()
    guest = find_guest(settings)
    driver = find_driver(guest, settings)
    assert isinstance(driver, Uml)
    assert probe(driver.kernel, guest, "seccomp") and probe(driver.kernel, guest, "ptrace")
    assert not probe(Path("/bin/false"), guest, "seccomp")


def test_a_kernel_that_pip_installed_serves_where_no_cache_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.read()
    made = find_installation(settings)
    assert made and isinstance(made.driver, Uml)
    kernel = made.driver.kernel.parent
    if not (kernel / "GPL-2.0").exists():
        pytest.skip("this kernel was built before labkit kept its licence")
    site, cache = tmp_path / "site", tmp_path / "cache"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel.pack(kernel, tmp_path))], check=True)
    cache.mkdir()
    for directory in (made.guest.directory, made.snapshot):
        (cache / directory.name).symlink_to(directory)
    monkeypatch.setenv("LABKIT_CACHE", str(cache))
    monkeypatch.setenv("LABKIT_SHARED_CACHE", "")
    monkeypatch.syspath_prepend(site)
    labkit.down()
    labkit.up(quiet=True)
    try:
        process = process_of(settings.run)
        assert process and process.cmdline()[0].startswith(str(site))
        assert f"uml, paquet {wheel.NAME}" in str(labkit.status())
    finally:
        labkit.down()
