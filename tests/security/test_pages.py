"""Pages of the cluster: what a hostile one takes, and that an honest one still works.

The notebook server is real, and so are the browser and what answers at a published port. No machine
runs: its run directory says, as its keeper would, what is forwarded, and to where.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tornado.httpserver
import tornado.web
import tornado.websocket
import websocket
from accounts import Account
from playwright.sync_api import Browser, Page, expect, sync_playwright
from real_lab import Lab, running_lab

from labkit.engine.embedded.record import Record
from labkit.engine.embedded.settings import Settings
from labkit.exercises import adresses

pytestmark = pytest.mark.timeout(300)

BASE = "/cours/"
SECRETS = ("_xsrf", "username-", "jupyterhub-", "jupyter-hub-token", "labkit-browser")
LINKS = """<a href="/a">a</a> <script src='/b'></script> <a href="//c/">c</a> <a href="d">d</a>
<script>var PATH_PREFIX = ""; window.APIUrl = "\\/api\\/";</script>"""
HONEST = """<!DOCTYPE html><head><title>honest</title></head><p id="who">{who}</p>
<form method="post" enctype="multipart/form-data"><input name="text"><input type="file" name="file">
<button>Envoyer</button></form><ul></ul><script>
const say = text => document.querySelector("ul").append(Object.assign(
    document.createElement("li"), {{textContent: text}}));
fetch("data").then(a => a.text()).then(t => say("fetch " + t));
fetch("/nothing").catch(() => 0);
fetch("data", {{method: "PUT", headers: {{"X-Own": "1"}}, body: "x", credentials: "include"}})
    .then(a => a.text()).then(t => say("put " + t));
