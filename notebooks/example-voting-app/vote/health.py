"""Say by the exit status whether the vote program answers, for Docker's health check."""

import os
import socket

with socket.create_connection(("127.0.0.1", int(os.environ.get("PORT", "80"))), timeout=5) as vote:
    vote.sendall(b"GET /health HTTP/1.1\r\nHost: vote\r\n\r\n")
    raise SystemExit(vote.recv(100).split()[1] != b"200")
