"""The seam: an engine is an endpoint that the docker SDK and CLI can reach.

Everything above this module sees a :class:`Fleet` of :class:`Endpoint` and nothing of how
the engines came to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import docker
from docker.errors import DockerException
from docker.tls import TLSConfig

from labkit.engine.ssh import SSHAdapter
from labkit.engine.ssh import address as ssh_address
from labkit.errors import NoSuchNode, SettingError

API_VERSION = "1.44"  # of the embedded engines: Engine 25 and later; 29 accepts no older
UDP = 1 << 16  # added to the number of a UDP port, where ports of both kinds are told together
LOCAL = "localhost"  # in place of a node's name: the first node at 127.0.0.1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Docker Engine that can be reached, and where its published ports are."""

    name: str  # name of the node and of its docker context, such as ``node1``
    url: str  # what ``docker -H`` takes: ``tcp://…``, ``unix://…`` or ``ssh://…``
    address: str  # address at which this machine reaches the ports that the node publishes
    # address to give to ``--advertise-addr``; None leaves the choice to the engine
    swarm_address: str | None = None
    # directory with ``ca.pem``, ``cert.pem`` and ``key.pem``; None without TLS
    tls: Path | None = None
    # version of the Docker API to speak; None asks the engine for its own
    api_version: str | None = None

    @classmethod
    def parse(cls, url: str, name: str, *, tls: Path | None = None) -> Endpoint:
        """Make an endpoint from what a user writes in ``LABKIT_ENGINE``.

        Raises ``SettingError`` when the address is not one that ``docker -H`` takes, or a
        certificate is missing.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        whole = {"unix": bool(parts.path), "tcp": bool(host and port), "ssh": bool(host)}
        if not whole.get(parts.scheme) or parts.password:
            shown = url.replace(f":{parts.password}@", ":…@") if parts.password else url
            raise SettingError(
                f"L’adresse de moteur « {shown} » n’est pas utilisable.",
                remedy="Écrivez unix:///chemin, tcp://hôte:port ou ssh://utilisateur@hôte (sans "
                "mot de passe : ssh prend vos clés).",
            )
        if parts.scheme == "ssh":
            host = ssh_address(str(host))
        if parts.scheme != "tcp":
            tls = None
        for file in ("ca.pem", "cert.pem", "key.pem") if tls else ():
            if tls and not (tls / file).is_file():
                raise SettingError(
                    f"Le certificat {tls / file} n’existe pas.",
                    remedy="DOCKER_CERT_PATH nomme le répertoire de ca.pem, cert.pem et key.pem ; "
                    "retirez-le si vos moteurs n’ont pas de TLS.",
                )
        return cls(name=name, url=url, address=host or "127.0.0.1", tls=tls)

    def client(self, timeout: float = 30.0) -> docker.DockerClient:
        """Return a new docker SDK client; the caller closes it."""
        ssh = self.url.startswith("ssh://")
        tls = self.tls and TLSConfig(
            client_cert=(str(self.tls / "cert.pem"), str(self.tls / "key.pem")),
            ca_cert=str(self.tls / "ca.pem"),
            verify=True,
        )
        client = docker.DockerClient(
            base_url="http://localhost:80" if ssh else self.url,
            tls=tls or False,
            timeout=timeout,
            version=self.api_version or API_VERSION,
        )
        # requests would prefer REQUESTS_CA_BUNDLE and proxies of the environment to the engine's
        # own authority and address; a stated version leaves time to say no.
        client.api.trust_env = False
        if ssh:
            client.api.mount("http://", SSHAdapter(self.url))
        if self.api_version is None:
            try:
                client.api._version = _spoken(client)
            except BaseException:
                client.close()
                raise
        return client


def _spoken(client: docker.DockerClient) -> str:
    """Return the version of the API that the engine speaks."""
    answer = client.api.version(api_version=False)
    try:
        return str(answer["ApiVersion"])
    except (KeyError, TypeError) as error:
        raise DockerException("ce qui répond n’est pas un moteur Docker") from error


@dataclass(frozen=True, slots=True)
class Fleet:
    """The engines of one course cluster, in the order in which nodes are numbered."""

    kind: str  # ``"embedded"`` for labkit's own machine, ``"host"`` for engines that the user named
    endpoints: tuple[Endpoint, ...]  # at least one endpoint
    # directory for ``DOCKER_CONFIG`` that holds one context a node, once they are written
    docker_config: Path | None = None
    # ``(node name, published port) -> port`` on this machine, where that may be another: below
    # 1024, or taken. Under :data:`LOCAL`, those of the first node at 127.0.0.1. A UDP port has
    # :data:`UDP` added to it.
    remapped: Mapping[tuple[str, int], int] = field(default_factory=dict)
    # whether ports are published at the nodes' own addresses alone, not at 127.0.0.1
    private: bool = False

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.endpoints)

    def __len__(self) -> int:
        return len(self.endpoints)

    def __getitem__(self, name: str) -> Endpoint:
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise NoSuchNode(
            f"Aucun nœud ne s’appelle « {name} ».",
            remedy="Les nœuds sont : " + ", ".join(e.name for e in self.endpoints) + ".",
        )

    def published(self, name: str, port: int) -> tuple[str, int]:
        """Return the (host, port) at which this machine reaches ``port`` of node ``name``."""
        return self[name].address, self.remapped.get((name, port), port)

    def forwarded(self, name: str, port: int) -> tuple[str, int] | None:
        """Return :meth:`published` of a port that is published now.

        None while the embedded engine does not publish it: on a machine with several users, who
        listens there may then be a neighbour.
        """
        if self.kind == "embedded" and (name, port) not in self.remapped:
            return None
        return self.published(name, port)
