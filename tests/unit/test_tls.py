"""The keys of a cluster, in real TLS handshakes as strict as the newest Python's."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from labkit.engine.embedded import tls
from labkit.engine.embedded.machine import wait_for_engine
from labkit.engine.embedded.tls import make_keys, worn
from labkit.engine.endpoint import Endpoint
from labkit.errors import MachineFailed


@contextmanager
def engine(directory: Path, server_pem: str) -> Iterator[int]:
    """Serve handshakes that demand a client's certificate, then one answer; yield the port."""
    pem = directory / "server.pem"
    pem.write_text(server_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.load_verify_locations(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return  # the listener is closed
                with raw, suppress(OSError), context.wrap_socket(raw, server_side=True) as client:
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def strict(directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def test_both_sides_verify_strictly(tmp_path: Path) -> None:
    server_pem = make_keys(tmp_path / "tls", ["127.0.0.1"])
    with (
        engine(tmp_path, server_pem) as port,
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        strict(tmp_path / "tls").wrap_socket(raw, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
        assert client.recv(4096).endswith(b"OK")


def test_a_key_of_another_cluster_opens_nothing(tmp_path: Path) -> None:
    server_pem = make_keys(tmp_path / "tls", ["127.0.0.1"])
    make_keys(tmp_path / "other", ["127.0.0.1"])
    stranger = strict(tmp_path / "tls")
    stranger.load_cert_chain(tmp_path / "other/cert.pem", tmp_path / "other/key.pem")
    with (
        engine(tmp_path, server_pem) as port,
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        pytest.raises(OSError),
        stranger.wrap_socket(raw, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
        if not client.recv(4096):
            raise ConnectionResetError


def test_a_certificate_that_is_refused_is_said_at_once(tmp_path: Path) -> None:
    server_pem = make_keys(tmp_path / "tls", ["127.0.0.2"])  # of another address
    with engine(tmp_path, server_pem) as port:
        endpoint = Endpoint("node1", f"tcp://127.0.0.1:{port}", "127.0.0.1",
                            tls=tmp_path / "tls", api_version="1.44")  # fmt: skip
        with pytest.raises(MachineFailed, match=r"poignée de main TLS échoue.*IP address mismatch"):
            wait_for_engine(endpoint, 60, "Relancez.")


@pytest.mark.parametrize(("left", "expected"), [(90, False), (46, False), (44, True), (-0.5, True)])
def test_keys_past_half_of_their_time_are_worn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float, expected: bool
) -> None:
    with monkeypatch.context() as made:
        made.setattr(tls, "VALID", datetime.timedelta(days=left))
        make_keys(tmp_path, ["127.0.0.1"])
    assert worn(tmp_path) == expected


def test_keys_that_cannot_be_read_are_worn(tmp_path: Path) -> None:
    assert worn(tmp_path)
