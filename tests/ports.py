"""A port for a test's server: free, and still free when the server comes back to it."""

from __future__ import annotations

import random
import socket

_given: set[int] = set()


def free_port() -> int:
    """Return a loopback port that nobody listens on, never twice the same.

    It is below the range of which the system gives ports to connections (from 32768 on, on
    Linux): a port of that range, free a moment ago, is soon some client's own.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
