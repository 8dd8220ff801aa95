"""visualizer: the live cluster as a web page, the same picture as in the course's notebooks.

It asks the engine for its nodes, services and tasks, and for nothing else. Whoever can talk
to the engine's socket can do anything to the cluster: what is read here is turned into a
picture at once, and only the picture leaves this process.
"""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

from labkit.errors import LabkitError
from labkit.state import from_raw
from labkit.views.cluster_picture import cluster_svg, error_picture

SOCKET = os.environ.get("DOCKER_SOCKET", "/var/run/docker.sock")
PORT = int(os.environ.get("PORT", "8080"))
PAGE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))


class Engine(http.client.HTTPConnection):
    """The Docker Engine of this node, over its Unix socket."""

    def __init__(self):
        super().__init__("localhost", timeout=10)

    def connect(self):
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)

    def get(self, path):
        """Return the answer to `GET path`."""
        self.request("GET", path)
        answer = self.getresponse()
        said = json.load(answer)
        if answer.status != 200:
            raise Refusal(said.get("message", answer.reason))
        return said


class Refusal(Exception):
    """The engine answered that it will not."""


def draw():
    """Ask the engine, and return the picture as SVG."""
    engine = Engine()
    try:
        info = engine.get("/info")
        raw = {
            "captured_at": datetime.now(UTC).isoformat(),
            "asked": None,
            "engines": [{"name": info.get("Name", ""), "info": info}],
            **dict.fromkeys(("nodes", "services", "tasks", "networks")),
        }
        swarm = info.get("Swarm", {})
        if swarm.get("LocalNodeState") == "active" and not swarm.get("ControlAvailable"):
            raise LabkitError(
                f"Le visualizer est sur le nœud « {info.get('Name')} », qui est un worker : "
                "seul un manager connaît le cluster.",
                remedy="Placez le service sur un manager avec la contrainte "
                "« node.role == manager ».",
            )
        if swarm.get("LocalNodeState") == "active":
            try:
                raw.update({key: engine.get(f"/{key}") for key in ("nodes", "services", "tasks")})
            except Refusal:  # no quorum: the picture says so
                raw["nodes"] = None
        return cluster_svg(from_raw(raw))
    except LabkitError as error:
        return error_picture(error).svg()
    except (OSError, http.client.HTTPException, ValueError, Refusal) as error:
        return error_picture(
            LabkitError(
                f"Le moteur Docker ne répond pas ({error}).",
                remedy=f"Le service doit monter {SOCKET} : regardez « volumes » dans "
                "docker-stack.yml.",
            )
        ).svg()
    finally:
        engine.close()


class Picture:
    """The last picture; the engine is asked once a second at most, for all visitors."""

    def __init__(self):
        self.lock = threading.Lock()
        self.svg, self.drawn = "", float("-inf")

    def now(self):
        """Return the picture, at most one second old."""
        with self.lock:
            if time.monotonic() - self.drawn > 1:
                self.svg, self.drawn = draw(), time.monotonic()
            return self.svg


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    timeout = 10  # seconds that a browser may stay silent
    picture = Picture()

    def do_GET(self):
        """Show the page, or the picture alone, which the page asks for each second."""
        path = self.path.partition("?")[0]
        if path == "/":
            self.answer(200, PAGE.substitute(picture=self.picture.now()), "text/html")
        elif path == "/picture":
            self.answer(200, self.picture.now(), "image/svg+xml")
        elif path == "/health":
            self.answer(200, "ok\n", "text/plain")
        else:
            self.answer(404, "Cette page n’existe pas.\n", "text/plain")

    def answer(self, status, text, kind):
        """Send a whole answer."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        """Log no request: the page makes one each second."""


class Server(ThreadingHTTPServer):
    """One thread a request."""

    request_queue_size = 128


if __name__ == "__main__":
    # The first process of a container ignores the signals for which it has no handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Server(("", PORT), Handler).serve_forever()
