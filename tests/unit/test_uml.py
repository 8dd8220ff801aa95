"""User-Mode Linux: the wall around it, its processor, and what is said where it is not there."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from labkit.engine.embedded import snapshot
from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.build.sealed import atomic_directory, verify
from labkit.engine.embedded.qemu import finding as qemu_finding
from labkit.engine.embedded.qemu.driver import Qemu
from labkit.engine.embedded.qemu.finding import find_qemu
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.uml import confined, finding, kernel, pinning, wheel
from labkit.engine.embedded.uml.driver import Uml
from labkit.engine.embedded.uml.finding import find_uml, look_up
from labkit.engine.progress import Report
from labkit.errors import BuildError, PlatformNotSupported, SettingError

CORE = min(os.sched_getaffinity(0))
VERSION = confined.landlock()
walled = pytest.mark.skipif(VERSION < 1, reason="this host's kernel knows no Landlock")


def run(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the wall, which lets it read the system and write one directory."""
    write = tmp_path / "write"
    write.mkdir(exist_ok=True)
    read = [
        p
        for p in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", sys.prefix)
        if Path(p).exists()
    ]
    program = [sys.executable, "-I", "-S", confined.__file__, str(CORE)]
    return subprocess.run(
        [*program, ":".join(read), str(write), *command], capture_output=True, text=True
    )


