"""result: a page with the percentages, live; each second it counts the rows in PostgreSQL."""

import json
import os
import signal
import sys
import threading
import time
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

import psycopg2

OPTIONS = {"a": os.environ.get("OPTION_A", "Chats"), "b": os.environ.get("OPTION_B", "Chiens")}
PORT = int(os.environ.get("PORT", "80"))
PAGE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))


def open_db():
    """Connect to PostgreSQL."""
    db = psycopg2.connect(
        host=os.environ.get("POSTGRES_HOST", "db"),
        port=os.environ.get("POSTGRES_PORT", "5432"),
        user=os.environ.get("POSTGRES_USER", "postgres"),
        password=os.environ.get("POSTGRES_PASSWORD", "postgres"),
        dbname="postgres",
        connect_timeout=5,
        tcp_user_timeout=10_000,  # ms: do not wait longer for a node that is gone
        keepalives_idle=60,  # s: Swarm's load balancer forgets connections that stay silent
    )
    db.autocommit = True
    print("Connected to db")
    return db


def count(db):
    """Return the number of votes for each option."""
    with db.cursor() as sql:
        sql.execute("SELECT vote, COUNT(id) FROM votes GROUP BY vote")
        return {"a": 0, "b": 0, **dict(sql.fetchall())}


class Scores:
    """The last count, which one thread keeps up to date for all visitors."""

    def __init__(self):
        self.votes = {"a": 0, "b": 0}
        self.problem = True  # nothing was counted yet

    def follow(self):
        """Count each second, for ever."""
        db = None
        while True:
            try:
                db = db or open_db()
                self.votes, self.problem = count(db), False
            except psycopg2.Error as error:
                self.problem = True
                reason = str(error).partition("\n")[0]
                if db is None:
                    print(f"Waiting for db: {reason}")
                else:
                    print(f"Error performing query: {reason}")
                    db = None if db.closed else db
            time.sleep(1)

    def shown(self):
        """Return what the page shows, in French."""
        total = sum(self.votes.values())
        percent = {k: 100 * n / total if total else 50.0 for k, n in self.votes.items()}
        if self.problem:
            message = "En attente de la base de données…"
        elif total:
            message = f"{total} vote{'s' if total > 1 else ''}"
        else:
            message = "Aucun vote pour l’instant"
        return {
            "percent_a": f"{percent['a']:.1f}".replace(".", ",") + " %",
            "percent_b": f"{percent['b']:.1f}".replace(".", ",") + " %",
            "width_a": f"{percent['a']:.2f}%",
            "votes_a": self.votes["a"],
            "votes_b": self.votes["b"],
            "message": message,
        }


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    timeout = 10  # seconds that a browser may stay silent
    scores = Scores()

    def do_GET(self):
        """Show the page, or the scores alone, which the page asks for each second."""
        path = self.path.partition("?")[0]
        if path == "/":
            options = {f"option_{key}": escape(name) for key, name in OPTIONS.items()}
            self.answer(200, PAGE.substitute(options, **self.scores.shown()), "text/html")
        elif path == "/scores":
            self.answer(200, json.dumps(self.scores.shown()), "application/json")
        elif path == "/health":  # about this process alone: the database may be away
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
        """Keep the log for what happens to the database."""


class Server(ThreadingHTTPServer):
    """One thread a request."""

    request_queue_size = 128


if __name__ == "__main__":
    # The first process of a container ignores the signals for which it has no handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=Handler.scores.follow, daemon=True).start()
    Server(("", PORT), Handler).serve_forever()
