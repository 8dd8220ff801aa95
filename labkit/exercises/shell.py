"""How notebook cells run ``docker …``: the real CLI, quieter progress, masked tokens."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator

from labkit.masking import mask

__all__ = ["TIMED_OUT", "interleaved", "run", "tidy"]

TIMED_OUT = 124  # as coreutils' timeout says it

_PROGRESS = re.compile(r"^overall progress: \d+ out of \d+ tasks")
_NOISE = re.compile(r"^verify: Waiting \d+ seconds?|^\d+/\d+:\s*$")


def interleaved(commands: str) -> str:
    """Return a script that says each command before it runs it.

    Parameters
    ----------
    commands
        One command a line; a backslash continues a line, and comments are left out.
    """
    lines = (" ".join(text.split()) for text in commands.replace("\\\n", " ").splitlines())
    wanted = [text for text in lines if text and not text.startswith("#")]
    return "\n".join(f"printf '$ %s\\n' {shlex.quote(text)}\n{text}" for text in wanted)


def tidy(lines: Iterable[str]) -> Iterator[str]:
    """Drop repeated progress lines and mask join tokens.

    Without a terminal the CLI writes the same progress line many times a second.

    Parameters
    ----------
    lines
        Lines with their newline.
    """
    last = ""
    for line in lines:
        if _NOISE.match(line):
            continue
        if _PROGRESS.match(line):
            if line == last:
                continue
            last = line
        yield mask(line)


def run(command: str, write: Callable[[str], object], *, timeout: float | None = None) -> int:
    """Run a shell command, writing what it says line by line, and return its exit code.

    Parameters
    ----------
    command
        Shell text; standard input is empty, standard error is written with the output.
    write
        Takes each line.
    timeout
        Seconds after which the command is ended with the code :data:`TIMED_OUT`.
    """
    process = subprocess.Popen(
        [shutil.which("bash") or "/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    late = threading.Event()

    def expire() -> None:
        late.set()
        _signal(process, signal.SIGTERM)

    timer = threading.Timer(timeout, expire) if timeout is not None else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        for line in tidy(process.stdout):
            write(line)
        code = process.wait()
    except KeyboardInterrupt:
        _signal(process, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        raise
    finally:
        if timer:
            timer.cancel()
        if process.poll() is None:
            _signal(process, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    return TIMED_OUT if late.is_set() else code


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
