"""Debian packages without Debian: find a mirror, trust its release, fetch and unpack.

Nothing of apt or dpkg is needed on this machine. The release file's OpenPGP signature is
verified against Debian's archive keys, the package list against the release file, and every
package against the package list.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import httpx
import pysequoia
from debian.deb822 import Deb822
from debian.debfile import DebFile

from labkit.errors import (
    BadChecksum,
    BadSignature,
    BuildError,
    DiskFull,
    DownloadFailed,
    MirrorNotFound,
)

__all__ = ["Archive", "Package", "find_mirror", "unpack"]

Progress = Callable[[int], None]
ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package of the archive."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    depends: str


def find_mirror(wanted: str | None = None, root: Path = Path("/")) -> str:
    """Return the address of a Debian mirror.

    Parameters
    ----------
    wanted
        What the user asked for; wins over everything.
    root
        Root of the file system to look at.

    Raises
    ------
    MirrorNotFound
        When nothing on this machine names a Debian mirror.
    """
    if wanted:
        return wanted.rstrip("/")
    lists = [root / "etc/apt/sources.list"]
    lists += sorted((root / "etc/apt/sources.list.d").glob("*"))
    for source in lists:
        for uri, suite in _sources(source):
            if re.search(r"/debian/?$", uri) and "security" not in suite:
                return uri.rstrip("/")
    script = root / "usr/share/debootstrap/scripts/sid"
    if script.is_file():
        found = re.search(r"^\s*default_mirror\s+(\S+)", script.read_text(), re.MULTILINE)
        if found:
            return found[1].rstrip("/")
    raise MirrorNotFound(
        "Aucun miroir de paquets Debian n’est connu sur cette machine.",
        remedy="Indiquez-en un : LABKIT_MIRROR=http://…/debian ou « labkit build --mirror … ».",
    )


def _sources(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (URI, first suite) of an apt source file, in either of apt's two formats."""
    if path.suffix == ".sources" and path.is_file():
        for paragraph in Deb822.iter_paragraphs(path.read_text()):
            if paragraph.get("Enabled", "yes").lower() != "no":
                for uri in paragraph.get("URIs", "").split():
                    yield uri, paragraph.get("Suites", "")
    elif path.suffix == ".list" and path.is_file():
        for line in path.read_text().splitlines():
            found = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line)
            if found:
                yield found[1], found[2]


