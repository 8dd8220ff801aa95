"""Caches: what another account could have put there is not run."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import Account

from labkit.engine.embedded.ownership import trusted
from labkit.errors import SettingError

# What a start does with a cache: find the guest, and the programs that it brings.
PLANT = """
import os
from pathlib import Path
os.environ["LABKIT_CACHE"] = CACHE
from labkit.engine.embedded.build.guest import guest_of
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.build.sealed import atomic_directory
os.umask(0o022)
target = guest_of(Settings.read()).directory
target.parent.mkdir(parents=True, exist_ok=True)
with atomic_directory(target) as work:
    (work / "cli").mkdir()
    program = "#!/bin/sh\\nid >>%s\\necho Docker version 26.1.5, build x\\n"
    (work / "cli/docker").write_text(program % RAN)
    (work / "cli/docker").chmod(0o755)
"""


def plant(by: Account, cache: Path, ran: Path) -> None:
    code = f"CACHE, RAN = {str(cache)!r}, {str(ran)!r}\n{PLANT}"
    done = by.python(code)
    assert not done.returncode, done.stdout


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in which everybody may make things, as ``/tmp`` is."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("variable", ["LABKIT_SHARED_CACHE", "LABKIT_CACHE"])
def test_a_cache_of_another_account_is_not_used(
    student: Account, neighbour: Account, place: Path, variable: str
) -> None:
    cache = place / "cache"
    ran = place / "ran"
    plant(neighbour, cache, ran)
    for command in (["up"], ["env"], ["build"], ["doctor"]):
        done = student.run(
            sys.executable, "-P", "-m", "labkit", *command,
            env={variable: str(cache), "LABKIT_MIRROR": "http://127.0.0.1:9/debian"},
        )  # fmt: skip
        assert done.returncode, done.stdout
        assert "Traceback" not in done.stdout
        if command != ["env"]:  # no cluster runs: that is said first
            assert f"{cache} appartient à {neighbour.name}" in done.stdout
    assert not ran.exists(), ran.read_text()


def test_nor_one_whose_parents_or_files_are_another_accounts(
    student: Account, neighbour: Account, place: Path
) -> None:
    """The student's own cache: below a neighbour's directory, with a file open to all, linked."""
    ran = place / "ran"
    below = place / "theirs"
    neighbour.run("mkdir", "-m", "0777", below)
    plant(student, below / "cache", ran)
    mixed = place / "mixed"
    plant(student, mixed, ran)
    (docker,) = mixed.glob("guest-*/cli/docker")
    student.run("chmod", "0777", docker)
    linked = place / "linked"
    neighbour.run("ln", "-s", mixed, linked)
    look = (
        "from labkit.engine.embedded.settings import Settings as S\n"
        "from labkit.engine.embedded.build.shared_cache import find_guest as f\n"
        "from labkit.errors import SettingError as E\ntry: print(f(S.read()))\n"
        "except E as e: print('refused', e.message)"
    )
    for cache, why in (
        (below / "cache", f"{below} appartient à {neighbour.name}"),
        (mixed, f"écrire dans {docker}"),
        (linked, f"{linked} appartient à {neighbour.name}"),
    ):
        said = student.python(look, env={"LABKIT_CACHE": str(cache)}).stdout
        assert said.startswith("refused"), said
        assert why in said
    student.run("chmod", "0755", docker)
    memory = mixed / "kvm-probe"  # planted while the cache was open to all
    student.run("chmod", "0777", mixed)
    neighbour.run("ln", "-s", student.home / "precious", memory)
    student.run("chmod", "0755", mixed)
    said = student.python(look, env={"LABKIT_CACHE": str(mixed)}).stdout
    assert f"{memory} appartient à {neighbour.name}" in said
    memory.unlink()
    assert "refused" not in student.python(look, env={"LABKIT_CACHE": str(mixed)}).stdout


def test_a_group_counts_by_who_is_in_it(student: Account, neighbour: Account) -> None:
    """Homes are often their own group's; that of a class is not one's own."""
    own = student.home / "own"
    student.run("mkdir", "-m", "0775", own)
    look = (
        "import sys, pathlib\nfrom labkit.engine.embedded.ownership import ours\n"
        f"print(ours(pathlib.Path({str(own)!r})))"
    )
    assert student.python(look).stdout == "True\n"
    subprocess.run(["gpasswd", "-a", neighbour.name, student.name], check=True)
    assert student.python(look).stdout == "False\n"


def test_root_trusts_its_own(tmp_path: Path) -> None:
    trusted(tmp_path / "not" / "there", "Le cache", "")
    tmp_path.chmod(0o1777)
    trusted(tmp_path / "cache", "Le cache", "")
    with pytest.raises(SettingError, match="peuvent écrire"):
        trusted(tmp_path, "Le cache", "")
