"""Finding a mirror and trusting only what Debian signed."""

import io
import tarfile
from pathlib import Path

import pysequoia
import pytest

from labkit.engine.embedded.build.debian import unpack, verify_release
from labkit.engine.embedded.build.mirror import find_mirror
from labkit.errors import BadSignature, BuildError, MirrorNotFound

MIRROR = "http://mirror.example/debian"


def test_the_users_word_wins(tmp_path: Path) -> None:
    assert find_mirror("http://other.example/debian/", tmp_path) == "http://other.example/debian"


def a_debian(root: Path) -> None:
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/os-release").write_text('NAME="Debian GNU/Linux"\nID=debian\n')


def test_deb822_sources(tmp_path: Path) -> None:
    a_debian(tmp_path)
    directory = tmp_path / "etc/apt/sources.list.d"
    (directory / "a.sources").write_text(
        "Types: deb\nURIs: http://x.example/ubuntu\nSuites: y\nComponents: main\n"
    )
    (directory / "d.sources").write_text(
        f"# a comment\nTypes: deb\nURIs: {MIRROR}-security\nSuites: trixie-security\n"
        "Components: main\n\n"
        "Types: deb-src\nURIs: http://source.example/debian\nSuites: trixie\nComponents: main\n\n"
        f"Types: deb\nURIs: {MIRROR}\nSuites: trixie trixie-updates\nComponents: main contrib\n"
    )
    assert find_mirror(root=tmp_path) == MIRROR


def test_one_line_sources(tmp_path: Path) -> None:
    a_debian(tmp_path)
    (tmp_path / "etc/apt/sources.list").write_text(
        "deb cdrom:[Debian 13]/ trixie main\ndeb file:/srv/debian trixie main\n"
        f" deb [arch=amd64] {MIRROR} trixie main\n"
    )
    assert find_mirror(root=tmp_path) == MIRROR


def test_another_publishers_debian_is_no_mirror(tmp_path: Path) -> None:
    a_debian(tmp_path)
    directory = tmp_path / "etc/apt/sources.list.d"
    (directory / "a.list").write_text("deb https://engines.example/linux/debian trixie stable\n")
    (directory / "b.list").write_text("deb https://other.example/debian stable main\n")
    (directory / "debian.sources").write_text(
        f"Types: deb\nURIs: {MIRROR}\nSuites: trixie\nComponents: main\n"
    )
    assert find_mirror(root=tmp_path) == MIRROR


def test_the_sources_of_another_distribution_are_left_alone(tmp_path: Path) -> None:
    a_debian(tmp_path)
    (tmp_path / "etc/os-release").write_text("ID=ubuntu\nID_LIKE=debian\n")
    (tmp_path / "etc/apt/sources.list").write_text("deb https://x.example/debian stable main\n")
    with pytest.raises(MirrorNotFound):
        find_mirror(root=tmp_path)


def test_sources_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    a_debian(tmp_path)
    (tmp_path / "etc/apt/sources.list").write_bytes(b"\xff\xfe\0")
    (tmp_path / "etc/apt/sources.list.d/x.list").mkdir()
    with pytest.raises(MirrorNotFound):
        find_mirror(root=tmp_path)


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


def package(path: Path, *entries: tarfile.TarInfo) -> Path:
    """Write a .deb with empty files, directories and links."""

    def tar(*members: tarfile.TarInfo) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as out:
            for member in members:
                out.addfile(member)
        return buffer.getvalue()

    out = b"!<arch>\n"
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": tar(), "data.tar.gz": tar(*entries)}
    for name, data in parts.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    path.write_bytes(out)
    return path


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, to: str = ""
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname = kind, mode, to
    member.uid = member.gid = 12345  # nobody here
    return member


def test_a_package_is_unpacked_as_ours(tmp_path: Path) -> None:
    target = tmp_path / "root"
    (target / "usr/bin").mkdir(parents=True)
    (target / "bin").symlink_to("usr/bin")  # a merged /usr stays one
    (target / "usr/bin/old").write_text("older")
    deb = package(
        tmp_path / "a.deb",
        entry("./", tarfile.DIRTYPE, 0o755),
        entry("./bin/", tarfile.DIRTYPE, 0o555),
        entry("./bin/old", mode=0o4777),
        entry("./bin/left-out"),
        entry("./bin/link", tarfile.SYMTYPE, to="old"),
    )
    unpack(deb, target, drop=lambda name: "left-out" in name)
    unpack(deb, target, drop=lambda name: "left-out" in name)  # over itself
    assert (target / "bin").is_symlink()
    assert sorted(p.name for p in (target / "usr/bin").iterdir()) == ["link", "old"]
    assert (target / "usr/bin/old").read_text() == ""
    assert (target / "usr/bin/old").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("name", ["../out", "./a/../../out", "/../out"])
def test_a_package_cannot_leave_its_directory(tmp_path: Path, name: str) -> None:
    target = tmp_path / "root"
    target.mkdir()
    with pytest.raises(BuildError):
        unpack(package(tmp_path / "a.deb", entry(name)), target)
    assert not (tmp_path / "out").exists()