const at = location.href.replace("http", "ws") + "socket";
const socket = new WebSocket(at, ["b", "a"]);
socket.onopen = () => socket.send("bonjour");
socket.onmessage = m => say("socket " + socket.protocol + " " + m.data);
new EventSource("events").onmessage = m => say("event " + m.data);
localStorage.setItem("a", 1);
localStorage.b = "2";
say("kept " + localStorage.getItem("a") + localStorage.b + localStorage.getItem("c"));
</script><script type="module" src="module.js"></script>"""
HOSTILE = """<!DOCTYPE html><title>hostile</title><ul></ul><script>
const jupyter = "{jupyter}", got = {{}};
const say = (what, said) => {{ got[what] = said; }};
async function ask(what, path, options) {{
    try {{ say(what, (await fetch(jupyter + path, options)).type); }}
    catch (error) {{ say(what, "refused"); }}
}}
async function attack() {{
    const include = {{credentials: "include"}};
    await ask("read", "api/contents", include);
    await ask("write", "api/terminals", {{method: "POST", ...include}});
    await ask("blind", "api/terminals", {{method: "POST", mode: "no-cors", ...include}});
    try {{ say("cookies", document.cookie); }} catch (error) {{ say("cookies", "refused"); }}
    try {{ say("frame", open(jupyter + "lab").document.title); }}
    catch (error) {{ say("frame", "refused"); }}
    await new Promise(done => {{
        const socket = new WebSocket(jupyter.replace("http", "ws") + "api/events/subscribe");
        socket.onopen = () => {{ say("socket", "open"); done(); }};
        socket.onerror = () => {{ say("socket", "refused"); done(); }};
    }});
    await new Promise(done => {{
        const script = document.createElement("script");
        script.src = jupyter + "files/secret.js";
        script.onload = script.onerror = done;
        document.head.append(script);
    }});
    say("script", window.secret || "refused");
    document.title = JSON.stringify(got);
}}
attack();
</script>"""


class Teller(tornado.web.RequestHandler):
    """Says what it was asked, and remembers it."""

    def _tell(self) -> None:
        asked = {k.title(): v for k, v in self.request.headers.get_all()}
        said = {"method": self.request.method, "path": self.request.uri, "headers": asked,
                "body": len(self.request.body)}  # fmt: skip
        self.settings["asked"].append(said)
        path = self.request.path.removeprefix("/")
        if path == "leave":
            self.redirect("/there")
        elif path == "away":
            self.redirect(f"http://{self.request.host}/there")
        elif path == "grab":
            for cookie in ("_xsrf=mine; Path=/", "username-x=mine; Domain=127.0.0.1", "own=1"):
                self.add_header("Set-Cookie", cookie)
            self.set_header("Clear-Site-Data", '"*"')
            self.set_header("X-Accel-Redirect", "/secret")
            self.set_header("X-Own", "mine")
        elif path == "links":
            self.finish(LINKS)
        elif path == "hostile":
            self.finish(HOSTILE.format(jupyter=self.settings["jupyter"]))
        elif path == "honest/":
            who = self.get_cookie("who") or f"voter {random.random()}"
            self.set_header("Set-Cookie", f"who={who}; HttpOnly; SameSite=Lax")
            self.finish(HONEST.format(who=f"{who} {self.request.method} {len(self.request.body)}"))
        elif path == "honest/data":
            self.finish(f"{self.request.method} {self.get_cookie('who')}")
        elif path == "honest/module.js":
            self.set_header("Content-Type", "text/javascript")
            self.finish("say('module');")
        elif path.startswith("locked/"):
            given = self.request.headers.get("Authorization", "")
            if given != "Basic " + base64.b64encode(b"ada:secret").decode():
                self.set_status(401)
                self.set_header("WWW-Authenticate", 'Basic realm="locked"')
            elif path == "locked/":
                self.finish("<p></p><script>fetch('data').then(a => a.text()).then(t => "
                            "document.querySelector('p').textContent = t)</script>")  # fmt: skip
            else:
                self.finish("unlocked")
        else:
            self.finish(said)

    get = post = put = delete = head = _tell


class Events(tornado.web.RequestHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write("data: un\n\n")
        await self.flush()
        self.settings["events"].set()
        while not self.request.connection.stream.closed():  # type: ignore[union-attr]
            await asyncio.sleep(0.05)

    def on_connection_close(self) -> None:
        self.settings["left"].set()


class Echo(tornado.websocket.WebSocketHandler):
    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "a" if "a" in subprotocols else None

    def check_origin(self, origin: str) -> bool:
        return super().check_origin(origin)  # as an honest server: its own pages alone

    def open(self, *_: str) -> None:
        headers = {k.title(): v for k, v in self.request.headers.get_all()}
        self.settings["asked"].append({"path": self.request.uri, "headers": headers})

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


@dataclass
class Server:
    """What answers at a published port."""

    address: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = 0


@contextmanager
def serving(address: str) -> Iterator[Server]:
    server = Server(address)
    ready, loops = threading.Event(), []

    async def serve() -> None:
        stop = asyncio.Event()
        server.settings |= {"events": threading.Event(), "left": threading.Event()}
        app = tornado.web.Application(
            [(r"/honest/socket", Echo), (r"/honest/events", Events), (r"/.*", Teller)],
            asked=server.asked,
        )
        app.settings |= server.settings
        server.settings = app.settings
        http_server = tornado.httpserver.HTTPServer(app)
        (listener,) = tornado.netutil.bind_sockets(0, address)
        server.port = listener.getsockname()[1]
        http_server.add_sockets([listener])
        loops.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        http_server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield server
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@dataclass
class Forwards:
    """What the keeper of a cluster wrote."""

    run: Path
    network: str

    def say(self, *rows: tuple[str, int, int]) -> None:
        """Forward (node, port, at)."""
        written = [
            {"node": n, "port": p, "at": at, "address": f"{self.network}.{n[4:]}"}
            for n, p, at in rows
        ]
        part = self.run / "part"
        part.write_text(json.dumps(written))
        part.replace(self.run / "forwards.json")


@pytest.fixture(scope="module")
def forwards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forwards]:
    """A run directory, of a process that lives."""
    state = tmp_path_factory.mktemp("state")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(state))
    patch.delenv("LABKIT_ENGINE", raising=False)
    run = Settings.read().run
    run.mkdir(parents=True)
    network = f"127.{random.randrange(64, 127)}.{random.randrange(256)}"
    Record(network, 3, [1, 2, 3], "tcg").write(run)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", str(run)])
    (run / "pid").write_text(str(sleeper.pid))
    try:
        yield Forwards(run, network)
    finally:
        sleeper.kill()
        sleeper.wait()
        patch.undo()


@pytest.fixture(scope="module")
def lab(forwards: Forwards, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), base=BASE) as lab:
        (lab.home / "work/secret.js").write_text("window.secret = 'read';")
        yield lab


@pytest.fixture(scope="module")
def page_server(forwards: Forwards, lab: Lab) -> Iterator[Server]:
    with serving(f"{forwards.network}.1") as server:
        server.settings["jupyter"] = lab.url + "/"
        yield server


@pytest.fixture
def server(forwards: Forwards, page_server: Server) -> Server:
    """What answers at ports 5000 of node1 and 8000 of a domain."""
    forwards.say(("node1", 5000, page_server.port), ("node1", 8000, page_server.port))
    page_server.asked.clear()
    return page_server


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@dataclass
class Answer:
    status: int
    said: str
    headers: Any


def ask(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=60) as got:
            return Answer(got.status, got.read().decode(), got.headers)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(), error.headers)


def entered(lab: Lab, where: str) -> str:
    """Enter with the student's token, and return the door's address."""
    answer = ask(f"{lab.url}/{where}", Authorization=f"token {lab.token}")
    assert answer.status == 302, answer
    host = lab.url.removesuffix(BASE.rstrip("/"))
    return host + str(answer.headers["Location"])


def students_cookies(lab: Lab) -> str:
    """Return what a student's browser sends: a session of the notebook server."""
    answer = ask(f"{lab.url}/lab?token={lab.token}")
    cookies = [c.partition(";")[0] for c in answer.headers.get_all("Set-Cookie")]
    assert any(c.startswith("username-") for c in cookies)
    return "; ".join([*cookies, "_xsrf=s", "jupyterhub-user-a=s", "labkit-browser=s", "basket=3"])


