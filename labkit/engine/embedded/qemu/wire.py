"""The frames of QEMU's second network card: read from it, and handed back if they may leave.

QEMU hands each frame that the machine sends to whoever listens at the socket ``sent`` in the run
directory, and lets out those that come back by the pipe ``pass``.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from select import PIPE_BUF

FRAME = 1 << 17  # bytes, more than any frame has
WAITING = 4096  # frames that wait for QEMU; what comes beyond is lost, as on any network


def pass_on(run: Path, lets: Callable[[bytes], bool]) -> None:
    """Pass on frames until QEMU ends.

    QEMU stands still while nobody reads what it sends: to read comes first, always. A pipe takes
    a frame whole or not at all, so that the next process can go on where this one is killed.
    """
    pipe = os.open(run / "pass", os.O_WRONLY | os.O_NONBLOCK)
    with os.fdopen(pipe, "wb", buffering=0) as out, socket.socket(socket.AF_UNIX) as sent:
        sent.connect(str(run / "sent"))
        poll = select.poll()
        poll.register(sent, select.POLLIN)
        read, waiting = bytearray(), deque[bytes](maxlen=WAITING)
        while True:
            poll.register(out, select.POLLOUT if waiting else 0)
            ready = dict(poll.poll())
            if sent.fileno() in ready:
                block = sent.recv(FRAME)
                if not block:
                    return
                read += block
                waiting.extend(w for w in _frames(read) if len(w) <= PIPE_BUF and lets(w[4:]))
            while waiting and out.write(waiting[0]):  # None: the pipe is full
                waiting.popleft()


def _frames(read: bytearray) -> Iterable[bytes]:
    """Take whole frames, each after its length, from what was read."""
    while len(read) >= 4:
        size = 4 + int.from_bytes(read[:4], "big")
        if size > FRAME:
            raise OSError("a frame of QEMU's is out of bounds")
        if len(read) < size:
            return
        yield bytes(read[:size])
        del read[:size]
