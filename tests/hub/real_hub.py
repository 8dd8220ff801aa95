"""A real JupyterHub on loopback, and the students who use it, each with an account."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import websocket
from ports import free_port

ROOT = Path(__file__).parents[2]
PLACE = Path(os.environ.get("LABKIT_HUB_PLACE", "/opt/labkit"))
PATIENCE = 180.0  # seconds, for what takes five on a quiet machine
NAMES = ("lk-alice", "lk-basile", "lk-chloe")

CONFIG = """
load_subconfig("{example}")
c.JupyterHub.bind_url = "http://127.0.0.1:{public}/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}/"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}/"
c.ConfigurableHTTPProxy.command = "{place}/bin/configurable-http-proxy"
c.JupyterHub.cookie_secret_file = "{home}/cookie_secret"
c.JupyterHub.db_url = "sqlite:///{home}/hub.sqlite"
c.Authenticator.allowed_users = {names!r}
c.Spawner.cmd = "{place}/bin/jupyterhub-singleuser"
c.Spawner.poll_interval = 5
c.Spawner.environment = {environment!r}
c.JupyterHub.services = [{{"name": "teacher", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{
        "name": "teacher",
        "scopes": ["admin:users", "admin:servers", "access:servers", "tokens"],
        "services": ["teacher"],
    }}
]
"""


@dataclass
class Hub:
    """A running JupyterHub.

    ``token`` is the teacher's: it may start and stop servers and enter all of them.
    """

    url: str
    token: str
    home: Path

    def ask(
        self, path: str, method: str = "GET", body: object = None, token: str | None = None
    ) -> tuple[int, Any]:
        """Ask the Hub, or a server behind it, and return the status and what it said."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"token {token or self.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, said = error.code, error.read()
        try:
            return status, json.loads(said)
        except ValueError:
            return status, said.decode(errors="replace")

    @property
    def log(self) -> str:
        return (self.home / "hub.log").read_text()


@dataclass
class Student:
    """An account of the machine and of the Hub."""

    hub: Hub
    name: str
    password: str
    token: str = ""
    kernel: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def uid(self) -> int:
        return pwd.getpwnam(self.name).pw_uid

    @property
    def home(self) -> Path:
        return Path(pwd.getpwnam(self.name).pw_dir)

    @property
    def run(self) -> Path:
        """The run directory of the student's cluster."""
        return self.home / ".local/state/labkit/lab"

    @property
    def base(self) -> str:
        return f"/user/{self.name}/"

    def start_server(self) -> None:
        """Start the student's notebook server and wait until it answers; a token is made."""
        if not self.token:
            status, made = self.hub.ask(f"/hub/api/users/{self.name}", "POST")
            assert status in (201, 409), made
            status, made = self.hub.ask(f"/hub/api/users/{self.name}/tokens", "POST", {})
            assert status == 201, made
            self.token = made["token"]
        status, said = self.hub.ask(f"/hub/api/users/{self.name}/server", "POST")
        assert status in (201, 202), said
        until(self.server_ready, f"no server of {self.name}", self.hub)
        until(
            lambda: self.hub.ask(f"{self.base}api/status")[0] == 200, "no notebook server", self.hub
        )

    def server_ready(self) -> bool:
        status, user = self.hub.ask(f"/hub/api/users/{self.name}")
        assert status == 200, user
        return bool(user["servers"].get("", {}).get("ready"))

    def stop_server(self) -> None:
        status, said = self.hub.ask(f"/hub/api/users/{self.name}/server", "DELETE")
        assert status in (202, 204), said

    def open_kernel(self) -> None:
        """Start a kernel where the course is, as JupyterLab does."""
        status, made = self.hub.ask(
            f"{self.base}api/kernels", "POST", {"name": "python3"}, self.token
        )
        assert status == 201, made
        self.kernel = made["id"]

    def do(self, code: str, patience: float = PATIENCE) -> str:
        """Run code in the student's kernel, with the student's token; return what it prints."""
        address = f"{self.hub.url}{self.base}api/kernels/{self.kernel}/channels"
        channel = websocket.create_connection(
            address.replace("http", "ws", 1), header=[f"Authorization: token {self.token}"],
            timeout=patience, suppress_origin=True,
        )  # fmt: skip
        try:
            asked = uuid.uuid4().hex
            header = {
                "msg_id": asked, "msg_type": "execute_request", "username": self.name,
                "session": uuid.uuid4().hex, "version": "5.3", "date": "",
            }  # fmt: skip
            content = {
                "code": code, "silent": False, "store_history": False,
                "user_expressions": {}, "allow_stdin": False, "stop_on_error": True,
            }  # fmt: skip
            request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
            channel.send(json.dumps(request | {"channel": "shell", "buffers": []}))
            said: list[str] = []
            while True:
                message = json.loads(channel.recv())
                if message["parent_header"].get("msg_id") != asked:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "stream" and content["name"] == "stdout":
                    said.append(content["text"])
                elif kind in ("execute_result", "display_data"):
                    said.append(content["data"].get("text/plain", "") + "\n")
                elif kind == "error":
                    raise AssertionError("\n".join(content["traceback"]))
                elif kind == "status" and content["execution_state"] == "idle":
                    return "".join(said).strip()
        finally:
            channel.close()

    def shell(self, line: str, *, fails: bool = False) -> str:
        """Run a shell's line in the course, from its kernel; return what it says."""
        said = self.do(
            "import subprocess\n"
            f"done = subprocess.run({line!r}, shell=True, text=True, stdout=subprocess.PIPE, "
            f"stderr=subprocess.STDOUT, cwd={str(self.home / 'cours')!r})\n"
            "print(done.returncode, done.stdout)"
        )
        status, _, text = said.partition(" ")
        assert (status != "0") == fails, text
        return text

    def processes(self) -> list[psutil.Process]:
        """All processes of the account."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.uids().real == self.uid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def memory(self) -> dict[str, float]:
        """PSS in MB of the account's processes: the machine's, and all others'."""
        parts = {"machine": 0.0, "notebooks": 0.0}
        for process in self.processes():
            with suppress(psutil.Error, OSError):
                machine = process.name() in {"linux", "uml-userspace"} or any(
                    "qemu-system" in part for part in process.cmdline()
                )
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                (line,) = (x for x in rollup.splitlines() if x.startswith("Pss:"))
                parts["machine" if machine else "notebooks"] += int(line.split()[1]) / 1000
        return parts

    def sockets(self) -> list[str]:
        """Listening TCP sockets of the account, as ``address:port``."""
        found = []
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and int(rest[3]) == self.uid:
                address, port = local.split(":")
                raw = bytes.fromhex(address)[::-1]
                found.append(f"{socket.inet_ntoa(raw)}:{int(port, 16)}")
        return sorted(found)

    def nothing_left(self) -> bool:
        """Tell whether the account has no process, no socket and no run directory of a cluster."""
        state = self.run.parent
        left = list(state.iterdir()) if state.is_dir() else []
        return not self.processes() and not self.sockets() and not left


def until(reached: Any, what: str, hub: Hub | None = None, patience: float = PATIENCE) -> None:
    limit = time.monotonic() + patience
    while not reached():
        assert time.monotonic() < limit, what + (f"\n{hub.log[-3000:]}" if hub else "")
        time.sleep(0.2)


def fences(uid: int) -> list[list[str]]:
    """Return the firewall's rules that the example's hook made for an account."""
    rules = subprocess.run(["iptables", "-S", "OUTPUT"], capture_output=True, text=True, check=True)
    return [r.split()[1:] for r in rules.stdout.splitlines() if f"! --uid-owner {uid} " in r]


@contextmanager
def accounts() -> Iterator[dict[str, str]]:
    """Three accounts with a home that others may enter; then no more."""
    passwords = {name: secrets.token_hex(8) for name in NAMES}
    try:
        for name, password in passwords.items():
            subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
            subprocess.run(["chpasswd"], input=f"{name}:{password}", text=True, check=True)
            entry = pwd.getpwnam(name)
            home = Path(entry.pw_dir)
            home.chmod(0o755)  # the worst that is usual: what protects a cluster is not this
        yield passwords
    finally:
        for name in NAMES:
            with suppress(KeyError):
                uid = pwd.getpwnam(name).pw_uid
                for process in psutil.process_iter():
                    with suppress(psutil.Error):
                        if process.uids().real == uid:
                            process.kill()
                for rule in fences(uid):
                    subprocess.run(["iptables", "-w", "-D", *rule], check=True)
                subprocess.run(["userdel", "--remove", name], capture_output=True)


@contextmanager
def running_hub(home: Path, environment: dict[str, str]) -> Iterator[Hub]:
    """Run a JupyterHub of its own in an empty directory, its proxy too; then neither."""
    public, hub_port, api = free_port(), free_port(), free_port()
    token = secrets.token_hex(16)
    environment = environment | {"PATH": f"{PLACE}/bin:/usr/local/bin:/usr/bin:/bin"}
    config = CONFIG.format(
        example=ROOT / "binder/jupyterhub_config.py", public=public, hub=hub_port, api=api,
        place=PLACE, home=home, names=set(NAMES), environment=environment, token=token,
    )  # fmt: skip
    file = home / "jupyterhub_config.py"
    file.touch(mode=0o600)
    file.write_text(config)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LABKIT_", "JUPYTER"))}
    hub = Hub(f"http://127.0.0.1:{public}", token, home)
    with (home / "hub.log").open("wb") as log:
        process = subprocess.Popen(
            [PLACE / "bin/jupyterhub", "--config", file], cwd=home,
            env=clean | {"LABKIT_NETWORKS": str(home / "networks"),
                         "PATH": f"{PLACE}/bin:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

    def answers() -> bool:
        assert process.poll() is None, hub.log
        with suppress(OSError):
            return hub.ask("/hub/api/")[0] == 200
        return False

    try:
        until(answers, "no JupyterHub", hub)
        yield hub
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
