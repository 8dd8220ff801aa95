"""Make the images: trees of files to layers, layers to images in a registry's storage.

A real registry is filled through its own interface, on a UNIX socket that nobody else can reach;
its storage then goes onto the machine's disk, where the same registry serves it.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

import httpx

from labkit.engine.embedded.images.model import Files, Image, Layer
from labkit.errors import BuildError
from labkit.polling import until

STAND_IN_LABEL = "labkit.stand-in"
STAND_INS = "stand-in"  # first part of their repositories
CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
REGISTRY_SECONDS = 20.0
MERGED = {"bin", "sbin", "lib", "lib64"}


@dataclass(frozen=True, slots=True)
class _Blob:
    """A layer, packed."""

    path: Path
    digest: str
    diff_id: str


def compile_whoami(compiler: Path, loader: Sequence[str], output: Path) -> None:
    """Compile the stand-in of whoami to a static program, with tcc and musl of a tree."""
    musl = compiler / "usr/lib/x86_64-linux-musl"
    tcc = compiler / "usr/lib/x86_64-linux-gnu/tcc"
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *loader, f"-B{tcc}", "-nostdinc", "-nostdlib", "-static",
        f"-I{compiler / 'usr/include/x86_64-linux-musl'}", f"-I{tcc / 'include'}",
        "-o", str(output), str(musl / "crt1.o"), str(musl / "crti.o"),
        str(files("labkit.engine.embedded.images").joinpath("whoami.c")),
        str(musl / "libc.a"), str(tcc / "libtcc1.a"), str(musl / "crtn.o"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"La compilation de whoami.c a échoué : {done.stderr[-500:]}")
    output.chmod(0o755)


def compile_modules(tree: Path, directories: Sequence[str], loader: Sequence[str]) -> None:
    """Compile Python modules of a tree with the tree's own Python: it starts faster so."""
    done = subprocess.run(
        [*loader, "-S", "-m", "compileall", "-q", "--invalidation-mode",
         "unchecked-hash", "-s", tree, "-p", "/", *(tree / d for d in directories)],
        capture_output=True, text=True, env={**os.environ, "PYTHONHOME": str(tree / "usr")},
    )  # fmt: skip
    if done.returncode:
        raise BuildError(
            f"La compilation des modules Python a échoué : {(done.stdout + done.stderr)[-500:]}"
        )


def installed(packages: Iterable[tuple[str, str, str]]) -> str:
    """Return dpkg's list of what is installed: (name, version, architecture) of each.

    Without their dependencies: some are left out of the image on purpose.
    """
    return "".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\n"
        f"Version: {version}\nDescription: {name}\n\n"
        for name, version, architecture in packages
    )


def repository(image: Image) -> tuple[str, str]:
    """Return the repository of the registry in which an image is made, and its tag.

    The registry is the engines' mirror of Docker Hub, so that a name without a registry finds
    its image there. Those that Docker Hub may have lie aside, not to hide the real ones.
    """
    path, _, tag = image.name.partition(":")
    path = path if "/" in path else f"library/{path}"
    return (f"{STAND_INS}/{path}" if image.origin == "hub" else path), tag


def fill_registry(
    server: Sequence[str],
    storage: Path,
    layers: Mapping[str, tuple[Layer, Path]],
    images: Iterable[Image],
    epoch: int,
) -> None:
    """Put images into ``storage``, the directory of a registry, which ``server`` starts.

    ``layers`` are, by name, a layer and the tree of its files; ``epoch`` is the date of the images,
    in seconds: the same inputs give the same digests. Raises ``BuildError`` when the registry does
    not start or refuses.
    """
    with tempfile.TemporaryDirectory(prefix="labkit-") as directory:
        work = Path(directory)
        blobs = {
            name: _pack(work / name, _entries(layer.files, epoch, layer, tree))
            for name, (layer, tree) in layers.items()
        }
        try:
            with _registry(server, storage, work) as client:
                for image in images:
                    parts = [blobs[n] for n in image.layers]
                    if image.files:
                        parts.append(_pack(work / "own", _entries(image.files, epoch)))
                    _push(client, image, parts, epoch)
        except httpx.HTTPError as error:
            raise BuildError(f"Le registre a refusé une image : {error}") from error


