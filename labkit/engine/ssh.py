"""Engines over ssh: HTTP through ``ssh … docker system dial-stdio``, as the docker CLI does it.

The system's own ``ssh`` is used, so keys, agents, jump hosts and ``~/.ssh/config`` serve both.
The docker SDK has such a transport too, but its reads know no timeout: one machine that is
off would stop every view. Here ``ssh`` speaks through a real socket.
"""

import functools
import shlex
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from typing import IO, Any
from urllib.parse import urlsplit

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

# Nobody is there to type a password; a session that died is given up within half a minute.
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "2",
}


class SSHFailed(ConnectionError):
    """``ssh`` ended before the engine answered; the text is the last line that it wrote."""


def ssh_command(url: str, *remote: str) -> list[str]:
    """Return the command that runs ``remote`` on the machine of an ``ssh://`` address."""
    parts = urlsplit(url)
    command = ["ssh", "-T", *(f"-o{name}={value}" for name, value in _OPTIONS.items())]
    if parts.username:
        command += ["-l", parts.username]
    if parts.port:
        command += ["-p", str(parts.port)]
    return [*command, "--", parts.hostname or "", shlex.join(remote)]


@functools.cache
def address(host: str) -> str:
    """Return the host that ``ssh`` would connect to: ``~/.ssh/config`` may know another name."""
    try:
        said = subprocess.run(
            ["ssh", "-G", "--", host], capture_output=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return host
    found = (line.split(maxsplit=1) for line in said.splitlines() if line.startswith("hostname "))
    return next((words[1] for words in found), host)


class _Connection(HTTPConnection):
    """One ``ssh`` process; it ends when the socket is closed."""

    def __init__(self, *args: Any, command: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._command = command
        self._said: IO[bytes] | None = None
        self._last_words = ""

    def connect(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the connection
        self.sock, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                self._command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._said,
                start_new_session=True,  # a Ctrl-C in the notebook is not for it
            )
        threading.Thread(target=process.wait, daemon=True, name="labkit-ssh").start()
        self.sock.settimeout(self.timeout)

    def getresponse(self) -> Any:
        try:
            return super().getresponse()
        except ConnectionError as error:  # the connection is closed by now
            raise SSHFailed(self._last_words or str(error)) from error

    def close(self) -> None:
        super().close()
        if self._said is not None:
            with self._said as said:
                said.seek(0)
                lines = said.read().decode(errors="replace").splitlines()
            self._last_words = next((line.strip() for line in reversed(lines) if line.strip()), "")
            self._said = None


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class SSHAdapter(HTTPAdapter):
    """Carries the requests of one client to the engine of an ``ssh://`` address."""

    def __init__(self, url: str) -> None:
        super().__init__()
        socket_path = urlsplit(url).path
        at = ["-H", f"unix://{socket_path}"] if len(socket_path) > 1 else []
        command = ssh_command(url, "docker", *at, "system", "dial-stdio")
        self._pool = _Pool("localhost", command=command)

    def get_connection_with_tls_context(
        self, request: PreparedRequest, *args: Any, **kwargs: Any
    ) -> HTTPConnectionPool:
        """Return the one pool there is, whatever the address of the request."""
        return self._pool

    def close(self) -> None:
        """End every ``ssh``."""
        self._pool.close()
        super().close()
