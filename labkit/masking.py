"""Keep secrets in the kernel: join tokens, unlock keys and private keys.

``docker swarm init`` prints a live join token, ``docker swarm unlock-key`` the key of the managers'
data, and a notebook saves what it prints. Here every message that the kernel sends (streams,
results, errors, widgets) has its secrets masked: the students still read Docker's own message,
``SWMTKN-1-•••`` included.
"""

import re
import threading
from collections.abc import Callable
from typing import Any

# what comes first says what follows and stays; newlines may be escaped, as in JSON and repr()
_HEADER = r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
_BODY = r"(?:[A-Za-z0-9+/=\s]|\\+[nr])"
_SECRET = re.compile(
    rf"(SWMTKN-\d+-)[0-9a-z][0-9a-z-]*|(SWMKEY-\d+-)[A-Za-z0-9+/=]+|({_HEADER}){_BODY}+"
)
_SECRET_BYTES = re.compile(_SECRET.pattern.encode())
_OPEN = re.compile(rf"({_HEADER}){_BODY}+\\*\Z")  # a private key that goes on
_LONGEST = 200  # characters of a token or an unlock key
_STREAMS = 32  # of which the ends are remembered


def mask(text: str) -> str:
    """Return ``text`` with every secret masked.

    >>> mask("docker swarm join --token SWMTKN-1-0a1b-2c3d 10.0.0.1:2377")
    'docker swarm join --token SWMTKN-1-••• 10.0.0.1:2377'
    """
    return _SECRET.sub(lambda found: f"{found[found.lastindex or 0]}•••", text)


def contains_secret(text: str) -> bool:
    """Whether ``text`` holds a secret in clear."""
    return _SECRET.search(text) is not None


def protect(session: Any) -> None:
    """Mask secrets in everything that a ``jupyter_client`` session sends from now on.

    All outputs pass through the session's ``pack``, and through its ``send``, where those of a
    stream are put together again. Doing it twice is harmless.
    """
    if getattr(session.pack, "labkit_masks", False):
        return
    session.pack = _masking(session.pack)
    session.send = _following(session.send)


def _masking(pack: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    dots = "•••".encode()

    def masked(obj: Any) -> bytes:
        packed = pack(obj)
        if b"SWM" not in packed and b"PRIVATE KEY" not in packed:
            return packed
        return _SECRET_BYTES.sub(lambda found: found[found.lastindex or 0] + dots, packed)

    masked.labkit_masks = True  # type: ignore[attr-defined]
    return masked


def _following(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``send`` that sees secrets which several messages of a stream share."""
    streams = _Streams()

    def followed(
        socket: Any, message: Any, content: Any = None, parent: Any = None, *more: Any, **named: Any
    ) -> Any:
        whole = isinstance(message, dict)
        kind = message["header"]["msg_type"] if whole else message
        if kind == "stream":
            said = message["content"] if whole else content
            cause = message.get("parent_header") if whole else (parent or {}).get("header", parent)
            key = (str(said["name"]), str((cause or {}).get("msg_id")))
            said["text"] = streams.mask(key, said["text"])
        return send(socket, message, content, parent, *more, **named)

    return followed


class _Streams:
    """Masks streams that come in pieces, cut anywhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[tuple[str, str], str] = {}

    def mask(self, key: tuple[str, str], text: str) -> str:
        """Return the next piece of a stream, masked; what begins a secret is none."""
        with self._lock:
            before = self._ends.pop(key, "")
            whole = before + text
            goes_on = _OPEN.search(whole)
            self._ends[key] = f"{goes_on[1]}\n" if goes_on else whole[-_LONGEST:]
            if len(self._ends) > _STREAMS:
                del self._ends[next(iter(self._ends))]
        return mask(whole)[len(mask(before)) :]
