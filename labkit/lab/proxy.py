"""The pages of a cluster through the notebook server, for browsers on another machine.

``…/cluster/node1/5000/`` leads to port 5000 of a node, ``…/domaines/8000/whoami.localhost/`` to
port 8000 of the first one, by the name of a domain. Whose server it is enters there, and is sent
on to a *door*: the same path with an unguessable number in it, of this browser and page alone.

A page may be anybody's program, and the notebook server runs programs as its student. So a door

- opens onto what is published at this moment, and onto nothing else;
- gives its pages an origin of their own (``sandbox``): they can neither read what the notebook
  server shows nor ask it for anything in the student's name. What such a page asks for comes as
  ``Origin: null`` and, often, without cookies; hence the number, which is its only key;
- passes on no cookie, token or authorization of the notebook server's, and sets none: the cookies
  of its pages are kept here, and so is what a browser answered to a page that asked for a password;
- refuses what another origin wants changed. To read an answer is allowed to ``null``, which any
  sandboxed page is, because without the number there is no answer.
"""

import asyncio
import contextlib
import os
import re
import secrets
import urllib.request
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError
from tornado.routing import Matcher, Rule
from tornado.web import HTTPError, authenticated
from tornado.websocket import WebSocketClosedError, WebSocketHandler, websocket_connect

from labkit.lab.doors import Door, find, numbered, parse, reached_at

_SANDBOX = "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts"
_BROWSER = "labkit-browser"  # the cookie by which a browser comes back to its own doors
_DOORS = 500  # at once; the oldest is forgotten
_COOKIES = 50  # of the pages behind one door
_HTML = 8 << 20  # bytes of a page that are looked through for links

# what a request tells of the notebook server or the Hub, or of one connection alone
_OURS = re.compile(
    r"accept-encoding|authorization|connection|content-length|cookie|expect|forwarded|host"
    r"|keep-alive|origin|proxy-.*|referer|sec-fetch-.*|sec-websocket-.*|te|trailer"
    r"|transfer-encoding|upgrade|via|x-forwarded-.*|x-jupyterhub-.*|x-real-ip|x-scheme"
    r"|x-xsrftoken"
)
# what an answer may say: nothing that a browser, or a server in between, takes for its whole site
_THEIRS = re.compile(
    r"accept-ranges|age|allow|cache-control"
    r"|content-(?:disposition|language|range|security-policy|security-policy-report-only|type)"
    r"|date|etag|expires|last-modified|link|location|retry-after|vary|www-authenticate"
    r"|x-(?!accel|jupyterhub|lighttpd|litespeed|reproxy|sendfile).*"
)
# absolute links of pages that expect to be at the root: links, and where their programs
# find their data (Traefik's dashboard, Prometheus's classic page)
_LINK = re.compile(rb"""((?:href|src|action)=["'])(?=/(?!/))""")
_DATA = re.compile(rb'(window\.APIUrl = "(?=\\?/)|var PATH_PREFIX = "(?="))')

_HEAD = re.compile(rb"<head(?:\s[^>]*)?>", re.IGNORECASE)
_STORES = b"<script>" + Path(__file__).with_name("stores.js").read_bytes() + b"</script>"


class _Entry(JupyterHandler):
    """Sends the student on to a door; what is to change anything is refused there."""

    @authenticated
    def get(self) -> None:
        """Open a door, or find this browser's."""
        found = parse(self)
        if found is None or found[0]:
            raise HTTPError(404)
        _, door, path = found
        doors = self.settings["labkit_doors"]
        door.browser = self.get_cookie(_BROWSER) or secrets.token_urlsafe(24)
        known = (n for n, d in doors.items() if (d.browser, d.where) == (door.browser, door.where))
        number = next(known, "")
        if not number:
            while len(doors) >= _DOORS:
                del doors[next(iter(doors))]
            number = secrets.token_urlsafe(24)
            doors[number] = door
        self.set_cookie(_BROWSER, door.browser, path=self.base_url, httponly=True, samesite="Lax")
        self.set_header("Cache-Control", "no-store")
        self.redirect(self.base_url + numbered(door, number) + path + _query(self, "token"))

    head = get


