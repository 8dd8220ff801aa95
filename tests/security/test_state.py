"""The directory of clusters' state: links that a neighbour planted, and homes of two hosts."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import Account

PRECIOUS = "precious\n"


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory in which everybody may make things, as ``/tmp`` is."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


ALL = ("down", "status", "up", "reset", "env", "node ls")
SAY = """
import contextlib, io, json, sys
from labkit import cli
for line in sys.argv[1:]:
    with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = cli.main(line.split())
        text = said.getvalue()
    print(json.dumps([line, status, text]))
"""


def labkit(account: Account, *lines: str, **env: str) -> list[tuple[str, int, str]]:
    """Give labkit some commands, in one process; return each, its exit status, what it said."""
    done = account.run(
        sys.executable, "-P", "-c", SAY, *lines,
        env={"LABKIT_MIRROR": "http://127.0.0.1:9/debian", "LABKIT_ACCEL": "tcg", **env},
    )  # fmt: skip
    assert not done.returncode, done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("inside", ["lab.lock", "lab.place", "lab", "lab/used"])
@pytest.mark.parametrize("kind", ["theirs", "open"])
def test_no_file_of_ones_own_is_written_through_a_planted_link(
    student: Account, neighbour: Account, shared: Path, inside: str, kind: str
) -> None:
    precious = student.home / "precious"
    target = student.home if inside == "lab" else precious
    precious.write_text(PRECIOUS)
    (student.home / "used").write_text(PRECIOUS)
    for file in (precious, student.home / "used"):
        shutil.chown(file, student.name)
    place = shared / "labkit"
    if kind == "theirs":  # made before its owner came
        neighbour.run("mkdir", "-p", (place / inside).parent)
    else:  # or open to all
        student.run("mkdir", "-p", (place / inside).parent)
        student.run("chmod", "-R", "0777", place)
    done = neighbour.run("ln", "-s", target, place / inside)
    assert not done.returncode, done.stdout
    for line, status, said in labkit(student, *ALL, XDG_STATE_HOME=str(shared)):
        assert status, line
        assert str(place) in said
        assert "XDG_STATE_HOME" in said
    assert precious.read_text() == PRECIOUS
    assert (student.home / "used").read_text() == PRECIOUS


def test_a_lock_that_is_a_link_is_not_followed(student: Account) -> None:
    state = student.home / ".local/state/labkit"
    student.run("mkdir", "-p", state)
    precious = student.home / "precious"
    precious.write_text(PRECIOUS)
    shutil.chown(precious, student.name)
    student.run("ln", "-s", precious, state / "lab.lock")
    ((_, status, said),) = labkit(student, "down")
    assert status == 1
    assert "lab.lock" in said
    assert precious.read_text() == PRECIOUS


RUNNING = """
import json, subprocess, sys, time
from labkit.engine.embedded import identity
from labkit.engine.embedded.processes import note_process
from labkit.engine.embedded.settings import Settings
run = Settings.read().run
run.mkdir(parents=True, mode=0o700)
identity.note_host(run)
with identity.hold(run) as held:
    machine = subprocess.Popen(["sleep", "300"], pass_fds=[held])
note_process(run, machine.pid)
record = {"network": "127.126.253", "nodes": 1, "numbers": [1], "accel": "tcg"}
(run / "cluster.json").write_text(json.dumps(record))
print(run, machine.pid, flush=True)
input()
machine.kill()
machine.wait()
print("over", flush=True)
input()
"""


@pytest.mark.parametrize("boots", ["another", "the same"])
def test_a_cluster_on_another_host_with_the_same_home(student: Account, boots: str) -> None:
    """Names, process ids and, by a file over the kernel's, the boot are those of another host."""
    boot = student.home / "boot_id"
    boot.write_text("11111111-2222-3333-4444-555555555555\n")
    account = ["setpriv", f"--reuid={student.uid}", f"--regid={student.uid}", "--clear-groups"]
    other = "mount --bind $1 /proc/sys/kernel/random/boot_id; " if boots == "another" else ""
    script = f'hostname rechnerhalle-7; {other}shift; exec "$@"'
    there = subprocess.Popen(
        ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec",
         script, "sh", boot, *account, sys.executable, "-P", "-c", RUNNING],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=student.environment(),
        cwd=student.home,
    )  # fmt: skip
    assert there.stdin is not None and there.stdout is not None
    try:
        run = Path(there.stdout.readline().split()[0])
        for line, status, said in labkit(student, *ALL, "doctor"):
            assert status, line
            assert "« rechnerhalle-7 »" in said
            assert (run / "cluster.json").exists()
        assert there.poll() is None
        there.stdin.write("\n")
        there.stdin.flush()
        assert there.stdout.readline() == "over\n"
        ((_, status, said),) = labkit(student, "down")
        if boots == "another":  # from here, nobody can know
            assert status
            assert f"rm -r {run}" in said
        else:
            assert not status, said
            assert not run.exists()
    finally:
        there.kill()
        there.communicate()
