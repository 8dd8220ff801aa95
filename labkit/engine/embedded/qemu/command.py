"""QEMU's command line, when it is the machine."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.engine.embedded.driver import MACS, Plan
from labkit.engine.embedded.qemu.network import network

AGENT = "org.qemu.guest_agent.0"
# What Go's cryptography looks for: its portable AES is many times slower under emulation.
EMULATED_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq"


def arguments(command: Sequence[str], accel: str, plan: Plan) -> list[str]:
    """Return the command line without its data disk; ``command`` is QEMU itself."""
    run, guest, settings = plan.run, plan.guest, plan.settings
    kernel = (
        "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 mitigations=off nokaslr audit=0 "
        "selinux=0 apparmor=0 random.trust_cpu=on nowatchdog "
        # Memory goes back to the host in pieces of 256 KiB; timers fire 250 times a second at
        # most, which halves what an idle swarm costs in wake-ups.
        "transparent_hugepage=never page_reporting.page_reporting_order=6 highres=off "
        f"lab.nodes={settings.nodes} lab.disk=vdb lab.in=eth0 lab.out=eth1 lab.agent={AGENT}"
    )
    way_in, way_out = MACS
    return [
        # with an HPET, a timer that nobody waits for wakes QEMU 250 times a second
        *command, "-M", "pc,hpet=off",
        "-accel", "kvm" if accel == "kvm" else "tcg,thread=multi,tb-size=256",
        "-cpu", "host" if accel == "kvm" else EMULATED_CPU,
        "-smp", str(settings.cpus), "-m", str(settings.guest_memory),
        "-no-reboot", "-kernel", str(guest.directory / "vmlinuz"),
        "-initrd", str(guest.directory / "initrd"), "-append", kernel,
        "-drive", f"id=r,file={guest.directory / 'root.ext4'},format=raw,if=none,readonly=on,"
        "file.locking=off",
        "-device", "virtio-blk-pci,drive=r", "-device", "virtio-blk-pci,drive=d",
        *network(plan),
        "-device", f"virtio-net-pci,netdev=in,mac={way_in},romfile=",
        "-device", f"virtio-net-pci,netdev=out,mac={way_out},romfile=",
        "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
        "-device", "vmgenid,guid=auto",
        "-device", "virtio-balloon-pci,free-page-reporting=on",  # free pages return to the host
        "-device", "virtio-serial-pci",
        "-chardev", f"socket,id=ga,path={run / 'agent'},server=on,wait=off",
        "-device", f"virtserialport,chardev=ga,name={AGENT}",
        "-chardev", f"file,id=console,path={run / 'console'},append=on",  # it may be cut short
        "-serial", "chardev:console", "-pidfile", str(run / "pid"),
    ]  # fmt: skip
