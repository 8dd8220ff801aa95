"""Read the settings of the embedded engine from ``LABKIT_*`` variables or options."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from labkit.engine.embedded.directories import of_user, runnable, takes_sockets, writable
from labkit.engine.embedded.egress import routes
from labkit.engine.embedded.limits import MIB, Limits, gibibytes, limits
from labkit.engine.embedded.ownership import no_link, ours
from labkit.errors import NotEnoughMemory, SettingError

NODES = 3
MAX_NODES = 7
MAX_CPUS = 64
MIN_MEMORY = 512  # MiB
BASE_MEMORY, PER_NODE = 640, 128  # MiB of a machine, and of each node in it
MOST_MEMORY = 1 << 20  # MiB
SHARED = "LABKIT_SHARED_CACHE"
STATE = "XDG_STATE_HOME"
SITE = Path("/var/cache/labkit")
NETWORK = re.compile(r"127\.(6[4-9]|[7-9]\d|1[01]\d|12[0-6])\.(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])")
DRIVER = 320  # MiB that the driver takes beside the machine's; translated code, most of all
LEANER = 256  # MiB less than usual: enough for the course, with fewer tasks at once
BESIDE = 384  # MiB of JupyterLab and the kernel of one notebook


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one embedded cluster."""

    nodes: int = NODES  # 1 to 7
    cluster: str = "lab"  # name of the cluster (``LABKIT_CLUSTER``): a user may have several
    # directory of what is built (``LABKIT_CACHE``)
    cache: Path = field(default_factory=lambda: of_user(platformdirs.user_cache_path))
    mirror: str | None = None  # package mirror (``LABKIT_MIRROR``); None lets labkit find one
    suite: str = "trixie"  # Debian suite of the guest (``LABKIT_SUITE``)
    # what runs the machine (``LABKIT_ACCEL``): ``kvm``, ``uml``, ``tcg``, or ``auto`` for the first
    # of these that works here
    accel: str = "auto"
    # how User-Mode Linux catches the calls of its programs (``LABKIT_UML``): ``ptrace``,
    # ``seccomp``, or ``auto`` for the faster one where a wall is behind it
    uml: str = "auto"
    cpus: int = 2  # virtual CPUs of the machine (``LABKIT_CPUS``)
    # memory of the machine in MiB (``LABKIT_MEMORY``); 0 chooses by the number of nodes
    memory: int = 0
    # directory of what an administrator built for everybody (``LABKIT_SHARED_CACHE``, else
    # ``/var/cache/labkit`` where that is): looked at first, never written. None without one.
    shared: Path | None = None
    # what an administrator allows of these (``LABKIT_MAX_NODES`` and so on)
    max_nodes: int = MAX_NODES
    max_cpus: int = MAX_CPUS
    max_memory: int = MOST_MEMORY
    nice: int = 0  # how far the machine gives way to other processes, 0 to 19 (``LABKIT_NICE``)
    # minutes without use after which the cluster stops (``LABKIT_IDLE_STOP``); 0 for never
    idle_stop: int = 0
    # the first three numbers of the loopback addresses that are this user's alone, such as
    # ``127.80.3`` (``LABKIT_NETWORK``): nothing is opened elsewhere. "" takes free ones, and
    # 127.0.0.1 for what is published.
    network: str = ""
    # what containers reach beside the cluster (``LABKIT_EGRESS``): "" for the Internet without this
    # host and private networks, ``open``, ``none``, or what they reach of those, too
    egress: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MAX_NODES:
            raise SettingError(
                f"Un cluster de {self.nodes} nœuds n’est pas possible.",
                remedy=f"Demandez de 1 à {MAX_NODES} nœuds.",
            )
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", self.cluster):
            raise SettingError(
                f"« {self.cluster} » ne peut pas être le nom d’un cluster.",
                remedy="LABKIT_CLUSTER prend 20 lettres minuscules, chiffres ou tirets au plus.",
            )
        for name, value, values in (
            ("LABKIT_ACCEL", self.accel, ("auto", "kvm", "uml", "tcg")),
            ("LABKIT_UML", self.uml, ("auto", "ptrace", "seccomp")),
        ):
            if value not in values:
                raise SettingError(
                    f"{name}={value} n’existe pas.", remedy=f"Valeurs : {', '.join(values)}."
                )
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,39}", self.suite):
            raise SettingError(
                f"« {self.suite} » ne peut pas être le nom d’une suite Debian.",
                remedy="LABKIT_SUITE attend un nom comme trixie, forky ou sid.",
            )
        if not 1 <= self.cpus <= MAX_CPUS:
            raise SettingError(
                f"LABKIT_CPUS={self.cpus} n’est pas possible.",
                remedy=f"Demandez de 1 à {MAX_CPUS} processeurs.",
            )
        if self.memory and self.memory < MIN_MEMORY:
            raise SettingError(
                f"LABKIT_MEMORY={self.memory} n’est pas possible.",
                remedy=f"Demandez {MIN_MEMORY} (en Mio) ou plus, ou 0 pour laisser labkit choisir.",
            )
        if self.network and not NETWORK.fullmatch(self.network):
            raise SettingError(
                f"LABKIT_NETWORK={self.network} n’est pas possible.",
                remedy="Elle attend les trois premiers nombres d’adresses de bouclage, de 127.64.0 "
                "à 127.126.255.",
            )
        routes(self.egress)
        self._check_limits()

    def _check_limits(self) -> None:
        """Check that the limits are usable, and that nothing asked for is beyond them."""
        for name, value, least, most in (
            ("LABKIT_MAX_NODES", self.max_nodes, 1, MAX_NODES),
            ("LABKIT_MAX_CPUS", self.max_cpus, 1, MAX_CPUS),
            ("LABKIT_MAX_MEMORY", self.max_memory, MIN_MEMORY, MOST_MEMORY),
            ("LABKIT_NICE", self.nice, 0, 19),
            ("LABKIT_IDLE_STOP", self.idle_stop, 0, 7 * 24 * 60),
        ):
            if not least <= value <= most:
                raise SettingError(
                    f"{name}={value} n’est pas possible.", remedy=f"Valeurs : de {least} à {most}."
                )
        fewer = (self.max_memory - BASE_MEMORY) // PER_NODE
        smaller = f" {fewer} nœuds y tiennent." if not self.memory and fewer > 0 else ""
        for asked, most, what, name, remedy in (
            (self.nodes, self.max_nodes, "nœuds", "LABKIT_MAX_NODES", ""),
            (self.cpus, self.max_cpus, "processeurs", "LABKIT_MAX_CPUS", ""),
            (self.guest_memory, self.max_memory, "Mio de mémoire", "LABKIT_MAX_MEMORY", smaller),
        ):
            if asked > most:
                raise SettingError(
                    f"Il faudrait {asked} {what}. {limit_sentence(name, most)}",
                    remedy=f"Demandez-en {most} au plus.{remedy}",
                )

    @classmethod
    def read(cls, *, nodes: int | None = None, mirror: str | None = None) -> Settings:
        """Read the settings from the environment; arguments win over it."""
        given: dict[str, Any] = {}
        for name in ("cluster", "mirror", "suite", "accel", "uml", "network", "egress"):
            given[name] = os.environ.get(f"LABKIT_{name.upper()}")
        for name in ("cpus", "max_nodes", "max_cpus", "max_memory", "nice", "idle_stop"):
            given[name] = _integer(f"LABKIT_{name.upper()}")
        given = {name: value for name, value in given.items() if value not in (None, "")}
        if mirror:
            given["mirror"] = mirror
        most_cpus = min(2, given.get("max_cpus", MAX_CPUS), len(os.sched_getaffinity(0)))
        given.setdefault("cpus", max(1, most_cpus))
        if nodes is None:
            nodes = _integer("LABKIT_NODES")
        most = max(1, min(NODES, given.get("max_nodes", MAX_NODES)))
        nodes, memory = fitting(limits(), nodes, _integer("LABKIT_MEMORY") or 0, most)
        if cache := os.environ.get("LABKIT_CACHE"):
            given["cache"] = Path(cache).absolute()
        return cls(nodes=nodes, memory=memory, shared=_shared(), **given)

    def check(self) -> None:
        """Check the directories and the memory, before anything long begins.

        Raises ``SettingError`` when the driver could not name a file there, or nothing can be
        written; ``NotEnoughMemory`` when the machine and a notebook are more than this server
        allows.
        """
        for path, variable in ((self.cache, "LABKIT_CACHE"), (self.shared, SHARED)):
            if path is None:
                continue
            if not path.is_absolute() or set(str(path)) & set(",:\n"):
                raise SettingError(
                    f"Le répertoire « {path} » ne convient pas : QEMU veut un chemin absolu, sans "
                    "virgule ni deux-points.",
                    remedy=f"Choisissez-en un autre avec {variable}.",
                )
            runnable(path, variable)
        if self.shared and not os.access(self.shared, os.R_OK | os.X_OK):
            raise SettingError(
                f"Le cache partagé {self.shared} ne se lit pas, ou n’existe pas.",
                remedy=f"{SHARED} l’a choisi : corrigez ou videz cette variable, ou prévenez la "
                "personne qui administre cette machine.",
            )
        writable(self.state, STATE)
        self._settle()
        self._check_memory(limits())

    def _settle(self) -> None:
        """Find a place for the run directory where the usual one has none for sockets."""
        if self._place.exists():
            if ours(self.run.parent) and takes_sockets(self.build_run):
                return
            self._place.unlink()  # what clears /tmp has been there
        if takes_sockets(self.build_run):
            return
        for short in ("/tmp", os.environ.get("XDG_RUNTIME_DIR", "")):
            with contextlib.suppress(OSError):
                made = Path(tempfile.mkdtemp(prefix=f"labkit-{os.getuid()}-", dir=short or None))
                if takes_sockets(made / self.build_run.name):
                    with open(self._place, "x", encoding="utf-8", opener=no_link) as file:
                        file.write(str(made))
                    return
                made.rmdir()
        raise SettingError(
            f"QEMU ne peut pas ouvrir de sockets UNIX dans {self.state}, ni dans /tmp.",
            remedy=f"Choisissez un répertoire au chemin court, d’un disque local, avec {STATE}.",
        )

    def unsettle(self) -> None:
        """Give up the place that was found for the run directory, if any, once it is empty."""
        place = self.run.parent
        if self._place.exists():
            for left in (self.overflow, place):
                with contextlib.suppress(OSError):
                    left.rmdir()
            if not place.exists():
                self._place.unlink()

    def _check_memory(self, found: Limits) -> None:
        needed = (self.footprint + BESIDE) * MIB
        if found.memory is None or needed <= found.memory:
            return
        raise NotEnoughMemory(
            f"Ce serveur est limité à {found}. Un cluster de {self.nodes} "
            f"nœud{'s' if self.nodes > 1 else ''} et un notebook en demandent "
            f"{gibibytes(needed + (1 << 30) // 10)}.",  # rounded up
            remedy="Demandez un serveur plus grand, ou moins de nœuds (LABKIT_NODES, "
            "LABKIT_MEMORY) ; ou servez-vous de vos propres machines : LABKIT_ENGINE=ssh://…",
        )

    def for_shared_cache(self) -> Settings:
        """Return these settings with the shared cache as the one that is filled."""
        return replace(self, cache=self.shared or SITE, shared=None)

    @property
    def guest_memory(self) -> int:
        """Memory of the machine in MiB."""
        return self.memory or _usual(self.nodes)

    @property
    def footprint(self) -> int:
        """Memory that the machine takes at most of this host's, in MiB."""
        return self.guest_memory + DRIVER

    @property
    def state(self) -> Path:
        """Directory of what is kept of this user's clusters."""
        return of_user(platformdirs.user_state_path)

    @property
    def run(self) -> Path:
        """Directory of the running cluster: sockets, keys, process ids. Mode 0700."""
        try:
            return Path(self._place.read_text("utf-8")) / self.cluster
        except OSError:
            return self.state / self.cluster

    @property
    def _place(self) -> Path:
        """File that says where the run directory is, when :attr:`state` is no place for it."""
        return self.state / f"{self.cluster}.place"

    @property
    def overflow(self) -> Path:
        """Directory of the disk that a machine writes, when its run directory is elsewhere."""
        return self.state / f"{self.cluster}.tmp"

    @property
    def build_run(self) -> Path:
        """Directory of the machine that runs while a snapshot is made."""
        return self.run.with_name(f"{self.cluster}.build")


