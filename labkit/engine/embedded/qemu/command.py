"""QEMU's command line, and its words for the ways into the machine."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from labkit.engine.embedded.addresses import Forward, engine_forward
from labkit.engine.embedded.driver import Plan
from labkit.engine.embedded.egress import CLUSTER

__all__ = ["GATEWAY", "RESOLVER", "SANDBOX", "arguments", "listener", "rule"]

GATEWAY, RESOLVER = IPv4Address("192.168.77.4"), IPv4Address("192.168.77.3")  # see guest/init
# No program is run, no right is gained; where it does not work, QEMU runs without.
SANDBOX = (
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
)  # fmt: skip
# What Go's cryptography looks for: its portable AES is many times slower under emulation.
EMULATED_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq"


def arguments(command: Sequence[str], accel: str, plan: Plan) -> list[str]:
    """Return the command line without its data disk.

    Parameters
    ----------
    command
        QEMU itself.
    accel
        ``tcg`` or ``kvm``.
    """
    run, guest, settings = plan.run, plan.guest, plan.settings
    forwards = "".join(
        f",hostfwd={rule(engine_forward(plan.network, n))}" for n in range(1, settings.nodes + 1)
    )
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
        *command, "-name", f"labkit-{settings.cluster}", "-M", "pc,hpet=off",
        "-accel", "kvm" if accel == "kvm" else "tcg,thread=multi,tb-size=256",
        "-cpu", "host" if accel == "kvm" else EMULATED_CPU,
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


def listener(forward: Forward) -> str:
    """Return where a way into the machine begins, in QEMU's words."""
    return f"{forward.kind}:{forward.address}:{forward.port}"


def rule(forward: Forward) -> str:
    """Return a way into the machine in QEMU's words."""
    return f"{listener(forward)}-{forward.to}:{forward.to_port}"