class _Page(WebSocketHandler):
    """Passes on what comes to a door."""

    door: Door
    upstream: Any = None
    task: asyncio.Task[Any] | None = None

    def set_default_headers(self) -> None:
        """Give the page an origin of its own, and let it read its own answers."""
        self.set_header("Content-Security-Policy", _SANDBOX)
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Access-Control-Allow-Origin", "null")
        self.set_header("Access-Control-Allow-Credentials", "true")
        self.clear_header("Content-Type")

    def check_xsrf_cookie(self) -> None:
        """Leave it to the number in the path, and to :meth:`check_origin`."""

    def check_origin(self, origin: str) -> bool:
        """Tell whether a page behind a door asks, or one of the notebook server's own."""
        return origin == "null" or origin.partition("://")[2] == self.request.host

    check_trusted_origin = check_origin

    def compute_etag(self) -> None:
        """Leave it to the page."""

    def write_error(self, status_code: int, **how: Any) -> None:
        """Say what went wrong, and nothing else."""
        error = how.get("exc_info", (None, None))[1]
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(getattr(error, "log_message", None) or self._reason)

    async def _pass_on(self) -> None:
        found = parse(self)
        if found is None:
            raise HTTPError(404)
        number, asked, path = found
        door = self.settings["labkit_doors"].get(number)
        if door is None or door.where != asked.where:
            if self.request.method == "GET" and not _upgrades(self):
                self.redirect(self.settings["base_url"] + asked.where + path + _query(self))
                return
            raise HTTPError(403, "Cette page n’est plus ouverte : suivez de nouveau son lien.")
        origin = self.request.headers.get("Origin")
        safe = self.request.method in ("GET", "HEAD") and not _upgrades(self)
        if origin is not None and not safe and not self.check_origin(origin):
            raise HTTPError(403, "Une page d’un autre site ne peut rien demander ici.")
        if self.request.method == "OPTIONS" and "Access-Control-Request-Method" in (
            self.request.headers
        ):
            self._allow()
            return
        self.door, self.base = door, self.settings["base_url"] + numbered(door, number)
        host, port = await find(door)
        self.host = door.domain or f"{host}:{port}"
        url = f"{host}:{port}/{path}{_query(self)}"
        if _upgrades(self):
            await self._join(f"ws://{url}")
        else:
            self.task = asyncio.current_task()
            await self._ask(f"http://{url}")

    get = post = put = delete = head = patch = options = allow_unauthenticated(_pass_on)

    def _allow(self) -> None:
        """Answer a browser that asks whether a page may ask."""
        asked = self.request.headers
        self.set_status(204)
        self.set_header("Access-Control-Allow-Methods", asked["Access-Control-Request-Method"])
        names = asked.get("Access-Control-Request-Headers", "")
        self.set_header("Access-Control-Allow-Headers", names)

    def _asking(self) -> list[tuple[str, str]]:
        """Return what the page's server is told, as if its own page had asked it."""
        door, asked = self.door, self.request.headers
        told = [(k, v) for k, v in asked.get_all() if not _OURS.fullmatch(k.lower())]
        told += [("Host", self.host), ("Accept-Encoding", "identity")]
        login = asked.get("Authorization", "")
        if door.asks and login.startswith("Basic "):
            door.login = login
        elif asked.get("Origin") != "null" or login.startswith("token "):
            login = ""  # not what a program of the page says: the notebook server's, perhaps
        if login := login or door.login:
            told.append(("Authorization", login))
        if "Origin" in asked:
            told.append(("Origin", f"http://{self.host}"))
        request = self._for_cookies()
        door.cookies.add_cookie_header(request)
        if cookies := request.get_header("Cookie"):
            told.append(("Cookie", cookies))
        return told

    def _for_cookies(self) -> urllib.request.Request:
        # secure cookies, too: between the browser and the door, that is the student's own affair
        found = parse(self)
        return urllib.request.Request(f"https://{self.host}/{found[2] if found else ''}")

    async def _ask(self, url: str) -> None:
        body = self.request.body or None
        # a connection of its own, so that the mesh chooses anew
        limits = httpx.Limits(max_keepalive_connections=0)
        patience = httpx.Timeout(None, connect=10)
        try:
            async with (
                httpx.AsyncClient(trust_env=False, timeout=patience, limits=limits) as client,
                client.stream(
                    str(self.request.method), url, content=body, headers=self._asking()
                ) as answer,
            ):
                self._begin(answer)
                await self._go_on(answer)
        except StreamClosedError:
            pass  # the browser left
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if self._headers_written:
                self.detach().close()  # so that it is seen to be cut
                return
            raise HTTPError(
                502, f"Rien ne répond au port {self.door.port} : {type(error).__name__}."
            ) from None

    def _begin(self, answer: httpx.Response) -> None:
        """Pass on the status and what an answer's headers may say."""
        self._keep_cookies(answer.headers.get_list("set-cookie"))
        if answer.status_code == 401:
            self.door.asks, self.door.login = True, ""
        self.set_status(answer.status_code, answer.reason_phrase or None)
        kept = [(k, v) for k, v in answer.headers.multi_items() if _THEIRS.fullmatch(k)]
        for name, value in kept:
            self.add_header(name, self._moved(value) if name == "location" else value)
        self.set_header("Access-Control-Expose-Headers", ", ".join(sorted({k for k, _ in kept})))

    async def _go_on(self, answer: httpx.Response) -> None:
        """Pass on what an answer holds, as it comes; a page's links below the door."""
        length = answer.headers.get("content-length")
        page = answer.headers.get("content-type", "").startswith("text/html")
        if self.request.method == "HEAD" or answer.status_code in (204, 304):
            if length is not None and not page and answer.status_code == 200:
                self.set_header("Content-Length", length)
            return
        head = b""
        if length is not None and not page and "content-encoding" not in answer.headers:
            self.set_header("Content-Length", length)
        async for chunk in answer.aiter_bytes():
            if page and len(head) < _HTML:
                head += chunk
                continue
            self.write(self._below(head) + chunk)
            head = b""
            page = False
            await self.flush()
        self.write(self._below(head) if page else head)
        await self.flush()

    def _below(self, html: bytes) -> bytes:
        base = self.base.removesuffix("/").encode()
        for place in (_LINK, _DATA):
            html = place.sub(lambda m: m[1] + base, html)
        if self.request.headers.get("Sec-Fetch-Dest", "document") in ("document", "iframe"):
            html = _HEAD.sub(lambda m: m[0] + _STORES, html, count=1)
        return html

    def _moved(self, location: str) -> str:
        """Return where to go on, below the door where it is the page's own server."""
        location = re.sub(rf"https?://{re.escape(self.host)}(?=[/?#]|$)", "", location)
        own = location.startswith("/") and not location.startswith("//")
        return self.base + location.removeprefix("/") if own or not location else location

    def _keep_cookies(self, said: list[str]) -> None:
        if not said:
            return
        message = Message()
        for cookie in said:
            message["Set-Cookie"] = cookie
        response: Any = SimpleNamespace(info=lambda: message)
        self.door.cookies.extract_cookies(response, self._for_cookies())
        if len(self.door.cookies) > _COOKIES:
            self.door.cookies.clear()

    def on_connection_close(self) -> None:
        """Leave the page's server when the browser leaves."""
        super().on_connection_close()
        if self.task and not self.ws_connection:
            self.task.cancel()

    async def _join(self, url: str) -> None:
        """Open a websocket to the page's server, then to the browser."""
        asked = self.request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [name.strip() for name in asked.split(",") if name.strip()]
        request = HTTPRequest(url, headers=HTTPHeaders(), connect_timeout=10)
        for header in self._asking():
            request.headers.add(*header)
        try:
            self.upstream = await websocket_connect(request, subprotocols=protocols or None)
        except (HTTPClientError, OSError, WebSocketClosedError) as error:
            raise HTTPError(502, f"Rien ne répond au port {self.door.port}.") from error
        try:
            await super().get()
        finally:
            if self.ws_connection is None:
                self.upstream.close()

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Choose as the page's server did."""
        return self.upstream.selected_subprotocol if subprotocols else None

    async def open(self, *_: str) -> None:
        """Pass on what the page's server says, until one of both leaves."""
        self.task = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        with contextlib.suppress(WebSocketClosedError):
            while (said := await self.upstream.read_message()) is not None:
                await self.write_message(said, binary=isinstance(said, bytes))
        self.close(self.upstream.close_code, self.upstream.close_reason)

    async def on_message(self, message: str | bytes) -> None:
        """Pass on what the browser says."""
        with contextlib.suppress(WebSocketClosedError):
            await self.upstream.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        """Leave the page's server as the browser left."""
        if self.upstream:
            self.upstream.close()


