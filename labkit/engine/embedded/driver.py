"""The seam under the machine: what runs it, and how one speaks with it while it runs.

A driver is a room of its own (:mod:`labkit.engine.embedded.qemu`). Nobody outside of it knows its
command line, its protocol or the addresses of its network; this module alone names it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from labkit.engine.embedded import agent
from labkit.engine.embedded.addresses import Forward
from labkit.engine.embedded.agent import Line
from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.settings import Settings
from labkit.engine.progress import Report
from labkit.errors import MachineFailed

MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02")  # of its network cards: the way in, the way out


class StateLost(MachineFailed):
    """A machine's state could not be saved or read again; the driver says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A machine that is to start."""

    run: Path  # its run directory, made, with a directory ``tmp`` for what it writes
    guest: Guest
    settings: Settings
    network: str  # its loopback addresses, as :func:`.addresses.free_network` gives them


class Driver(Protocol):
    """Starts machines. Each runs on by itself, and its id is then in the run directory."""

    @property
    def name(self) -> str:
        """Return what the user calls it, such as ``tcg``."""

    @property
    def version(self) -> str:
        """Return the version of the program."""

    @property
    def package(self) -> str:
        """Return the installed Python package that it came from; "" for none."""

    def traits(self, settings: Settings, guest: Guest) -> list[str]:
        """Return all that a saved state depends on, but the guest's files."""

    def start(self, plan: Plan, disk: Path) -> None:
        """Start a machine from nothing, with a data disk of its own, or raise ``MachineFailed``."""

    def restore(self, plan: Plan, snapshot: Path) -> None:
        """Start a machine where :meth:`Instance.save` froze it; the snapshot is only read.

        Raises ``StateLost`` when it cannot be read again, ``MachineFailed`` for all else.
        """


class Instance(Protocol):
    """Speaks with a machine that runs, from any process of its user."""

    run: Path  # its run directory
    logs: Sequence[str]  # files of the run directory to which the driver appends
    gateway: IPv4Address  # the router of the machine's way out
    resolver: IPv4Address  # the name server that the machine may ask

    def line(self) -> Line:
        """Return the way to the guest's agent."""

    def state(self) -> str:
        """Return ``running``, ``full`` (paused: this host's disk is) or ``paused``."""

    def pause(self) -> None:
        """Let the machine stand still."""

    def resume(self) -> None:
        """Let a paused machine go on."""

    def shell(self, script: str, timeout: float = 20) -> str:
        """Run a shell script as root in the guest, and return what it printed."""
        return agent.run_shell(self.line(), script, timeout)

    def clock(self, timeout: float = 20) -> float:
        """Return what the guest's clock says, in seconds."""
        return agent.tell_time(self.line(), timeout)

    def forward(self, opened: Sequence[Forward] = (), closed: Sequence[Forward] = ()) -> list[str]:
        """Close ways into the machine, then open others; return a complaint, or "", for each."""

    def console(self) -> str:
        """Return the end of what the guest's kernel and ``init`` printed."""
        return (self.run / "console").read_text(errors="replace")[-400:]

    def save(self, snapshot: Path) -> None:
        """Freeze the machine, and write its state into a directory, or raise ``StateLost``."""

    def watch(self) -> None:
        """Do what the driver itself has to do while the machine lives; return when it ended."""

    def pass_out(self, lets: Callable[[bytes], bool]) -> None:
        """Pass on the frames that may leave the machine, until it ends."""

    def stop(self) -> None:
        """End the machine."""


def find_driver(guest: Guest, settings: Settings) -> Driver:
    """Return what runs the machine here; raise ``PlatformNotSupported`` where nothing does."""
    from labkit.engine.embedded.qemu.finding import find_qemu
    from labkit.engine.embedded.uml.finding import find_uml

    qemu = find_qemu(guest, settings)
    return qemu if qemu.accel == "kvm" else find_uml(guest, settings, qemu) or qemu


def why_slow(guest: Guest, settings: Settings) -> str:
    """Return in French why the machine is emulated here, and what helps; "" where it is not."""
    from labkit.engine.embedded.uml.finding import look_up

    if settings.accel == "tcg" or find_driver(guest, settings).name != "tcg":
        return ""
    return look_up(guest, settings)[0]


def driver_directory(settings: Settings) -> Path:
    """Return where what :func:`build_driver` builds is, or will be."""
    from labkit.engine.embedded.uml.kernel import kernel_directory

    return kernel_directory(settings)


def build_driver(settings: Settings, report: Report) -> None:
    """Build the driver that no package has, User-Mode Linux, unless it is there."""
    from labkit.engine.embedded.uml.kernel import build_kernel

    build_kernel(settings, report)


def pack_driver(settings: Settings, into: Path) -> Path:
    """Write what :func:`build_driver` built into a wheel, in this directory; return its file.

    Raises
    ------
    BuildError
        When that fails.
    """
    from labkit.engine.embedded.uml.wheel import pack

    return pack(driver_directory(settings), into)


def instance(run: Path) -> Instance:
    """Return the machine of a run directory, to speak with."""
    from labkit.engine.embedded.qemu.driver import QemuInstance
    from labkit.engine.embedded.uml.driver import MARK, UmlInstance

    return UmlInstance(run) if (run / MARK).exists() else QemuInstance(run)
