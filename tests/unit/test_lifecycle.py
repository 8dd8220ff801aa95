"""Settings, sealed directories, run directories and locks: what is refused, seen or kept."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import accounts
import pytest

from labkit import cli
from labkit.engine.embedded import cluster, snapshot
from labkit.engine.embedded.build import debian
from labkit.engine.embedded.build.guest import Guest, guest_of, prune, remove_half_made
from labkit.engine.embedded.build.sealed import (
    atomic_directory,
    disk_error,
    fingerprint,
    invalidate,
    verify,
)
from labkit.engine.embedded.driver import Plan
from labkit.engine.embedded.keeper import Ports, wanted
from labkit.engine.embedded.lock import lock as lock_file
from labkit.engine.embedded.machine import Installation, Machine, copy_sparse, move_sparse
from labkit.engine.embedded.processes import process_of, stop_process
from labkit.engine.embedded.qemu import qmp as control
from labkit.engine.embedded.qemu.driver import Qemu
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.status import status
from labkit.engine.progress import Report
from labkit.errors import (
    BuildError,
    DiskFull,
    EngineNotRunning,
    LabkitError,
    MachineFailed,
    SettingError,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: nothing of the user's is read or written."""
    for name in [n for n in os.environ if n.startswith("LABKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LABKIT_ACCEL", "tcg")
    return tmp_path


# Settings


@pytest.mark.parametrize(
    "variable, value",
    [("LABKIT_NODES", v) for v in ("abc", "0", "9", "-1", "3.5")]
    + [("LABKIT_CLUSTER", v) for v in ("Lab", "a/b", "..", "é", "a b", "x" * 21, "-a")]
    + [("LABKIT_ACCEL", "foo"), ("LABKIT_SUITE", "../x"), ("LABKIT_SUITE", "a/b")]
    + [("LABKIT_CPUS", "0"), ("LABKIT_CPUS", "x"), ("LABKIT_MEMORY", "-5"), ("LABKIT_MEMORY", "8")],
)
def test_a_bad_setting_says_which_and_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError) as caught:
        Settings.read()
    assert caught.value.remedy
    assert value in caught.value.message
    assert cli.main(["status"]) == 1, "an error, not a traceback"


def a_file(path: Path) -> Path:
    path.write_text("precious")
    return path


@pytest.mark.parametrize("variable", ["LABKIT_CACHE", "XDG_STATE_HOME"])
@pytest.mark.parametrize("kind", ["a file", "under a file", "a refusal", "a comma"])
def test_a_directory_that_cannot_be_used(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    kind: str,
) -> None:
    place = {
        "a file": lambda: a_file(home / "file"),
        "under a file": lambda: a_file(home / "file") / "under",
        "a refusal": lambda: Path("/proc/refused"),
        "a comma": lambda: home / "a,b",
    }[kind]()
    monkeypatch.setenv(variable, str(place))
    if (variable, kind) == ("XDG_STATE_HOME", "a comma"):
        pytest.skip("another place is found for the sockets")
    assert cli.main(["build", "--mirror", "http://127.0.0.1:9/debian"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("labkit : ")
    assert str(place) in said
    assert variable in said, "the variable that chooses another"
    if (home / "file").exists():
        assert (home / "file").read_text() == "precious"


@pytest.mark.parametrize("kind", ["fits", "too long", "far too long", "a comma", "a quote"])
def test_a_place_for_sockets_is_found(
    home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    room = 107 - len("/labkit/lab.build/agent") - len(os.fsencode(home)) - 1
    name = {"fits": "x" * room, "too long": "x" * (room + 1), "far too long": "é" * 120,
            "a comma": "a,b", "a quote": 'l"été'}[kind]  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", str(home / name))
    settings = Settings.read()
    settings.check()
    run = settings.run
    usual = kind in {"fits", "a quote"}
    assert usual == run.is_relative_to(home)
    assert Settings.read().run == run, "the next process finds it"
    settings.check()
    assert settings.run == run
    run.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run / "agent"))
    cluster.down(settings)
    assert not list(settings.state.iterdir())
    assert usual or not run.parent.exists()


@pytest.mark.skipif(
    not (shutil.which("fusefat") and shutil.which("mkfs.vfat")) or os.geteuid() != 0,
    reason="a disk without sockets wants root, fusefat and dosfstools",
)
def test_a_disk_without_sockets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, place = home / "image", home / "fat"
    place.mkdir()
    with disk.open("wb") as image:
        image.truncate(64 << 20)
    subprocess.run(["mkfs.vfat", "-F", "32", disk], check=True, capture_output=True)
    mount = ["fusefat", "-o", "rw+", disk, place]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no FUSE here")
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(place))
        settings = Settings.read()
        settings.check()
        assert not settings.run.is_relative_to(place)
        assert settings.run.parent.is_dir()
        cluster.down(settings)
        assert not list(settings.state.iterdir())
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_place_that_was_cleared_is_found_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "a,b"))
    settings = Settings.read()
    settings.check()
    first = settings.run.parent
    first.rmdir()
    settings.check()
    second = settings.run.parent
    assert second.is_dir() and second != first
    second.rmdir()
    cluster.down(settings)
    assert not list(settings.state.iterdir())


