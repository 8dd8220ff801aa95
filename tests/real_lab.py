"""A real JupyterLab to drive."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupyter_client
from ports import free_port

from labkit.workspace import OPTION

ROOT = Path(__file__).parents[1]
ARTEFACTS = ROOT / "artefacts"


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    url: str
    token: str
    home: Path

    def ask_kernel(self, code: str) -> str:
        """Run code in the one kernel that runs, and return what it prints."""
        (connection,) = (self.home / "runtime").glob("kernel-*.json")
        client = jupyter_client.BlockingKernelClient(connection_file=str(connection))
        client.load_connection_file()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=120)
            said: list[str] = []

            def hear(message: Any) -> None:
                content = message["content"]
                if message["msg_type"] == "stream":
                    said.append(content["text"])
                elif message["msg_type"] == "error":
                    said.append("\n".join(content["traceback"]))

            client.execute_interactive(code, timeout=120, output_hook=hear, store_history=False)
            return "".join(said).strip()
        finally:
            client.stop_channels()


@contextmanager
def running_lab(home: Path, root: Path | None = None, base: str = "/") -> Iterator[Lab]:
    """Run a JupyterLab of its own in an empty directory: free port, token, clean end.

    It shows ``work`` in that directory, or another ``root``, below a path of its own.
    """
    port = free_port()
    token = secrets.token_hex(16)
    (home / "work").mkdir()
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_TOKEN": token,
    }
    options = [
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root or home / 'work'}",
        f"--ServerApp.base_url={base}",
        "--LabApp.expose_app_in_browser=True",
        f"--LabApp.app_settings_dir={ROOT / 'labkit/lab'}",  # as `labkit lab` does: French, no news
        OPTION,
        *(["--allow-root"] if os.getuid() == 0 else []),
    ]
    url = f"http://127.0.0.1:{port}{base.rstrip('/')}"
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        limit = time.monotonic() + 90
        while not _answers(f"{url}/api/status?token={token}"):
            said = (home / "lab.log").read_text()
            assert server.poll() is None, said
            assert time.monotonic() < limit, said
            time.sleep(0.3)
        yield Lab(url, token, home)
        request = urllib.request.Request(f"{url}/api/shutdown?token={token}", method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass
        server.wait(30)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
