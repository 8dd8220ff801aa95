"""Errors of labkit, named for what happened.

Every error carries a stable ``code``, a French ``message`` that is safe to show to a
student, and a French ``remedy`` that says what to do next::

    LabkitError
    ├── SettingError              a LABKIT_* variable or an option is not usable
    ├── FileError                 a file cannot be read; it says the line and the reason
    │   ├── ComposeError          a compose file
    │   └── ManifestError         a Kubernetes manifest
    ├── EngineError
    │   ├── EngineNotRunning      no cluster is up
    │   ├── EngineUnreachable     an engine does not answer
    │   ├── PlatformNotSupported  the embedded engine cannot run here
    │   ├── MachineFailed         QEMU stopped or never came up
    │   ├── NotEnoughMemory       the cluster would not fit into what this server allows
    │   └── BuildError
    │       ├── MirrorNotFound    no package mirror is known
    │       ├── DownloadFailed    a file cannot be fetched
    │       │   └── NotInArchive  the mirror answers, and does not have it
    │       ├── ReleaseExpired    a release file is not valid at this machine's time
    │       ├── BadSignature      a release file is not signed by Debian
    │       ├── BadChecksum       a file is not what its release says
    │       └── DiskFull          the cache has no room
    ├── SwarmError
    │   ├── NoSwarm               the engine is in no swarm
    │   ├── NotAManager           the engine asked is a worker
    │   ├── NoLeader              most managers live, but none leads yet
    │   ├── QuorumLost            the managers have no majority
    │   ├── SwarmLocked           a manager that restarted waits for the key of autolock
    │   ├── NoSuchService
    │   ├── NoSuchStack
    │   ├── NoSuchNode
    │   ├── ImageNotFound         a node can neither find nor pull the image
    │   ├── PortTaken             another service publishes the port
    │   ├── ConvergenceTimeout    the cluster did not reach the wanted state in time
    │   └── DockerFailed          anything else the engine refused
    ├── MetricsError              Prometheus does not answer, or does not understand
    └── TrafficError              no published port to send requests to

>>> try:
...     raise NoSuchService("Aucun service « web ».", remedy="« docker service ls » les liste.")
... except SwarmError as error:
...     print(error.code)
no-such-service
"""

import errno
import re


class LabkitError(Exception):
    """Base of all labkit errors: what happened, in French, without secrets; what to do next."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def code(self) -> str:
        """A stable, lower-case name of the error, such as ``no-such-service``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()

    def __str__(self) -> str:
        return f"{self.message}\n→ {self.remedy}" if self.remedy else self.message

    def _render_traceback_(self) -> list[str]:
        """Show IPython users the message and the remedy instead of a traceback."""
        return [f"{type(self).__name__} : {self}"]


def reason_of(error: OSError) -> str:
    """Say in French why the system could not do what it was asked, as far as files go."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


_REASONS = {
    errno.EACCES: "vous n’en avez pas le droit",
    errno.EPERM: "vous n’en avez pas le droit",
    errno.EISDIR: "c’est un dossier",
    errno.ENOTDIR: "une partie du chemin n’est pas un dossier",
    errno.ENOENT: "ce chemin n’existe pas",
    errno.ENAMETOOLONG: "le nom est trop long",
    errno.ELOOP: "les liens tournent en rond",
    errno.ENOSPC: "il n’y a plus de place",
    errno.EROFS: "on n’y écrit pas",
    errno.EIO: "le disque ou le terminal ne répond pas",
    errno.EDQUOT: "votre quota est atteint",
    errno.ENXIO: "rien n’est au bout",
}


class SettingError(LabkitError):
    """A ``LABKIT_*`` variable or an option is not usable."""


class FileError(LabkitError):
    """A file cannot be read: its name, the line, from 1, or None, and the reason, in French.

    ``others`` are further lines that are wrong, each with its reason.
    """

    def __init__(
        self,
        file: str,
        line: int | None,
        reason: str,
        *,
        remedy: str = "",
        others: tuple[tuple[int, str], ...] = (),
    ) -> None:
        where = file if line is None else f"{file}, ligne {line}"
        more = "".join(f"\n  ligne {n} : {text}" for n, text in others)
        super().__init__(f"{where} : {reason}{more}", remedy=remedy)
        self.file = file
        self.line = line
        self.reason = reason
        self.others = others


class ComposeError(FileError):
    """A compose file cannot be read."""


class ManifestError(FileError):
    """A Kubernetes manifest cannot be read."""


class EngineError(LabkitError):
    """Something about where Docker Engines come from."""


class EngineNotRunning(EngineError):
    """No cluster is up."""


class EngineUnreachable(EngineError):
    """An engine does not answer."""


class PlatformNotSupported(EngineError):
    """The embedded engine cannot run on this machine."""


class MachineFailed(EngineError):
    """QEMU stopped or never came up."""


class NotEnoughMemory(EngineError):
    """The cluster would not fit into the memory that this server allows."""


class BuildError(EngineError):
    """The guest could not be built."""


class MirrorNotFound(BuildError):
    """No package mirror is known."""


class DownloadFailed(BuildError):
    """A file cannot be fetched."""


class NotInArchive(DownloadFailed):
    """The mirror answers, and does not have this file."""


class ReleaseExpired(BuildError):
    """A release file is not valid at this machine's time."""


class BadSignature(BuildError):
    """A release file is not signed by Debian."""


class BadChecksum(BuildError):
    """A file is not what its release says."""


class DiskFull(BuildError):
    """The cache has no room left."""


class SwarmError(LabkitError):
    """Something the swarm refused or did not do."""


class NoSwarm(SwarmError):
    """The engine is in no swarm."""


class NotAManager(SwarmError):
    """The engine asked is a worker."""


class NoLeader(SwarmError):
    """Most managers live, but none answers for the swarm: an election, or too much to do."""


class QuorumLost(SwarmError):
    """The managers have no majority."""


class SwarmLocked(SwarmError):
    """The managers that restarted wait for the key of autolock."""


class NoSuchService(SwarmError):
    """No service has this name."""


class NoSuchStack(SwarmError):
    """No service belongs to a stack of this name."""


class NoSuchNode(SwarmError):
    """No node has this name."""


class ImageNotFound(SwarmError):
    """A node can neither find nor pull the image."""


class PortTaken(SwarmError):
    """Another service already publishes the port."""


class ConvergenceTimeout(SwarmError):
    """The cluster did not reach the wanted state in time."""


class DockerFailed(SwarmError):
    """Anything else that the engine refused."""


class TrafficError(LabkitError):
    """Requests cannot be sent: nothing is published, or the node is unknown."""


class MetricsError(LabkitError):
    """Prometheus does not answer, or refuses what it is asked."""
