"""Debian packages without Debian: trust a mirror's release, fetch and unpack.

Nothing of apt or dpkg is needed on this machine. The release file's OpenPGP signature is
verified against Debian's archive keys, the package list against the release file, and every
package against the package list.
"""

import lzma
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.resources import files
from pathlib import Path

import httpx
import pysequoia
from debian.deb822 import Deb822
from debian.debfile import DebFile

from labkit.engine.embedded.build.mirror import public
from labkit.errors import (
    BadChecksum,
    BadSignature,
    BuildError,
    DownloadFailed,
    NotInArchive,
    ReleaseExpired,
)
from labkit.files import digest_of

Progress = Callable[[int], None]
ATTEMPTS = 4  # without one more byte, before giving up
PAUSE = 0.5  # seconds before a second attempt, twice before a third…
PACKAGES = "main/binary-amd64/Packages"
RELEASE_MOST = 2_000_000  # bytes of a release file, ten times what Debian's has
RELEASE_SECONDS = 120.0  # for all of it
AHEAD = timedelta(days=1)  # a release from later than this comes to a clock that is late


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package of the archive."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    depends: str
    architecture: str = "amd64"


class Archive:
    """One suite of a mirror, verified from its signature down.

    The directory ``downloads`` keeps what is fetched, named by SHA-256, so that an interrupted
    download goes on where it stopped.
    """

    def __init__(
        self, mirror: str, suite: str, downloads: Path, keyring: bytes | None = None
    ) -> None:
        self.mirror = mirror
        self.suite = suite
        self.downloads = downloads
        self.keyring = keyring
        # Compressed on the way, a file could be neither resumed nor counted.
        headers = {"Accept-Encoding": "identity"}
        self._client = httpx.Client(
            timeout=httpx.Timeout(30, connect=10), follow_redirects=True, headers=headers
        )
        self._index: dict[str, str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def load(self) -> str:
        """Fetch and verify the release and its package list; return the release's date.

        Raises ``BadSignature`` when none of Debian's archive keys signed the release,
        ``BadChecksum`` when the package list is not the one that it names.
        """
        release = self.release()
        lines = (line.split() for line in release.get("SHA256", "").splitlines())
        listed = {fields[2]: (fields[0], int(fields[1])) for fields in lines if len(fields) == 3}
        try:
            (digest, size), (_, unpacked) = listed[f"{PACKAGES}.xz"], listed[PACKAGES]
        except KeyError:
            raise DownloadFailed(f"La suite {self.suite} n’a pas de liste {PACKAGES}.xz.") from None
        self.downloads.mkdir(parents=True, exist_ok=True)
        path = self._fetch(f"dists/{self.suite}/{PACKAGES}.xz", digest, size, lambda n: None)
        text = lzma.LZMADecompressor().decompress(path.read_bytes(), max_length=unpacked).decode()
        self._index = {p.split("\n", 1)[0][9:]: p for p in text.split("\n\n") if p}
        return str(release.get("Date", ""))

    def release(self, attempts: int = ATTEMPTS) -> Deb822:
        """Fetch the release file and return it once its signature is verified."""
        name = f"dists/{self.suite}/InRelease"
        release = Deb822(verify_release(self._get(name, attempts), self._shown(name), self.keyring))
        if self.suite not in (names := {release.get("Suite"), release.get("Codename")}):
            said = ", ".join(sorted(n for n in names if n))
            raise DownloadFailed(
                f"{self._shown(name)} n’est pas la suite {self.suite}, mais : {said}.",
                remedy="Changez de miroir (LABKIT_MIRROR) ou de suite (LABKIT_SUITE).",
            )
        self._check_dates(release, self._shown(name))
        return release

    def _check_dates(self, release: Deb822, shown: str) -> None:
        """Refuse a release that is not valid now: an old one would bring its old faults back."""
        now = datetime.now(UTC)
        end, begin = _date(release.get("Valid-Until")), _date(release.get("Date"))
        for at, refused, what in (
            (end, end and end < now, "n’est plus valable depuis le"),
            (begin, begin and begin > now + AHEAD, "est daté du"),
        ):
            if at and refused:
                raise ReleaseExpired(
                    f"{shown} {what} {at:%d/%m/%Y à %H:%M} (UTC) ; l’horloge de cette machine "
                    f"dit {now:%d/%m/%Y à %H:%M}.",
                    remedy="Rien n’a été construit. Si cette horloge est juste, le miroir est "
                    "resté en arrière ou rejoue une vieille version : changez-en (LABKIT_MIRROR). "
                    "Sinon, mettez-la à l’heure.",
                )

    @property
    def names(self) -> Iterable[str]:
        """The names of all packages of the suite."""
        return self._index.keys()

    def package(self, name: str) -> Package:
        """Return one package of the suite."""
        try:
            fields = Deb822(self._index[name])
        except KeyError:
            raise NotInArchive(
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
            architecture=fields.get("Architecture", "amd64"),
        )

    def closure(self, names: Iterable[str], follow: Callable[[str], object]) -> list[Package]:
        """Return the packages with those that they depend on, but those not to ``follow``."""
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

    def _shown(self, name: str) -> str:
        return f"{public(self.mirror)}/{name}"

    def _again(self, name: str, error: Exception, attempt: int, most: int) -> None:
        """Wait before one more attempt, longer, the more there were; raise after the last."""
        if attempt >= most or _is_final(error):
            raise self._failure(name, error) from error
        time.sleep(PAUSE * attempt)

    def _get(self, name: str, attempts: int) -> bytes:
        attempt = 0
        while True:
            try:
                return self._bounded(name)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                attempt += 1
                self._again(name, error, attempt, attempts)

    def _bounded(self, name: str) -> bytes:
        """Return a file of which nobody has told the size, if it is small and comes in time."""
        data, deadline = bytearray(), time.monotonic() + RELEASE_SECONDS
        with self._client.stream("GET", f"{self.mirror}/{name}") as answer:
            answer.raise_for_status()
            for block in answer.iter_raw():  # as it comes: what was asked for is not compressed
                data += block
                if len(data) > RELEASE_MOST or time.monotonic() > deadline:
                    raise DownloadFailed(
                        f"{self._shown(name)} ne finit pas : plus de {RELEASE_MOST // 1_000_000} "
                        f"Mo, ou de {RELEASE_SECONDS:.0f} s.",
                        remedy="Rien n’en a été utilisé. Changez de miroir (LABKIT_MIRROR).",
                    )
        return bytes(data)

    def _failure(self, name: str, error: Exception) -> DownloadFailed:
        kind = DownloadFailed
        if isinstance(error, httpx.HTTPStatusError):
            reason = f"réponse {error.response.status_code}"
            if error.response.status_code == 404 and name.endswith("/InRelease"):
                return DownloadFailed(
                    f"Il n’y a pas de suite « {self.suite} » à cette adresse : "
                    f"{self._shown(name)} (réponse 404).",
                    remedy="Vérifiez le miroir (LABKIT_MIRROR) et la suite (LABKIT_SUITE).",
                )
            if error.response.status_code in {404, 410}:
                kind = NotInArchive
        else:
            reason = str(error) or type(error).__name__
        return kind(
            f"Impossible de télécharger {self._shown(name)} ({reason}).",
            remedy="Vérifiez le réseau ou le miroir (LABKIT_MIRROR), puis relancez : ce qui est "
            "téléchargé est gardé.",
        )

    def _fetch(self, name: str, sha256: str, size: int, progress: Progress) -> Path:
        path = self.downloads / sha256
        if path.exists() and path.stat().st_size == size and digest_of(path) == sha256:
            progress(size)
            return path
        path.unlink(missing_ok=True)
        part = path.with_suffix(".part")
        kept = _size(part)  # what an earlier run left: it may be anything
        told = self._complete(name, part, size, 0, progress)
        if digest_of(part) != sha256 and kept:
            part.unlink()
            self._complete(name, part, size, told, progress)
        if digest_of(part) != sha256:
            part.unlink()
            raise BadChecksum(
                f"{name} n’a pas l’empreinte SHA-256 que la distribution annonce.",
                remedy="Rien n’en a été utilisé. Relancez, ou changez de miroir (LABKIT_MIRROR).",
            )
        part.replace(path)
        return path

    def _complete(self, name: str, part: Path, size: int, told: int, progress: Progress) -> int:
        """Fetch what lacks of a file, over as many connections as it takes.

        ``told`` is how many of its bytes ``progress`` knows of; returned as it is at the end.
        """

        def tell() -> None:
            nonlocal told
            progress(_size(part) - told)
            told = _size(part)

        attempt, most = 0, _size(part)
        while True:
            try:
                self._download(f"{self.mirror}/{name}", part, size, tell)
                return told
            except (httpx.HTTPError, httpx.InvalidURL, EOFError) as error:
                attempt = 0 if _size(part) > most else attempt + 1
                most = max(most, _size(part))
                self._again(name, error, attempt, ATTEMPTS)

    def _download(self, url: str, part: Path, size: int, tell: Callable[[], None]) -> None:
        have = _size(part)
        if have > size:
            part.unlink()
            have = 0
        tell()
        if have == size and part.exists():
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._client.stream("GET", url, headers=headers) as answer:
            resumed = answer.status_code == 206
            first, total = _extent(answer)
            if answer.status_code == 416 or (resumed and first != have):
                part.unlink(missing_ok=True)  # this server cannot resume: from the start, then
                raise EOFError("reprise refusée")
            answer.raise_for_status()
            if total not in (None, size):  # refuse before overwriting the partial file
                raise EOFError(f"{total} octets au lieu de {size}")
            with part.open("ab" if resumed else "wb") as out:
                for block in answer.iter_raw():  # as it comes: what was received is kept
                    out.write(block)
                    out.flush()
                    tell()
                    if out.tell() > size:
                        break  # more than was announced: the checksum will tell
        if _size(part) < size:
            raise EOFError("fichier tronqué")


def _date(text: str | None) -> datetime | None:
    """Return the moment that a field of a release tells; the beginning of time if unreadable."""
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).replace(tzinfo=UTC)  # Debian's are all in UTC
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _extent(answer: httpx.Response) -> tuple[int, int | None]:
    """Return (first byte, size of the whole file where it is said) of an answer."""
    if answer.status_code == 206:
        found = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if not found:
            return -1, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _is_final(error: Exception) -> bool:
    """Tell whether asking again would give the same answer."""
    if isinstance(error, httpx.HTTPStatusError):
        code = error.response.status_code
        return 400 <= code < 500 and code not in {408, 425, 429}
    return isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def verify_release(signed: bytes, name: str, keyring: bytes | None = None) -> str:
    """Return the text of an inline-signed release file, after checking who signed it.

    ``keyring`` are the OpenPGP certificates to trust, Debian's archive keys if not given; errors
    call the file by ``name``.
    """
    if not signed.lstrip().startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        raise BadSignature(
            f"{name} n’est pas un fichier signé : cette adresse n’est pas un miroir Debian, ou "
            "une page du réseau (un portail, un proxy) répond à sa place.",
            remedy="Rien n’a été construit. Vérifiez le réseau ou le miroir (LABKIT_MIRROR).",
        )
    if keyring is None:
        bundled = files("labkit.engine.embedded.build").joinpath("keys/debian-archive-keyring.gpg")
        keyring = bundled.read_bytes()
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


def unpack(deb: Path, target: Path, drop: Callable[[str], object] = lambda name: False) -> None:
    """Unpack a package's files under ``target``, but those whose path ``drop`` wants dropped."""
    with DebFile(filename=str(deb)) as package:
        tar = package.data.tgz()
        members = [m for m in tar.getmembers() if m.isdir() or not drop(m.name.removeprefix("./"))]
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
