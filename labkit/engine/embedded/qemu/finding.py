"""Find a QEMU that is good enough, and its accelerator."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labkit.engine.embedded.build.guest import Guest, loader
from labkit.engine.embedded.identity import once_a_boot
from labkit.engine.embedded.qemu.driver import Qemu
from labkit.engine.embedded.settings import Settings
from labkit.errors import PlatformNotSupported
from labkit.polling import until

MINIMUM = (10, 0)  # 7.2 double-faults with kernel 6.12; mapped-ram files came with 9.0
KVM_PROBE_SECONDS = 4.0


def find_qemu(guest: Guest, settings: Settings) -> Qemu:
    """Return the system's QEMU where it is new enough, else the one built with the guest.

    Raises ``PlatformNotSupported`` on anything but x86-64 Linux, or when ``LABKIT_ACCEL=kvm`` and
    KVM does not work.
    """
    machine = os.uname()
    if machine.sysname != "Linux" or machine.machine != "x86_64":
        raise PlatformNotSupported(
            f"Le moteur embarqué demande Linux sur x86-64 (ici : {machine.sysname} "
            f"{machine.machine}).",
            remedy="Utilisez vos propres moteurs : LABKIT_ENGINE=ssh://…,ssh://…",
        )
    command, version = _system() or _bundled(guest)
    accel = "tcg"  # of QEMU, where another driver is asked for
    if settings.accel in {"auto", "kvm"}:
        works = _kvm_works(command, guest, settings.cache / "kvm-probe")
        if settings.accel == "kvm" and not works:
            raise PlatformNotSupported(
                "LABKIT_ACCEL=kvm, mais /dev/kvm n’est pas utilisable ici.",
                remedy="Retirez LABKIT_ACCEL : l’émulation logicielle suffit au cours.",
            )
        accel = "kvm" if works else "tcg"
    return Qemu(command, version, accel)


def _system() -> tuple[tuple[str, ...], str] | None:
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        return None
    version = _version((program,))
    good = tuple(int(part) for part in version.split(".")) >= MINIMUM
    return ((program,), version) if good else None


def _bundled(guest: Guest) -> tuple[tuple[str, ...], str]:
    tree = guest.directory / "qemu"
    command = loader(tree, "usr/bin/qemu-system-x86_64")
    for data in ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"):
        command += ["-L", str(tree / data)]
    return tuple(command), _version(command)


def _version(command: Sequence[str]) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30)
    found = re.search(r"version (\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else "0.0.0"


def _kvm_works(command: Sequence[str], guest: Guest, memory: Path) -> bool:
    """Probe KVM once a boot of this machine: a hang costs the whole time limit."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    return once_a_boot(memory, "", lambda: "yes" if probe_kvm(command, guest) else "no") == "yes"


def probe_kvm(command: Sequence[str], guest: Guest) -> bool:
    """Tell whether KVM really runs a guest: a /dev/kvm may exist, accept one, and hang.

    The guest's own kernel, on two CPUs, must reach its first process within a time limit. Its
    firmware alone proves nothing: it runs where a kernel hangs.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory(prefix="labkit-") as directory:
        log = Path(directory) / "console"
        process = subprocess.Popen(
            [*command, "-M", "pc", "-accel", "kvm", "-cpu", "host", "-m", "256", "-smp", "2",
             "-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{log}",
             "-kernel", str(guest.directory / "vmlinuz"),
             "-initrd", str(guest.directory / "initrd"),
             "-append", "console=ttyS0 loglevel=7 panic=-1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:

            def begun() -> bool:
                return log.exists() and b"Run /init as init process" in log.read_bytes()

            until(lambda: begun() or process.poll() is not None, bool, KVM_PROBE_SECONDS, 0.05)
            return begun()
        finally:
            process.kill()
            process.wait()