class _Generic(Matcher):
    """Matches what jupyter-server-proxy, where it is, would pass on to the cluster.

    It would do so with the student's cookies, and as a page of the notebook server's own.
    """

    def __init__(self, base: str) -> None:
        self._path = re.compile(rf"{re.escape(base)}proxy/(?:absolute/)?(?:[^/]*:)?(\d+)(?:/.*)?")

    def match(self, request: Any) -> dict[str, Any] | None:
        """Match a port at which the cluster is reached now."""
        found = self._path.fullmatch(request.path)
        if found and (port := reached_at(int(found[1]))):
            return {"path_args": [str(port).encode()]}
        return None


class _Moved(JupyterHandler):
    """Shows where a port of the cluster is to be asked for instead."""

    @authenticated
    def get(self, port: str) -> None:
        """Lead to the way in."""
        self.redirect(f"{self.base_url}cluster/node1/{port}/")

    head = get


def _query(handler: Any, *without: str) -> str:
    parts = [p for p in handler.request.query.split("&") if p]
    kept = "&".join(p for p in parts if p.partition("=")[0] not in without)
    return f"?{kept}" if kept else ""


def _upgrades(handler: Any) -> bool:
    return bool(handler.request.headers.get("Upgrade", "").lower() == "websocket")


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "labkit.domains"}]


def _load_jupyter_server_extension(app: Any) -> None:
    web = app.web_app
    base = web.settings["base_url"]
    web.settings["labkit_doors"] = {}
    os.environ["LABKIT_PREFIX"] = base  # kernels and terminals say it in `adresses`
    below = re.escape(base)
    web.add_handlers(
        ".*$",
        [
            (rf"{below}(?:cluster|domaines)/~.*", _Page),
            (rf"{below}(?:cluster|domaines)/.*", _Entry),
        ],
    )
    web.default_router.rules.insert(0, Rule(_Generic(base), _Moved))