def test_a_cache_from_which_nothing_runs_is_told_first(
    other_disk: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["mount", "-o", "remount,noexec", other_disk], check=True)
    for variable in ("LABKIT_CACHE", "LABKIT_SHARED_CACHE"):
        monkeypatch.setenv(variable, str(other_disk))
        with pytest.raises(SettingError, match="noexec") as caught:
            cluster.build(Settings.read(), Report(quiet=True))
        assert variable in caught.value.remedy
        monkeypatch.delenv(variable)


def test_a_disk_too_full_for_a_cluster_is_told(
    other_disk: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(other_disk))
    monkeypatch.setenv("LABKIT_MIRROR", "foo")
    with pytest.raises(DiskFull, match="1 Mo libres, 100 Mo nécessaires") as caught:
        cluster.roomy(Settings.read())
    assert "XDG_STATE_HOME" in caught.value.remedy


def test_a_qemu_that_cannot_even_say_that_the_disk_is_full(other_disk: Path, home: Path) -> None:
    """A real program in QEMU's place: it ends, and what it says finds no room."""
    settings = Settings.read()
    silent = Qemu(("sh", "-c", "echo no room here; exit 1"), "10.0.0", "tcg")
    plan = Plan(other_disk / "run", guest_of(settings), settings, "127.80.3")
    plan.run.mkdir()
    with contextlib.suppress(OSError), (other_disk / "fill").open("wb") as fill:
        while True:
            fill.write(bytes(4096))
    with pytest.raises(OSError) as caught:
        silent.start(plan, Path("none"))
    said = disk_error(other_disk, 100_000_000, caught.value, variable="XDG_STATE_HOME")
    assert isinstance(said, DiskFull)
    assert str(other_disk) in said.message
    assert "0 Mo libres, 100 Mo nécessaires" in said.message


def test_an_account_without_a_home(home: Path) -> None:
    """Nor an entry in /etc/passwd, as OpenShift's; with ``HOME`` it is an account like others."""
    if reason := accounts.missing():
        pytest.skip(reason)
    none = ["setpriv", "--reuid=1000660000", "--regid=0", "--clear-groups"]
    code = "import sys; from labkit import cli; print([cli.main(l.split()) for l in sys.argv[1:]])"
    command = [*none, sys.executable, "-P", "-c", code, "status", "up", "down", "env", "doctor"]
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_STATE_HOME")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    assert done.stdout.endswith("[1, 1, 1, 1, 1]\n"), done.stderr
    assert done.stderr.count("n’a pas de répertoire personnel") == 5
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chown(place, 1000660000, 0)
        command = [*command[:-4], "down", "env"]
        done = subprocess.run(
            command, env=environment | {"HOME": place}, capture_output=True, text=True, cwd="/"
        )
    assert done.stdout.endswith("[3, 0, 1]\n"), done.stderr
    assert "Aucun cluster n’est démarré" in done.stderr


def test_nothing_long_begins_with_a_bad_directory(home: Path) -> None:
    a_file(home / "state")
    for command in (cluster.up, cluster.reset, cluster.build):
        with pytest.raises(SettingError, match="XDG_STATE_HOME"):
            command(Settings.read(), Report(quiet=True))
    assert not (home / "cache").exists()


# What is kept


def sealed(target: Path) -> Path:
    with atomic_directory(target) as work:
        (work / "sub").mkdir()
        (work / "sub/state").write_bytes(b"s" * 5000)
        with (work / "disk").open("wb") as disk:
            disk.truncate(64 << 20)
            disk.seek(40 << 20)
            disk.write(b"data")
        (work / "link").symlink_to("sub/state")
    return target


