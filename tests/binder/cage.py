"""A Binder session's limits on this machine: a fresh account, its control groups, its network.

Everything is real: an account made by useradd, no_new_privs and no capability, the kernel's own
limits of memory and processor time (control groups of version 2 or 1), and a network that is
either the package registries alone or loopback alone. All of it is removed at the end.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from labkit.engine.embedded.build.mirror import find_mirror

ROOT = Path(__file__).parents[2]
GROUPS = Path("/sys/fs/cgroup")
CHAIN = "LABKIT-BINDER"  # of the firewall
TOOLS = ("useradd", "userdel", "setpriv", "unshare", "nsenter", "ip", "iptables", "flock", "tar")
SBIN = os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"])
# what tells pip and TLS where they are; nothing else of this environment is passed on
PASSED = re.compile(r"(?i:https?_proxy|no_proxy)|PIP_\w+|SSL_CERT_FILE|REQUESTS_CA_BUNDLE"
                    r"|LABKIT_MIRROR")  # fmt: skip
MIB = 1 << 20


def missing() -> str:
    """Say why there can be no cage here; "" when there can."""
    if os.geteuid() != 0:
        return "an account and control groups of their own want root"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=SBIN) is None]
    if absent:
        return f"the limits of a session want {', '.join(absent)}"
    if not _python():
        return "no Python that every account may run has venv and ensurepip"
    if Groups.version() is None:
        return "the control groups of memory and processor time are not to be written here"
    return ""


def _python() -> str:
    """Return a Python that an account without any right of its own may run."""
    for candidate in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        looks = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
        # by a shell: setpriv itself may still look where the account may not
        shell = ("sh", "-c", 'exec "$0" -c "$1"')
        if run(*_as(65534, 65534), *shell, candidate, looks, check=False) is not None:
            return candidate
    return ""


def run(*command: str | Path, check: bool = True) -> str | None:
    """Run a command of this machine as root; None when it fails and may."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env={**os.environ, "PATH": SBIN}
        )
    except FileNotFoundError:
        done = None
    if done is not None and done.returncode == 0:
        return done.stdout
    assert not check, f"{command}: {done and done.stderr}"
    return None