@contextmanager
def _registry(server: Sequence[str], storage: Path, work: Path) -> Iterator[httpx.Client]:
    """Run a registry on a UNIX socket while its images are pushed."""
    socket, log = work / "socket", work / "log"
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"net": "unix", "addr": str(socket), "relativeurls": True},
    }
    (work / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*server, "serve", str(work / "config.yml")],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        begun = lambda: socket.exists() or process.poll() is not None  # noqa: E731
        until(begun, bool, REGISTRY_SECONDS, 0.02)
        if not socket.exists():
            tail = log.read_text(errors="replace")[-300:]
            raise BuildError(f"Le registre n’a pas démarré : {tail}")
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://registry", timeout=60
        ) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def _push(client: httpx.Client, image: Image, parts: Sequence[_Blob], epoch: int) -> None:
    name, tag = repository(image)
    config = dict(image.config)
    if image.origin != "course":
        config["Labels"] = {STAND_IN_LABEL: f"remplace {image.name}, construite pour ce cours"}
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    described = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": date,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [p.diff_id for p in parts]},
            "history": [{"created": date, "created_by": "labkit build"} for _ in parts],
        }
    ).encode()
    for part in parts:
        _upload(client, name, part.digest, part.path.read_bytes())
    _upload(client, name, _sha256(described), described)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(described), "digest": _sha256(described)},
        "layers": [
            {"mediaType": LAYER, "size": p.path.stat().st_size, "digest": p.digest} for p in parts
        ],
    }
    client.put(
        f"/v2/{name}/manifests/{tag}", json=manifest, headers={"Content-Type": MANIFEST}
    ).raise_for_status()


def _upload(client: httpx.Client, name: str, digest: str, data: bytes) -> None:
    if client.head(f"/v2/{name}/blobs/{digest}").is_success:
        return
    begun = client.post(f"/v2/{name}/blobs/uploads/").raise_for_status()
    place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
    headers = {"Content-Type": "application/octet-stream"}
    client.put(place, content=data, headers=headers).raise_for_status()


def _pack(path: Path, entries: Iterable[tuple[tarfile.TarInfo, bytes | None]]) -> _Blob:
    """Write a layer's tar archive, compressed, and tell its digests."""
    raw = hashlib.sha256()

    class Both:
        def write(self, data: bytes) -> int:
            raw.update(data)
            return packed.write(data)

    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 4, file, mtime=0) as packed,
        tarfile.open(fileobj=Both(), mode="w|") as tar,  # type: ignore[call-overload]
    ):
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content) if content is not None else None)
    return _Blob(path, _sha256(path.read_bytes()), f"sha256:{raw.hexdigest()}")


def _entries(
    own: Files, epoch: int, layer: Layer | None = None, tree: Path | None = None
) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Return the entries of a layer in the order of their names, owned by root."""
    links = layer.links if layer else {}
    names = {*own, *links}
    if tree:
        names |= {str(path.relative_to(tree)) for path in tree.rglob("*")}
    names |= {str(parent) for name in names for parent in PurePosixPath(name).parents}
    names -= {"."} | (MERGED if layer and layer.below else set())
    for name in sorted(names):
        content = own.get(name)
        place = tree / name if tree and content is None else content
        entry = tarfile.TarInfo(name)
        entry.mtime = epoch
        data = None
        if name in links or (isinstance(place, Path) and place.is_symlink()):
            entry.type = tarfile.SYMTYPE
            entry.linkname = links.get(name) or str(Path(place).readlink())  # type: ignore[arg-type]
        elif isinstance(place, str):
            data = place.encode()
            entry.mode = 0o755 if place.startswith("#!") else 0o644
        elif isinstance(place, Path) and place.is_file():
            data = place.read_bytes()
            entry.mode = place.stat().st_mode & 0o755
        else:
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if name in {"tmp", "var/tmp"} else 0o755
        entry.size = len(data or b"")
        yield entry, data


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
