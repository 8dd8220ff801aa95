"""How notebook cells run ``docker …``: the real CLI, quieter progress, masked secrets."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from labkit.masking import mask

TIMED_OUT = 124  # as coreutils' timeout says it

# Standard input is a pipe from this process. A line says that all is well; its end without one,
# that this process was killed: then whatever the command started is ended. The command itself
# has an empty standard input.
_LIFELINE = """exec 3<&0 </dev/null
{ read -r _ <&3 || { trap '' TERM; kill -TERM 0; sleep 2; kill -KILL 0; }; } >/dev/null 2>&1 &
exec 3<&-
exec "$0" -c "$1"
"""
_STOP = r"""${BASH:+set -o pipefail}
_state() { docker $_at info --format '{{.Swarm.LocalNodeState}}'; } # of the node that was asked
_failed() {
    [ "$1" -ne 0 ] || return 0
    _at=$(printf '%s\n' "$2" | sed -n 's/^docker \(--context [^ ]*\) .*/\1/p')
    case "$2" in
    *" swarm join "*) # which goes on in the background when docker stops waiting for it
        for _look in $(seq 60); do
            _in=$(_state)
            [ "$_in" = pending ] && sleep 2 || break
        done
        [ "$_in" = active ] ;;
    *" swarm leave --force") # a manager has 15 s to end: docker says no, and it may go on ending
        for _look in $(seq 10); do
            [ "$(_state)" = inactive ] && return 0
            sleep 2
            eval "$2" 2>/dev/null && return 0
        done
        false ;;
    *" swarm leave"*) [ "$(_state)" = inactive ] ;;
    "docker volume rm "*) # the containers of a stack end after it was removed
        echo "$_in_use"
        for _look in $(seq 30); do sleep 2; eval "$2" 2>/dev/null && return 0; done
        false ;;
    "docker service rm "* | "docker node rm "*)
        _kind=${2#docker } && ! docker "${_kind%% *}" inspect "${2##* }" >/dev/null 2>&1 ;;
    *) false ;;
    esac || exit "$1"
}
"""
_IN_USE = "… on attend que plus aucun conteneur ne l’emploie"
_PROGRESS = re.compile(r"^overall progress: (?:rolling back update: )?\d+ out of \d+ tasks")
_NOISE = re.compile(r"^verify: Waiting \d+ seconds?|^\d+/\d+:\s*$")


def interleaved(commands: str) -> str:
    """Return a script that says each command before it runs it, and ends at the first that fails.

    One that docker refuses because it is done already (to join, to leave, to remove) does not count
    as failed: a student may have typed it. A volume that is in use is awaited, and so is a manager
    that leaves. A backslash continues a line, and comments are left out. Spaces stay as they are:
    those between quotes matter.
    """
    return _script(_lines(commands))


def resumed(commands: str, said: Sequence[str]) -> str:
    """Return the script that goes on with the command that failed, with the variables set before.

    ``said`` has the lines that the script of :func:`interleaved` wrote.
    """
    lines = _lines(commands)
    failed = max(0, sum(text.startswith("$ ") for text in said) - 1)
    kept = [text for text in lines[:failed] if re.match(r"\w+=", text)]
    return "\n".join([*kept, _script(lines[failed:])])


def _lines(commands: str) -> list[str]:
    joined = re.sub(r"[ \t]*\\\n[ \t]*", " ", commands)
    lines = (text.strip() for text in joined.splitlines())
    return [text for text in lines if text and not text.startswith("#")]


def _script(lines: Sequence[str]) -> str:
    steps = (
        f"printf '$ %s\\n' {quoted}\n{text}\n_failed $? {quoted}"
        for text, quoted in zip(lines, map(shlex.quote, lines), strict=True)
    )
    return "\n".join([f"_in_use={shlex.quote(_IN_USE)}", _STOP, *steps])


def tidy(lines: Iterable[str]) -> Iterator[str]:
    """Drop repeated progress lines and mask secrets.

    Without a terminal the CLI writes the same progress line many times a second.
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

    The command and all that it started end with this process, even if that is killed. Standard
    input is empty, standard error is written with the output. A command that takes longer than
    ``timeout`` is ended with the code :data:`TIMED_OUT`.
    """
    shell = shutil.which("bash") or "/bin/sh"
    process = subprocess.Popen(
        [shell, "-c", _LIFELINE, shell, command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
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
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("\n")
            process.stdin.close()
        process.stdout.close()
    return TIMED_OUT if late.is_set() else code


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
