"""Find a kernel of User-Mode Linux, and the mode in which it works here."""

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.build.sealed import verify
from labkit.engine.embedded.identity import once_a_boot
from labkit.engine.embedded.limits import MIB
from labkit.engine.embedded.qemu.driver import Qemu
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.uml.confined import landlock
from labkit.engine.embedded.uml.driver import Uml, confinement, memory_directory, mode_option
from labkit.engine.embedded.uml.kernel import kernel_directory, kernel_version
from labkit.engine.embedded.uml.wheel import installed
from labkit.errors import PlatformNotSupported

PROBE_SECONDS = 3.0  # on a host with a processor to spare
PROBE_MEMORY = 64  # MiB
WHOLE = 4  # the version of Landlock from which the wall has no door to the network


def find_uml(guest: Guest, settings: Settings, qemu: Qemu) -> Uml | None:
    """Return User-Mode Linux where it is wanted, its kernel is built, and it works here.

    Raises ``PlatformNotSupported`` when ``LABKIT_ACCEL=uml`` and it does not.
    """
    if settings.accel not in {"auto", "uml"}:
        return None
    reason, mode = look_up(guest, settings)
    if mode:
        directory = kernel_directory(settings)
        return Uml(directory / "linux", kernel_version(directory), qemu.command, mode)
    if settings.accel == "uml":
        raise PlatformNotSupported(
            f"LABKIT_ACCEL=uml, mais {reason}.",
            remedy="Lancez « labkit build --kernel », ou retirez LABKIT_ACCEL.",
        )
    return None


def look_up(guest: Guest, settings: Settings) -> tuple[str, str]:
    """Return why the machine is not User-Mode Linux, in French, and its mode; one is empty."""
    directory = kernel_directory(settings)
    if not verify(directory):
        why = installed(directory.name)[1] or "aucun noyau User-Mode Linux n’est construit"
        return f"{why} (« labkit build --kernel »)", ""
    if re.search(r"[\s\"']", f"{directory}{guest.directory}{settings.state}"):
        return "User-Mode Linux ne veut ni espace ni guillemet dans le nom d’un répertoire", ""
    asked: tuple[str, ...] = (settings.uml,)
    if settings.uml == "auto":
        asked = ("seccomp", "ptrace") if landlock() >= WHOLE else ("ptrace",)
    mode = once_a_boot(
        settings.cache / "uml-probe",
        f"{directory.name} {settings.uml}",
        lambda: next((m for m in asked if probe(directory / "linux", guest, m)), "none"),
    )
    return ("User-Mode Linux ne démarre pas ici", "") if mode == "none" else ("", mode)


def probe(kernel: Path, guest: Guest, mode: str) -> bool:
    """Tell whether a kernel runs its first process to its end, within a time limit."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labkit-")))
        memory = stack.enter_context(memory_directory(PROBE_MEMORY * MIB, place))
        core = min(os.sched_getaffinity(0))
        command = [
            *confinement(core, (kernel, guest.directory), (place, memory)),
            str(kernel), f"mem={PROBE_MEMORY}M", f"uml_dir={place}/", "umid=probe",
            mode_option(mode), f"ubd0r={guest.directory / 'root.ext4'}", "root=/dev/ubda", "ro",
            "rootfstype=ext4", "con=null", "con0=null,fd:1", "panic=-1",
            "init=/usr/bin/busybox", "--", "poweroff", "-f",
        ]  # fmt: skip
        none = subprocess.DEVNULL
        crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # what waits for a processor
        try:
            done = subprocess.run(
                command, stdin=none, stdout=none, stderr=none, timeout=PROBE_SECONDS * crowd,
                env={**os.environ, "TMPDIR": str(memory)},
            )  # fmt: skip
            return done.returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False
