"""Traefik's domains through the notebook server: asked by name, the dashboard alive.

What answers at a port may be any server; the first test has one of its own that tells what it was
asked. The second is Traefik itself, on the cluster.
"""

from __future__ import annotations

import http.server
import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from ports import free_port
from real_lab import ARTEFACTS, ROOT, Lab, running_lab
from voters import until

from labkit.engine.endpoint import Fleet
from labkit.exercises import preparer_traefik
from labkit.stacks import Deploy, Remove

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


PAGE = """<a href="/a">a</a> <script src='/b'></script> <a href="//c/">c</a> <a href="d">d</a>
<script>var PATH_PREFIX = ""; window.APIUrl = "\\/api\\/";</script>"""


class Teller(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    def do_GET(self) -> None:
        if self.path == "/leave":
            self.send_response(302)
            self.send_header("Location", "/there")
            self.end_headers()
            return
        if self.path == "/page":
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(PAGE.encode())
            return
        length = int(self.headers.get("Content-Length") or 0)
        said = {"path": self.path, "body": self.rfile.read(length).decode(), **self.headers}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


@contextmanager
def telling() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Teller) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def ask(lab: Lab, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, str]:
    """Return status, what was said, and where to go on."""
    opener = urllib.request.build_opener(Stay)
    try:
        with opener.open(urllib.request.Request(lab.url + path, body, headers), timeout=30) as got:
            return got.status, got.read().decode(), ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers.get("Location", "")


def test_a_domain_is_asked_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ENGINE", "unix:///nowhere/docker.sock")  # its ports are this host's
    with telling() as port, running_lab(tmp_path) as lab:
        below, key = f"/domaines/{port}/a.b.localhost", {"Authorization": f"token {lab.token}"}
        status, said, _ = ask(
            lab, f"{below}/x/y?z=1", b"votes", Cookie="_xsrf=s; username-127-0-0-1-80=s; basket=3",
            **key,
        )  # fmt: skip
        asked = json.loads(said)
        assert status == 200
        assert (asked["path"], asked["body"], asked["Host"]) == (
            "/x/y?z=1",
            "votes",
            "a.b.localhost",
        )
        assert asked["Cookie"] == "basket=3" and "Authorization" not in asked
        assert ask(lab, f"{below}/leave", **key)[::2] == (302, f"{below}/there")

        # what a page links to at its own root is found below the domain
        page = ask(lab, f"{below}/page", **key)[1]
        changed = PAGE.replace('"/a', f'"{below}/a').replace("'/b", f"'{below}/b")
        changed = changed.replace('PREFIX = "', f'PREFIX = "{below}').replace(
            '"\\/', f'"{below}\\/'
        )
        assert page == changed != PAGE

        # nobody else's pages, and no other name
        status, _, where = ask(lab, f"{below}/")
        assert status == 302 and where.startswith("/login?")
        assert ask(lab, f"/domaines/{port}/example.org/x", **key)[0] == 404


def test_traefik_through_the_notebook_server(
    chromium: Browser, lab: Lab, fleet: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "traefik"
    shutil.copytree(ROOT / "notebooks/traefik", folder)
    preparer_traefik(folder)
    password = (folder / "mot-de-passe.txt").read_text().strip()
    context = chromium.new_context(
        viewport={"width": 1280, "height": 720},
        http_credentials={"username": "ada", "password": password},
    )
    try:
        Deploy("web", folder / "stack-traefik.yml").apply(fleet)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{lab.url}/lab?token={lab.token}")
        domain = f"{lab.url}/domaines/8000/whoami.localhost/"
        until("the route", lambda: page.goto(domain).status == 200, 60)  # read every five seconds
        expect(page.locator("body")).to_contain_text("Host: whoami.localhost")
        assert "_xsrf" not in page.inner_text("body")
        page.goto(f"{lab.url}/domaines/8000/traefik.localhost/dashboard/")
        expect(page.locator("body")).to_contain_text("Routers")
        page.goto(f"{lab.url}/domaines/8000/traefik.localhost/dashboard/#/http/routers")
        expect(page.locator("body")).to_contain_text("Host(`essai.localhost`)")
        ARTEFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTEFACTS / "1280x720-traefik.png")
    finally:
        context.close()
        Remove("web").apply(fleet)
