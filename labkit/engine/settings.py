"""What can be set about the embedded engine, from ``LABKIT_*`` variables or options."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from labkit.errors import SettingError

__all__ = ["MAX_NODES", "Settings", "writable"]

MAX_NODES = 7
MAX_CPUS = 64
MIN_MEMORY = 512  # MiB
SOCKET_PATH = 107  # bytes that Linux takes


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one embedded cluster.

    Attributes
    ----------
    nodes
        Number of nodes, 1 to 7.
    cluster
        Name of the cluster (``LABKIT_CLUSTER``): a user may have several.
    cache
        Directory of what is built (``LABKIT_CACHE``).
    mirror
        Package mirror (``LABKIT_MIRROR``); None lets labkit find one.
    suite
        Debian suite of the guest (``LABKIT_SUITE``).
    accel
        ``tcg``, ``kvm`` or ``auto`` (``LABKIT_ACCEL``).
    cpus
        Virtual CPUs of the machine (``LABKIT_CPUS``).
    memory
        Memory of the machine in MiB (``LABKIT_MEMORY``); 0 chooses by the number of nodes.
    """

    nodes: int = 3
    cluster: str = "lab"
    cache: Path = field(default_factory=lambda: platformdirs.user_cache_path("labkit"))
    mirror: str | None = None
    suite: str = "trixie"
    accel: str = "auto"
    cpus: int = 2
    memory: int = 0

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
        if self.accel not in {"auto", "tcg", "kvm"}:
            raise SettingError(
                f"LABKIT_ACCEL={self.accel} n’existe pas.", remedy="Valeurs : auto, tcg, kvm."
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

    @classmethod
    def read(cls, *, nodes: int | None = None, mirror: str | None = None) -> Settings:
        """Read the settings from the environment; arguments win over it."""
        env = os.environ
        default_cpus = min(2, len(os.sched_getaffinity(0)))
        cache = env.get("LABKIT_CACHE")
        return cls(
            nodes=nodes if nodes is not None else _integer("LABKIT_NODES", 3),
            cluster=env.get("LABKIT_CLUSTER") or "lab",
            cache=Path(cache).absolute() if cache else platformdirs.user_cache_path("labkit"),
            mirror=mirror or env.get("LABKIT_MIRROR") or None,
            suite=env.get("LABKIT_SUITE") or "trixie",
            accel=env.get("LABKIT_ACCEL") or "auto",
            cpus=_integer("LABKIT_CPUS", default_cpus),
            memory=_integer("LABKIT_MEMORY", 0),
        )

    def check(self) -> None:
        """See that the directories can be used, before anything long begins.

        Raises
        ------
        SettingError
            When QEMU could not name a file there, or nothing can be written.
        """
        for path, variable, unusable in (
            (self.cache, "LABKIT_CACHE", ",:\n"),
            (self.run, "XDG_STATE_HOME", ",\n"),
        ):
            if not path.is_absolute() or set(str(path)) & set(unusable):
                raise SettingError(
                    f"Le répertoire « {path} » ne convient pas : QEMU veut un chemin absolu, sans "
                    "virgule ni deux-points.",
                    remedy=f"Choisissez-en un autre avec {variable}.",
                )
        length = len(os.fsencode(self.build_run / "agent"))
        if length > SOCKET_PATH:
            raise SettingError(
                f"Le chemin {self.run} est trop long de {length - SOCKET_PATH} octets pour une "
                "socket UNIX.",
                remedy="Choisissez un répertoire plus court avec XDG_STATE_HOME, ou un nom plus "
                "court avec LABKIT_CLUSTER.",
            )
        writable(self.run.parent, "XDG_STATE_HOME")

    @property
    def guest_memory(self) -> int:
        """Memory of the machine in MiB."""
        return self.memory or 640 + 128 * self.nodes

    @property
    def run(self) -> Path:
        """Directory of the running cluster: sockets, keys, process ids. Mode 0700."""
        return platformdirs.user_state_path("labkit") / self.cluster

    @property
    def build_run(self) -> Path:
        """Directory of the machine that runs while a snapshot is made."""
        return self.run.with_name(f"{self.cluster}.build")


def writable(path: Path, variable: str) -> None:
    """Make a directory, and see that a file can be made in it.

    Raises
    ------
    SettingError
        When not; it names the variable that chooses another directory.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        file = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "ce n’est pas un répertoire" if file else error.strerror
        raise SettingError(
            f"Impossible d’écrire dans {path} : {reason}.",
            remedy=f"Vérifiez ses droits, ou choisissez un autre répertoire avec {variable}.",
        ) from error


def _integer(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise SettingError(
            f"{name}={text} n’est pas un nombre entier.",
            remedy=f"Donnez un nombre, ou retirez {name}.",
        ) from None
