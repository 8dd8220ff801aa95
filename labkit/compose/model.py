"""The parts of a compose file or of a live stack: frozen data with nothing of YAML left.

Short and long syntaxes give equal values, so that files and stacks can be compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from labkit.documents import Step, nearest_line
from labkit.text.tables import table_html, table_text


@dataclass(frozen=True, slots=True)
class ComposePort:
    """A published port; numbers are texts, because a variable may stand for one."""

    target: str  # port in the container
    published: str = ""  # port outside; empty when Docker chooses one
    protocol: str = "tcp"  # ``tcp``, ``udp`` or ``sctp``
    mode: str = "ingress"  # ``ingress`` (routing mesh) or ``host``
    # address of the machine that it is bound to; empty for all. Swarm has no such thing.
    address: str = ""

    def __str__(self) -> str:
        outside = f"{self.address}:{self.published}" if self.address else self.published
        text = f"{outside or 'auto'}→{self.target or '?'}"
        text += "" if self.protocol == "tcp" else f"/{self.protocol}"
        return text + (" (host)" if self.mode == "host" else "")

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Sorts ports by their number outside."""
        number = int(self.published) if self.published.isdecimal() else 1 << 17
        return (number, self.published, self.target, self.protocol)


@dataclass(frozen=True, slots=True)
class ComposeMount:
    """Something mounted in the containers of a service."""

    # ``volume``, ``bind``, ``tmpfs``, ``npipe``, ``cluster`` or ``image``; of a Kubernetes manifest
    # ``config``, ``secret``, ``nfs``, ``csi``… too
    kind: str
    source: str  # name of a volume, or path outside; empty for a tmpfs and an anonymous volume
    target: str  # path in the container
    read_only: bool = False  # it cannot be written to

    def __str__(self) -> str:
        source = self.source or {"tmpfs": "tmpfs", "volume": "volume anonyme"}.get(self.kind, "?")
        return f"{source}→{self.target}" + (" (ro)" if self.read_only else "")


@dataclass(frozen=True, slots=True)
class ComposeService:
    """A service of a file or of a live stack."""

    name: str  # without the stack's name
    image: str  # as written, without digest for a live service; empty when there is only a build
    build: str = ""  # directory of the Dockerfile; empty without a build
    mode: str = "replicated"  # ``replicated``, ``global``, ``replicated-job`` or ``global-job``
    # wanted; a text because a variable may stand for it, None for global modes
    replicas: str | None = "1"
    networks: tuple[str, ...] = ()  # keys of :attr:`ComposeFile.networks`
    # ports, mounts: in the order of their numbers and paths
    ports: tuple[ComposePort, ...] = ()
    mounts: tuple[ComposeMount, ...] = ()
    constraints: tuple[str, ...] = ()  # of placement
    # services that the file names; a live stack knows nothing of it
    depends_on: tuple[str, ...] = ()
    network_mode: str = ""  # such as ``host``: then there are no networks
    running: int | None = None  # tasks that run, for a live stack; None for a file
    line: int | None = None  # where the file describes it; None for a live stack
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the file's own words
    # what else a Kubernetes Pod holds, in French: containers before and beside this one
    companions: tuple[str, ...] = ()

    @property
    def scale(self) -> str:
        """How many tasks are wanted, in a word or two."""
        if self.replicas is None:
            return self.mode
        plural = "" if self.replicas in ("0", "1") else "s"
        what = "job" if self.mode == "replicated-job" else "replica"
        return f"{self.replicas} {what}{plural}"


@dataclass(frozen=True, slots=True)
class ComposeVolume:
    """A named volume that a file declares or uses, or that a live stack uses."""

    name: str  # its key in the file
    label: str  # what the engine calls it, without the stack's name
    declared: bool = True  # the file declares it; always true of a live stack
    external: bool = False  # it exists outside the stack
    line: int | None = None  # where it is declared, or else first used