def _usual(nodes: int) -> int:
    return BASE_MEMORY + PER_NODE * nodes


def fitting(found: Limits, nodes: int | None, memory: int, most: int = NODES) -> tuple[int, int]:
    """Return nodes and memory (MiB, 0 for the usual) of a cluster that fits into limits; pure.

    Three nodes in a smaller machine come before fewer nodes. Where nothing fits, the smallest is
    returned: :meth:`Settings.check` refuses it. No ``nodes`` and 0 of ``memory`` leave the choice,
    up to ``most`` nodes.
    """
    if memory or found.memory is None:
        return (most if nodes is None else nodes), memory
    room = found.memory // MIB - DRIVER - BESIDE
    for number in range(most, 0, -1) if nodes is None else (nodes,):
        if _usual(number) <= room:
            return number, 0
        if (lean := _usual(number) - LEANER) <= room:
            return number, lean
    return number, lean


def limit_sentence(name: str, value: int) -> str:
    """Return in French which limit was met, and who set it."""
    return f"La limite est de {value}, fixée par la personne qui administre ce serveur ({name})."


def _shared() -> Path | None:
    named = os.environ.get(SHARED)
    if named is None:
        return SITE if SITE.is_dir() else None
    return Path(named).absolute() if named else None


def _integer(name: str) -> int | None:
    text = os.environ.get(name)
    try:
        return int(text) if text else None
    except ValueError:
        raise SettingError(
            f"{name}={text} n’est pas un nombre entier.",
            remedy=f"Donnez un nombre, ou retirez {name}.",
        ) from None
