"""Ordinary accounts of this machine, made for a test and removed after it. Only root can."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


def missing() -> str:
    """Say why no account can be made that runs labkit; "" when one can."""
    if os.geteuid():
        return "only root may make accounts"
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
         sys.executable, "-P", "-c", "import labkit"],
        cwd="/", capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        return f"other accounts cannot run {sys.executable}: a checkout and a Python all may read"
    return ""


@dataclass(frozen=True)
class Account:
    """An account with a home of its own and nothing else."""

    name: str

    @property
    def uid(self) -> int:
        return pwd.getpwnam(self.name).pw_uid

    @property
    def home(self) -> Path:
        return Path(pwd.getpwnam(self.name).pw_dir)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what a login gives, with this Python's programs first; nothing of root's."""
        path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin"])
        kept = {k: os.environ[k] for k in ("LABKIT_MIRROR", "LABKIT_ACCEL") if k in os.environ}
        return {"HOME": str(self.home), "USER": self.name, "LOGNAME": self.name, "PATH": path,
                "LANG": "C.UTF-8", "SHELL": "/bin/bash", **kept, **(extra or {})}  # fmt: skip

    def start(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command as this account, in its home."""
        options = {"cwd": self.home, "text": True, "start_new_session": True, **options}
        return subprocess.Popen(
            command, user=self.name, group=pwd.getpwnam(self.name).pw_gid, extra_groups=[],
            umask=0o022, env=self.environment(env), **options,
        )  # fmt: skip

    def run(
        self, *command: str | Path, env: Mapping[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this account; both of its outputs are in ``stdout``."""
        process = self.start(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(command, process.returncode, said)

    def python(self, code: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run code in a Python that has labkit."""
        return self.run(sys.executable, "-P", "-c", code, **options)

    def processes(self) -> list[psutil.Process]:
        """Return all its processes that live."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.uids().real == self.uid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@contextmanager
def account(mode: int = 0o755) -> Iterator[Account]:
    """Make an account whose home has this mode; its processes and files end with the test."""
    name = f"lk-{secrets.token_hex(4)}"
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
    made = Account(name)
    try:
        made.home.chmod(mode)
        yield made
    finally:
        while left := made.processes():
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=10)
        subprocess.run(["userdel", "--remove", name], capture_output=True)