def _as(uid: int, gid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups",
            "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]  # fmt: skip


# -- control groups -------------------------------------------------------------------------


@dataclass(frozen=True)
class Groups:
    """Control groups of one name, with limits; version 2 where it has the controllers, else 1."""

    name: str
    memory: Path
    cpu: Path
    usage: Path

    @staticmethod
    def version() -> int | None:
        """Return which version has both controllers here, and lets itself be written."""
        found = GROUPS / "cgroup.controllers"
        if found.exists() and {"memory", "cpu"} <= set(found.read_text().split()):
            return 2 if os.access(GROUPS, os.W_OK) else None
        both = GROUPS / "memory", GROUPS / "cpu"
        return 1 if all(os.access(p / "cgroup.procs", os.W_OK) for p in both) else None

    @classmethod
    def named(cls, name: str) -> Groups:
        """Return the groups of a name, which need not be there."""
        if cls.version() == 2:
            return cls(name, *[GROUPS / name] * 3)
        return cls(name, *(GROUPS / c / name for c in ("memory", "cpu", "cpuacct")))

    @classmethod
    def make(cls, name: str) -> Groups:
        if cls.version() == 2:
            (GROUPS / "cgroup.subtree_control").write_text("+memory +cpu")
        groups = cls.named(name)
        for path in groups.all:
            path.mkdir()
        return groups

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.memory, self.cpu, self.usage)))

    def allow(self, memory: int, cpus: float) -> None:
        """Set the limits, in bytes without swap, and in processors' worth of time."""
        if self.version() == 2:
            (self.memory / "memory.max").write_text(str(memory))
            if (self.memory / "memory.swap.max").exists():
                (self.memory / "memory.swap.max").write_text("0")
            (self.cpu / "cpu.max").write_text(f"{int(cpus * 100_000)} 100000")
            return
        both = self.memory / "memory.memsw.limit_in_bytes"  # never below the other
        for path in (both, self.memory / "memory.limit_in_bytes", both):
            if path.exists():
                try:
                    path.write_text(str(memory))
                except OSError:
                    assert path == both
        assert self.number("memory.max", "memory.limit_in_bytes") == memory
        (self.cpu / "cpu.cfs_period_us").write_text("100000")
        (self.cpu / "cpu.cfs_quota_us").write_text(str(int(cpus * 100_000)))

    def number(self, *names: str) -> int:
        """Return the number in the first of the memory group's files that is there."""
        path = next(self.memory / n for n in names if (self.memory / n).exists())
        return int(path.read_text())

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the group took so far."""
        if self.version() == 2:
            found = re.search(r"^usage_usec (\d+)$", (self.usage / "cpu.stat").read_text(), re.M)
            assert found
            return int(found[1]) / 1e6
        return int((self.usage / "cpuacct.usage").read_text()) / 1e9

    @property
    def held(self) -> int:
        """Bytes that the kernel cannot take back: all but what holds files."""
        stat = (self.memory / "memory.stat").read_text()
        files = dict(re.findall(r"^(?:total_)?((?:in)?active_file) (\d+)$", stat, re.M))
        used = self.number("memory.current", "memory.usage_in_bytes")
        return used - sum(map(int, files.values()))

    @property
    def kills(self) -> int:
        """How many programs the kernel ended for want of memory."""
        for name in ("memory.events", "memory.oom_control"):
            if (self.memory / name).exists():
                found = re.search(r"^oom_kill (\d+)$", (self.memory / name).read_text(), re.M)
                assert found
                return int(found[1])
        raise AssertionError("no count of kills")

    @property
    def processes(self) -> list[int]:
        return [int(p) for p in (self.memory / "cgroup.procs").read_text().split()]

    def empty(self) -> None:
        """End all that is in the groups."""
        limit = time.monotonic() + 30
        while pids := self.processes:
            assert time.monotonic() < limit, pids
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def remove(self) -> None:
        """Remove the groups, and what a killed run left of them."""
        if self.memory.exists():
            self.empty()
        for path in self.all:
            if path.exists():
                path.rmdir()


# -- the cage -------------------------------------------------------------------------------


@dataclass
class Cage:
    """An account under limits.

    Attributes
    ----------
    name
        Of the account, its groups and its network namespace.
    home
        Its home; ``repo`` in it is a copy of what git knows of this checkout.
    peak
        The most bytes held so far that the kernel could not take back, looked at five times a
        second.
    """

    name: str
    uid: int
    gid: int
    home: Path
    groups: Groups
    peak: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    @property
    def cache(self) -> Path:
        return self.home / ".cache/labkit"

    def command(self, script: str, *, online: bool) -> list[str]:
        """Return what runs a bash script inside.

        Parameters
        ----------
        online
            In this machine's network, of which the account sees the registries alone. Otherwise in
            a namespace that has nothing but loopback.
        """
        enter = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
        # a /tmp of its own, on the disk
        tmp = f'mount --bind {self.home}/tmp /tmp && exec "$@"'
        variables = {
            "HOME": str(self.home),
            "USER": self.name,
            "LANG": "C.UTF-8",
            "PATH": f"{self.home}/env/bin:/usr/local/bin:/usr/bin:/bin",
            **{k: v for k, v in os.environ.items() if PASSED.fullmatch(k)},
        }
        return [
            "sh", "-c", enter, "sh", *map(str, self.groups.all), "--",
            *([] if online else ["nsenter", f"--net=/run/netns/{self.name}"]),
            "unshare", "--mount", "sh", "-c", tmp, "sh", *_as(self.uid, self.gid),
            "env", "-i", *(f"{k}={v}" for k, v in variables.items()),
            "bash", "-c", f"cd {self.repo} && {script}",
        ]  # fmt: skip

    def run(self, script: str, *, online: bool = False, timeout: float = 120) -> tuple[int, str]:
        """Run a bash script inside; return its exit code and what it said."""
        done = subprocess.run(
            self.command(script, online=online), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
            env={**os.environ, "PATH": SBIN},
        )  # fmt: skip
        return done.returncode, done.stdout

    def do(self, script: str, *, online: bool = False, timeout: float = 120) -> str:
        """Run a bash script that has to succeed."""
        code, said = self.run(script, online=online, timeout=timeout)
        assert code == 0, f"{script}: {said[-4000:]}"
        return said

    @contextmanager
    def background(self, script: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run a bash script beside; whatever is in the groups ends with it."""
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(script, online=False), stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, start_new_session=True, env={**os.environ, "PATH": SBIN},
            )  # fmt: skip
        try:
            yield process
        finally:
            self.groups.empty()
            process.wait(10)

    def answers(self, url: str) -> bool:
        """Tell whether a page of the session answers; asked from outside of its limits."""
        ask = f"import urllib.request as u; u.urlopen({url!r}, timeout=5)"
        inside = ("nsenter", f"--net=/run/netns/{self.name}")
        return run(*inside, sys.executable, "-c", ask, check=False) is not None

    def layer(self) -> tuple[int, int]:
        """Return the bytes that the home takes in an image's layer, where no file has holes; and,
        of these, those on this machine's disk.
        """
        files = [p.lstat() for p in self.home.rglob("*") if p.is_file() and not p.is_symlink()]
        once = {(s.st_dev, s.st_ino): s for s in files}.values()
        return sum(s.st_size for s in once), sum(512 * s.st_blocks for s in once)

    def watch(self) -> None:
        while not self._over.wait(0.2):
            self.peak = max(self.peak, self.groups.held)


