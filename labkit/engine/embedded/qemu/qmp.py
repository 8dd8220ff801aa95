"""QMP, by which QEMU takes commands: a UNIX socket in a directory that only its owner can enter.

Each call connects, speaks and leaves, so that several processes of the same user can share it.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError

from labkit.engine.embedded.driver import StateLost
from labkit.errors import MachineFailed

T = TypeVar("T")


def _run(socket: Path, work: Callable[[QMPClient], Coroutine[Any, Any, T]], timeout: float) -> T:
    """Speak with QEMU in a thread of its own: a notebook's loop may already be running."""
    done: Future[T] = Future()

    async def speak() -> T:
        client = QMPClient("labkit")
        await client.connect(str(socket))
        try:
            return await work(client)
        finally:
            await client.disconnect()

    def body() -> None:
        try:
            done.set_result(asyncio.run(asyncio.wait_for(speak(), timeout)))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=body, daemon=True).start()
    try:
        return done.result()
    except (TimeoutError, OSError, EOFError, QMPError) as error:  # EOF: QEMU ended
        raise MachineFailed(
            f"La machine ne répond pas ({type(error).__name__}).",
            remedy="Lancez « labkit status », puis « labkit up ».",
        ) from error


def execute(
    socket: Path, *commands: tuple[str, dict[str, object]], timeout: float = 60
) -> list[object]:
    """Run QMP commands one after another and return their answers."""

    async def work(client: QMPClient) -> list[object]:
        return [await client.execute(name, arguments) for name, arguments in commands]

    return _run(socket, work, timeout)


def migrate(socket: Path, command: str, uri: str) -> None:
    """Save (``migrate``) or load (``migrate-incoming``) the state, or raise ``StateLost``."""
    arguments: dict[str, object] = {"uri": uri}
    if command == "migrate-incoming":
        arguments["exit-on-error"] = False  # its reason would end with it

    async def work(client: QMPClient) -> None:
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
                raise StateLost(f"L’instantané n’a pas pu être {what} : {state.get('error-desc')}")
            await asyncio.sleep(0.02)

    _run(socket, work, 120)
