"""The machine's network, which QEMU's user mode gives to any driver: two ways, both bounded.

One way leads in, for what the host opens, and nowhere else; one leads out, of which each frame
goes through labkit (:mod:`labkit.engine.embedded.egress`), and none where labkit is not there.
"""

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from select import PIPE_BUF

from labkit.engine.embedded import identity
from labkit.engine.embedded.addresses import Forward, engine_forward
from labkit.engine.embedded.driver import Instance, Plan
from labkit.engine.embedded.egress import CLUSTER
from labkit.engine.embedded.processes import answers, detach
from labkit.engine.embedded.qemu import qmp
from labkit.errors import MachineFailed

GATEWAY, RESOLVER = IPv4Address("192.168.77.4"), IPv4Address("192.168.77.3")  # see guest/init
LOG = "qemu.log"
FRAME = 1 << 17  # bytes, more than any frame has
WAITING = 4096  # frames that wait for QEMU; what comes beyond is lost, as on any network
# No program is run, no right is gained; where it does not work, QEMU runs without.
SANDBOX = (
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
)  # fmt: skip


def network(plan: Plan) -> list[str]:
    """Return the options of a QEMU with the two ways, ``in`` and ``out``, and its sockets."""
    run = plan.run
    forwards = "".join(
        f",hostfwd={rule(engine_forward(plan.network, n))}"
        for n in range(1, plan.settings.nodes + 1)
    )
    return [
        "-name", f"labkit-{plan.settings.cluster}",
        "-nodefaults", "-no-user-config", "-display", "none",
        "-qmp", f"unix:{run / 'qmp'},server=on,wait=off",
        "-netdev", f"user,id=in,net={CLUSTER},dns=192.168.77.5,restrict=on,ipv6=off{forwards}",
        "-netdev", f"user,id=out,net={CLUSTER},host={GATEWAY},dns={RESOLVER},ipv6=off",
        "-chardev", f"socket,id=sent,path={run / 'sent'},server=on,wait=off",
        "-chardev", f"pipe,id=pass,path={run / 'pass'}",
        "-object", "filter-redirector,id=f,netdev=out,queue=rx,outdev=sent,indev=pass",
    ]  # fmt: skip


def start(plan: Plan, command: Sequence[str], keep: Sequence[int] = ()) -> int:
    """Start a QEMU with these options, in its sandbox where that works; return its process id.

    It inherits the open files of ``keep``.
    """
    run, log = plan.run, plan.run / LOG
    with suppress(FileExistsError):
        os.mkfifo(run / "pass", 0o600)  # see pass_on
    for sandbox in (SANDBOX, ()):
        with identity.hold(run) as held:  # QEMU lives on with it
            tmp = {"TMPDIR": str(run / "tmp")}
            pid = detach(
                [*command, *sandbox], log, tmp, keep=[held, *keep], nice=plan.settings.nice
            )
        if answers(pid, lambda: _commands(run)):
            return pid
    said = log.read_text(errors="replace").strip()[-400:] if log.exists() else ""
    if not said:
        log.write_bytes(bytes(4096))  # where there is no room, that is an OSError
    raise MachineFailed(f"QEMU n’a pas démarré : {said or 'sans un mot'}")


def _commands(run: Path) -> bool:
    """Tell whether QEMU takes commands."""
    if (run / "qmp").exists():
        with suppress(MachineFailed):
            qmp.execute(run / "qmp", ("query-status", {}))
            return True
    return False


class Network(Instance):
    """Speaks with the network of the machine of a run directory."""

    logs = ("console", LOG)
    gateway = GATEWAY
    resolver = RESOLVER

    def __init__(self, run: Path) -> None:
        self.run = run

    def forward(self, opened: Sequence[Forward] = (), closed: Sequence[Forward] = ()) -> list[str]:
        """Close ways into the machine, then open others, all in one conversation."""
        lines = [f"hostfwd_remove in {_listener(f)}" for f in closed]
        lines += [f"hostfwd_add in {rule(f)}" for f in opened]
        if not lines:
            return []
        # the human monitor's: QMP has no command for it
        asked = [("human-monitor-command", {"command-line": line}) for line in lines]
        said = qmp.execute(self.run / "qmp", *asked)  # type: ignore[arg-type]
        return [str(answer).strip() for answer in said]

    def pass_out(self, lets: Callable[[bytes], bool]) -> None:
        """Pass on the frames that may leave the machine, until it ends."""
        pass_on(self.run, lets)


def _listener(forward: Forward) -> str:
    """Return where a way into the machine begins, in QEMU's words."""
    return f"{forward.kind}:{forward.address}:{forward.port}"


def rule(forward: Forward) -> str:
    """Return a way into the machine in QEMU's words."""
    return f"{_listener(forward)}-{forward.to}:{forward.to_port}"


def pass_on(run: Path, lets: Callable[[bytes], bool]) -> None:
    """Pass on frames that QEMU sends to the socket ``sent``, by the pipe ``pass``, until it ends.

    QEMU stands still while nobody reads what it sends: to read comes first, always. A pipe takes
    a frame whole or not at all, so that the next process can go on where this one is killed.
    """
    pipe = os.open(run / "pass", os.O_WRONLY | os.O_NONBLOCK)
    with os.fdopen(pipe, "wb", buffering=0) as out, socket.socket(socket.AF_UNIX) as sent:
        sent.connect(str(run / "sent"))
        poll = select.poll()
        poll.register(sent, select.POLLIN)
        read, waiting = bytearray(), deque[bytes](maxlen=WAITING)
        while True:
            poll.register(out, select.POLLOUT if waiting else 0)
            ready = dict(poll.poll())
            if sent.fileno() in ready:
                block = sent.recv(FRAME)
                if not block:
                    return
                read += block
                waiting.extend(w for w in _frames(read) if len(w) <= PIPE_BUF and lets(w[4:]))
            while waiting and out.write(waiting[0]):  # None: the pipe is full
                waiting.popleft()


def _frames(read: bytearray) -> Iterable[bytes]:
    """Take whole frames, each after its length, from what was read."""
    while len(read) >= 4:
        size = 4 + int.from_bytes(read[:4], "big")
        if size > FRAME:
            raise OSError("a frame of QEMU's is out of bounds")
        if len(read) < size:
            return
        yield bytes(read[:size])
        del read[:size]