def told(server: Server) -> str:
    """Return all that the page's server was told."""
    return json.dumps(server.asked)


# Findings 1 and 23


def test_no_page_is_told_a_cookie_or_a_token(lab: Lab, server: Server) -> None:
    cookies = students_cookies(lab)
    first = ask(f"{lab.url}/cluster/node1/5000/x/y?z=1&token={lab.token}", Cookie=cookies)
    door = lab.url.removesuffix(BASE.rstrip("/")) + first.headers["Location"]
    assert first.status == 302 and lab.token not in door and "z=1" in door
    answer = ask(
        door, "POST", b"votes", Cookie=cookies, Authorization=f"token {lab.token}",
        X_XSRFToken="s", Referer=f"{lab.url}/lab?token={lab.token}", Origin="null",
        X_Forwarded_Host="hub.example.org", X_Own="1",
    )  # fmt: skip
    asked = json.loads(answer.said)
    assert (answer.status, asked["path"], asked["body"]) == (200, "/x/y?z=1", 5)
    here = f"{server.address}:{server.port}"
    assert (asked["headers"]["Host"], asked["headers"]["Origin"]) == (here, f"http://{here}")
    assert asked["headers"]["X-Own"] == "1"
    ask(door, Cookie=cookies, Authorization=f"Bearer {lab.token}")
    ask(door, Cookie=cookies, Authorization="Basic aHViOnNlY3JldA==")  # the Hub's, perhaps
    for secret in (*SECRETS, lab.token, "basket", "X-Xsrftoken", "Referer", "hub.example", "aHViO"):
        assert secret not in told(server), secret


def test_a_page_sets_nothing_of_the_notebook_servers(lab: Lab, server: Server) -> None:
    door = entered(lab, "cluster/node1/5000/")
    answer = ask(f"{door}grab")
    assert answer.headers.get_all("Set-Cookie") is None
    assert "Clear-Site-Data" not in answer.headers and "X-Accel-Redirect" not in answer.headers
    assert answer.headers["X-Own"] == "mine"
    for path in ("grab", "leave", "links", "nothing"):
        policies = ask(door + path).headers.get_all("Content-Security-Policy")
        (policy,) = (p for p in policies if p.startswith("sandbox"))
        assert "allow-same-origin" not in policy and "allow-top-navigation" not in policy
    # its own cookies come back to it, and to no other page
    assert "own=1" in json.loads(ask(door).said)["headers"]["Cookie"]
    assert "Cookie" not in json.loads(ask(entered(lab, "cluster/node1/5000/")).said)["headers"]


def test_nobody_without_the_students_token_gets_in(lab: Lab, server: Server) -> None:
    for where in ("cluster/node1/5000/", "domaines/8000/a.localhost/"):
        answer = ask(f"{lab.url}/{where}")
        assert answer.status == 302 and "/login?" in answer.headers["Location"]
        guessed = where.replace("/", "/~guessed/", 1)
        assert ask(f"{lab.url}/{guessed}").headers["Location"] == f"{BASE}{where}"
        assert ask(f"{lab.url}/{guessed}", "POST", b"").status == 403
    door = entered(lab, "cluster/node1/5000/")
    assert ask(door.replace("/node1/", "/node2/"), "POST", b"").status == 403
    assert ask(f"{lab.url}/cluster/node1/5000/", "PUT", Cookie=students_cookies(lab)).status == 403
    named = {"Authorization": f"token {lab.token}"}
    assert ask(f"{lab.url}/domaines/8000/example.org/", **named).status == 404
    assert not server.asked


