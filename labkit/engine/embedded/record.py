"""Read and write the record of a running cluster in its run directory."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labkit.engine.embedded.addresses import endpoints_of, split_network
from labkit.engine.embedded.ownership import trusted
from labkit.engine.embedded.processes import alive, refuse_elsewhere
from labkit.engine.embedded.settings import MAX_NODES, STATE, Settings
from labkit.engine.endpoint import Fleet
from labkit.files import replacing

LOST = "Une machine tourne, mais son fichier cluster.json est illisible."
FRESH = "Lancez « labkit reset » : elle sera refaite, et ce qu’elle contient sera perdu."


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """One image of the course, and where it came from."""

    name: str
    origin: str  # ``hub``, ``stand-in`` or ``course``; ``missing`` when it could not be had
    # every engine was given it; otherwise nodes pull it from the machine's registry
    loaded: bool = True
    why: str = ""  # why it could not be had when the machine was built, in French
    missing: tuple[str, ...] = ()  # the nodes that were given it and have it no more


class Remapped(Mapping[tuple[str, int], int]):
    """The keeper's table of where published ports are, read again at each look."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self) -> dict[tuple[str, int], int]:
        try:
            rows = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return {(r["node"], r["port"]): r["at"] for r in rows}

    def __getitem__(self, key: tuple[str, int]) -> int:
        return self._read()[key]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


@dataclass(frozen=True, slots=True)
class Record:
    """A running cluster, as ``cluster.json`` in its run directory has it."""

    network: str
    nodes: int  # how many it was started with
    numbers: list[int]  # those of the nodes it has now
    accel: str
    images: list[dict[str, Any]] = field(default_factory=list)
    kills: int = 0  # programs that the kernel had ended for want of memory until it started
    private: bool = False  # nothing is opened beside the addresses of its network
    package: str = ""  # the installed package that the driver came from; "" for none

    @classmethod
    def read(cls, run: Path) -> Record | None:
        """Return the record, or None where there is none that can be read."""
        try:
            record = cls(**json.loads((run / "cluster.json").read_text()))
            ipaddress.ip_address(f"{split_network(str(record.network))[0]}.{record.nodes}")
            fits = isinstance(record.accel, str) and record.numbers[0] == 1
            fits = fits and isinstance(record.kills, int)
            fits = fits and all(1 <= n <= MAX_NODES for n in (record.nodes, *record.numbers))
            for image in record.images:
                ImageStatus(**image)
        except (OSError, ValueError, TypeError, LookupError):
            return None
        return record if fits else None

    def write(self, run: Path) -> None:
        """Write the record, whole or not at all."""
        with replacing(run / "cluster.json") as file:
            file.write(json.dumps(asdict(self)).encode())

    def fleet(self, run: Path) -> Fleet:
        """Return the engines."""
        return Fleet(
            kind="embedded",
            endpoints=endpoints_of(self.network, self.numbers, run),
            docker_config=run / "docker",
            remapped=Remapped(run / "forwards.json"),
            private=self.private,
        )


def read_record(settings: Settings) -> Record | None:
    """Return the record of a cluster of this host, or None where there is none to be read.

    Raises ``EngineNotRunning`` when it runs on another host, ``SettingError`` when others could
    have written it.
    """
    for directory in (settings.state, settings.run):
        trusted(directory, "Le répertoire", f"Ou choisissez un autre répertoire avec {STATE}.")
    refuse_elsewhere(settings.run)
    return Record.read(settings.run)


def unreadable(run: Path) -> bool:
    """Tell whether a machine lives whose record, though there, cannot be read."""
    return (run / "cluster.json").exists() and Record.read(run) is None and alive(run)
