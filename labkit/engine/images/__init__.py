"""The catalogue: which images the course uses, and where each comes from.

An image is pulled where its registry answers; otherwise the recipe here makes a stand-in
from Debian packages and project code, labelled as such.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from labkit.errors import BuildError

__all__ = ["CATALOGUE", "Image", "archive", "compile_recipes"]

STAND_IN_LABEL = "labkit.stand-in"


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the course.

    Attributes
    ----------
    name
        Its name, with the tag.
    source
        The C source of its stand-in, in this package.
    program
        Path of the program in the image; it is the entry point.
    ports
        Ports that it exposes.
    """

    name: str
    source: str
    program: str
    ports: tuple[int, ...] = ()

    @property
    def changes(self) -> list[str]:
        """Dockerfile instructions that ``docker import`` applies to the stand-in."""
        exposed = [f"EXPOSE {port}" for port in self.ports]
        label = f'LABEL {STAND_IN_LABEL}="remplace {self.name}, écrit pour ce cours"'
        return [f'ENTRYPOINT ["{self.program}"]', label, *exposed]


CATALOGUE = (Image("traefik/whoami:latest", "whoami.c", "/whoami", (80,)),)


def compile_recipes(compiler: Path, target: Path) -> None:
    """Compile every stand-in to a static program with tcc and musl from an unpacked tree."""
    from labkit.engine.build import loader

    target.mkdir(parents=True)
    musl = compiler / "usr/lib/x86_64-linux-musl"
    tcc = compiler / "usr/lib/x86_64-linux-gnu/tcc"
    for image in CATALOGUE:
        source = str(files("labkit.engine.images").joinpath(image.source))
        output = target / Path(image.source).stem
        command = [
            *loader(compiler, "usr/bin/tcc"), f"-B{tcc}", "-nostdinc", "-nostdlib", "-static",
            f"-I{compiler / 'usr/include/x86_64-linux-musl'}", f"-I{tcc / 'include'}",
            "-o", str(output), str(musl / "crt1.o"), str(musl / "crti.o"), source,
            str(musl / "libc.a"), str(tcc / "libtcc1.a"), str(musl / "crtn.o"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"La compilation de {image.source} a échoué : {done.stderr[-500:]}")


def archive(image: Image, programs: Path) -> bytes:
    """Return the tar archive of a stand-in's files, for ``docker import``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        data = (programs / Path(image.source).stem).read_bytes()
        entry = tarfile.TarInfo(image.program.lstrip("/"))
        entry.size, entry.mode = len(data), 0o755
        tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