def test_another_site_changes_nothing(lab: Lab, server: Server) -> None:
    cookies, door = students_cookies(lab), entered(lab, "cluster/node1/5000/")
    for url in (f"{lab.url}/cluster/node1/5000/", door):
        for method in ("POST", "PUT", "DELETE"):
            answer = ask(url, method, b"", Cookie=cookies, Origin="https://evil.example")
            assert answer.status in (403, 404, 405), (url, method)
    at = door.replace("http", "ws", 1) + "honest/socket"
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(at, origin="https://evil.example", cookie=cookies, timeout=30)
    assert not server.asked
    preflight = {"Access_Control_Request_Method": "PUT", "Origin": "https://evil.example"}
    assert ask(door, "OPTIONS", **preflight).status == 403
    allowed = ask(door, "OPTIONS", **preflight | {"Origin": "null"}).headers
    assert allowed["Access-Control-Allow-Origin"] == "null"


def test_the_generic_proxy_does_not_lead_to_the_cluster(lab: Lab, server: Server) -> None:
    pytest.importorskip("jupyter_server_proxy")
    cookies = students_cookies(lab)
    for host in ("", "localhost:", "127.0.0.1:", "absolute/", f"{server.address}:"):
        answer = ask(f"{lab.url}/proxy/{host}{server.port}/", Cookie=cookies)
        assert answer.status == 302
        assert answer.headers["Location"].endswith(("/cluster/node1/5000/", "/node1/8000/"))
        assert (
            ask(f"{lab.url}/proxy/{host}{server.port}/", "POST", b"", Cookie=cookies).status >= 400
        )
    assert not server.asked


# Finding 2


LISTEN = """
import http.server, sys
class Loot(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, self.headers, flush=True)
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Loot).serve_forever()
"""


def test_a_neighbour_on_a_port_that_became_free_gets_nothing(
    lab: Lab, forwards: Forwards, neighbour: Account, tmp_path: Path
) -> None:
    with serving(f"{forwards.network}.1") as server:
        forwards.say(("node1", 9999, server.port))
        cookies, door = students_cookies(lab), entered(lab, "cluster/node1/9999/")
        assert ask(door, Cookie=cookies).status == 200
        forwards.say()  # the service is removed, the port is free
    loot, place = tmp_path / "loot", (server.address, str(server.port))
    with loot.open("w") as out:
        process = neighbour.start([sys.executable, "-c", LISTEN, *place], stdout=out, stderr=out)
    try:
        limit = time.monotonic() + 60
        while True:
            try:
                connection = http.client.HTTPConnection(*place)
                connection.request("GET", "/theirs")
                break
            except OSError:
                assert time.monotonic() < limit and process.poll() is None
                time.sleep(0.1)
            finally:
                connection.close()
        for url in (door, f"{lab.url}/cluster/node1/9999/"):
            answer = ask(url, Cookie=cookies)
            if answer.status == 302:
                answer = ask(door.partition(BASE)[0] + answer.headers["Location"], Cookie=cookies)
            assert answer.status == 404, answer
            assert answer.said == "Le cluster ne publie pas le port 9999."
    finally:
        process.kill()
        process.wait()
    assert "username-" not in loot.read_text()


# What works


