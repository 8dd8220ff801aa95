"""Find, once, all that a cluster starts from: the guest's files, a driver and a snapshot."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.engine.embedded.build.guest import Guest
from labkit.engine.embedded.build.sealed import fingerprint, verify
from labkit.engine.embedded.build.shared_cache import (
    damaged_error,
    find_directory,
    find_guest,
    is_shared,
)
from labkit.engine.embedded.driver import Driver, find_driver
from labkit.engine.embedded.settings import Settings


@dataclass(frozen=True, slots=True)
class Installation:
    """All that machines of these settings are started from."""

    settings: Settings
    guest: Guest
    driver: Driver
    snapshot: Path  # a saved machine: its memory and its disk; never written once made

    @property
    def images(self) -> list[dict[str, Any]]:
        """The images that the snapshot holds: the fields of an ``ImageStatus`` for each."""
        return list(json.loads((self.snapshot / "snapshot.json").read_text())["images"])


def installation_of(settings: Settings, guest: Guest) -> Installation:
    """Return the installation of a guest that is built; its snapshot may not be made yet."""
    driver = find_driver(guest, settings)
    return Installation(settings, guest, driver, snapshot_of(guest, driver, settings))


def find_installation(settings: Settings, *, thorough: bool = False) -> Installation | None:
    """Return the installation of these settings; None where a part is not there, whole.

    Raises ``MachineFailed`` when a part of the shared cache is damaged.
    """
    guest = find_guest(settings)
    if not verify(guest.directory, thorough=thorough):
        if is_shared(settings, guest.directory):
            raise damaged_error(settings)
        return None
    found = installation_of(settings, guest)
    if verify(found.snapshot, thorough=thorough):
        return found
    if is_shared(settings, found.snapshot):
        raise damaged_error(settings)
    return None


def snapshot_of(guest: Guest, driver: Driver, settings: Settings) -> Path:
    """Return where the snapshot of a guest under these settings is, made or not."""
    # a guest built again is another disk: the state would not fit
    traits = [*driver.traits(settings, guest), fingerprint(guest.directory)]
    digest = hashlib.sha256("\0".join(traits).encode()).hexdigest()[:12]
    name = f"snapshot-{guest.key}-{driver.name}-{driver.version}-n{settings.nodes}-{digest}"
    return find_directory(settings, name)
