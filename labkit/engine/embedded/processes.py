"""Start, find and end the processes of a run directory."""

import contextlib
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from labkit.engine.embedded import identity
from labkit.errors import EngineNotRunning, MachineFailed
from labkit.polling import until


def detach(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str],
    *,
    keep: Sequence[int] = (),
    nice: int = 0,
) -> int:
    """Start a program that is nobody's child and outlives this one; return its id.

    Its output is appended to ``log``; it inherits the open files of ``keep``, has the variables of
    ``environment`` beside this process's own, and gives way to others by ``nice``, 0 to 19.
    """
    if nice:
        command = ["nice", "-n", str(nice), *command]
    started = subprocess.run(  # the shell ends at once
        ["sh", "-c", 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!', "sh", log, *command],
        stdout=subprocess.PIPE, text=True, start_new_session=True, check=True, cwd="/",
        env={**os.environ, **environment}, umask=0o077, pass_fds=keep,
    )  # fmt: skip
    pid = int(started.stdout)
    if nice:  # where each session is a group of its own, for the group, too
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    return pid


def answers(pid: int, look: Callable[[], bool]) -> bool:
    """Wait until a process that starts answers, which ``look`` tells; False when it ended."""

    def judged() -> bool | None:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            return False
        return look() or None

    return bool(until(judged, lambda answer: answer is not None, every=0.02))


def refuse_elsewhere(run: Path) -> None:
    """Raise ``EngineNotRunning`` when a run directory is that of another host with this home."""
    host = identity.elsewhere(run)
    if host:
        raise EngineNotRunning(
            f"Votre cluster tourne sur une autre machine ou dans un autre conteneur : « {host} ».",
            remedy="Travaillez là-bas, ou arrêtez-le là-bas : « labkit down ». Si "
            f"« {host} » n’existe plus : rm -r {shlex.quote(str(run))}. Pour un second cluster, "
            "ici : LABKIT_CLUSTER=ici devant vos commandes.",
        )


def note_process(run: Path, pid: int, file: str = "pid") -> None:
    """Write which process a run directory holds; raise ``MachineFailed`` when it has ended."""
    try:
        stamp = identity.stamp(pid)
    except OSError as error:
        raise MachineFailed("Un programme du cluster s’est arrêté dès son démarrage.") from error
    (run / file).write_text(stamp)


def process_of(run: Path, file: str = "pid") -> psutil.Process | None:
    """Return the process that :func:`note_process` wrote into a run directory, if it lives."""
    try:
        text = (run / file).read_text()
        if not text.strip().isdigit():
            return identity.find(text)
        # the driver's own writing: labkit ended before it could say more. Not only the same
        # beginning: the directory of « lab » begins that of « lab2 ».
        process = psutil.Process(int(text))
        if process.status() != psutil.STATUS_ZOMBIE and any(
            part == str(run) or f"{run}/" in part for part in process.cmdline()
        ):
            return process
    except (OSError, ValueError, OverflowError, psutil.Error):
        pass
    return None


def alive(run: Path) -> bool:
    """Tell whether the machine of a run directory lives."""
    return process_of(run) is not None


def stop_process(run: Path, file: str = "pid", patience: float = 3.0) -> None:
    """End the process that a run directory names."""
    process = process_of(run, file)
    if process is not None:
        end_process(process, patience)


def end_process(process: psutil.Process, patience: float = 3.0) -> None:
    """End a process: politely, then not; with no patience, not politely at all."""

    def ended() -> bool:  # whether or not its parent has asked how
        try:
            return process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    with contextlib.suppress(psutil.Error):
        if patience:
            process.terminate()
        if not patience or not until(ended, bool, patience, 0.02):
            process.kill()
            until(ended, bool, 5, 0.02)
