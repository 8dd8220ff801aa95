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
from docker.tls import TLSConfig

from labkit.errors import NoSuchNode, SettingError

__all__ = ["Endpoint", "Fleet"]

API_VERSION = "1.44"  # spoken by Engine 25 and later, the oldest that Engine 29 accepts


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Docker Engine that can be reached, and where its published ports are.

    Attributes
    ----------
    name
        Name of the node and of its docker context, such as ``node1``.
    url
        What ``docker -H`` takes: ``tcp://…``, ``unix://…`` or ``ssh://…``.
    address
        Address at which this machine reaches the ports that the node publishes.
    swarm_address
        Address to give to ``--advertise-addr``; None leaves the choice to the engine.
    tls
        Directory with ``ca.pem``, ``cert.pem`` and ``key.pem``; None without TLS.
    """

    name: str
    url: str
    address: str
    swarm_address: str | None = None
    tls: Path | None = None

    @classmethod
    def parse(cls, url: str, name: str) -> Endpoint:
        """Make an endpoint from what a user writes in ``LABKIT_ENGINE``.

        Raises
        ------
        SettingError
            When the address is not one that ``docker -H`` takes.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"tcp", "unix", "ssh"}:
            raise SettingError(
                f"L’adresse de moteur « {url} » n’est pas utilisable.",
                remedy="Écrivez unix:///chemin, tcp://hôte:port ou ssh://utilisateur@hôte.",
            )
        return cls(name=name, url=url, address=parts.hostname or "127.0.0.1")

    def client(self, timeout: float = 30.0) -> docker.DockerClient:
        """Return a new docker SDK client; the caller closes it.

        Parameters
        ----------
        timeout
            Seconds that one request may take.
        """
        if self.tls is None:
            return docker.DockerClient(base_url=self.url, timeout=timeout)
        tls = TLSConfig(
            client_cert=(str(self.tls / "cert.pem"), str(self.tls / "key.pem")),
            ca_cert=str(self.tls / "ca.pem"),
            verify=True,
        )
        client = docker.DockerClient(
            base_url=self.url, tls=tls, timeout=timeout, version=API_VERSION
        )
        # requests would prefer REQUESTS_CA_BUNDLE and proxies of the environment to our own
        # authority on our own loopback address; a stated version leaves time to say no.
        client.api.trust_env = False
        return client


@dataclass(frozen=True, slots=True)
class Fleet:
    """The engines of one course cluster, in the order in which nodes are numbered.

    Attributes
    ----------
    kind
        ``"embedded"`` for labkit's own machine, ``"host"`` for engines that the user named.
    endpoints
        At least one endpoint.
    docker_config
        Directory for ``DOCKER_CONFIG`` that holds one context a node; None when the user's
        own configuration is in use.
    remapped
        ``(node name, published port) -> port`` where a published port had to be moved on this
        machine, for example because it is below 1024.
    """

    kind: str
    endpoints: tuple[Endpoint, ...]
    docker_config: Path | None = None
    remapped: Mapping[tuple[str, int], int] = field(default_factory=dict)

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
