"""User-Mode Linux starts the machine; QEMU's user network leads into it."""

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from labkit.engine.embedded import identity
from labkit.engine.embedded.agent import Line, over_pipes
from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.driver import MACS, Plan
from labkit.engine.embedded.limits import MIB
from labkit.engine.embedded.processes import answers, detach, note_process, process_of, stop_process
from labkit.engine.embedded.qemu import network
from labkit.engine.embedded.qemu.network import Network
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.uml import confined
from labkit.engine.embedded.uml.pinning import Pin, choose
from labkit.engine.embedded.uml.wheel import FOLDER, NAME
from labkit.errors import MachineFailed
from labkit.polling import until

MARK = "uml"  # directory of a run directory whose machine is one of these
SWITCH = "switch.pid"
FULL = 80 * MIB  # bytes free on this host's disk below which the machine pauses
LOOK = 0.5  # seconds between looks at it
# An engine that knows its networks, none of which is a student's, sets them up before it makes its
# bridge anew, and calls iptables 124 times instead of 69.
CLOSE = """killall docker-registry 2>/dev/null
for socket in /run/node?.sock; do node=${socket#/run/node}; node stop ${node%.sock}; done
killall containerd 2>/dev/null
rm -f /var/lib/docker/node?/network/files/local-kv.db
sync
"""
SHARED_MEMORY = Path("/dev/shm")
ROOM = 64 * MIB  # that others keep of it


def arguments(
    kernel: Path, plan: Plan, disk: str, cards: Sequence[int], pipes: Sequence[int], mode: str
) -> list[str]:
    """Return the command line of a kernel.

    ``disk`` is the data disk in the kernel's words: a file, or a file for what is written and one
    that is only read. ``cards`` are open sockets, the other ends of the network's two ways;
    ``pipes`` those of the guest agent: what it reads, what it writes.
    """
    way_in, way_out = (
        f"vec{n}:transport=fd,fd={card},mac={mac}"
        for n, (card, mac) in enumerate(zip(cards, MACS, strict=True))
    )
    return [
        str(kernel), f"mem={plan.settings.guest_memory}M", "umid=machine",
        f"uml_dir={plan.run / 'uml'}/", mode_option(mode),
        f"ubd0r={plan.guest.directory / 'root.ext4'}", f"ubd1={disk}",
        "root=/dev/ubda", "ro", "rootfstype=ext4", "init=/usr/sbin/init",
        way_in, way_out, "con=null", "con0=null,fd:1", "ssl=null",
        f"ssl0=fd:{pipes[0]},fd:{pipes[1]}",
        "quiet", "loglevel=4", "panic=-1", "random.trust_cpu=on", "transparent_hugepage=never",
        f"lab.nodes={plan.settings.nodes}", "lab.disk=ubdb", "lab.in=vec0", "lab.out=vec1",
        "lab.agent=ttyS0",
    ]  # fmt: skip


def mode_option(mode: str) -> str:
    """Return the option that chooses ``ptrace`` or ``seccomp``."""
    return f"seccomp={'on' if mode == 'seccomp' else 'off'}"


def confinement(core: int, read: Sequence[Path], write: Sequence[Path]) -> list[str]:
    """Return what comes before a program's command line, so that it reaches no more than it needs.

    It runs on the processor ``core``, reads some files and directories, and writes in others.
    """
    seen = [*read, Path("/proc/cpuinfo"), Path("/dev/random")], [*write, Path("/dev/null")]
    places = (":".join(str(path.resolve()) for path in paths) for paths in seen)
    return [sys.executable, "-I", "-S", confined.__file__, str(core), *places]


@contextmanager
def memory_directory(needed: int, otherwise: Path) -> Iterator[Path]:
    """Give a directory for a machine's memory, a file of so many bytes: in memory if it has room.

    Else, it is the other directory, on a disk. The file has no name, and the directory goes when
    the file is made.
    """
    made: Path | None = None
    with suppress(OSError):
        executable = not os.statvfs(SHARED_MEMORY).f_flag & os.ST_NOEXEC
        if executable and shutil.disk_usage(SHARED_MEMORY).free >= needed + ROOM:
            made = Path(tempfile.mkdtemp(prefix="labkit-", dir=SHARED_MEMORY))
    try:
        yield made or otherwise
    finally:
        if made:
            made.rmdir()