def clear(name: str, *, account: bool) -> None:
    """Remove what a run that was killed left: groups, network, rules, and the account if asked."""
    Groups.named(name).remove()
    if Path(f"/run/netns/{name}").exists():
        run("ip", "netns", "delete", name)
    with suppress(KeyError):
        _open(pwd.getpwnam(name).pw_uid)
        if account:
            run("userdel", "--remove", name)


@contextmanager
def cage(name: str = "labkit-binder") -> Iterator[Cage]:
    """Make an account, its groups and its network; remove all of it at the end.

    With ``BINDER_KEEP`` in the environment the account stays, and the next cage finds it as it
    was: for figures, which need not be built again.
    """
    kept = bool(os.environ.get("BINDER_KEEP"))
    clear(name, account=not kept)
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        run("useradd", "--create-home", "--shell", "/bin/bash", name)
        account = pwd.getpwnam(name)
    home = Path(account.pw_dir)
    groups = Groups.make(name)
    made = Cage(name, account.pw_uid, account.pw_gid, home, groups)
    watcher = threading.Thread(target=made.watch)
    try:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        with registries_alone(account.pw_uid):
            if not made.repo.exists():
                _furnish(made)
            watcher.start()
            yield made
    finally:
        made._over.set()
        if watcher.ident:
            watcher.join()
        groups.remove()
        run("ip", "netns", "delete", name, check=False)
        if not kept:
            run("userdel", "--remove", name)


def _furnish(made: Cage) -> None:
    """Copy the checkout, and make the environment that repo2docker would make of it.

    Its packages come from PyPI instead of conda-forge; postBuild installs them.
    """
    names = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    assert names
    for name in filter(None, names.split("\0")):
        target = made.repo / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, target)
    (made.home / "tmp").mkdir()
    run(_python(), "-m", "venv", made.home / "env")
    run("chown", "-R", f"{made.uid}:{made.gid}", made.home)


# -- network --------------------------------------------------------------------------------


@contextmanager
def registries_alone(uid: int) -> Iterator[None]:
    """Let an account reach package registries, the names' resolver and loopback; nothing else."""
    addresses = sorted(_addresses(registries()))
    assert addresses
    rules: list[Sequence[str]] = [("-o", "lo", "-j", "ACCEPT")]
    rules += [("-p", p, "--dport", "53", "-j", "ACCEPT") for p in ("udp", "tcp")]
    rules += [("-d", a, "-p", "tcp", "-j", "ACCEPT") for a in addresses]
    rules.append(("-j", "REJECT"))
    jump = _jump(uid)
    try:
        run("iptables", "-w", "-N", CHAIN)
        for rule in rules:
            run("iptables", "-w", "-A", CHAIN, *rule)
        run("iptables", "-w", "-I", *jump, CHAIN)
        run("ip6tables", "-w", "-I", *jump, "REJECT")
        yield
    finally:
        _open(uid)


def _jump(uid: int) -> tuple[str, ...]:
    return ("OUTPUT", "-m", "owner", "--uid-owner", str(uid), "-j")


def _open(uid: int) -> None:
    """Remove the rules of an account, whichever of them are there."""
    run("ip6tables", "-w", "-D", *_jump(uid), "REJECT", check=False)
    run("iptables", "-w", "-D", *_jump(uid), CHAIN, check=False)
    for flag in ("-F", "-X"):
        run("iptables", "-w", flag, CHAIN, check=False)


def registries() -> set[str]:
    """Return the hosts of the package registries that this machine is set up with."""
    known = "from pip._internal.models.index import PyPI as p\nprint(p.url, p.file_storage_domain)"
    urls = (run(sys.executable, "-c", known) or "").split()
    for name in ("index-url", "extra-index-url"):
        urls += (run(sys.executable, "-m", "pip", "config", "get", f"global.{name}", check=False)
                 or "").split()  # fmt: skip
    urls.append(find_mirror(os.environ.get("LABKIT_MIRROR")))
    urls += [v for k, v in os.environ.items() if k.lower() in {"http_proxy", "https_proxy"}]
    hosts = (urlsplit(u if "//" in u else f"//{u}").hostname for u in urls)
    return {h for h in hosts if h}


def _addresses(hosts: set[str]) -> set[str]:
    found = set()
    for host in hosts:
        for *_, address in socket.getaddrinfo(host, None, socket.AF_INET):
            found.add(str(address[0]))
    return found


def report(figures: dict[str, object]) -> None:
    """Keep figures with the tests' other artefacts, and print them."""
    path = ROOT / "artefacts/binder.json"
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | figures, indent=1))
    print(json.dumps(figures, indent=1))
