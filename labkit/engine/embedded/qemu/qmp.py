"""QMP, by which QEMU takes commands: a UNIX socket in a directory that only its owner can enter.

Each call connects, speaks and leaves, so that several processes of the same user can share it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError

from labkit.engine.embedded.driver import StateLost
from labkit.errors import MachineFailed

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