def test_a_sealed_directory_knows_what_was_damaged(tmp_path: Path) -> None:
    target = sealed(tmp_path / "guest")
    assert verify(target)
    assert verify(target, thorough=True)
    assert target.stat().st_mode & 0o777 == 0o755
    state = target / "sub/state"
    state.write_bytes(b"s" * 4999)
    assert not verify(target), "truncated"
    state.write_bytes(b"s" * 2500 + b"t" + b"s" * 2499)
    assert verify(target), "sizes say nothing"
    assert not verify(target, thorough=True), "changed"
    state.unlink()
    assert not verify(target), "missing"


def test_a_changed_disk_is_seen(tmp_path: Path) -> None:
    target = sealed(tmp_path / "guest")
    with (target / "disk").open("r+b") as disk:
        disk.seek(10 << 20)
        disk.write(b"x")
    assert not verify(target, thorough=True)


@pytest.mark.parametrize("seal", [None, "", "{", "[1]", '{"sub/state": 5}', '{"sub/state": [1]}'])
def test_a_seal_that_is_no_seal(tmp_path: Path, seal: str | None) -> None:
    target = sealed(tmp_path / "guest")
    if seal is None:
        invalidate(target)
        invalidate(target)
    else:
        (target / "seal.json").write_text(seal)
    assert not verify(target)


def test_a_damaged_directory_is_replaced_whole(tmp_path: Path) -> None:
    target = sealed(tmp_path / "guest")
    before = fingerprint(target)
    (target / "sub/state").unlink()
    (target / "stranger").write_text("")
    assert fingerprint(sealed(target)) == before
    assert verify(target, thorough=True)
    assert not (target / "stranger").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["guest"]


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    target = sealed(tmp_path / "guest")
    for failure in (KeyboardInterrupt, OSError):
        with pytest.raises(failure), atomic_directory(target) as work:
            (work / "half").write_text("")
            raise failure
    assert verify(target, thorough=True)
    assert [p.name for p in tmp_path.iterdir()] == ["guest"]


def test_what_a_killed_build_left_goes(home: Path) -> None:
    settings = Settings.read()
    for name in (".guest-x.abc", ".snapshot-x.abc", ".guest-x.abc.old", "guest-x", "mine"):
        (settings.cache / name).mkdir(parents=True)
    remove_half_made(settings)
    assert sorted(p.name for p in settings.cache.iterdir()) == ["guest-x", "mine"]


def test_prune_removes_only_what_labkit_made(home: Path) -> None:
    settings = Settings.read()
    for name in ("guest-old", "guest-new", "snapshot-old", "downloads", "mine"):
        (settings.cache / name).mkdir(parents=True)
    (settings.cache / "guest-file").write_text("")
    gone = prune(settings, {"guest-new"})
    assert sorted(p.name for p in gone) == ["downloads", "guest-old", "snapshot-old"]
    assert {p.name for p in settings.cache.iterdir()} == {"guest-new", "mine", "guest-file"}


def test_other_errors_are_no_full_disk(tmp_path: Path) -> None:
    said = disk_error(tmp_path, 1, PermissionError(13, "Permission denied", "/x/y"))
    assert type(said) is BuildError
    assert "/x/y" in said.message


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_image_moves_to_another_file_system(tmp_path: Path, other_disk: Path) -> None:
    source = tmp_path / "image"
    with source.open("wb") as disk:
        disk.truncate(64 << 20)
        disk.seek(40 << 20)
        disk.write(b"data")
    move_sparse(source, other_disk / "image")
    assert not source.exists()
    assert (other_disk / "image").stat().st_size == 64 << 20


def test_a_disk_image_without_room_says_so(tmp_path: Path, other_disk: Path) -> None:
    (tmp_path / "image").write_bytes(os.urandom(2 << 20))
    with pytest.raises(OSError) as caught:
        copy_sparse(tmp_path / "image", other_disk / "image")
    said = disk_error(other_disk, 2_000_000, caught.value)
    assert said.code == "disk-full"
    assert "2 Mo nécessaires" in said.message


# Run directories


