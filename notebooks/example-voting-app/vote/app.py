"""vote: a form with two options; each vote goes to the end of a list in Redis."""

import json
import os
import re
import secrets
import signal
import socket
import sys
from html import escape
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

import redis

OPTION_A = os.environ.get("OPTION_A", "Chats")
OPTION_B = os.environ.get("OPTION_B", "Chiens")
REDIS = os.environ.get("REDIS_HOST", "redis"), int(os.environ.get("REDIS_PORT", "6379"))
PORT = int(os.environ.get("PORT", "80"))
PAGE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))


def accept(voter_id, vote):
    """Put a vote in the queue; when this returns, Redis has it on its disk.

    The ballot's number makes each entry of the list unique, so that a worker can remove
    exactly the one that it has counted.
    """
    ballot = {"voter_id": voter_id, "vote": vote, "ballot": secrets.token_hex(8)}
    host, port = REDIS
    with redis.Redis(host, port, socket_timeout=5, socket_connect_timeout=5, retry=None) as queue:
        queue.rpush("votes", json.dumps(ballot))


def page(vote="", problem=""):
    """Write the page in HTML; `vote` is the choice to show as made."""
    choice = {"a": OPTION_A, "b": OPTION_B}.get(vote)
    return PAGE.substitute(
        option_a=escape(OPTION_A),
        option_b=escape(OPTION_B),
        chosen_a='aria-pressed="true"' if vote == "a" else "",
        chosen_b='aria-pressed="true"' if vote == "b" else "",
        message=problem or (f"Votre vote : {escape(choice)}" if choice else ""),
        kind="problem" if problem else "",
        container=escape(socket.gethostname()),
    )


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    timeout = 10  # seconds that a browser may stay silent

    def do_GET(self):
        """Show the form."""
        path = self.path.partition("?")[0]
        if path == "/health":  # about this process alone: Redis may be away
            self.answer(200, "ok\n", "text/plain")
        elif path == "/":
            self.answer(200, page())
        else:
            self.answer(404, page(problem="Cette page n’existe pas."))

    def do_POST(self):
        """Accept a vote, or say why not."""
        length = self.headers.get("Content-Length", "")
        form = self.rfile.read(min(int(length), 1000)) if length.isdecimal() else b""
        vote = parse_qs(form.decode("latin-1")).get("vote", [""])[0]
        if vote not in ("a", "b"):
            self.answer(400, page(problem="Choisissez l’une des deux options."))
            return
        try:
            accept(self.voter_id(), vote)
        except redis.RedisError as error:
            self.log_message("Redis: %s", error)
            sorry = "Votre vote n’a pas été enregistré : Redis ne répond pas. Réessayez plus tard."
            self.answer(503, page(problem=sorry))
        else:
            self.log_message("Received vote for '%s'", vote)
            self.answer(200, page(vote))

    def voter_id(self):
        """Return the voter's number: that of the cookie, else a new one."""
        if not hasattr(self, "voter"):
            try:
                cookie = SimpleCookie(self.headers.get("Cookie", "")).get("voter_id")
            except CookieError:
                cookie = None
            known = cookie is not None and re.fullmatch("[0-9a-f]{1,16}", cookie.value)
            self.voter = cookie.value if known else secrets.token_hex(8)
        return self.voter

    def answer(self, status, text, kind="text/html"):
        """Send a whole answer, then close the connection.

        A load balancer chooses a replica for each connection: a browser that kept its own
        would always meet the same replica.
        """
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        if kind == "text/html":  # no Path: the browser takes the page's, behind a proxy too
            cookie = f"voter_id={self.voter_id()}; HttpOnly; SameSite=Lax"
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """One thread a request."""

    request_queue_size = 128


if __name__ == "__main__":
    # The first process of a container ignores the signals for which it has no handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Server(("", PORT), Handler).serve_forever()
