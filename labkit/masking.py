"""Join tokens never leave the kernel.

``docker swarm init`` prints a live join token, and a notebook saves what it prints. Here every
message that the kernel sends (streams, results, errors, widgets) has its tokens masked: the
students still read Docker's own message, ``SWMTKN-1-•••`` included.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["contains_token", "mask", "protect"]

_TOKEN = re.compile(r"SWMTKN-(\d+)-[0-9a-z]+(?:-[0-9a-z]*)*")
_MASKED = r"SWMTKN-\1-•••"
_TOKEN_BYTES = re.compile(_TOKEN.pattern.encode())
_MASKED_BYTES = _MASKED.encode()


def mask(text: str) -> str:
    """Return ``text`` with every swarm join token masked.

    >>> mask("docker swarm join --token SWMTKN-1-0a1b-2c3d 10.0.0.1:2377")
    'docker swarm join --token SWMTKN-1-••• 10.0.0.1:2377'
    """
    return _TOKEN.sub(_MASKED, text)


def contains_token(text: str) -> bool:
    """Whether ``text`` holds a join token in clear."""
    return _TOKEN.search(text) is not None


def protect(session: Any) -> None:
    """Mask tokens in everything that a ``jupyter_client`` session sends from now on.

    Parameters
    ----------
    session
        The kernel's session; all outputs pass through its ``pack``. Doing it twice is harmless.
    """
    pack = session.pack
    if getattr(pack, "labkit_masks", False):
        return
    session.pack = _masking(pack)


def _masking(pack: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def masked(obj: Any) -> bytes:
        packed = pack(obj)
        if b"SWMTKN-" not in packed:
            return packed
        return _TOKEN_BYTES.sub(_MASKED_BYTES, packed)

    masked.labkit_masks = True  # type: ignore[attr-defined]
    return masked