def living(argument: str) -> subprocess.Popen[bytes]:
    """Start a process with an argument, and wait until it can be seen under its own name."""
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", argument],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of another cluster, whose directory's name begins with that of ours."""
    process = living(f"{tmp_path}/lab2/pid")
    yield process
    process.kill()
    process.communicate()


def test_a_stale_pid_never_ends_another_process(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    for name, theirs in (("lab", False), ("lab2", True)):
        run = tmp_path / name
        run.mkdir()
        (run / "pid").write_text(f"{stranger.pid}\n")
        assert (process_of(run) is not None) == theirs
    stop_process(tmp_path / "lab")
    assert stranger.poll() is None
    stop_process(tmp_path / "lab2")
    assert stranger.wait(5) is not None


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1", "9" * 30, "1 2", "\0", "é"])
def test_a_pid_file_with_garbage_is_nobodys(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert process_of(tmp_path) is None
    stop_process(tmp_path)


RECORD = {"network": "127.80.3", "nodes": 3, "numbers": [1, 2, 3], "accel": "tcg", "images": []}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"x"', "{}", "\0"]
    + [
        json.dumps(RECORD | change)
        for change in (
            {"nodes": "3"}, {"nodes": 0}, {"nodes": 300}, {"network": 5}, {"network": "x"},
            {"accel": None}, {"images": [{"x": 1}]}, {"images": 1}, {"more": 1},
            {"numbers": []}, {"numbers": [2]}, {"numbers": [1, 8]}, {"numbers": None},
        )
    ],
)  # fmt: skip
def test_a_corrupt_record(home: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings.read()
    settings.run.mkdir(parents=True)
    (settings.run / "cluster.json").write_text(text)
    assert status(settings).engine == "none"
    with pytest.raises(EngineNotRunning, match="labkit up"):
        cluster.join(settings)
    # With a machine that lives, nothing of what it contains is lost without being asked for.
    machine = living(f"{settings.run}/qmp")
    try:
        (settings.run / "pid").write_text(str(machine.pid))
        assert "labkit reset" in status(settings).detail
        with pytest.raises(EngineNotRunning, match="labkit reset"):
            cluster.join(settings)
        with pytest.raises(MachineFailed, match="labkit reset"):
            cluster.up(settings, Report(quiet=True))
        assert machine.poll() is None
        assert cli.main(["down"]) == 0
        assert machine.wait(5) is not None
    finally:
        machine.kill()
        machine.communicate()
    assert not list(settings.run.parent.iterdir())


def test_a_record_that_is_whole_is_read(home: Path) -> None:
    settings = Settings.read()
    settings.run.mkdir(parents=True)
    (settings.run / "cluster.json").write_text(json.dumps(RECORD))
    assert "s’est arrêtée" in status(settings).detail
    with pytest.raises(EngineNotRunning, match="s’est arrêté"):
        cluster.join(settings)


@pytest.mark.parametrize("answers", [0, 1, 2])
def test_a_machine_that_ends_while_it_is_asked(tmp_path: Path, answers: int) -> None:
    said = [b'{"QMP": {"version": {"qemu": {}, "package": ""}, "capabilities": []}}\r\n',
            b'{"return": {}, "id": "__labkit#00000"}\r\n']  # fmt: skip

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            for text in said[:answers]:
                connection.sendall(text)
                connection.recv(4096)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "qmp"))
        server.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(MachineFailed, match="ne répond pas"):
            control.execute(tmp_path / "qmp", ("query-status", {}), timeout=5)
        thread.join()
    with pytest.raises(MachineFailed, match="ne répond pas"):
        control.execute(tmp_path / "nothing", ("query-status", {}), timeout=5)


# Two at once


def test_the_second_waits_says_so_and_only_one_holds_the_lock(tmp_path: Path) -> None:
    lock, held, most, said = tmp_path / "lock", 0, 0, []
    count = threading.Lock()

    class Saying(Report):
        def step(self, text: str) -> None:
            said.append(text)

    def work(remove: bool) -> None:
        nonlocal held, most
        with lock_file(lock, Saying()):
            with count:
                held += 1
                most = max(most, held)
            time.sleep(0.05)
            if remove:  # as « labkit down » does
                lock.unlink()
            with count:
                held -= 1

    threads = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == 1
    assert said[0] == "Un autre labkit y travaille déjà : attente"