@dataclass(frozen=True, slots=True)
class Uml:
    """A kernel of User-Mode Linux, and a QEMU for its network."""

    kernel: Path
    version: str
    qemu: tuple[str, ...]  # its command
    mode: str  # ``ptrace`` or ``seccomp``
    name: str = "uml"

    @property
    def package(self) -> str:
        """Return the name of the package, where the kernel is an installed wheel's."""
        return NAME if self.kernel.parent.parent.name == FOLDER else ""

    def traits(self, settings: Settings, guest: Guest) -> list[str]:
        """Return all that a prepared disk depends on: no memory is saved."""
        return ["uml", CLOSE, str(settings.nodes)]

    def start(self, plan: Plan, disk: Path) -> None:
        """Start a machine from nothing, with a data disk of its own."""
        self._start(plan, str(disk), ())

    def restore(self, plan: Plan, snapshot: Path) -> None:
        """Start a machine on a prepared disk; what it writes goes to a file of its own."""
        self._start(plan, f"{plan.run / 'tmp/written'},{snapshot / 'data.ext4'}", (snapshot,))

    def _start(self, plan: Plan, disk: str, also: Sequence[Path]) -> None:
        run = plan.run
        (run / MARK).mkdir()
        for pipe in ("agent.in", "agent.out"):
            os.mkfifo(run / pipe, 0o600)
        needed = plan.settings.guest_memory * MIB
        with _opened(run) as (near, far, pipes), memory_directory(needed, run / "tmp") as memory:
            note_process(run, network.start(plan, [*self.qemu, *_switch(plan, near)], near), SWITCH)
            read = (self.kernel, plan.guest.directory, *also)
            command = confinement(choose(), read, (run / "tmp", run / MARK, memory))
            command += arguments(self.kernel, plan, disk, far, pipes, self.mode)
            with identity.hold(run) as held:
                pid = detach(
                    command, run / "console", {"TMPDIR": str(memory)},
                    keep=[held, *far, *pipes], nice=plan.settings.nice,
                )  # fmt: skip
            if not answers(pid, lambda: _began(pid, plan.guest.directory / "root.ext4")):
                said = (run / "console").read_text(errors="replace").strip()[-400:]
                stop_process(run, SWITCH)
                raise MachineFailed(f"User-Mode Linux n’a pas démarré : {said or 'sans un mot'}")
        note_process(run, pid)


def _began(pid: int, disk: Path) -> bool:
    """Tell whether a kernel has its disk: it is past all that it does with files of its own."""
    files = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        return any(str(file.readlink()) == str(disk.resolve()) for file in files.iterdir())
    return False


def _switch(plan: Plan, near: Sequence[int]) -> list[str]:
    """Return the options of a QEMU that is nothing but the network, with the ends of its cables."""
    ways: list[str] = []
    for hub, (way, end) in enumerate(zip(("in", "out"), near, strict=True), 1):
        ways += ["-netdev", f"dgram,id=to-{way},local.type=fd,local.str={end}"]
        for name in (way, f"to-{way}"):
            ways += ["-netdev", f"hubport,id=port-{name},hubid={hub},netdev={name}"]
    return ["-M", "none", *network.network(plan), *ways]


@contextmanager
def _opened(run: Path) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Open sockets for QEMU, and their other ends and two pipes for the kernel."""
    with ExitStack() as stack:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        sides = zip(*pairs, strict=True)
        near, far = ([stack.enter_context(end).fileno() for end in side] for side in sides)
        pipes = []
        for name in ("agent.in", "agent.out"):
            pipes.append(os.open(run / name, os.O_RDWR))  # with both ends, it never ends
            stack.callback(os.close, pipes[-1])
        yield near, far, pipes


class UmlInstance(Network):
    """Speaks with the User-Mode Linux of a run directory."""

    def _process(self) -> psutil.Process:
        """Return the kernel; without it, the pipes would be waited at in vain."""
        process = process_of(self.run)
        if process is None:
            raise MachineFailed("La machine s’est arrêtée.", remedy="Lancez « labkit up ».")
        return process

    def state(self) -> str:
        """Return ``running``, ``full`` (paused: this host's disk is) or ``paused``."""
        if self._process().status() != psutil.STATUS_STOPPED:
            return "running"
        return "full" if (self.run / "full").exists() else "paused"

    def pause(self) -> None:
        """Let the machine stand still."""
        self._process().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused machine go on."""
        (self.run / "full").unlink(missing_ok=True)
        self._process().send_signal(signal.SIGCONT)

    def watch(self) -> None:
        """Pause a machine whose disk can hardly grow, and keep it where a processor is free."""
        pin = Pin()

        def ended() -> bool:
            process = process_of(self.run)
            with suppress(psutil.Error, OSError):
                if process and shutil.disk_usage(self.run / "tmp").free < FULL:
                    (self.run / "full").touch()
                    self.pause()
                if process:
                    pin.look(process)
            return not (process and process_of(self.run, SWITCH))

        until(ended, every=LOOK)
        self.stop()  # neither is of use without the other

    def line(self) -> Line:
        """Return the pipes of the guest's agent."""
        self._process()
        return over_pipes(self.run, self._process)

    def save(self, snapshot: Path) -> None:
        """End the engines in good order: what is kept is their disk, and no memory."""
        self.shell(CLOSE, 240)

    def stop(self) -> None:
        """End the kernel, which has nothing to save, and its network."""
        stop_process(self.run, patience=0)
        stop_process(self.run, SWITCH)