def test_what_links_are_made_of_is_known_where_students_work(
    lab: Lab, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Authorization": f"token {lab.token}"}
    name = json.loads(ask(f"{lab.url}/api/terminals", "POST", b"", **key).said)["name"]
    terminal = websocket.create_connection(
        f"{lab.url.replace('http', 'ws', 1)}/terminals/websocket/{name}",
        header=[f"Authorization: token {lab.token}"], suppress_origin=True, timeout=60,
    )  # fmt: skip
    try:
        terminal.send(json.dumps(["stdin", "echo at:$LABKIT_PREFIX:\n"]))
        said = ""
        while f"at:{BASE}:" not in said:
            said += str(json.loads(terminal.recv())[-1])
    finally:
        terminal.close()
        ask(f"{lab.url}/api/terminals/{name}", "DELETE", **key)
    monkeypatch.setenv("LABKIT_PREFIX", BASE)
    for shown in (adresses(5000), adresses(8000, "a.localhost")):
        (link,) = shown.proxied
        assert link.startswith(BASE)
        assert ask(lab.url.removesuffix(BASE[:-1]) + link, **key).status == 302


def test_a_domain_is_asked_by_its_name(lab: Lab, server: Server) -> None:
    door = entered(lab, "domaines/8000/a.b.localhost/x")
    assert json.loads(ask(door).said)["headers"]["Host"] == "a.b.localhost"
    below = door.removesuffix("/x").partition("//")[2].partition("/")[2]
    for path in ("leave", "away"):
        moved = ask(f"{door[:-1]}{path}")
        assert (moved.status, moved.headers["Location"]) == (302, f"/{below}/there")
    # what a page links to at its own root is found below the domain
    changed = LINKS.replace('"/a', f'"/{below}/a').replace("'/b", f"'/{below}/b")
    changed = changed.replace('PREFIX = "', f'PREFIX = "/{below}').replace('"\\/', f'"/{below}\\/')
    assert ask(f"{door[:-1]}links").said == changed != LINKS


def test_large_uploads_and_answers_of_any_kind_pass(lab: Lab, server: Server) -> None:
    door = entered(lab, "cluster/node1/5000/")
    assert json.loads(ask(door, "PUT", bytes(60_000_000)).said)["body"] == 60_000_000
    assert ask(door, "HEAD").status == 200
    assert ask(f"{door}a%2Fb%20c?d=%C3%A9").said.count("/a%2Fb%20c?d=%C3%A9") == 1


def test_nothing_answers(lab: Lab, server: Server, forwards: Forwards) -> None:
    door = entered(lab, "cluster/node1/5000/")
    forwards.say(("node1", 5000, 1))
    answer = ask(door)
    assert (answer.status, answer.said.partition(" :")[0]) == (502, "Rien ne répond au port 5000")


# In a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        missing = "no chromium on this machine (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Browser, lab: Lab, **options: Any) -> Iterator[Page]:
    """Open a browser that has a session of the notebook server."""
    context = chromium.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{lab.url}/api/status?token={lab.token}")
    assert any(c.get("name", "").startswith("username-") for c in context.cookies())
    try:
        yield page
    finally:
        context.close()


def test_a_hostile_page_has_no_rights_over_the_notebook_server(
    chromium: Browser, lab: Lab, server: Server
) -> None:
    with opened(chromium, lab) as page:
        page.goto(f"{lab.url}/cluster/node1/5000/hostile")
        page.wait_for_function("document.title.startsWith('{')")
        got = json.loads(page.title())
        assert got.pop("blind") == "opaque"  # sent without reading; see below
        assert got.pop("frame") in ("refused", "")  # nothing of the other page is seen
        assert set(got.values()) == {"refused"}, got
        terminals = ask(f"{lab.url}/api/terminals", Authorization=f"token {lab.token}")
        assert json.loads(terminals.said) == []
        assert not any(secret in told(server) for secret in SECRETS)
        # it may send the browser where jupyter-server-proxy was: it comes out here again
        page.evaluate("url => { location = url }", f"{lab.url}/proxy/{server.port}/hostile")
        page.wait_for_url("**/~*/node1/*/")
        assert not any(secret in told(server) for secret in SECRETS)


def test_an_honest_page_works(chromium: Browser, lab: Lab, server: Server, tmp_path: Path) -> None:
    with opened(chromium, lab) as page:
        page.goto(f"{lab.url}/cluster/node1/5000/honest/")
        who = page.locator("#who").inner_text().removesuffix(" GET 0")
        items = page.locator("li")
        for said in (
            f"fetch GET {who}",
            f"put PUT {who}",
            "socket a bonjour",
            "event un",
            "module",
        ):
            expect(items.filter(has_text=said)).to_have_count(1)
        server.settings["left"].clear()
        file = tmp_path / "file"
        file.write_bytes(bytes(3_000_000))
        page.set_input_files("input[type=file]", file)
        page.get_by_role("button", name="Envoyer").click()
        expect(page.locator("#who")).to_contain_text(f"{who} POST 3000")  # the same voter
        assert server.settings["left"].wait(30), "the page's events end with it"
        page.goto(f"{lab.url}/cluster/node1/5000/honest/")  # the link, again: the same door
        expect(page.locator("#who")).to_contain_text(who)
        assert not any(secret in told(server) for secret in SECRETS)


def test_a_page_may_ask_for_a_password(chromium: Browser, lab: Lab, server: Server) -> None:
    with opened(chromium, lab, http_credentials={"username": "ada", "password": "secret"}) as page:
        page.goto(f"{lab.url}/domaines/8000/a.localhost/locked/")
        expect(page.locator("p")).to_have_text("unlocked")
