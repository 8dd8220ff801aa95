"""The docker command that labkit provides, asked what it makes of a file.

Its loader and its conversion run as in ``docker stack deploy``; a manager that takes everything is
pretended where the command looks for one, on loopback, because there is no other way to make the
command convert a file without deploying it on a cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from labkit.engine.embedded.build.shared_cache import find_guest
from labkit.engine.embedded.settings import Settings


def docker() -> Path | None:
    """Return the docker command of the built machine; None before ``labkit build``."""
    command = find_guest(Settings.read()).directory / "cli" / "docker"
    return command if command.exists() else None


class _Manager(BaseHTTPRequestHandler):
    """Answers as a manager on which nothing runs and everything that is named exists."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.45")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer("OK")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if parts[0].startswith("v1."):
            del parts[0]
        filters = json.loads(parse_qs(url.query).get("filters", ["{}"])[0])
        names = list(filters.get("name", ()))
        if parts[0] == "_ping":
            self._answer("OK")
        elif parts[0] == "info":
            self._answer({"Swarm": {"ControlAvailable": True, "LocalNodeState": "active"}})
        elif parts[0] == "networks" and len(parts) > 1:
            self._answer({"Name": parts[1], "Id": parts[1], "Scope": "swarm"})
        elif parts[0] in ("secrets", "configs") and len(parts) == 1:
            self._answer([{"ID": f"id-{n}", "Spec": {"Name": n}} for n in names])
        elif parts[0] in ("secrets", "configs"):
            self._answer({"message": f"{parts[0][:-1]} {parts[1]} not found"}, 404)
        else:
            self._answer([])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        spec = json.loads(body or b"{}")
        if self.path.endswith("/services/create") and not (
            spec["TaskTemplate"]["ContainerSpec"].get("Image")
        ):  # the one refusal of a real manager that public files meet
            self._answer({"message": "image reference must be provided"}, 400)
        else:
            self._answer({"ID": "made", "Id": "made"}, 201)


@contextmanager
def manager() -> Iterator[str]:
    """Run the pretended manager; return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Manager)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True, slots=True)
class Oracle:
    """Asks ``docker stack deploy``.

    Attributes
    ----------
    command
        The docker command.
    manager
        Address of the pretended manager.
    home
        An empty directory.
    """

    command: Path
    manager: str
    home: Path

    def refusal(self, path: Path, environment: Mapping[str, str] | None = None) -> str | None:
        """Return why docker refuses a file, or None if it would deploy it."""
        done = self.ask(path, environment)
        return None if done.returncode == 0 else done.stderr.strip() or "?"

    def ask(
        self, path: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Return what docker says of a file."""
        return subprocess.run(
            [self.command, "stack", "deploy", "--detach=true", "--resolve-image", "never",
             "-c", path, "essai"],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "DOCKER_HOST": self.manager,
                 **(environment or {})},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def version(self) -> str:
        """Return the command's version."""
        words = [self.command, "version", "--format", "{{.Client.Version}}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout.strip()

    def text_refusal(self, text: str) -> str | None:
        """Return why docker refuses a text, or None if it would deploy it."""
        path = self.home / f"{threading.get_ident()}.yml"
        path.write_text(text, encoding="utf-8")
        return self.refusal(path)
