"""Real Redis, PostgreSQL and programs of the voting app, as processes on loopback ports.

``VOTING_PYTHON`` names another interpreter for the programs in Python, with their requirements.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import psycopg2
import pytest
import redis
from ports import free_port

from labkit.engine.embedded.images.voting import BEFORE, before

APP = Path(__file__).parents[2] / "notebooks" / "example-voting-app"
USER = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
PYTHON = os.environ.get("VOTING_PYTHON", sys.executable)
WORKERS = {
    "python": (PYTHON, APP / "worker" / "app.py"),
    "lua": ("lua5.4", APP / "worker-lua" / "worker.lua"),
}


def program(name: str, package: str) -> str:
    """Return the path of a program. Where it is missing the test is skipped; in CI it fails."""
    versions = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *versions]))
    if found is None:
        missing = f"{name} is missing: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return found


def until(what: str, true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, f"waited {seconds} s for: {what}"
        time.sleep(0.05)


class Process:
    """A process that can be stopped, killed and started again; its output goes to a file."""

    def __init__(self, log: Path, *command: object, user: str | None = None, **env: object):
        self.log = log
        self.command = [str(word) for word in command]
        self.user = user
        self.env = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{name: str(value) for name, value in env.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    stop = signal.SIGTERM  # what `docker stop` sends

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.env,
                cwd="/",
                user=self.user,
                group="nogroup" if self.user else None,
                extra_groups=[] if self.user else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait; return how many seconds the process still lived."""
        assert self.process is not None
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(30)
        return time.monotonic() - start

    def said(self, text: str) -> int:
        return self.log.read_text(errors="replace").count(text)


class Redis(Process):
    """A Redis that has each write on its disk before it answers."""

    def __init__(self, directory: Path):
        self.port = free_port()
        data = directory / "redis"
        data.mkdir()
        if USER:
            shutil.chown(data, USER)
        super().__init__(
            directory / "redis.log",
            program("redis-server", "redis-server"),
            *("--bind", "127.0.0.1", "--port", self.port, "--dir", data),
            *("--appendonly", "yes", "--appendfsync", "always"),
            user=USER,
        )

    def client(self) -> redis.Redis:
        return redis.Redis("127.0.0.1", self.port, decode_responses=True)

    def start(self) -> None:
        super().start()
        until("redis", self.answers)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def waiting(self) -> int:
        with self.client() as client:
            return int(client.llen("votes"))  # type: ignore[arg-type]


class Postgres(Process):
    """A PostgreSQL that wants the password ``postgres``, as the official image does."""

    def __init__(self, directory: Path):
        self.port = free_port()
        data, password = directory / "postgres", directory / "password"
        data.mkdir(mode=0o700)
        password.write_text("postgres\n")
        if USER:
            shutil.chown(data, USER)
        subprocess.run(
            [program("initdb", "postgresql"), "--pgdata", data, "--username", "postgres",
             "--no-sync", "--auth", "scram-sha-256", "--pwfile", password, "--encoding", "UTF8"],
            user=USER, group="nogroup" if USER else None, extra_groups=[] if USER else None,
            cwd="/", check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        super().__init__(
            directory / "postgres.log",
            program("postgres", "postgresql"),
            *("-D", data, "-p", self.port, "-c", "listen_addresses=127.0.0.1"),
            *("-c", "unix_socket_directories=", "-c", "shared_buffers=16MB"),
            user=USER,
        )

    def start(self) -> None:
        super().start()
        until("postgres", self.answers)

    stop = signal.SIGINT  # the official image's STOPSIGNAL: do not wait for clients

    def end(self, how: signal.Signals = stop) -> float:
        return super().end(signal.SIGQUIT if how == signal.SIGKILL else how)  # both are a crash

    def answers(self) -> bool:
        try:
            self.ask("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def ask(self, query: str) -> list[tuple[str, ...]]:
        db = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password="postgres",
            dbname="postgres",
            connect_timeout=5,
        )
        with contextlib.closing(db), db, db.cursor() as sql:
            sql.execute(query)
            return sql.fetchall() if sql.description else []

    def sessions(self) -> int:
        """Return how many clients PostgreSQL still works for, dead ones included."""
        others = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
        return int(self.ask(f"SELECT COUNT(*) FROM pg_stat_activity WHERE {others}")[0][0])

    def counted(self) -> dict[str, str]:
        """Return each voter's vote."""
        try:
            return {row[0]: row[1] for row in self.ask("SELECT id, vote FROM votes")}
        except psycopg2.errors.UndefinedTable:
            return {}


class App:
    """The whole application; the names are those of its services."""

    def __init__(self, directory: Path, worker: str):
        self.language = worker
        self.redis, self.db = Redis(directory), Postgres(directory)
        self.env = {
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": self.redis.port,
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": self.db.port,
        }
        self.vote_port, self.result_port = free_port(), free_port()
        self.directory = directory
        self.vote = self.python("vote")
        self.result = self.python("result")
        self.workers = [self.worker(worker, i) for i in range(2)]

    def python(self, service: str, script: Path | None = None) -> Process:
        port = {"vote": self.vote_port, "result": self.result_port}[service]
        log = self.directory / f"{service}.log"
        script = script or APP / service / "app.py"
        return Process(log, PYTHON, script, **self.env, PORT=port)

    def worker(self, language: str, number: int, script: Path | None = None) -> Process:
        interpreter, usual = WORKERS[language]
        if language == "lua":
            interpreter = program("lua5.4", "lua5.4 lua-cjson lua-socket lua-sql-postgres")
        log = self.directory / f"worker.{number}.log"
        return Process(log, interpreter, script or usual, **self.env)

    def before(self, service: str) -> Path:
        """Return the program of a service as it was before it was repaired."""
        copy = shutil.copytree(APP / service, self.directory / f"{service}-before")
        script = copy / BEFORE[service]
        script.write_text(before(script.read_text()))
        return script

    @property
    def processes(self) -> list[Process]:
        return [self.redis, self.db, self.vote, self.result, *self.workers]

    def start(self) -> None:
        for process in self.processes:
            process.start()
        until("vote", lambda: answers(self.vote_port))
        until("result", lambda: answers(self.result_port))

    def end(self) -> None:
        for process in reversed(self.processes):
            if process.process is not None:
                process.end(signal.SIGKILL)


def answers(port: int) -> bool:
    try:
        return get(port, "/health")[0] == 200
    except OSError:
        return False


def get(port: int, path: str = "/") -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers


def post(port: int, vote: str, voter: str = "") -> tuple[int, str, http.client.HTTPMessage]:
    """Vote, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if voter:
        headers["Cookie"] = f"voter_id={voter}"
    with contextlib.closing(connection):
        connection.request("POST", "/", urlencode({"vote": vote}), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """Give a directory that the servers' user can enter."""
    path = Path(tempfile.mkdtemp(prefix="voting-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)
