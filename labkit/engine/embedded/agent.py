"""The guest agent: run scripts in the machine, past its network.

It speaks JSON over a line into the machine: a socket, or two pipes. Each call opens the line,
speaks and leaves, so that several processes of the same user can share a machine.
"""

import base64
import fcntl
import json
import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from labkit.errors import MachineFailed
from labkit.polling import until

Ends = tuple[int, int, Callable[[], object]]
Line = Callable[[float], AbstractContextManager[Ends]]
"""Opens a way to the agent within so many seconds: the files to read from and to write to, and a
function that raises where it has ended."""
FRESH = b"\xff"  # the agent forgets what came before it
AGAIN = 1.0  # seconds after which one asks again whether the agent is there
PIECE = 2000  # bytes of a script that go at once
POLL = 0.03  # seconds between looks at whether a script has ended


def over_socket(path: Path) -> Line:
    """Return the line of a UNIX socket, which takes one caller at a time."""

    @contextmanager
    def opened(patience: float) -> Iterator[Ends]:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(patience)
            line.connect(str(path))
            line.setblocking(False)
            yield line.fileno(), line.fileno(), bool

    return opened


def over_pipes(directory: Path, lives: Callable[[], object] = bool) -> Line:
    """Return the line of two named pipes, ``agent.out`` to read from and ``agent.in`` to write.

    ``lives`` raises where nobody is at the other end: a pipe, unlike a socket, does not tell.
    """

    @contextmanager
    def opened(patience: float) -> Iterator[Ends]:
        read = os.open(directory / "agent.out", os.O_RDWR | os.O_NONBLOCK)
        write = os.open(directory / "agent.in", os.O_RDWR | os.O_NONBLOCK)

        def mine() -> bool:
            try:
                fcntl.flock(write, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        try:
            if not until(mine, bool, patience, POLL):
                raise TimeoutError
            yield read, write, lives
        finally:
            os.close(read)
            os.close(write)

    return opened


class _Call:
    """One conversation with the agent."""

    def __init__(self, ends: Ends, deadline: float) -> None:
        (self.read, self.write, self._lives), self.deadline = ends, deadline
        self._kept = bytearray()
        while not self._in_step():
            pass  # what was sent while the agent started may be lost

    def _in_step(self) -> bool:
        """Read past the answers to those who did not wait for them; tell whether that is done."""
        mark, over = secrets.randbelow(1 << 31), self.deadline
        self.deadline = min(over, time.monotonic() + AGAIN)
        try:
            self._send(FRESH + _line("guest-sync", {"id": mark}))
            while self._answer().get("return") != mark:
                pass
            return True
        except TimeoutError:
            self._lives()
            if time.monotonic() > over:
                raise
            return False
        finally:
            self.deadline = over

    def ask(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Return what the agent answers to a command."""
        self._send(_line(command, arguments or {}))
        answer = self._answer()
        if "return" not in answer:
            raise MachineFailed(f"La machine a refusé « {command} » : {answer.get('error')}")
        return answer["return"]

    def _wait(self, *, readable: bool) -> None:
        poll = select.poll()
        poll.register(*(self.read, select.POLLIN) if readable else (self.write, select.POLLOUT))
        if not poll.poll(max(0.0, self.deadline - time.monotonic()) * 1000):
            raise TimeoutError

    def _send(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self.write, data) :]
            except BlockingIOError:
                self._wait(readable=False)

    def _answer(self) -> dict[str, Any]:
        while True:
            line, end, rest = self._kept.partition(b"\n")
            if end:
                self._kept = rest
                try:
                    answer = json.loads(line)
                except ValueError:
                    continue  # half a line of an older conversation
                if isinstance(answer, dict):
                    return answer
            else:
                self._wait(readable=True)
                try:
                    block = os.read(self.read, 1 << 16)
                except BlockingIOError:
                    continue
                if not block:
                    raise EOFError
                self._kept += block


def _line(command: str, arguments: Mapping[str, object]) -> bytes:
    return json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"


@contextmanager
def _call(line: Line, patience: float) -> Iterator[_Call]:
    """Speak with the agent within ``patience`` seconds; raise ``MachineFailed`` if it is silent."""
    deadline = time.monotonic() + patience
    try:
        with line(patience) as ends:
            yield _Call(ends, deadline)
    except (OSError, EOFError) as error:
        raise MachineFailed(
            f"La machine ne répond pas ({type(error).__name__}).",
            remedy="Lancez « labkit status », puis « labkit up ».",
        ) from error


def tell_time(line: Line, patience: float = 20) -> float:
    """Return what the guest's clock says, in seconds."""
    with _call(line, patience) as call:
        return float(call.ask("guest-get-time")) / 1e9


def _place(call: _Call, script: str) -> str:
    """Write a script into the guest, from where it removes itself; return its path.

    It goes in pieces: a terminal takes no more at once.
    """
    name = f"/run/agent-{secrets.token_hex(8)}"
    handle = call.ask("guest-file-open", {"path": name, "mode": "w"})
    data = f"rm {name}\n{script}".encode()
    for at in range(0, len(data), PIECE):
        piece = base64.b64encode(data[at : at + PIECE]).decode()
        call.ask("guest-file-write", {"handle": handle, "buf-b64": piece})
    call.ask("guest-file-close", {"handle": handle})
    return name


def run_shell(line: Line, script: str, patience: float = 20) -> str:
    """Run a shell script as root in the guest; return its output, or raise ``MachineFailed``."""
    deadline = time.monotonic() + patience
    with _call(line, patience) as call:
        name = _place(call, script)
        asked = {"path": "/bin/sh", "arg": [name], "capture-output": True}
        started = call.ask("guest-exec", asked)

        def look() -> Any:
            return call.ask("guest-exec-status", {"pid": started["pid"]})

        done = until(look, lambda said: said["exited"], deadline - time.monotonic(), POLL)
        if not done["exited"]:
            raise TimeoutError
    out, err = (base64.b64decode(done.get(k, "")).decode() for k in ("out-data", "err-data"))
    if done.get("exitcode"):
        raise MachineFailed(f"Une commande de la machine a échoué : {err.strip()[-300:]}")
    return out
