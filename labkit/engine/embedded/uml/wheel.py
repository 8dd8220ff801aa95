"""The kernel as a wheel: made where it was built, installed by others with pip."""

import json
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from labkit.engine.embedded.build.sealed import disk_error, sealed_files, verify
from labkit.engine.embedded.directories import writable
from labkit.engine.embedded.ownership import trusted, trusted_tree
from labkit.errors import BuildError, SettingError

NAME = "labkit-uml-kernel"
FOLDER = NAME.replace("-", "_")
TAG = "py3-none-manylinux_2_17_x86_64"  # linked statically, it would run with any libc
NEEDED = 10_000_000  # bytes of disk that it takes
LICENCES = (
    "COPYING", "LICENSES/preferred/GPL-2.0", "LICENSES/exceptions/Linux-syscall-note",
    "LICENSES/preferred/LGPL-2.1",
)  # fmt: skip
"""In the source: the kernel's licence, its exception, that of the libc that is linked into it."""
WHEEL = f"""\
Wheel-Version: 1.0
Generator: labkit
Root-Is-Purelib: false
Tag: {TAG}
"""
METADATA = f"""\
Metadata-Version: 2.4
Name: {NAME}
Version: {{version}}
Summary: Linux as an ordinary program (User-Mode Linux), from which labkit starts its machine
License-Expression: GPL-2.0-only WITH Linux-syscall-note AND LGPL-2.1-or-later
{{licences}}
Project-URL: Source, https://snapshot.debian.org/package/linux/{{debian}}/
Description-Content-Type: text/plain

Source: Debian's package {{source}}, version {{debian}}, which "labkit build --kernel" of labkit
{{labkit}} compiled as {FOLDER}/{{kernel}}/config says, without the lines
"select MAY_HAVE_RUNTIME_DEPS" of arch/um/drivers/Kconfig. It is linked with Debian's libc6-dev
{{libc}}. Debian keeps both for good at snapshot.debian.org, the latter in the source package glibc.
"""


def installed(name: str) -> tuple[Path | None, str]:
    """Return the directory of an installed kernel, or None and why it is not used, in French.

    A kernel whose directory has another ``name`` was made for another labkit.
    """
    try:
        package = distribution(NAME)
    except PackageNotFoundError:
        return None, ""
    directory = Path(str(package.locate_file(FOLDER))) / name
    said = f"le noyau du paquet {NAME} {package.version}"
    if not directory.exists():
        return None, f"{said} est celui d’une autre version de labkit"
    try:
        trusted(directory, "le noyau", "")
        trusted_tree(directory, sealed_files(directory), "le noyau", "")
    except SettingError as error:
        return None, error.message.rstrip(".")
    if not verify(directory):
        return None, f"{said} est abîmé"
    return directory, ""


def pack(kernel: Path, into: Path) -> Path:
    """Write the wheel of a kernel into a directory; return the file.

    Raises
    ------
    BuildError
        When the kernel came without its licence, from an older labkit, or the disk is full.
    SettingError
        When the directory cannot be written, or others could change what lies there.
    """
    from wheel.wheelfile import WheelFile

    from labkit import __version__

    texts = [Path(text).name for text in LICENCES]
    if not all((kernel / text).exists() for text in texts):
        raise BuildError(
            f"Le noyau {kernel} a été construit par un labkit plus ancien, qui n’a pas gardé sa "
            "licence : il ne peut pas être distribué.",
            remedy="Supprimez ce répertoire, puis relancez : il est construit de nouveau.",
        )
    facts = json.loads((kernel / "kernel.json").read_text())
    version = f"{facts['version'].partition('-')[0]}+{kernel.name.rpartition('-')[2]}"
    metadata = METADATA.format(
        version=version, kernel=kernel.name, debian=facts["version"], source=facts["source"],
        libc=facts["libc"], labkit=__version__,
        licences="\n".join(f"License-File: {text}" for text in texts),
    )  # fmt: skip
    writable(into, "--wheel", mode=0o755)
    try:
        with tempfile.TemporaryDirectory(dir=into) as work:
            made = Path(work) / f"{FOLDER}-{version}-{TAG}.whl"
            with WheelFile(made, "w") as wheel:
                for name in sealed_files(kernel):
                    wheel.write(str(kernel / name), f"{FOLDER}/{kernel.name}/{name}")
                for text in texts:
                    wheel.write(str(kernel / text), f"{wheel.dist_info_path}/licenses/{text}")
                wheel.writestr(f"{wheel.dist_info_path}/METADATA", metadata)
                wheel.writestr(f"{wheel.dist_info_path}/WHEEL", WHEEL)
            return made.replace(into / made.name)
    except OSError as error:
        raise disk_error(into, NEEDED, error, variable="--wheel") from error
