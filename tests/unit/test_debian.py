"""Finding a mirror and trusting only what Debian signed."""

from pathlib import Path

import pysequoia
import pytest

from labkit.engine.debian import find_mirror, verify_release
from labkit.errors import BadSignature, MirrorNotFound

MIRROR = "http://mirror.example/debian"


def test_the_users_word_wins(tmp_path: Path) -> None:
    assert find_mirror("http://other.example/debian/", tmp_path) == "http://other.example/debian"


def test_deb822_sources(tmp_path: Path) -> None:
    directory = tmp_path / "etc/apt/sources.list.d"
    directory.mkdir(parents=True)
    (directory / "a.sources").write_text("Types: deb\nURIs: http://x.example/ubuntu\nSuites: y\n")
    (directory / "d.sources").write_text(
        f"# a comment\nTypes: deb\nURIs: {MIRROR}-security\nSuites: trixie-security\n\n"
        f"Types: deb\nURIs: {MIRROR}\nSuites: trixie trixie-updates\n"
    )
    assert find_mirror(root=tmp_path) == MIRROR


def test_one_line_sources(tmp_path: Path) -> None:
    (tmp_path / "etc/apt").mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(f"deb [arch=amd64] {MIRROR} trixie main\n")
    assert find_mirror(root=tmp_path) == MIRROR


def test_debootstraps_default(tmp_path: Path) -> None:
    scripts = tmp_path / "usr/share/debootstrap/scripts"
    scripts.mkdir(parents=True)
    (scripts / "sid").write_text(f"mirror_style release\ndefault_mirror {MIRROR}\n")
    assert find_mirror(root=tmp_path) == MIRROR


def test_no_mirror_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(MirrorNotFound, match="LABKIT_MIRROR"):
        find_mirror(root=tmp_path)


def test_a_release_signed_by_somebody_else_is_refused() -> None:
    stranger = pysequoia.Tsk.generate("Somebody <somebody@example.org>")
    signed = pysequoia.sign(
        stranger.signer(), b"Suite: trixie\n", mode=pysequoia.SignatureMode.CLEAR
    )
    with pytest.raises(BadSignature, match="InRelease"):
        verify_release(signed, "http://mirror.example/InRelease")


def test_an_unsigned_release_is_refused() -> None:
    with pytest.raises(BadSignature):
        verify_release(b"Suite: trixie\n", "InRelease")
