"""What a student tries against a neighbour; runs in the attacker's own kernel.

``TARGET`` is put before this file by the test: what the neighbour has, as the teacher knows it.
Each attack says what answered, in words; a ``PermissionError``, a refused connection or handshake,
or a status of 401, 403 or 404 is a refusal.
"""

# ruff: noqa: F821
import errno
import http.client
import json
import os
import signal
import socket
import ssl
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

RUN = Path(TARGET["run"])
OWN = Path.home() / ".local/state/labkit/lab"


def read(path):
    return lambda: f"read {len(Path(path).read_bytes())} bytes"


def listed(path):
    return lambda: f"listed {len(list(Path(path).iterdir()))} names"


def written(path):
    def attack():
        with Path(path).open("ab") as file:
            file.write(b"x")
        return "wrote"

    return attack


def unix(path):
    def attack():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        return "connected"

    return attack


def engine(certificate):
    """Speak to the neighbour's engine with a certificate of one's own, or without any."""

    def attack():
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(OWN / "tls/cert.pem", OWN / "tls/key.pem")
        raw = socket.create_connection((TARGET["address"], 2376), timeout=10)
        with context.wrap_socket(raw) as client:
            client.sendall(b"GET /containers/json HTTP/1.1\r\nHost: x\r\n\r\n")
            said = client.recv(200)
        return f"answered {said[:40]!r}" if said else "closed without a word"

    return attack


def plain():
    """Speak to the neighbour's engine without TLS."""
    with socket.create_connection((TARGET["address"], 2376), timeout=10) as client:
        client.sendall(b"GET /containers/json HTTP/1.1\r\nHost: x\r\n\r\n")
        client.settimeout(10)
        said = client.recv(200)
    return f"answered {said[:40]!r}" if said else "closed without a word"


def page(host, port):
    def attack():
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return f"HTTP {answer.status}, {len(answer.read())} bytes"
        finally:
            connection.close()

    return attack


def hub(path, token=None, method="GET"):
    """Ask the Hub, or a neighbour's server, with the attacker's own token."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    def attack():
        headers = {"Authorization": f"token {token or TARGET['my_token']}"}
        request = urllib.request.Request(TARGET["hub"] + path, headers=headers, method=method)
        try:
            with urllib.request.build_opener(Stay).open(request, timeout=10) as answer:
                return f"HTTP {answer.status}, {len(answer.read())} bytes"
        except urllib.error.HTTPError as error:
            with error:
                return f"HTTP {error.code}"

    return attack


def through_the_hub(path):
    """Ask for a page of the neighbour's cluster, and go on to the door that one is sent to."""

    def attack():
        connection = http.client.HTTPConnection(TARGET["hub"].partition("//")[2], timeout=10)
        headers = {"Authorization": f"token {TARGET['my_token']}"}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            door = answer.headers.get("Location") or ""
            if "/~" in door:
                connection.request("GET", door, headers=headers)
                answer = connection.getresponse()
            return f"HTTP {answer.status}, {len(answer.read())} bytes"
        finally:
            connection.close()

    return attack


