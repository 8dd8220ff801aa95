"""QEMU starts the machine, and its sockets in the run directory speak with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from labkit.engine.embedded import identity
from labkit.engine.embedded.addresses import Forward
from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.driver import Plan
from labkit.engine.embedded.processes import detach, note_process, stop_process
from labkit.engine.embedded.qemu import qmp, wire
from labkit.engine.embedded.qemu.command import (
    GATEWAY,
    RESOLVER,
    SANDBOX,
    arguments,
    listener,
    rule,
)
from labkit.engine.embedded.settings import Settings
from labkit.errors import MachineFailed
from labkit.polling import until

__all__ = ["Qemu", "QemuInstance"]

LOG = "qemu.log"
STATE = "state"  # of a snapshot: the machine's memory
STATES = {"running": "running", "io-error": "full"}  # QEMU's word -> ours; all others are a pause


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
        run, nice = plan.run, plan.settings.nice
        with contextlib.suppress(FileExistsError):
            os.mkfifo(run / "pass", 0o600)  # see wire
        command = [*(["nice", "-n", str(nice)] if nice else ())]
        command += arguments(self.command, self.accel, plan)
        command += ["-drive", f"id=d,{disk},if=none,cache=unsafe,discard=unmap", *extra]
        log = run / LOG
        for sandbox in (SANDBOX, ()):
            with identity.hold(run) as held:  # QEMU lives on with it
                tmp = {"TMPDIR": str(run / "tmp")}
                pid = detach([*command, *sandbox], log, tmp, keep=[held])
            if _answers(run, pid):
                break
        else:
            said = log.read_text(errors="replace").strip()[-400:] if log.exists() else ""
            if not said:
                log.write_bytes(bytes(4096))  # where there is no room, that is an OSError
            raise MachineFailed(f"QEMU n’a pas démarré : {said or 'sans un mot'}")
        pid = int((run / "pid").read_text())
        note_process(run, pid)
        if nice:  # where each session is a group of its own, for the group, too
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def _answers(run: Path, pid: int) -> bool:
    """Wait until QEMU takes commands; tell whether it does, or ended."""

    def look() -> bool | None:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            return False
        if (run / "qmp").exists():
            with contextlib.suppress(MachineFailed):
                qmp.execute(run / "qmp", ("query-status", {}))
                return True
        return None

    return bool(until(look, lambda answer: answer is not None, every=0.02))


class QemuInstance:
    """Speaks with the QEMU of a run directory."""

    logs: Sequence[str] = ("console", LOG)
    gateway = GATEWAY
    resolver = RESOLVER

    def __init__(self, run: Path) -> None:
        self.run = run

    def state(self) -> str:
        """Return ``running``, ``full`` (paused: this host's disk is) or ``paused``."""
        (said,) = qmp.execute(self.run / "qmp", ("query-status", {}), timeout=5)
        status = str(said.get("status")) if isinstance(said, dict) else ""
        return STATES.get(status, "paused")

    def resume(self) -> None:
        """Let a paused machine go on."""
        qmp.execute(self.run / "qmp", ("cont", {}))

    def shell(self, script: str, timeout: float = 20) -> str:
        """Run a shell script as root in the guest, and return what it printed."""
        return qmp.guest_shell(self.run / "agent", script, timeout)

    def clock(self, timeout: float = 20) -> float:
        """Return what the guest's clock says, in seconds."""
        return qmp.guest_time(self.run / "agent", timeout)

    def forward(self, opened: Sequence[Forward] = (), closed: Sequence[Forward] = ()) -> list[str]:
        """Close ways into the machine, then open others, all in one conversation."""
        lines = [f"hostfwd_remove u {listener(f)}" for f in closed]
        lines += [f"hostfwd_add u {rule(f)}" for f in opened]
        if not lines:
            return []
        # the human monitor's: QMP has no command for it
        asked = [("human-monitor-command", {"command-line": line}) for line in lines]
        said = qmp.execute(self.run / "qmp", *asked)  # type: ignore[arg-type]
        return [str(answer).strip() for answer in said]

    def console(self) -> str:
        """Return the end of what the guest's kernel and ``init`` printed."""
        return (self.run / "console").read_text(errors="replace")[-400:]

    def save(self, snapshot: Path) -> None:
        """Freeze the machine, and write its memory into a directory."""
        state = snapshot / STATE
        qmp.migrate(self.run / "qmp", "migrate", f"file:{state}")
        state.chmod(0o644)  # a cache may be shared; no key of a later start is in it

    def pass_out(self, lets: Callable[[bytes], bool]) -> None:
        """Pass on the frames that may leave the machine, until it ends."""
        wire.pass_on(self.run, lets)

    def stop(self) -> None:
        """End QEMU."""
        stop_process(self.run)