@dataclass(frozen=True, slots=True)
class ComposeNetwork(ComposeVolume):
    """A network, likewise; ``default`` counts as declared."""

    driver: str = ""  # as written; empty for the default one

    @property
    def implicit(self) -> bool:
        """It is the network of services that name none."""
        return self.name == "default"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that a file refers to."""

    name: str  # without dollar or braces
    line: int  # where it is first used
    default: str | None = None  # what is used when it is not set; None if the file gives nothing
    value: str | None = None  # what it was given; None if it was not set
    required: bool = False  # Docker refuses the file without it (``${A:?…}``), and it was not set

    @property
    def missing(self) -> bool:
        """Neither set nor with a default: it is left in the text as it stands."""
        return self.value is None and self.default is None


@dataclass(frozen=True, slots=True)
class Fault:
    """A place in a text where a variable is not as docker wants it."""

    # path, line: of the dollar
    path: tuple[Step, ...]
    line: int
    excerpt: str  # what is around it
    # ``wrong`` or ``needed``, for which docker refuses the file; ``lost`` where it removes the
    # dollar without a word
    rule: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Notes taken while a file was read, besides its data."""

    # the data as ``docker stack deploy`` has them: variables without value are empty there
    stack: Mapping[str, Any] = field(default_factory=dict)
    # texts such as ``yes`` that are true or false, by path
    words: Mapping[tuple[Step, ...], str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()  # variables that docker does not take as they stand
    # paths of keys that were written before, with the line of the first
    twice: Mapping[tuple[Step, ...], int] = field(default_factory=dict)
    # paths of keys that a later ``<<`` replaced, with the line of the key
    merged: Mapping[tuple[Step, ...], int] = field(default_factory=dict)
    rest: int | None = None  # line of the second document; None if there is only one


@dataclass(frozen=True, slots=True, repr=False)
class ComposeFile:
    """A compose file, or a live stack in the same terms."""

    name: str  # of the file (without directory) or of the stack
    live: bool = False  # it was made from a cluster
    version: str = ""  # what the file says of its format; empty without
    # services, networks, volumes: in the file's order
    services: tuple[ComposeService, ...] = ()
    networks: tuple[ComposeNetwork, ...] = ()
    volumes: tuple[ComposeVolume, ...] = ()
    variables: tuple[Variable, ...] = ()  # variables that the file refers to
    # data, lines: the file's own words, and the line of each path in them; empty for a live stack
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    lines: Mapping[tuple[Step, ...], int] = field(default_factory=dict, repr=False)
    # what else was seen while the file was read
    reading: Reading = field(default=Reading(), repr=False)
    directory: Path | None = None  # where the file is; None for a text and for a live stack
    notes: tuple[str, ...] = ()  # what is said below a drawing, in French

    def service(self, name: str) -> ComposeService | None:
        """Return the service of that name, or None."""
        return next((s for s in self.services if s.name == name), None)

    def network(self, name: str) -> ComposeNetwork | None:
        """Return the network of that key, or None."""
        return next((n for n in self.networks if n.name == name), None)

    def volume(self, name: str) -> ComposeVolume | None:
        """Return the volume of that key, or None."""
        return next((v for v in self.volumes if v.name == name), None)

    def line(self, *path: Step) -> int | None:
        """Return the line of a path, or of the nearest thing around it; None when live."""
        return nearest_line(self.lines, path)

    @property
    def title(self) -> str:
        """Its kind, in French."""
        return f"Stack « {self.name} »" if self.live else self.name

    @property
    def summary(self) -> str:
        """How much there is of everything, in French."""
        counts = (
            (len(self.services), "service"),
            (len(self.networks), "réseau"),
            (len(self.volumes), "volume"),
        )
        return ", ".join(f"{n} {_plural(n, word)}" for n, word in counts)

    def _rows(self) -> list[tuple[str, ...]]:
        networks = {n.name: n.label for n in self.networks}
        return [
            (
                s.name,
                " ; ".join([s.image or (f"build {s.build}" if s.build else "—"), *s.companions]),
                s.scale + (f" ({s.running} en marche)" if s.running is not None else ""),
                ", ".join(networks[n] for n in s.networks) or s.network_mode or "—",
                ", ".join(map(str, s.ports)) or "—",
                ", ".join(map(str, s.mounts)) or "—",
            )
            for s in self.services
        ]

    def __str__(self) -> str:
        head = f"{self.title} : {self.summary}"
        return f"{head}\n\n{table_text(_HEAD, self._rows())}" if self.services else head

    __repr__ = __str__  # what a notebook keeps for those who see no table

    def _repr_html_(self) -> str:
        return table_html(f"{escape(self.title)} : {self.summary}", _HEAD, self._rows())


_HEAD = ("Service", "Image", "Tasks", "Réseaux", "Ports", "Volumes")


def _plural(count: int, word: str) -> str:
    if count < 2:
        return word
    return f"{word}x" if word.endswith("eau") else f"{word}s"
