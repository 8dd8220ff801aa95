"""Find a Debian mirror: the one asked for, or one that this machine's own files name."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from debian.deb822 import Deb822

from labkit.errors import MirrorNotFound, SettingError
from labkit.files import text_of


def find_mirror(wanted: str | None = None, root: Path = Path("/")) -> str:
    """Return the address of a Debian mirror: the ``wanted`` one, else one that this host names.

    Raises ``SettingError`` when the wanted one is no address of a mirror, ``MirrorNotFound`` when
    nothing names one.
    """
    if wanted:
        if not _is_mirror(wanted):
            raise SettingError(
                f"« {public(wanted)} » n’est pas l’adresse d’un miroir.",
                remedy="Elle a la forme http://…/debian (LABKIT_MIRROR ou --mirror).",
            )
        return wanted.rstrip("/")
    lists = [root / "etc/apt/sources.list", root / "etc/apt/sources.list.d/debian.sources"]
    lists += sorted((root / "etc/apt/sources.list.d").glob("*"))
    debian = re.search(r"^ID=[\"']?debian\b", text_of(root / "etc/os-release"), re.MULTILINE)
    for source in lists if debian else ():
        for uri, suite, components in _sources(source):
            # other publishers have a /debian too, but hardly one with a « main »
            ours = re.search(r"/debian/?$", uri) and "main" in components.split()
            if ours and "security" not in suite and _is_mirror(uri):
                return uri.rstrip("/")
    script = text_of(root / "usr/share/debootstrap/scripts/sid")
    found = re.search(r"^\s*default_mirror\s+(https?://\S+)", script, re.MULTILINE)
    if found:
        return found[1].rstrip("/")
    raise MirrorNotFound(
        "Aucun miroir de paquets Debian n’est connu sur cette machine.",
        remedy="Indiquez-en un : LABKIT_MIRROR=http://…/debian ou « labkit build --mirror … ».",
    )


def _is_mirror(address: str) -> bool:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises where it is no port
        httpx.URL(address)
    except (ValueError, httpx.InvalidURL):
        return False
    host = parts.hostname or ""
    return parts.scheme in {"http", "https"} and bool(re.fullmatch(r"[\w.:%-]+", host))


def public(address: str) -> str:
    """Return an address without the password that it may hold."""
    return re.sub(r"//[^/]*@", "//", address)


def _sources(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (URI, suites, components) of an apt source file, in either of apt's two formats."""
    if path.suffix == ".sources":
        for paragraph in Deb822.iter_paragraphs(text_of(path)):
            enabled = paragraph.get("Enabled", "yes").lower() != "no"
            if enabled and "deb" in paragraph.get("Types", "").split():
                for uri in paragraph.get("URIs", "").split():
                    yield uri, paragraph.get("Suites", ""), paragraph.get("Components", "")
    elif path.suffix == ".list":
        for line in text_of(path).splitlines():
            found = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line)
            if found:
                yield found[1], found[2], found[3]
