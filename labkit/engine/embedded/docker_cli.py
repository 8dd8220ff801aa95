"""Choose the ``docker`` command: the user's own, or the one built with the machine."""

import secrets
import shutil
from functools import cache
from pathlib import Path

from labkit.engine.contexts import runs
from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.directories import writable
from labkit.engine.embedded.settings import STATE, Settings


def docker_cli(guest: Guest) -> Path:
    """Return the user's ``docker`` command, or the guest's where there is none that is usable."""
    theirs = shutil.which("docker")
    return Path(theirs if theirs and not refused(theirs) else guest.cli)


def which_docker() -> str:
    """Return in French which ``docker`` command is used, and why not the user's own if so."""
    theirs = shutil.which("docker")
    if theirs is None:
        return "celle de labkit"
    why = refused(theirs)
    return f"celle de labkit, car {theirs} ne convient pas : {why}" if why else theirs


@cache
def refused(cli: str) -> str:
    """Say in French why a ``docker`` command is not usable, once tried; "" when it is."""
    state = Settings.read().state
    writable(state, STATE)
    return runs(cli, state / f"try-{secrets.token_hex(4)}")
