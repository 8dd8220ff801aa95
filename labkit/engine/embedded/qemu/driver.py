"""QEMU starts the machine, and its sockets in the run directory speak with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labkit.engine.embedded.agent import Line, over_socket
from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.driver import MACS, Plan
from labkit.engine.embedded.processes import note_process, stop_process
from labkit.engine.embedded.qemu import network, qmp
from labkit.engine.embedded.qemu.network import Network
from labkit.engine.embedded.settings import Settings

STATE = "state"  # of a snapshot: the machine's memory
STATES = {"running": "running", "io-error": "full"}  # QEMU's word -> ours; all others are a pause
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
        *network.network(plan),
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


@dataclass(frozen=True, slots=True)
class Qemu:
    """A QEMU that is good enough: its command, its version and its accelerator."""

    command: tuple[str, ...]
    version: str
    accel: str

    @property
    def name(self) -> str:
        """Return the accelerator, which is what a user chooses."""
        return self.accel

    @property
    def package(self) -> str:
        """Return nothing: it came from Debian or is the system's."""
        return ""

    def traits(self, settings: Settings, guest: Guest) -> list[str]:
        """Return the command line, as it would be anywhere: any other is another machine."""
        anywhere = replace(settings, cluster="any")
        plan = Plan(Path("run"), Guest(Path("guest"), guest.key), anywhere, "127.0.0")
        return arguments(("qemu",), self.accel, plan)

    def start(self, plan: Plan, disk: Path) -> None:
        """Start a machine from nothing, with a data disk of its own."""
        self._start(plan, f"file={disk},format=raw")

    def restore(self, plan: Plan, snapshot: Path) -> None:
        """Start a machine where it was frozen; its disk's changes go to an unnamed file."""
        disk = f"file={snapshot / 'data.ext4'},format=raw,snapshot=on,file.locking=off"
        self._start(plan, disk, "-incoming", "defer")
        qmp.migrate(plan.run / "qmp", "migrate-incoming", f"file:{snapshot / STATE}")
        qmp.execute(plan.run / "qmp", ("cont", {}))

    def _start(self, plan: Plan, disk: str, *extra: str) -> None:
        command = arguments(self.command, self.accel, plan)
        command += ["-drive", f"id=d,{disk},if=none,cache=unsafe,discard=unmap", *extra]
        network.start(plan, command)
        note_process(plan.run, int((plan.run / "pid").read_text()))


class QemuInstance(Network):
    """Speaks with the QEMU of a run directory."""

    def line(self) -> Line:
        """Return the socket of the guest's agent."""
        return over_socket(self.run / "agent")

    def state(self) -> str:
        """Return ``running``, ``full`` (paused: this host's disk is) or ``paused``."""
        (said,) = qmp.execute(self.run / "qmp", ("query-status", {}), timeout=5)
        status = str(said.get("status")) if isinstance(said, dict) else ""
        return STATES.get(status, "paused")

    def pause(self) -> None:
        """Let the machine stand still."""
        qmp.execute(self.run / "qmp", ("stop", {}))

    def resume(self) -> None:
        """Let a paused machine go on."""
        qmp.execute(self.run / "qmp", ("cont", {}))

    def save(self, snapshot: Path) -> None:
        """Freeze the machine, and write its memory into a directory."""
        state = snapshot / STATE
        qmp.migrate(self.run / "qmp", "migrate", f"file:{state}")
        state.chmod(0o644)  # a cache may be shared; no key of a later start is in it

    def watch(self) -> None:
        """Do nothing: QEMU pauses by itself where it cannot write."""

    def stop(self) -> None:
        """End QEMU."""
        stop_process(self.run)
