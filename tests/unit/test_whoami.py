"""The stand-in for traefik/whoami, compiled here and driven over real sockets.

``WHOAMI_BINARY`` names a binary to test instead, such as the one that labkit builds with tcc.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import free_port

SOURCE = Path(__file__).parents[2] / "labkit/engine/embedded/images/whoami.c"
HOST = b"Host: x\r\n"


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if named := os.environ.get("WHOAMI_BINARY"):
        return Path(named)
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler on this machine")
    out = tmp_path_factory.mktemp("whoami") / "whoami"
    warnings = ["-std=c99", "-g", "-O1", "-Wall", "-Wextra"]
    checked = [cc, *warnings, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if subprocess.run([*checked, "-o", out, SOURCE], capture_output=True).returncode == 0:
        return out
    built = subprocess.run([cc, *warnings, "-o", out, SOURCE], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return out


@contextmanager
def running(binary: Path, *args: str, **env: str) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        [binary, "-port", str(port), *args],
        env={"HOME": "/nowhere", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(port)
        yield port
        assert process.poll() is None, "whoami ended by itself"
    finally:
        process.terminate()
        _, err = process.communicate(timeout=10)
    assert b"ERROR: AddressSanitizer" not in err and b"runtime error" not in err, err.decode()
    assert process.returncode == 2, err.decode()


def wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


@pytest.fixture(scope="module")
def port(binary: Path) -> Iterator[int]:
    with running(binary) as port:
        yield port


def raw(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes, return all that comes until the server closes or is silent for 0.3 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.3) as s:
        s.sendall(data)
        if half_close:
            s.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := s.recv(65536):
                answer += chunk
        except TimeoutError:
            pass
        return answer


def get(port: int, path: str, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        c.request(method, path, body)
        answer = c.getresponse()
        return answer.status, answer.read().decode()
    finally:
        c.close()


def alive(port: int) -> None:
    assert get(port, "/health") == (200, "")


# -- what it says ---------------------------------------------------------------------------


def test_text_comes_in_the_order_of_the_original(binary: Path) -> None:
    request = (
        b"GET /some?q=1 HTTP/1.1\r\nhost: vote.example:8080\r\nx-b: 2\r\nACCEPT: */*\r\n"
        b"user-agent: curl/8\r\nX-A: 1\r\nx-b: 3\r\nConnection: close\r\n\r\n"
    )
    with running(binary, "-name", "moi") as port:
        head, body = raw(port, request).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain; charset=utf-8" in head
    assert f"Content-Length: {len(body)}".encode() in head
    text = body.decode()
    assert re.fullmatch(
        r"Name: moi\nHostname: (?P<host>[^\n]+)\n(IP: [0-9a-f.:]+\n)+"
        r"RemoteAddr: 127\.0\.0\.1:\d+\n"
        r"GET /some\?q=1 HTTP/1\.1\r\nHost: vote\.example:8080\r\nUser-Agent: curl/8\r\n"
        r"Accept: \*/\*\r\nConnection: close\r\nX-A: 1\r\nX-B: 2\r\nX-B: 3\r\n\r\n",
        text,
    ), text
    assert f"Hostname: {socket.gethostname()}\n" in text
    assert "IP: 127.0.0.1\n" in text


def test_name_from_the_environment(binary: Path) -> None:
    with running(binary, WHOAMI_NAME="é&<") as port:
        assert get(port, "/")[1].startswith("Name: é&<\n")
        assert json.loads(get(port, "/api")[1])["name"].endswith("&<")


def test_api(port: int) -> None:
    answer = raw(
        port,
        b'GET /api?a=%41 HTTP/1.1\r\nHost: h\r\nX-Q: "\\\t\xff\r\nx-q: <&>\r\n'
        b"Connection: close\r\n\r\n",
    )
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"\r\nContent-Type: application/json\r\n" in head
    assert head.count(b"Content-Type") == 1
    data = json.loads(body)
    assert list(data) == ["hostname", "ip", "headers", "url", "host", "method", "remoteAddr"]
    assert data["hostname"] == socket.gethostname()
    assert "127.0.0.1" in data["ip"]
    assert data["headers"] == {"Connection": ["close"], "X-Q": ['"\\\t\xff', "<&>"]}
    assert (data["url"], data["host"], data["method"]) == ("/api?a=%41", "h", "GET")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", data["remoteAddr"])
    assert body.endswith(b"}\n")


def test_health_is_kept(binary: Path) -> None:
    with running(binary) as port:
        assert get(port, "/health") == (200, "")
        assert get(port, "/health", "POST", "503") == (200, "")
        assert get(port, "/health") == (503, "")
        assert get(port, "/health", "POST", "bad")[0] == 400
        assert get(port, "/health", "POST", "20000")[0] == 400
        assert get(port, "/health", "POST", "99")[0] == 400
        assert get(port, "/health") == (503, "")
        assert get(port, "/health", "POST", " 204\n") == (200, "")
        assert get(port, "/health") == (204, "")
        assert get(port, "/")[0] == 200


def test_head_has_no_body(port: int) -> None:
    for path in (b"/", b"/api"):
        answer = raw(port, b"HEAD " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
        assert answer.endswith(b"\r\n\r\n") and answer.count(b"\r\n\r\n") == 1
        assert re.search(rb"Content-Length: [1-9]", answer)


def test_both_families(port: int) -> None:
    try:
        s = socket.create_connection(("::1", port), timeout=2)
    except OSError:
        pytest.skip("no IPv6 here")
    with s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert re.search(rb"RemoteAddr: \[::1\]:\d+\n", s.recv(65536))


def test_slow_clients_hold_up_nobody(port: int) -> None:
    slow = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(20)]
    try:
        for byte in b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n":
            for s in slow:
                s.sendall(bytes([byte]))
            alive(port)
        for s in slow:
            assert s.recv(4096).startswith(b"HTTP/1.1 200 OK")
    finally:
        for s in slow:
            s.close()


# -- connections ----------------------------------------------------------------------------


def test_keep_alive(port: int) -> None:
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    c.connect()
    address = c.sock.getsockname()
    for path in ("/", "/api", "/health", "/metrics"):
        c.request("GET", path)
        assert c.getresponse().read() is not None
        assert c.sock.getsockname() == address
    c.close()


def test_close(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: x, Close\r\n\r\n")
        answer = b"".join(iter(lambda: s.recv(4096), b""))
    assert b"\r\nConnection: close\r\n" in answer


def test_http_1_0(port: int) -> None:
    answer = raw(port, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n\r\n" in answer  # the server's
    assert b"GET / HTTP/1.1\r\nHost: \r\n" in answer
    twice = raw(port, b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
    assert twice.count(b"Connection: keep-alive\r\n\r\n") == 2


def test_pipelining(port: int) -> None:
    one = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
    assert raw(port, one * 200).count(b"HTTP/1.1 200 OK\r\n") == 200
    mixed = one + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + one
    answer = raw(port, mixed, half_close=True)
    assert answer.index(b"Length: 0") < answer.index(b"RemoteAddr") < answer.rindex(b"Length: 0")


def test_an_answer_that_nobody_reads_holds_up_nobody(port: int) -> None:
    body = b"POST / HTTP/1.1\r\nContent-Length: 200000\r\n" + HOST + b"\r\n" + b"z" * 200_000
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as s:
        with contextlib.suppress(TimeoutError):
            for _ in range(200):
                s.sendall(body)
        alive(port)
        assert s.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_nothing_after_close_is_answered(port: int) -> None:
    closing = b"GET /health HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    assert raw(port, closing * 3).count(b"HTTP/1.1 200") == 1


def test_bare_line_feeds_and_blank_lines_before(port: int) -> None:
    assert b" 200 OK" in raw(port, b"\r\n\r\nGET /health HTTP/1.1\nHost: x\n\n")


def test_bodies(port: int) -> None:
    plain = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n" + HOST + b"\r\nhello"
    tail = b"Content-Length: 5\r\n\r\nhello"
    assert raw(port, plain).endswith(tail)
    assert raw(port, plain * 2).count(tail) == 2


# -- what it refuses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/x\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET nowhere HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /a\x01 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Colonless\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b": empty\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Key : v\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 500 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_refusals(port: int, request_: bytes, status: int) -> None:
    answer = raw(port, request_)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert b"\r\nConnection: close\r\n" in answer
    alive(port)


def test_large_but_allowed(port: int) -> None:
    answer = raw(port, b"GET /api HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 60_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and b"b" * 60_000 in answer
    body = b"z" * 200_000
    head = b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 200000\r\n" + HOST + b"\r\n"
    assert raw(port, head + body).endswith(body)
    alive(port)


def test_random_bytes(port: int) -> None:
    chance = random.Random(5)
    pieces = [
        *(b"GET / HTTP/1.1\r\n", b"POST /health HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n"),
        *(HOST, b"\r\n", b"\r\n\r\n", b"\n", b":", b" ", b"\x00", b"%", b"?a=1", b"/api"),
        *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        *(b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"\xff\xfe", b"A: " + b"x" * 3000),
    ]
    for round_ in range(400):
        data = bytearray(b"".join(chance.choice(pieces) for _ in range(chance.randrange(1, 12))))
        for _ in range(chance.randrange(4) if data else 0):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with socket.create_connection(("127.0.0.1", port), timeout=0.02) as s:
            try:
                for at in range(0, len(data), step := chance.choice([7, 100, 100_000])):
                    s.sendall(data[at : at + step])
                s.recv(65536)
            except OSError:
                pass
        if round_ % 50 == 0:
            alive(port)
    alive(port)


def test_many_connections(port: int) -> None:
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(400)]
    try:
        for s in sockets:
            s.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        for s in sockets:
            assert s.recv(4096).startswith(b"HTTP/1.1 200 OK")
    finally:
        for s in sockets:
            s.close()


def test_out_of_descriptors(binary: Path) -> None:
    if "WHOAMI_BINARY" not in os.environ and shutil.which("prlimit") is None:
        pytest.skip("no prlimit")
    port = free_port()
    process = subprocess.Popen(
        ["prlimit", "--nofile=20:20", binary, "-port", str(port)], stderr=subprocess.DEVNULL
    )
    sockets = []
    try:
        wait_for(port)
        sockets = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(40)]
        time.sleep(0.2)
        before = cpu_seconds(process.pid)
        time.sleep(0.5)
        assert cpu_seconds(process.pid) - before < 0.3, "it spins"
        for s in sockets:
            s.close()
        alive(port)
    finally:
        for s in sockets:
            s.close()
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- starting and ending --------------------------------------------------------------------


def run(binary: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary, *args], env=env, capture_output=True, text=True, timeout=5)


def test_bad_settings(binary: Path, port: int) -> None:
    taken = run(binary, "-port", str(port))
    assert taken.returncode == 1 and "in use" in taken.stderr
    assert run(binary, "--port", "http").returncode == 1
    assert run(binary, WHOAMI_PORT_NUMBER="65536").returncode == 1
    assert run(binary, "-cert", "x").returncode == 2
    assert run(binary, "-nope").returncode == 2


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_as_process_1(binary: Path, sign: signal.Signals) -> None:
    unshare = shutil.which("unshare")
    namespaces = ["--user", "--map-root-user", "--pid", "--fork"]
    if (
        not unshare
        or subprocess.run([unshare, *namespaces, "true"], capture_output=True).returncode
    ):
        pytest.skip("no PID namespace for this user")
    port = free_port()
    outer = subprocess.Popen(
        [unshare, *namespaces, binary, "-port", str(port)], stderr=subprocess.DEVNULL
    )
    wait_for(port)
    with socket.create_connection(("127.0.0.1", port)):
        inner = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        start = time.monotonic()
        os.kill(int(inner[0]), sign)
        assert outer.wait(timeout=5) == 2
    assert time.monotonic() - start < 2.5


def test_starts_fast(binary: Path) -> None:
    def ready() -> float:
        port = free_port()
        start = time.monotonic()
        process = subprocess.Popen([binary, "-port", str(port)], stderr=subprocess.DEVNULL)
        wait_for(port)
        took = time.monotonic() - start
        process.kill()
        process.wait()
        return took

    assert min(ready() for _ in range(3)) < 2.5
