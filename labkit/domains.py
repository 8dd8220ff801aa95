"""The domains of a cluster through the notebook server, for browsers on another machine.

A browser on this machine asks it for ``whoami.localhost``. Behind JupyterHub or Binder it cannot:
there ``…/domaines/8000/whoami.localhost/`` asks port 8000 of the first node, by that name. What
passes requests on is jupyter-server-proxy; here are only the name, which address it is, and where
a page that links to its own root is found.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from jupyter_server.utils import url_path_join
from jupyter_server_proxy.handlers import ProxyHandler
from tornado.web import HTTPError

from labkit.engine import cluster, own
from labkit.engine.settings import Settings
from labkit.errors import LabkitError

__all__: list[str] = []  # the notebook server loads it by its name

# the path that `adresses` links to
_PATH = r"domaines/(\d{1,5})/([\w-]+(?:\.[\w-]+)*\.localhost)/(.*)"
_OURS = re.compile(r"(_xsrf|jupyterhub-.*|username-.*)=")  # cookies of the notebook server
# what a page that takes itself for the root's says of its own paths: links, and where its programs
# find their data (Traefik's dashboard, Prometheus's classic page)
_LINK = re.compile(rb"""((?:href|src|action)=["'])(?=/(?!/))""")
_DATA = re.compile(rb'(window\.APIUrl = "(?=\\?/)|var PATH_PREFIX = "(?="))')


class _Domain(ProxyHandler):  # type: ignore[misc]
    """Passes a request on to the first node of the cluster, by the name of a domain."""

    domain = ""

    async def _pass_on(self, port: str, domain: str, path: str) -> None:
        host, at = await self._find(port, domain)
        await self.proxy(host, at, path)

    http_get = post = put = delete = head = patch = options = _pass_on

    async def open(self, port: str, domain: str, path: str) -> None:
        host, at = await self._find(port, domain)
        await self.proxy_open(host, at, path)

    async def _find(self, port: str, domain: str) -> tuple[str, int]:
        try:
            found = await asyncio.to_thread(_proxied, int(port))
        except LabkitError as error:
            raise HTTPError(503, str(error)) from None
        if not found:
            raise HTTPError(404, f"Le cluster ne publie pas le port {port}.")
        host, _, at = found.rpartition(":")
        self.domain = domain
        self.proxy_base = f"domaines/{port}/{domain}"
        self.host_allowlist = [host or "localhost"]
        # jupyter-server-proxy gives arguments by their names, to plain functions alone
        self.rewrite_response = lambda response: self._rewrite(response)
        return host or "localhost", int(at)

    def proxy_request_headers(self) -> Any:
        """Return the request's headers, under the domain's name, without what opens this server."""
        headers = super().proxy_request_headers()
        headers["Host"] = self.domain
        headers["Accept-Encoding"] = "identity"  # what is to be read here
        cookies = [c for c in headers.get("Cookie", "").split("; ") if c and not _OURS.match(c)]
        headers.pop("Cookie", None)
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        if not headers.get("Authorization", "Basic ").startswith("Basic "):
            del headers["Authorization"]
        return headers

    def _rewrite(self, response: Any) -> None:
        if response.body and "text/html" in response.headers.get("Content-Type", ""):
            below = url_path_join(self.base_url, self.proxy_base).encode()
            for place in (_LINK, _DATA):
                response.body = place.sub(lambda m: m[1] + below, response.body)


def _proxied(port: int) -> str:
    fleet = own.named() or cluster.join(Settings.read())
    return fleet.proxied(port)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "labkit.domains"}]


def _load_jupyter_server_extension(app: Any) -> None:
    base = app.web_app.settings["base_url"]
    app.web_app.add_handlers(".*$", [(url_path_join(base, _PATH), _Domain)])
