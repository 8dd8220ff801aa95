"""Who a process is when the clock is set or its number is given again; the cluster's keeper."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit.engine.embedded import identity, lifetime
from labkit.engine.embedded.lifetime import start_keeper
from labkit.engine.embedded.processes import end_process, note_process, process_of, stop_process
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.snapshot import safe_path
from labkit.engine.embedded.status import status
from labkit.engine.progress import Report
from labkit.errors import MachineFailed

ROOT = Path(__file__).parents[2]
RECORD = {"network": "127.126.254", "nodes": 1, "numbers": [1], "accel": "tcg", "images": []}
PATIENCE = 60.0

# What the kernel tells after a step of the clock: the date of the boot has moved with it.
STEP = """
import re, subprocess, sys
from pathlib import Path
import psutil
from labkit.engine.embedded.processes import note_process

run, stepped = Path(sys.argv[1]), Path(sys.argv[2])
machine = subprocess.Popen(["sleep", "60"])
note_process(run, machine.pid)
started = psutil.Process(machine.pid).create_time()
subprocess.run([sys.executable, "-P", "-c",
                "import pathlib, sys; from labkit.engine.embedded import lifetime;"
                "lifetime.tie_to_server(pathlib.Path(sys.argv[1]))", run], check=True)
assert (run / "server").exists()
text = Path("/proc/stat").read_text()
stepped.write_text(re.sub(r"^btime (\\d+)", lambda m: f"btime {int(m[1]) + 3600}", text,
                          flags=re.M))
subprocess.run(["mount", "--bind", stepped, "/proc/stat"], check=True)
fresh = "import psutil, sys; print(psutil.Process(int(sys.argv[1])).create_time())"
moved = subprocess.run([sys.executable, "-P", "-c", fresh, str(machine.pid)],
                       capture_output=True, text=True, check=True).stdout
assert float(moved) - started > 3000, "the step is seen"
look = ("import pathlib, sys; from labkit.engine.embedded import lifetime, processes;"
        "run = pathlib.Path(sys.argv[1]); print(lifetime.server_gone(run), processes.alive(run))")
print(subprocess.run([sys.executable, "-P", "-c", look, run],
                     capture_output=True, text=True, check=True).stdout)
machine.kill()
"""


def test_a_step_of_the_clock_ends_no_cluster(tmp_path: Path) -> None:
    private = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    if subprocess.run([*private, "true"], capture_output=True).returncode:
        pytest.skip("a /proc/stat of one's own wants namespaces, which are refused here")
    done = subprocess.run(
        [*private, sys.executable, "-P", "-c", STEP, tmp_path, tmp_path / "stat"],
        capture_output=True, text=True, env=os.environ | {lifetime.PREFIX: "/user/a/"},
    )  # fmt: skip
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A run directory whose machine is a sleeping process, and no engine."""
    for name in [n for n in os.environ if n.startswith("LABKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    settings = Settings.read()
    settings.run.mkdir(parents=True, mode=0o700)
    (settings.run / "cluster.json").write_text(json.dumps(RECORD))
    machine = subprocess.Popen(["sleep", "600"])
    note_process(settings.run, machine.pid)
    yield settings
    keeper = process_of(settings.run, "keeper.pid")
    machine.kill()
    machine.wait()
    if keeper:
        end_process(keeper)


def eventually(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_number_that_another_process_has_is_nobodys(settings: Settings) -> None:
    run = settings.run
    pid, boot, ticks = identity.stamp().split()
    for other in (f"{pid} {boot} {int(ticks) - 1}", f"{pid} {'0' * 36} {ticks}"):
        (run / "pid").write_text(other)
        assert process_of(run) is None
        stop_process(run)  # it would end this test
    died = subprocess.Popen(["sleep", "600"])
    note_process(run, died.pid)
    assert process_of(run)
    died.kill()
    eventually(lambda: process_of(run) is None)  # a zombie, which nobody has asked for
    with pytest.raises(MachineFailed):
        note_process(run, died.pid)
    died.wait()


class Saying(Report):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def step(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("module", ["queue", "labkit"])
def test_the_keeper_runs_nothing_that_lies_where_one_works(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    report = Saying()
    start_keeper(settings.run, report)
    assert not (tmp_path / "ran").exists()
    assert process_of(settings.run, "keeper.pid")
    assert not report.said


def test_a_keeper_that_ends_at_once_is_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "psutil.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report = Saying()
    start_keeper(settings.run, report)
    (said,) = report.said
    assert "Les ports publiés ne sont pas suivis" in said
    assert "RuntimeError: broken" in said
    assert "ne sont pas suivis" in status(settings).detail


def test_a_keeper_whose_directory_is_gone_ends_its_machine(settings: Settings) -> None:
    start_keeper(settings.run, Report(quiet=True))
    machine, keeper = process_of(settings.run), process_of(settings.run, "keeper.pid")
    assert machine and keeper
    shutil.rmtree(settings.run)  # as another host that has the same home would
    eventually(lambda: not keeper.is_running())
    eventually(lambda: machine.status() == "zombie")


def test_every_python_that_labkit_starts_is_kept_from_where_one_works() -> None:
    """But those of the build, whose environment says it: what they are is in the guest's key."""
    started = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "labkit").rglob("*.py")
        if re.search(r'sys\.executable,\s*"-[mc]"', path.read_text(encoding="utf-8"))
    }
    assert started <= {"labkit/engine/embedded/images/wheels.py"}


def test_a_build_imports_nothing_that_lies_where_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    pip = [sys.executable, "-m", "pip", "download", "--no-index", "nothing"]
    with safe_path():
        subprocess.run(pip, capture_output=True)
        assert not (tmp_path / "ran").exists()
    assert "PYTHONSAFEPATH" not in os.environ
    subprocess.run(pip, capture_output=True)
    assert (tmp_path / "ran").exists(), "this is what would happen"


def test_a_keeper_ends_an_unused_cluster_whatever_the_files_dates(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_IDLE_STOP", "30")
    run = settings.run
    start_keeper(settings.run, Report(quiet=True))
    keeper = process_of(run, "keeper.pid")
    assert keeper
    for years in (-10, 10):  # the dates that files have after a step of the clock
        then = time.time() + years * 365 * 86400
        for file in ("used", "cluster.json"):
            os.utime(run / file, (then, then))
        time.sleep(3)
        assert process_of(run)
    (run / f"busy-{os.getpid()}").write_text(identity.stamp())
    (run / "used").write_text(f"{time.monotonic() - 31 * 60}")
    time.sleep(3)
    assert process_of(run), "a cell runs"
    pid, boot, ticks = identity.stamp().split()
    (run / f"busy-{os.getpid()}").write_text(f"{pid} {boot} {int(ticks) - 1}")  # another's number
    eventually(lambda: not keeper.is_running())
    assert "30 minutes sans activité" in lifetime.reason_left(run)
    assert [p.name for p in run.iterdir()] == ["ended"]
