"""HTTP answers, and the replica that an answer names; why a connection failed, in French."""

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as far as the client needs it."""

    status: int | None
    replica: str | None
    closing: bool
    cookies: Mapping[bytes, bytes] = field(default_factory=dict)


_WHO = re.compile(
    rb'"hostname"\s*:\s*"([^"\\]{1,255})"'  # whoami's /api
    rb"|^Hostname: ?(\S{1,255})"  # whoami's /
    rb"|container ID (?:<[^>]{1,40}>)?([0-9a-f]{12})\b",  # the voting app
    re.MULTILINE,
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_COOKIE = re.compile(rb"\r\nset-cookie:[ \t]*([^\s=;]{1,80})=([^\s;]{,4000})", re.IGNORECASE)
_CLOSING = re.compile(rb"\r\nconnection:[^\r\n]*close", re.IGNORECASE)


def parse(data: bytes, *, ended: bool = False) -> Answer | None:
    """Read an HTTP answer to a GET; None while it is not whole.

    ``ended`` says that the server has closed the connection.
    """
    if data and not data.startswith(b"HTTP/"[: len(data)]):
        return Answer(None, None, True)
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, at = data[: end + 2], end + 4
    if not data[9:12].isdigit():
        return Answer(None, None, True)
    status = int(data[9:12])
    if 100 <= status < 200:  # something before the answer
        return parse(data[at:], ended=ended)
    closing = ended or data.startswith(b"HTTP/1.0") or _CLOSING.search(head) is not None
    cookies = dict(_COOKIE.findall(head))
    if status in (204, 304):
        return Answer(status, None, closing, cookies)
    if length := _LENGTH.search(head):
        if len(data) - at < int(length[1]):
            return None
        body = data[at : at + int(length[1])]
    elif _CHUNKED.search(head):
        whole = _dechunk(data, at)
        if whole is None:
            return None
        body = whole
    elif not ended:
        return None
    else:
        body = data[at:]
    found = _WHO.search(body)
    who = (found[1] or found[2] or found[3]).decode("ascii", "replace") if found else None
    return Answer(status, who, closing, cookies)


def _dechunk(data: bytes, at: int) -> bytes | None:
    """Return a chunked body; None while it is not whole. Nonsense ends it."""
    body: list[bytes] = []
    while (eol := data.find(b"\r\n", at)) >= 0:
        size = data[at:eol].partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
            return b"".join(body)
        length = int(size, 16)
        if not length:
            last = data.find(b"\r\n\r\n", eol)  # right there, or after trailers
            return None if last < 0 else b"".join(body)
        if len(data) < eol + 2 + length + 2:
            return None
        body.append(data[eol + 2 : eol + 2 + length])
        at = eol + 2 + length + 2
    return None


_ERRORS: Mapping[str, str] = {
    "ECONNREFUSED": "connexion refusée",
    **dict.fromkeys(("ECONNRESET", "EPIPE", "ENOTCONN", "ECONNABORTED"), "connexion coupée"),
    "ETIMEDOUT": "pas de réponse",
    "EHOSTUNREACH": "nœud injoignable",
    "ENETUNREACH": "nœud injoignable",
    "EADDRNOTAVAIL": "plus de port libre sur cette machine",
    "EMFILE": "trop de connexions ouvertes",
}


def error_in_french(number: int) -> str:
    """Say what an ``errno`` of a connection means."""
    name = errno.errorcode.get(number, str(number))
    return _ERRORS.get(name, f"erreur réseau ({name})")
