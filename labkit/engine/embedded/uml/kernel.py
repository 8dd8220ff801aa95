"""Build the kernel of User-Mode Linux from Debian's source package, with Debian's tools.

All that is needed is fetched and verified as the guest's packages are, unpacked by an ordinary
user and run from there; the kernel is linked statically, so that it runs on any host.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
from collections import deque
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

from labkit.engine.embedded.build.debian import Archive, Package, unpack
from labkit.engine.embedded.build.guest import loader, merged
from labkit.engine.embedded.build.mirror import find_mirror
from labkit.engine.embedded.build.sealed import atomic_directory, need_room, verify
from labkit.engine.embedded.build.shared_cache import find_directory
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.uml.wheel import LICENCES, installed
from labkit.engine.progress import Report
from labkit.errors import BuildError, NotInArchive

RECIPE = 1  # raise it when these functions make another kernel of the same fragment
SUITES = ("trixie-backports", "forky", "sid")
SOURCE = re.compile(r"linux-source-7\.\d+")
TOOLS = ("bc", "bison", "flex", "gcc", "libc6-dev", "m4", "make", "mawk", "xz-utils")
FOLLOW = re.compile(r"lib|gcc|cpp|binutils|linux-libc-dev|zlib1g")
# Of the source, what User-Mode Linux is not made of, but for what Kconfig and make read.
DROP = re.compile(
    r"(Documentation|rust|samples|sound|arch/(?!um/|x86/)[^/]+"
    r"|drivers/(gpu|media|staging|infiniband|scsi|usb|iio|crypto|accel|net/(ethernet|wireless))"
    r"|tools/(perf|testing|power|sched_ext|verification))/(.*/)?(?!Kconfig|Makefile|Kbuild)[^/]*$"
)
LINES = 1900  # that make prints, about: one for each file that it compiles
NEEDED = 2_500_000_000  # bytes of disk that a build takes at its largest


def kernel_directory(settings: Settings) -> Path:
    """Return where the kernel is: in a cache or an installed package; else, where to build it."""
    digest = hashlib.sha256(f"{RECIPE}\n{_fragment()}".encode()).hexdigest()
    found = find_directory(settings, f"kernel-{digest[:12]}")
    return found if verify(found) else installed(found.name)[0] or found


def kernel_version(directory: Path) -> str:
    """Return the version of a kernel that is built, such as ``7.2.12``."""
    facts = json.loads((directory / "kernel.json").read_text())
    return str(facts["version"]).partition("-")[0]


def _fragment() -> str:
    return (files("labkit.engine.embedded.uml") / "kernel.fragment").read_text("utf-8")


def build_kernel(settings: Settings, report: Report) -> Path:
    """Build the kernel unless it is there, whole; return its directory.

    It takes about a quarter of an hour of processor time. Call it under the lock of builds. Raises
    ``BuildError`` in one of its kinds; nothing half-made is left.
    """
    target = kernel_directory(settings)
    if verify(target):
        return target
    if re.search(r"[\s\"']", str(settings.cache)):
        raise BuildError(
            f"Un noyau ne se construit pas dans {settings.cache} : la compilation ne veut ni "
            "espace ni guillemet dans le nom d’un répertoire.",
            remedy="Choisissez un autre répertoire avec LABKIT_CACHE.",
        )
    need_room(settings.cache, NEEDED)
    with atomic_directory(target) as work:
        source, libc = _unpack(settings, work, report)
        (tree,) = (work / "source/usr/src").iterdir()
        _compile(tree, _tools(work / "tools"), report.step)
        shutil.move(tree / "linux", work / "linux")
        shutil.copy(tree / ".config", work / "config")
        for text in LICENCES:
            shutil.copy(tree / text, work)
        facts = {"version": source.version, "source": source.name, "libc": libc.version}
        (work / "kernel.json").write_text(json.dumps(facts, indent=1))
        for part in ("source", "tools"):
            shutil.rmtree(work / part)
    return target


def _unpack(settings: Settings, work: Path, report: Report) -> tuple[Package, Package]:
    """Fetch and unpack the tools and the kernel's source; return the latter and the libc."""
    mirror, downloads = find_mirror(settings.mirror), settings.cache / "downloads"
    report.step("Lecture des distributions Debian (signature vérifiée), pour un noyau plus rapide")
    archive = Archive(mirror, settings.suite, downloads)
    try:
        archive.load()
        wanted = [(archive, p) for p in archive.closure(TOOLS, FOLLOW.match)]
        libc = archive.package("libc6-dev")
        newer, source = _source(mirror, downloads)
        wanted.append((newer, source))
        total, done = sum(p.size for _, p in wanted), 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            report.bytes(done, total)

        paths = [(of.fetch(package, count), package) for of, package in wanted]
    finally:
        archive.close()
        newer.close()
    report.step("Déballage des sources du noyau")
    merged(work / "tools")
    for path, package in paths:
        unpack(path, work / ("source" if package is source else "tools"))
    (packed,) = (work / "source/usr/src").glob("*.tar.xz")
    with tarfile.open(packed) as tar:
        tar.extraction_filter = lambda member, path: member  # the archive's signature covers it
        needed = (m for m in tar if not DROP.match(m.name.partition("/")[2]))
        tar.extractall(packed.parent, members=needed)
    packed.unlink()
    for other in (work / "source/usr/src").iterdir():
        if not other.is_dir():
            other.unlink()
    return source, libc


