"""``labkit doctor``: look at this host, the cache and the cluster, a row each."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from urllib.request import getproxies, proxy_bypass

from labkit import engine
from labkit.engine.embedded import cluster, snapshot
from labkit.engine.embedded.build.shared_cache import find_guest
from labkit.engine.embedded.directories import writable
from labkit.engine.embedded.docker_cli import which_docker
from labkit.engine.embedded.driver import find_driver, why_slow
from labkit.engine.embedded.headroom import roomy
from labkit.engine.embedded.limits import limits
from labkit.engine.embedded.processes import alive, refuse_elsewhere
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.tls import worn
from labkit.errors import LabkitError
from labkit.state import capture


def examine(settings: Settings) -> list[tuple[bool, str, str]]:
    """Look at what the embedded cluster needs: whether it is fine, what was found, the remedy."""
    from labkit.engine.embedded.build.guest import NEEDED

    machine = os.uname()
    found = limits()
    needed = 0.3e9 if alive(settings.run) else 1.2e9  # a cluster that runs has its own already
    rows = [
        (machine.sysname == "Linux" and machine.machine == "x86_64",
         f"système : {machine.sysname} {machine.machine}", "Linux sur x86-64 est nécessaire"),
        (sys.version_info >= (3, 11), f"Python {sys.version.split()[0]}", "3.11 ou plus récent"),
        (True, f"limites de ce serveur : {str(found) or 'aucune'}", ""),
        (found.free > needed, f"mémoire libre : {found.free / 1e9:.1f} Go",
         f"il faut {needed / 1e9:.1f} Go"),
        _try(f"clusters : {settings.run.parent}", settings.check),
    ]  # fmt: skip
    built = False
    try:
        built = snapshot.built(settings)
        rows.append((True, "machine construite" if built else "machine à construire", ""))
        if built:
            rows.append((True, f"pilote de la machine : {_driver(settings)}", ""))
    except LabkitError as error:
        rows.append((False, error.message, error.remedy))
    if not built:
        place = next(p for p in (settings.cache, *settings.cache.parents) if p.is_dir())
        free = shutil.disk_usage(place).free
        rows += [
            _try(f"cache : {settings.cache}", lambda: writable(settings.cache, "LABKIT_CACHE")),
            (free > NEEDED, f"disque libre du cache : {free / 1e9:.1f} Go",
             f"il faut {NEEDED / 1e9:.1f} Go ; LABKIT_CACHE place le cache ailleurs"),
            _try("miroir de paquets", lambda: _mirror(settings)),
        ]  # fmt: skip
    rows += _of_the_host(settings)
    with contextlib.suppress(LabkitError):  # no cluster is up
        rows += [(False, t.what, t.remedy) for t in capture(engine.connect()).troubles]
    return rows


def _of_the_host(settings: Settings) -> list[tuple[bool, str, str]]:
    """Return the rows of what is odd about this host."""
    rows = [_try("commande docker", which_docker)]
    encoding = (sys.stdout.encoding or "ascii").lower()
    if encoding.replace("-", "") != "utf8":
        rows.append((True, f"affichage : {encoding}, où certains caractères sont remplacés", ""))
    rows.append(_try("hôte du cluster : celui-ci", lambda: refuse_elsewhere(settings.run)))
    if not alive(settings.run):
        rows.append(_try("place sur le disque des clusters", lambda: roomy(settings)))
        settings.unsettle()
        return rows
    if worn(settings.run / "tls"):
        rows.append((False, "certificats du cluster : plus de la moitié de leur durée est passée",
                     "« labkit up » les renouvelle, sans rien perdre"))  # fmt: skip
    first = cluster.join(settings).endpoints[0].address
    if getproxies() and not proxy_bypass(first):
        rows.append((False, f"mandataire (proxy) : les requêtes vers {first} y passeraient",
                     'tapez dans ce shell : eval "$(labkit env)"'))  # fmt: skip
    return rows


def _try(text: str, look: Callable[[], str | None]) -> tuple[bool, str, str]:
    """Return a row of ``labkit doctor``: what was looked at, or the error and its remedy."""
    try:
        found = look()
    except LabkitError as error:
        return False, error.message, error.remedy
    return True, f"{text} : {found}" if found else text, ""


def _mirror(settings: Settings) -> str:
    """Return the address of the mirror once it answered with a signed release."""
    from labkit.engine.embedded.build.debian import Archive
    from labkit.engine.embedded.build.mirror import find_mirror, public

    address = find_mirror(settings.mirror)
    archive = Archive(address, settings.suite, settings.cache / "downloads")
    try:
        archive.release(attempts=1)
    finally:
        archive.close()
    return public(address)


def _driver(settings: Settings) -> str:
    guest = find_guest(settings)
    driver, slow = find_driver(guest, settings), why_slow(guest, settings)
    if driver.package:
        return f"{driver.name} (paquet {driver.package})"
    return driver.name + (f" ({slow})" if slow else "")
