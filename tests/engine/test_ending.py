"""A cluster that nobody uses ends where an administrator wants so; the next command says why."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.engine.embedded import cluster, identity, lifetime
from labkit.engine.embedded.processes import process_of
from labkit.engine.embedded.settings import Settings
from labkit.engine.progress import Report
from labkit.errors import EngineNotRunning

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
PATIENCE = 60.0  # seconds


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LABKIT_CLUSTER", "ending")
    monkeypatch.setenv("LABKIT_IDLE_STOP", "30")
    settings = Settings.read()
    cluster.up(settings, Report(quiet=True))
    yield settings.run
    cluster.down(settings)


def unused_for(run: Path, seconds: float) -> None:
    (run / "used").write_text(f"{time.monotonic() - seconds}")


def test_an_idle_cluster_ends_and_says_so(run: Path) -> None:
    machine, keeper = process_of(run), process_of(run, "keeper.pid")
    assert machine
    assert keeper
    unused_for(run, 29 * 60)
    time.sleep(5)
    assert machine.is_running()
    busy = run / f"busy-{os.getpid()}"
    busy.write_text(identity.stamp())  # a cell that runs for longer than that
    unused_for(run, 31 * 60)
    time.sleep(5)
    assert machine.is_running()
    busy.unlink()
    limit = time.monotonic() + PATIENCE
    while machine.is_running() or keeper.is_running() or not lifetime.reason_left(run):
        assert time.monotonic() < limit
        time.sleep(0.2)
    assert [p.name for p in run.iterdir()] == ["ended"]
    with pytest.raises(EngineNotRunning, match="30 minutes sans activité"):
        cluster.join(Settings.read())
    cluster.up(Settings.read(), Report(quiet=True))
    assert not lifetime.reason_left(run)


def test_a_cell_of_a_notebook_is_use(run: Path) -> None:
    unused_for(run, 20 * 60)
    cell = (
        "from IPython.testing.globalipapp import start_ipython\n"
        "shell = start_ipython()\n"
        "import labkit.engine\n"
        "labkit.engine.connect()\n"
        "shell.run_cell('1')\n"
    )
    subprocess.run([sys.executable, "-c", cell], check=True)
    assert lifetime.idle_seconds(run) < 120
    assert not list(run.glob("busy-*"))