def _source(mirror: str, downloads: Path) -> tuple[Archive, Package]:
    """Return the newest source that a suite has, and that suite's archive: versions come and go."""
    failure: BuildError = NotInArchive("Aucune suite Debian n’a les sources d’un noyau 7.")
    for suite in SUITES:
        archive = Archive(mirror, suite, downloads)
        try:
            archive.load()
            names = sorted(filter(SOURCE.fullmatch, archive.names))
            if names:
                return archive, archive.package(names[0])
        except BuildError as error:
            failure = error
        archive.close()
    raise failure


def _tools(tree: Path) -> dict[str, str]:
    """Make unpacked programs start with their own libc; return the environment to use them in.

    A compiler starts others by their paths: in the place of each is a script that starts it.
    """
    for folder in ("bin", "libexec"):
        for path in sorted((tree / "usr" / folder).rglob("*")):
            if path.is_symlink() or not path.is_file() or not os.access(path, os.X_OK):
                continue
            if path.read_bytes()[:4] == b"\x7fELF" and ".so" not in path.name:
                program = path.rename(path.with_name(f"{path.name}.program"))
                libc, *options, _ = loader(tree, "")
                start = [libc, *options, "--argv0"]
                path.write_text(f'#!/bin/sh\nexec {shlex.join(start)} "$0" {program} "$@"\n')
                path.chmod(0o755)
    return {
        "PATH": f"{tree / 'usr/bin'}:{os.defpath}",
        "M4": str(tree / "usr/bin/m4"),
        "BISON_PKGDATADIR": str(tree / "usr/share/bison"),
        "LC_ALL": "C",
        "ARCH": "um",
        "KBUILD_BUILD_USER": "labkit",
        "KBUILD_BUILD_HOST": "labkit",
    }


def _compile(source: Path, environment: dict[str, str], step: Callable[[str], None]) -> None:
    """Configure and compile, on every processor, giving way to all else."""
    tree = Path(environment["M4"]).parent.parent.parent
    compiler = f"{tree / 'usr/bin/gcc'} --sysroot={tree}"
    make = [
        "make", f"CC={compiler}", f"HOSTCC={compiler}", "HOSTLDFLAGS=-static",
        f"-j{len(os.sched_getaffinity(0))}",
    ]  # fmt: skip
    (source / "fragment").write_text(_fragment())
    # The network's transports that look names up would not work in a static program; none of
    # them is used here.
    options = source / "arch/um/drivers/Kconfig"
    options.write_text(options.read_text().replace("\tselect MAY_HAVE_RUNTIME_DEPS\n", ""))
    script = source / "scripts/kconfig/merge_config.sh"
    for command in (
        [*make, "x86_64_defconfig"],
        ["sh", str(script), "-m", ".config", "fragment"],
        [*make, "olddefconfig"],
    ):
        _run(command, source, environment)
    told = 0
    for done, _ in enumerate(_lines([*make, "linux"], source, environment)):
        if (share := min(95, 100 * done // LINES // 5 * 5)) > told:
            told = share
            step(f"Compilation du noyau : {share} %")
    _run([str(tree / "usr/bin/strip"), "linux"], source, environment)


def _run(command: list[str], source: Path, environment: dict[str, str]) -> None:
    """Run a command to its end."""
    for _ in _lines(command, source, environment):
        pass


def _lines(command: list[str], source: Path, environment: dict[str, str]) -> Iterator[str]:
    """Yield what a command prints, as it does; raise ``BuildError`` with the end if it fails."""
    with subprocess.Popen(
        ["nice", *command], cwd=source, env=environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        last: deque[str] = deque(maxlen=8)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(line)
                yield line
        finally:
            if process.poll() is None and process.stdout.readable():
                process.terminate()
    if process.returncode:
        said = "".join(last).strip()[-600:]
        raise BuildError(f"La compilation du noyau a échoué : {said}")
