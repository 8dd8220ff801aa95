"""QMP for QEMU, and the guest agent over virtio-serial for the guest.

Both are UNIX sockets in a directory that only their owner can enter. Each call connects,
speaks and leaves, so that several processes of the same user can share a machine.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError

from labkit.engine.embedded.driver import StateLost
from labkit.errors import MachineFailed

__all__ = ["execute", "guest_shell", "guest_time", "migrate"]

T = TypeVar("T")


def _run(work: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> T:
    """Run a coroutine in a thread of its own: a notebook's loop may already be running."""
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(asyncio.run(asyncio.wait_for(work(), timeout)))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    if failure:
        error = failure[0]
        if isinstance(error, TimeoutError | OSError | EOFError | QMPError):  # EOF: QEMU ended
            raise MachineFailed(
                f"La machine ne répond pas ({type(error).__name__}).",
                remedy="Lancez « labkit status », puis « labkit up ».",
            ) from error
        raise error
    return result[0]


def execute(
    socket: Path, *commands: tuple[str, dict[str, object]], timeout: float = 60
) -> list[object]:
    """Run QMP commands one after another and return their answers."""

    async def work() -> list[object]:
        client = QMPClient("labkit")
        await client.connect(str(socket))
        try:
            return [await client.execute(name, arguments) for name, arguments in commands]
        finally:
            await client.disconnect()

    return _run(work, timeout)


def migrate(socket: Path, command: str, uri: str, timeout: float = 120) -> None:
    """Save (``migrate``) or load (``migrate-incoming``) the machine's state.

    Raises
    ------
    StateLost
        With QEMU's reason.
    """
    arguments: dict[str, object] = {"uri": uri}
    if command == "migrate-incoming":
        arguments["exit-on-error"] = False  # its reason would end with it

    async def work() -> None:
        client = QMPClient("labkit")
        await client.connect(str(socket))
        try:
            ram = {"capability": "mapped-ram", "state": True}
            if command == "migrate":
                await client.execute("stop")
            await client.execute("migrate-set-capabilities", {"capabilities": [ram]})
            await client.execute(command, arguments)
            while True:
                state: Any = await client.execute("query-migrate")
                if state.get("status") == "completed":
                    return
                if state.get("status") == "failed":
                    what = "enregistré" if command == "migrate" else "relu"
                    raise StateLost(
                        f"L’instantané n’a pas pu être {what} : {state.get('error-desc')}"
                    )
                await asyncio.sleep(0.02)
        finally:
            await client.disconnect()

    _run(work, timeout)


@asynccontextmanager
async def _agent(socket: Path) -> AsyncIterator[QMPClient]:
    """Connect to the guest agent, past its answers to those who did not wait for them."""
    client = QMPClient("labkit-guest")
    client.await_greeting = False
    client.negotiate = False
    await client.connect(str(socket))
    try:
        mark = secrets.randbelow(1 << 31)
        while await client.execute("guest-sync", {"id": mark}) != mark:
            pass
        yield client
    finally:
        await client.disconnect()


def guest_time(socket: Path, timeout: float = 20) -> float:
    """Return what the guest's clock says, in seconds.

    Raises
    ------
    MachineFailed
        When the guest does not answer.
    """

    async def work() -> float:
        async with _agent(socket) as client:
            said: Any = await client.execute("guest-get-time")
        return float(said) / 1e9

    return _run(work, timeout)


def guest_shell(socket: Path, script: str, timeout: float = 20) -> str:
    """Run a shell script as root in the guest and return what it printed.

    Raises
    ------
    MachineFailed
        When the guest does not answer or the script fails.
    """

    async def work() -> str:
        async with _agent(socket) as client:
            started: Any = await client.execute(
                "guest-exec",
                {
                    "path": "/bin/sh",
                    "arg": ["-s"],
                    "input-data": base64.b64encode(script.encode()).decode(),
                    "capture-output": True,
                },
            )
            while True:
                done: Any = await client.execute("guest-exec-status", {"pid": started["pid"]})
                if done["exited"]:
                    break
                await asyncio.sleep(0.03)
        out, err = (base64.b64decode(done.get(k, "")).decode() for k in ("out-data", "err-data"))
        if done.get("exitcode"):
            raise MachineFailed(f"Une commande de la machine a échoué : {err.strip()[-300:]}")
        return out

    return _run(work, timeout)