class Archive:
    """One suite of a mirror, verified from its signature down.

    Parameters
    ----------
    mirror
        Address of the mirror.
    suite
        Name of the suite.
    downloads
        Directory that keeps what is fetched, named by SHA-256, so that an interrupted
        download goes on where it stopped.
    """

    def __init__(self, mirror: str, suite: str, downloads: Path) -> None:
        self.mirror = mirror
        self.suite = suite
        self.downloads = downloads
        self._client = httpx.Client(timeout=30, follow_redirects=True)
        self._index: dict[str, str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def load(self) -> str:
        """Fetch and verify the release and its package list; return the release's date.

        Raises
        ------
        BadSignature
            When none of Debian's archive keys signed the release.
        BadChecksum
            When the package list is not the one that the release names.
        """
        self.downloads.mkdir(parents=True, exist_ok=True)
        name = f"dists/{self.suite}/InRelease"
        release = Deb822(verify_release(self._get(name), f"{self.mirror}/{name}"))
        packages = "main/binary-amd64/Packages.xz"
        for line in release["SHA256"].splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[2] == packages:
                digest, size = fields[0], int(fields[1])
                break
        else:
            raise DownloadFailed(f"La suite {self.suite} n’a pas de liste {packages}.")
        path = self._fetch(f"dists/{self.suite}/{packages}", digest, size, lambda n: None)
        text = lzma.decompress(path.read_bytes()).decode()
        self._index = {p.split("\n", 1)[0][9:]: p for p in text.split("\n\n") if p}
        return str(release["Date"])

    def package(self, name: str) -> Package:
        """Return one package of the suite."""
        try:
            fields = Deb822(self._index[name])
        except KeyError:
            raise DownloadFailed(
                f"Le paquet « {name} » n’existe pas dans la suite {self.suite}."
            ) from None
        depends = ", ".join(fields.get(k, "") for k in ("Pre-Depends", "Depends"))
        return Package(
            name=name,
            version=fields["Version"],
            filename=fields["Filename"],
            sha256=fields["SHA256"],
            size=int(fields["Size"]),
            depends=depends,
        )

    def closure(self, names: Iterable[str], follow: Callable[[str], bool]) -> list[Package]:
        """Return the packages with those that they depend on.

        Parameters
        ----------
        names
            The packages asked for.
        follow
            Says whether a dependency of this name is wanted; the others are left out.
        """
        found: dict[str, Package] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found[name] = package = self.package(name)
            for clause in package.depends.split(","):
                options = [re.split(r"[\s(:]", o.strip())[0] for o in clause.split("|")]
                known = [o for o in options if o in self._index]
                if known and follow(known[0]):
                    todo.append(known[0])
        return sorted(found.values(), key=lambda p: p.name)

    def fetch(self, package: Package, progress: Progress) -> Path:
        """Fetch a package, resuming what was interrupted; ``progress`` is given bytes."""
        return self._fetch(package.filename, package.sha256, package.size, progress)

    def _get(self, name: str) -> bytes:
        url = f"{self.mirror}/{name}"
        for attempt in range(ATTEMPTS):
            try:
                answer = self._client.get(url)
                answer.raise_for_status()
                return answer.content
            except httpx.HTTPError as error:
                problem = error
                time.sleep(attempt)
        raise DownloadFailed(
            f"Impossible de télécharger {url} ({problem}).",
            remedy="Vérifiez le réseau ou le miroir (LABKIT_MIRROR), puis relancez.",
        )

    def _fetch(self, name: str, sha256: str, size: int, progress: Progress) -> Path:
        path = self.downloads / sha256
        if path.exists() and path.stat().st_size == size and _digest(path) == sha256:
            progress(size)
            return path
        path.unlink(missing_ok=True)
        part = path.with_suffix(".part")
        url = f"{self.mirror}/{name}"
        for attempt in range(ATTEMPTS):
            try:
                self._download(url, part, size, progress)
                break
            except (httpx.HTTPError, EOFError) as error:
                if attempt == ATTEMPTS - 1:
                    raise DownloadFailed(
                        f"Impossible de télécharger {url} ({error}).",
                        remedy="Relancez : le téléchargement reprend où il s’est arrêté.",
                    ) from error
                time.sleep(attempt)
            except OSError as error:
                raise disk_full(self.downloads, size, error) from error
        if _digest(part) != sha256:
            part.unlink()
            raise BadChecksum(
                f"{name} n’a pas l’empreinte SHA-256 que la distribution annonce.",
                remedy="Rien n’en a été utilisé. Relancez, ou changez de miroir (LABKIT_MIRROR).",
            )
        part.replace(path)
        return path

    def _download(self, url: str, part: Path, size: int, progress: Progress) -> None:
        have = part.stat().st_size if part.exists() else 0
        if have > size:
            part.unlink()
            have = 0
        if have == size:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._client.stream("GET", url, headers=headers) as answer:
            answer.raise_for_status()
            resumed = answer.status_code == 206
            if resumed:
                progress(have)
            with part.open("ab" if resumed else "wb") as out:
                for block in answer.iter_bytes(1 << 16):
                    out.write(block)
                    progress(len(block))
        if part.stat().st_size < size:
            raise EOFError("fichier tronqué")


def verify_release(signed: bytes, name: str) -> str:
    """Return the text of an inline-signed release file after checking who signed it."""
    keyring = files("labkit.engine").joinpath("keys/debian-archive-keyring.gpg").read_bytes()
    certificates = pysequoia.Cert.split_bytes(keyring)
    try:
        verified = pysequoia.verify(signed, store=lambda ids: certificates)
    except Exception as error:  # pysequoia raises bare exceptions of its own making
        raise BadSignature(
            f"{name} n’est pas signé par une clé de l’archive Debian ({error}).",
            remedy="Rien n’a été construit. Changez de miroir (LABKIT_MIRROR).",
        ) from error
    if not verified.valid_sigs:
        raise BadSignature(f"{name} ne porte aucune signature valable.")
    return (verified.bytes or b"").decode()


def unpack(deb: Path, target: Path, keep: Callable[[str], bool] = lambda name: True) -> None:
    """Unpack a package's files under ``target``; ``keep`` is asked with each path."""
    with DebFile(filename=str(deb)) as package:
        tar = package.data.tgz()
        members = [m for m in tar.getmembers() if m.isdir() or keep(m.name.removeprefix("./"))]
        root = target.resolve()
        # Python 3.11.0 to 3.11.3 has no extraction filters: what they would do is done here.
        tar.extraction_filter = lambda member, path: member
        for member in members:
            member.uid, member.gid = os.getuid(), os.getgid()
            member.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o600)
            place = target / member.name.lstrip("/")
            if place == target:
                continue
            if not place.parent.resolve().is_relative_to(root):
                raise BuildError(f"Le paquet {deb.name} sort de son répertoire ({member.name}).")
            if not member.isdir() and (place.is_symlink() or place.is_file()):
                place.unlink()  # a package's file replaces one that is there
            tar.extract(member, target, numeric_owner=True)


def disk_full(where: Path, needed: int, error: OSError) -> DiskFull:
    """Describe an :class:`OSError` of a full disk with the room that is needed."""
    free = shutil.disk_usage(where).free
    return DiskFull(
        f"Écriture impossible dans {where} : {error.strerror} "
        f"({free / 1e6:.0f} Mo libres, {needed / 1e6:.0f} Mo nécessaires).",
        remedy="Faites de la place, « labkit build --prune », ou placez le cache ailleurs "
        "avec LABKIT_CACHE, puis relancez.",
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
