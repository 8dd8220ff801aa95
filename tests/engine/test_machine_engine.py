"""The machine beside its host: a clock that stood still, a disk that shrinks, a sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import labkit.engine
from labkit.engine.embedded import upkeep
from labkit.engine.embedded.driver import instance
from labkit.engine.embedded.faults import in_guest
from labkit.engine.embedded.processes import process_of
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.status import status
from labkit.engine.endpoint import Fleet

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
UML = os.environ.get("LABKIT_ACCEL") == "uml"
PAUSE = 12.0  # seconds
PATIENCE = 90.0


@pytest.fixture
def run(fleet: Fleet) -> Path:
    return Settings.read().run


def driver_pause(run: Path) -> None:
    instance(run).pause()
    time.sleep(PAUSE)
    instance(run).resume()


def signal_pause(run: Path) -> None:
    """Stop the machine, with labkit's keeper, as a host does that sleeps."""
    stopped = [process_of(run), process_of(run, "keeper.pid")]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in stopped:
            assert process
            os.kill(process.pid, number)
        time.sleep(PAUSE if number == signal.SIGSTOP else 0)


@pytest.mark.parametrize("pause", [driver_pause, signal_pause])
def test_a_clock_that_stood_still_is_mended(run: Path, pause: Callable[[Path], None]) -> None:
    pause(run)
    limit = time.monotonic() + PATIENCE
    while abs(upkeep.lateness(run)) > upkeep.LATE:
        assert time.monotonic() < limit
        time.sleep(1)


@pytest.mark.skipif(UML, reason="its clock is this host's, and goes on while it is paused")
def test_up_mends_the_clock_where_nobody_keeps_it(run: Path) -> None:
    keeper = process_of(run, "keeper.pid")
    assert keeper
    keeper.kill()
    keeper.wait(10)
    driver_pause(run)
    assert upkeep.lateness(run) > PAUSE / 2
    labkit.engine.up()
    assert abs(upkeep.lateness(run)) < PAUSE / 2


def test_what_is_deleted_goes_back_to_the_host_and_status_says_how_much_is_there(
    fleet: Fleet,
) -> None:
    before = status(Settings.read()).disk
    in_guest("dd if=/dev/urandom of=/var/large bs=1M count=200 2>/dev/null; sync", 300)
    grown = status(Settings.read())
    assert grown.disk >= before + 190
    assert f"{grown.disk} Mo écrits sur le disque (4,3 Go au plus)" in str(grown)
    in_guest("rm /var/large; sync")
    limit = time.monotonic() + 300
    while status(Settings.read()).disk > before + 60:  # the machine does it by itself
        assert time.monotonic() < limit
        time.sleep(5)


def test_the_logs_of_the_machine_keep_their_end(fleet: Fleet) -> None:
    in_guest("yes a-long-line | head -c 5000000 >>/run/node1.log; echo last >>/run/node1.log")
    limit = time.monotonic() + 300
    while int(in_guest("stat -c %s /run/node1.log")) > 2_000_000:
        assert time.monotonic() < limit
        time.sleep(5)
    assert "last" in in_guest("cat /run/node1.log")


def test_a_console_that_is_written_to_without_end_stays_small(run: Path) -> None:
    in_guest("yes a-long-line | head -c 1200000 >/dev/console", 300)
    limit = time.monotonic() + PATIENCE
    while (run / "console").stat().st_size > upkeep.LONGEST:
        assert time.monotonic() < limit
        time.sleep(1)


def test_qemu_runs_in_its_sandbox(run: Path) -> None:
    process = process_of(run, "switch.pid") or process_of(run)
    assert process
    facts = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    assert {"Seccomp:\t2", "NoNewPrivs:\t1"} <= set(facts)


def test_compose_runs_what_a_file_says(fleet: Fleet, tmp_path: Path) -> None:
    def docker(*words: str) -> str:
        command = ["docker", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "version 2." in docker("compose", "version")
    (tmp_path / "Dockerfile").write_text("FROM debian:trixie-slim\nRUN echo made >/made\n")
    (tmp_path / "compose.yml").write_text(
        "services:\n  web:\n    image: traefik/whoami\n"
        "  made:\n    build: .\n    command: cat /made\n"
    )
    try:
        docker("compose", "up", "--detach")
        assert "made" in docker("compose", "logs", "made")
        assert "web" in docker("compose", "ps")
    finally:
        docker("compose", "down", "--rmi", "local")