@walled
def test_no_file_of_the_student_is_reached(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("token")
    assert run(tmp_path, "/bin/sh", "-c", f"cat {secret}").stdout == ""
    assert run(tmp_path, "/bin/sh", "-c", f"echo > {secret}").returncode
    assert secret.read_text() == "token"
    inside = tmp_path / "write/file"
    assert run(tmp_path, "/bin/sh", "-c", f"echo done >{inside}; cat {inside}").stdout == "done\n"


@walled
@pytest.mark.skipif(VERSION < 4, reason="this host's Landlock knows no network")
def test_no_port_is_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        bash = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
        assert "denied" in run(tmp_path, "/bin/bash", "-c", bash).stderr


@walled
@pytest.mark.skipif(VERSION < 6, reason="this host's Landlock knows no signals")
def test_no_process_is_signalled(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as victim:
        run(tmp_path, "/bin/sh", "-c", f"kill -9 {victim.pid}")
        assert victim.poll() is None
        victim.kill()


def test_the_program_stays_on_its_processor(tmp_path: Path) -> None:
    assert run(tmp_path, "/usr/bin/nproc").stdout == "1\n"


def test_a_machine_moves_only_where_that_helps() -> None:
    assert pinning.better({0: 1.0, 1: 0.1}, 0, ours=0.2) == 1
    assert pinning.better({0: 1.0, 1: 0.1}, 0, ours=0.9) is None  # it is alone there
    assert pinning.better({0: 1.0, 1: 0.8}, 0, ours=0.2) is None  # no better there
    assert pinning.better({0: 1.0}, 0, ours=0.2) is None
    assert {pinning.freest({0: 0.5, 1: 0.1, 2: 0.2}) for _ in range(50)} == {1, 2}


def test_nothing_of_the_kernel_leads_to_the_host() -> None:
    fragment = (files("labkit.engine.embedded.uml") / "kernel.fragment").read_text()
    for option in ("SMP", "MODULES", "HOSTFS", "DEVMEM"):
        assert f"# CONFIG_{option} is not set" in fragment
    options = re.findall(r"CONFIG_(\w+)[ =]", fragment)
    assert len(options) == len(set(options))


def test_what_kconfig_reads_is_unpacked() -> None:
    for kept in ("arch/arm/crypto/Kconfig", "Documentation/Kconfig", "drivers/net/veth.c",
                 "arch/um/kernel/time.c", "scripts/Makefile.build"):  # fmt: skip
        assert not kernel.DROP.match(kept)
    for dropped in ("arch/arm/crypto/aes.c", "Documentation/a/b.rst", "drivers/gpu/drm/a.c"):
        assert kernel.DROP.match(dropped)


def test_without_a_kernel_one_is_told_how_to_have_one(tmp_path: Path) -> None:
    guest, qemu = Guest(tmp_path, "key"), Qemu(("qemu",), "10.0.0", "tcg")
    assert find_uml(guest, Settings(cache=tmp_path), qemu) is None
    assert "labkit build --kernel" in look_up(guest, Settings(cache=tmp_path))[0]
    with pytest.raises(PlatformNotSupported, match="LABKIT_ACCEL=uml") as caught:
        find_uml(guest, Settings(cache=tmp_path, accel="uml"), qemu)
    assert "labkit build --kernel" in caught.value.remedy


def test_a_kernel_that_does_not_start_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(cache=tmp_path)
    with atomic_directory(kernel.kernel_directory(settings)) as made:
        (made / "linux").write_text("#!/bin/sh\nexit 1\n")
        (made / "linux").chmod(0o755)
        (made / "kernel.json").write_text('{"version": "7.2.1-1"}')
    guest, qemu = Guest(tmp_path, "key"), Qemu(("qemu",), "10.0.0", "tcg")
    assert find_uml(guest, settings, qemu) is None
    monkeypatch.setattr(finding, "probe", lambda *_: pytest.fail("it was tried again"))
    assert "ne démarre pas ici" in look_up(guest, settings)[0]


def test_where_it_is_asked_for_no_other_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu_finding, "_system", lambda: (("qemu",), "10.0.0"))
    monkeypatch.setattr(qemu_finding, "_kvm_works", lambda *_: pytest.fail("KVM was tried"))
    for accel in ("uml", "tcg"):
        found = find_qemu(Guest(tmp_path, "key"), Settings(cache=tmp_path, accel=accel))
        assert found.accel == "tcg"


def test_a_path_that_it_cannot_say_is_told(tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path / "with space")
    settings.cache.mkdir()
    with pytest.raises(BuildError, match="ni espace"):
        kernel.build_kernel(settings, Report(quiet=True))
    with atomic_directory(kernel.kernel_directory(settings)) as made:
        (made / "linux").touch()
    assert "ni espace" in look_up(Guest(settings.cache, "key"), settings)[0]


def test_a_byte_that_changed_in_it_is_seen_by_a_build(tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path, mirror="http://127.0.0.1:9/debian")
    built = kernel.kernel_directory(settings)
    with atomic_directory(built) as made:
        (made / "linux").write_text("a kernel")
    (built / "linux").write_text("a colone")
    assert verify(built), "sizes say nothing"
    with pytest.raises(BuildError):  # nothing is downloaded here
        snapshot.build(settings, Report(quiet=True), thorough=True)
    assert not verify(built)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a kernel that was packed, and installed by pip where Python looks."""
    built = kernel.kernel_directory(Settings(cache=tmp_path))
    with atomic_directory(built) as made:
        for name in ("linux", *(Path(text).name for text in wheel.LICENCES)):
            (made / name).write_text(name)
        (made / "linux").chmod(0o755)
        facts = {"version": "7.2.1-1~bpo13+1", "source": "linux-source-7.2", "libc": "2.41-12"}
        (made / "kernel.json").write_text(json.dumps(facts))
    file, site = wheel.pack(built, tmp_path / "wheels"), tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(file)], check=True)
    monkeypatch.syspath_prepend(site)
    return site / wheel.FOLDER / built.name


def test_a_kernel_is_packed_with_its_licence_and_its_source(packed: Path) -> None:
    said = importlib.metadata.metadata(wheel.NAME)
    assert said["Version"] == f"7.2.1+{packed.name.removeprefix('kernel-')}"
    assert said["License-Expression"].startswith("GPL-2.0-only")
    assert said["Project-URL"].endswith("/linux/7.2.1-1~bpo13+1/")
    assert all((packed / text).exists() for text in said.get_all("License-File"))
    assert "linux-source-7.2" in said.get_payload() and "2.41-12" in said.get_payload()


def test_an_installed_kernel_serves_where_none_is_built(packed: Path, tmp_path: Path) -> None:
    assert kernel.kernel_directory(Settings(cache=tmp_path)) == tmp_path / packed.name
    empty = Settings(cache=tmp_path / "empty")
    assert kernel.kernel_directory(empty) == packed
    assert os.access(packed / "linux", os.X_OK) and kernel.kernel_version(packed) == "7.2.1"
    assert kernel.build_kernel(empty, Report(quiet=True)) == packed
    assert Uml(packed / "linux", "7.2.1", ("qemu",), "ptrace").package == wheel.NAME


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda kernel: kernel.rename(kernel.with_name("kernel-0")), "autre version de labkit"),
        (lambda kernel: (kernel / "linux").chmod(0o777), "d’autres comptes peuvent écrire"),
        (lambda kernel: (kernel / "linux").write_text("damaged"), "abîmé"),
    ],
)
def test_an_installed_kernel_that_is_not_right_is_refused(
    packed: Path, tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(packed)
    empty = Settings(cache=tmp_path / "empty")
    assert kernel.kernel_directory(empty) == empty.cache / packed.name
    why = look_up(Guest(tmp_path, "key"), empty)[0]
    assert said in why and "labkit build --kernel" in why
    assert find_uml(Guest(tmp_path, "key"), empty, Qemu(("qemu",), "10.0.0", "tcg")) is None


def test_a_kernel_without_its_licence_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="licence") as caught:
        wheel.pack(tmp_path / "kernel-0", tmp_path)
    assert "Supprimez" in caught.value.remedy


@pytest.mark.parametrize("name, value", [("accel", "qemu"), ("uml", "fast")])
def test_unknown_values_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=value):
        Settings(**{name: value})  # type: ignore[arg-type]