def server_itself():
    """Ask the neighbour's notebook server at its own port, past the Hub's proxy."""
    refused = set()
    for port in TARGET["server_ports"]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{TARGET['base']}api/contents",
            headers={"Authorization": f"token {TARGET['my_token']}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return f"HTTP {answer.status}, {len(answer.read())} bytes"
        except urllib.error.HTTPError as error:
            with error:
                refused.add(f"HTTP {error.code}")
        except (OSError, http.client.HTTPException):
            pass  # a port of a kernel
    return ", ".join(sorted(refused)) or "no notebook server found"


def kernel():
    """Have the neighbour's kernel run code: its ports are known, its key is not."""
    import zmq
    from jupyter_client.session import Session

    context = zmq.Context()
    try:
        for port in TARGET["server_ports"]:
            client = context.socket(zmq.DEALER)
            client.linger, client.sndtimeo = 0, 2000
            client.connect(f"tcp://127.0.0.1:{port}")
            with suppress(zmq.Again):  # a port of another kind may have ended it already
                Session(key=b"guessed").send(
                    client, "execute_request", {"code": f"open({TARGET['loot']!r}, 'w')"}
                )
            client.poll(700)
            client.close()
    finally:
        context.destroy(linger=0)
    if Path(TARGET["loot"]).exists():
        return "the code ran"
    return "the code did not run"


def killed(pid):
    def attack():
        os.kill(pid, signal.SIGTERM)
        return "signalled"

    return attack


def traced(pid):
    def attack():
        with Path(f"/proc/{pid}/mem").open("rb") as memory:
            memory.seek(0x10000)
            memory.read(1)
        return "read its memory"

    return attack


def impersonated():
    """Take the neighbour's place at the engine's address."""
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        mine.bind((TARGET["address"], 2376))
        mine.listen()
    return "listens in its place"


ATTACKS = [
    ("Run directory: list it", listed(RUN)),
    ("Run directory: the cluster's record", read(RUN / "cluster.json")),
    ("Run directory: the client's TLS key", read(RUN / "tls/key.pem")),
    ("Run directory: docker's contexts", listed(RUN / "docker")),
    ("Run directory: the machine's written disk", listed(RUN / "tmp")),
    ("Run directory: write into it", written(RUN / "forwards.json")),
    ("Kernels' keys (Jupyter's runtime directory)", listed(TARGET["runtime"])),
    ("QEMU's control socket (QMP)", unix(RUN / "qmp")),
    ("The guest's control socket (root in the machine)",
     unix(RUN / "agent") if TARGET["agent"] == "agent" else written(RUN / TARGET["agent"])),
    ("Docker engine, no TLS", plain),
    ("Docker engine, TLS without a certificate", engine(False)),
    ("Docker engine, TLS with the attacker's own certificate", engine(True)),
    ("Engine's address: listen in its place", impersonated),
    ("QEMU process: signal it", killed(TARGET["qemu"])),
    ("QEMU process: its memory", traced(TARGET["qemu"])),
    ("QEMU process: its environment", read(f"/proc/{TARGET['qemu']}/environ")),
    ("QEMU process: its open files", listed(f"/proc/{TARGET['qemu']}/fd")),
    ("Kernel's ports, messages signed with a guessed key", kernel),
    ("Notebook server at its own port, the attacker's token", server_itself),
    ("Notebook server through the Hub, the attacker's token", hub(TARGET["base"] + "api/contents")),
    ("A published page through the Hub", through_the_hub(TARGET["base"] + TARGET["proxied"])),
    ("A published page through the Hub, a guessed door",
     through_the_hub(TARGET["base"] + TARGET["proxied"].replace("/", "/~guessed/", 1))),
    ("The Hub: stop the neighbour's server",
     hub(f"/hub/api/users/{TARGET['name']}/server", method="DELETE")),
    ("The Hub: a token of the neighbour's",
     hub(f"/hub/api/users/{TARGET['name']}/tokens", method="POST")),
    ("The shared cache: replace the docker command", written(TARGET["docker"])),
    ("The shared cache: change the snapshot", written(TARGET["snapshot"])),
    ("A published page at its loopback address", page(TARGET["address"], TARGET["published"])),
    ("QEMU process: its command line", read(f"/proc/{TARGET['qemu']}/cmdline")),
]  # fmt: skip


def answer(attack):
    try:
        said = attack()
    except PermissionError as error:
        return "refused", error.strerror
    except ssl.SSLError as error:
        return "refused", f"TLS: {error.reason}"
    except ConnectionError as error:
        return "refused", error.strerror or type(error).__name__
    except OSError as error:
        busy = error.errno in (errno.EADDRINUSE, errno.EROFS)
        return ("refused" if busy else "failed"), str(error.strerror or error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    denied = ("HTTP 401", "HTTP 403", "HTTP 404", "closed without", "answered b'HTTP/1.1 400")
    denied += ("the code did not run", "HTTP 302")
    return ("refused" if said.startswith(denied) else "open"), said


chosen = [(n, attack) for n, attack in ATTACKS if n in TARGET.get("only", [n])]
print(json.dumps([(name, *answer(attack)) for name, attack in chosen]))