# labkit doctor


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = cli.main(["doctor"])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_doctor_tries_the_mirror(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for address, what in (("http://127.0.0.1:9/debian", "InRelease"), ("foo", "foo")):
        monkeypatch.setenv("LABKIT_MIRROR", address)
        status, said = doctor(capsys)
        assert status == 1
        assert any(line.startswith("✘") and what in line for line in said.splitlines()), said


def test_doctor_tries_the_directories(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_MIRROR", "foo")
    a_file(home / "cache")
    a_file(home / "state")
    status, said = doctor(capsys)
    assert status == 1
    assert "LABKIT_CACHE" in said
    assert "XDG_STATE_HOME" in said


def test_doctor_sees_a_damaged_guest(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_MIRROR", "foo")
    guest_of(Settings.read()).directory.mkdir(parents=True)
    status, said = doctor(capsys)
    assert status == 1
    assert "✘ La machine construite est abîmée.  → Lancez « labkit build »" in said


def test_a_damaged_guest_is_said_and_built_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "PAUSE", 0.0)
    steps: list[str] = []

    class Saying(Report):
        def step(self, text: str) -> None:
            steps.append(text)

    settings = Settings(cache=home / "cache", mirror="http://127.0.0.1:9/debian", accel="tcg")
    sealed_by_us = guest_of(settings).directory
    sealed_by_us.parent.mkdir()
    (sealed(sealed_by_us) / "sub/state").write_text("short")
    with pytest.raises(LabkitError, match="InRelease"):
        cluster.build(settings, Saying())
    assert steps[0] == "La machine construite est abîmée : elle est refaite"


# What is forwarded

_MESH = {("node1", 80), ("node2", 80), ("node3", 80)}
_LED = Ports("manager", frozenset({80}))


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"node1": _LED, "node2": Ports("worker"), "node3": Ports("")}, _MESH),
        ({"node1": _LED, "node2": None, "node3": Ports("worker")}, _MESH),
        # no quorum: the manager that lives has no leader to ask, the worker answers for itself
        ({"node1": None, "node2": None, "node3": Ports("worker")}, _MESH),
        ({"node1": Ports(""), "node2": None, "node3": Ports("worker")}, _MESH - {("node1", 80)}),
        # the service is gone
        ({"node1": Ports("manager"), "node2": Ports("worker"), "node3": Ports("worker")}, set()),
        ({"node1": Ports(""), "node2": Ports(""), "node3": Ports("")}, set()),
        (
            {"node1": Ports("manager"), "node2": Ports("worker", own=frozenset({81}))},
            {("node2", 81)},
        ),
    ],
)
def test_the_mesh_stays_open_without_managers(
    told: dict[str, Ports | None], found: set[tuple[str, int]]
) -> None:
    assert wanted(told, _MESH) == found


# The command line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "il manque : COMMANDE"),
        ("nodes", "« nodes » n’existe pas ; au choix : build, up"),
        ("node", "il manque : ACTION"),
        ("node kill", "il manque : NŒUD"),
        ("node restart node1", "« restart » n’existe pas ; au choix : ls, shell, logs"),
        ("node kill node1 node2", "argument inconnu : node2"),
        ("node logs node1 --since", "--since attend une valeur"),
        ("up --nodes trois", "« trois » n’est pas un nombre"),
    ],
)
def test_a_wrong_command_line_is_told_in_french(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert said in message
    assert "--help »" in message


@pytest.mark.parametrize("line", ["-h", "node -h", "node logs --help", "up -h"])
def test_help_is_french(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    assert not end.value.code
    text = capsys.readouterr().out
    assert text.startswith("usage : labkit")
    assert "montre cette aide" in text
    assert not re.search(r"positional|show this|usage:|options:", text)


def test_a_machine_that_does_not_boot_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    boots: list[Machine] = []

    def boot(machine: Machine, step: object) -> None:
        boots.append(machine)
        if len(boots) < 2:
            raise MachineFailed("it hangs")

    def load(machine: Machine) -> None:
        raise Enough

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(Machine, "boot", boot)
    monkeypatch.setattr(snapshot, "_load_images", load)
    place = tmp_path / "snapshot"
    driver = Qemu(("false",), "10.0.0", "tcg")
    made_of = Installation(Settings(), Guest(tmp_path, "key"), driver, place)
    with pytest.raises(Enough):
        snapshot._save(made_of, Report(quiet=True))
    assert len(boots) == 2
