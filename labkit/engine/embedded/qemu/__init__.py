"""QEMU: which one, with which accelerator, and with which command line."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.engine.embedded.build.guest import Guest, loader
from labkit.engine.embedded.egress import CLUSTER, GATEWAY, RESOLVER
from labkit.engine.embedded.settings import Settings
from labkit.errors import PlatformNotSupported

__all__ = ["MINIMUM", "Qemu", "find_qemu", "probe_kvm"]

MINIMUM = (10, 0)  # 7.2 double-faults with kernel 6.12; mapped-ram files came with 9.0
KVM_PROBE_SECONDS = 4.0
API_PORT = 2376
# No program is run, no right is gained; where it does not work, QEMU runs without.
SANDBOX = (
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
)  # fmt: skip
# What Go's cryptography looks for: its portable AES is many times slower under emulation.
EMULATED_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq"


@dataclass(frozen=True, slots=True)
class Qemu:
    """A QEMU that is good enough: its command, its version and its accelerator."""

    command: tuple[str, ...]
    version: str
    accel: str


def find_qemu(guest: Guest, settings: Settings) -> Qemu:
    """Return the system's QEMU where it is new enough, else the one built with the guest.

    Raises
    ------
    PlatformNotSupported
        On anything but x86-64 Linux, or when ``LABKIT_ACCEL=kvm`` and KVM does not work.
    """
    machine = os.uname()
    if machine.sysname != "Linux" or machine.machine != "x86_64":
        raise PlatformNotSupported(
            f"Le moteur embarqué demande Linux sur x86-64 (ici : {machine.sysname} "
            f"{machine.machine}).",
            remedy="Utilisez vos propres moteurs : LABKIT_ENGINE=ssh://…,ssh://…",
        )
    command, version = _system() or _bundled(guest)
    accel = settings.accel
    if accel != "tcg":
        works = _kvm_works(command, guest, settings.cache / "kvm-probe")
        if accel == "kvm" and not works:
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
    return ((program,), version) if _tuple(version) >= MINIMUM else None


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


def _tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _kvm_works(command: Sequence[str], guest: Guest, memory: Path) -> bool:
    """Probe KVM once a boot of this machine: a hang costs the whole time limit."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        known, answer = memory.read_text().split()
    except (OSError, ValueError):
        known = answer = ""
    if known != boot:
        answer = "yes" if probe_kvm(command, guest) else "no"
        with contextlib.suppress(OSError):  # a cache may be shared read-only
            memory.write_text(f"{boot} {answer}\n")
    return answer == "yes"


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
            deadline = time.monotonic() + KVM_PROBE_SECONDS
            while time.monotonic() < deadline and process.poll() is None:
                if log.exists() and b"Run /init as init process" in log.read_bytes():
                    return True
                time.sleep(0.05)
            return False
        finally:
            process.kill()
            process.wait()


def arguments(qemu: Qemu, settings: Settings, guest: Guest, run: Path, network: str) -> list[str]:
    """Return the command line without its data disk.

    Parameters
    ----------
    run
        Directory of the sockets and logs.
    network
        The first three numbers of the cluster's loopback addresses, such as ``127.80.3``; with
        another port of its engines than usual, ``127.80.3:12376``.
    """
    forwards = "".join(
        f",hostfwd={engine_forward(network, n)}" for n in range(1, settings.nodes + 1)
    )
    accel = "kvm" if qemu.accel == "kvm" else "tcg,thread=multi,tb-size=256"
    kernel = (
        "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 mitigations=off nokaslr audit=0 "
        "selinux=0 apparmor=0 random.trust_cpu=on nowatchdog "
        # Memory goes back to the host in pieces of 256 KiB; timers fire 250 times a second at
        # most, which halves what an idle swarm costs in wake-ups.
        "transparent_hugepage=never page_reporting.page_reporting_order=6 highres=off "
        f"lab.nodes={settings.nodes}"
    )
    return [
        # with an HPET, a timer that nobody waits for wakes QEMU 250 times a second
        *qemu.command, "-name", f"labkit-{settings.cluster}", "-M", "pc,hpet=off",
        "-accel", accel,
        "-cpu", "host" if qemu.accel == "kvm" else EMULATED_CPU,
        "-smp", str(settings.cpus), "-m", str(settings.guest_memory),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", str(guest.directory / "vmlinuz"), "-initrd", str(guest.directory / "initrd"),
        "-append", kernel,
        "-drive", f"id=r,file={guest.directory / 'root.ext4'},format=raw,if=none,readonly=on,"
        "file.locking=off",
        "-device", "virtio-blk-pci,drive=r", "-device", "virtio-blk-pci,drive=d",
        # Two ways: one in, for what the host opens, which leads nowhere else; one out, of which
        # each frame goes through labkit (egress), and none where labkit is not there.
        "-netdev", f"user,id=u,net={CLUSTER},dns=192.168.77.5,restrict=on,ipv6=off{forwards}",
        "-device", "virtio-net-pci,netdev=u,mac=52:54:00:00:00:01,romfile=",
        "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
        "-device", "vmgenid,guid=auto",
        "-device", "virtio-balloon-pci,free-page-reporting=on",  # free pages return to the host
        "-device", "virtio-serial-pci",
        "-chardev", f"socket,id=ga,path={run / 'agent'},server=on,wait=off",
        "-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0",
        "-qmp", f"unix:{run / 'qmp'},server=on,wait=off",
        "-chardev", f"file,id=console,path={run / 'console'},append=on",  # it may be cut short
        "-serial", "chardev:console", "-pidfile", str(run / "pid"),
        "-netdev", f"user,id=e,net={CLUSTER},host={GATEWAY},dns={RESOLVER},ipv6=off",
        "-chardev", f"socket,id=sent,path={run / 'sent'},server=on,wait=off",
        "-chardev", f"pipe,id=pass,path={run / 'pass'}",
        "-object", "filter-redirector,id=f,netdev=e,queue=rx,outdev=sent,indev=pass",
        "-device", "virtio-net-pci,netdev=e,mac=52:54:00:00:00:02,romfile=",
    ]  # fmt: skip


def split_network(network: str) -> tuple[str, int]:
    """Return the first three numbers of a cluster's addresses, and the port of its engines."""
    numbers, _, port = network.partition(":")
    return numbers, int(port or API_PORT)


def engine_forward(network: str, number: int) -> str:
    """Return what leads from a node's loopback address to its engine, in QEMU's words."""
    numbers, port = split_network(network)
    return f"tcp:{numbers}.{number}:{port}-192.168.77.9:{API_PORT + number}"
