"""Targets and joins on recorded states, the arithmetic, and the loop over real sockets."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from ports import free_port

from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import NoSuchNode, NoSuchService, NoSwarm, QuorumLost, SettingError, TrafficError
from labkit.state import ClusterState, from_raw
from labkit.traffic import Sample, send
from labkit.traffic.answers import parse
from labkit.traffic.client import RequestRecord, Run
from labkit.traffic.fairness import chi_square_p, judge
from labkit.traffic.sample import sample_so_far
from labkit.traffic.sending import targets_of

RECORDED = Path(__file__).parent / "recorded"
SOURCE = Path(__file__).parents[2] / "labkit/engine/embedded/images/whoami.c"


def recorded(name: str) -> ClusterState:
    return from_raw(json.loads((RECORDED / f"{name}.json").read_text()))


@pytest.fixture(scope="module")
def whoami(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a real whoami, compiled here."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler on this machine")
    binary = tmp_path_factory.mktemp("whoami") / "whoami"
    subprocess.run([cc, "-O2", "-o", binary, SOURCE], check=True)
    port = free_port()
    process = subprocess.Popen([binary, "-port", str(port)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.01)
    yield port
    process.kill()
    process.wait()


SLOW = """
import http.server, time, urllib.parse

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = dict(urllib.parse.parse_qsl(self.path.partition("?")[2]))
        time.sleep(float(asked.get("wait", 0)))
        self.send_response(int(asked.get("status", 200)))
        self.send_header("Content-Length", "12")
        self.end_headers()
        self.wfile.write(b"Hostname: a\\n")

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def slow() -> Iterator[int]:
    """Port of a server that waits as long, and answers with the status, as its path says."""
    command = [sys.executable, "-c", SLOW]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Start a server that treats each connection as a function says; gives its port."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(treat: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        listeners.append(listener)

        def loop() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    treat(connection)

        threads.append(threading.Thread(target=loop, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(5)


def fleet_on(port: int, *names: str) -> Fleet:
    """Engines that nobody asks, whose port 9999 is ``port`` of this machine."""
    names = names or ("node1", "node2", "node3")
    endpoints = tuple(Endpoint(name, "tcp://127.0.0.1:9", "127.0.0.1") for name in names)
    return Fleet("host", endpoints, remapped={(name, 9999): port for name in names})


def to(port: int, **options: object) -> Sample:
    options.setdefault("state", recorded("three_nodes_whoami_5"))
    return send(9999, fleet=fleet_on(port), **options)  # type: ignore[arg-type]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# -- where requests go ----------------------------------------------------------------------


def targets(name: str, nodes: str | list[str] | None = None, port: int = 9999):
    return targets_of(port, nodes, fleet_on(1), recorded(name))


def test_the_mesh_is_asked_on_every_node() -> None:
    asked, replicas = targets("three_nodes_whoami_5")
    assert asked == ["node1", "node2", "node3"]
    assert [t.label for t in replicas] == [f"whoami.{i}" for i in range(1, 6)]


def test_one_node_of_the_mesh_leads_to_all_replicas() -> None:
    asked, replicas = targets("node2_drained", "node2")
    assert asked == ["node2"]
    assert len(replicas) == 5 and "node2" not in {t.node for t in replicas}


def test_mode_host_is_asked_where_a_task_is() -> None:
    asked, replicas = targets("host_mode_pending")
    assert asked == ["node1", "node2", "node3"] and len(replicas) == 3
    asked, replicas = targets("host_mode_pending", ["node3", "node1"])
    assert asked == ["node3", "node1"]
    assert {t.node for t in replicas} == {"node1", "node3"}
    state = recorded("host_mode_pending")
    fewer = replace(state, tasks=tuple(t for t in state.tasks if t.node != "node2"))
    assert targets_of(9999, None, fleet_on(1), fewer)[0] == ["node1", "node3"]
    none = replace(state, tasks=())
    with pytest.raises(TrafficError, match="aucune task"):
        targets_of(9999, None, fleet_on(1), none)
    assert targets_of(9999, "node2", fleet_on(1), none) == (["node2"], ())


def test_nothing_published() -> None:
    with pytest.raises(TrafficError) as caught:
        targets("three_nodes_whoami_5", port=8080)
    assert caught.value.remedy == "Ports publiés : 9999 (whoami)."
    with pytest.raises(TrafficError) as caught:
        targets("three_nodes_empty")
    assert "docker service create --publish 9999:80" in caught.value.remedy


def test_unknown_node() -> None:
    with pytest.raises(NoSuchNode):
        targets("three_nodes_whoami_5", ["node1", "node9"])


def test_a_node_may_be_named_by_its_hostname() -> None:
    state = recorded("three_nodes_whoami_5")
    nodes = tuple(replace(n, name=f"vm-{n.name}") for n in state.nodes)
    asked, _ = targets_of(9999, "vm-node2", fleet_on(1), replace(state, nodes=nodes))
    assert asked == ["node2"]


@pytest.mark.parametrize(("name", "error"), [("no_swarm", NoSwarm), ("quorum_lost", QuorumLost)])
def test_no_cluster(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        to(1, state=recorded(name))


@pytest.mark.parametrize(
    "options",
    [
        {"requests": 0},
        {"concurrency": 0},
        {"concurrency": 1000},
        {"path": "api"},
        {"path": "/a b"},
        {"path": "/a\r\nX: y"},
        {"path": "/é"},
        {"timeout": 0},
        {"limit": -1},
        {"nodes": []},
    ],
)
def test_settings(options: dict[str, object]) -> None:
    with pytest.raises(SettingError) as caught:
        to(1, **options)
    assert caught.value.remedy


# -- answers --------------------------------------------------------------------------------


def http(body: bytes, head: bytes = b"", status: bytes = b"200 OK") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + head + length + b"\r\n" + body


def test_answers_that_name_a_replica() -> None:
    for body in (
        b'{"hostname":"ec95177459bb","ip":["127.0.0.1"]}\n',
        b'{ "hostname" : "ec95177459bb" }',
        b"Name: x\nHostname: ec95177459bb\nIP: 127.0.0.1\n",
        b"<p>Processed by container ID ec95177459bb</p>",
        b"<p>Processed by container ID <code>ec95177459bb</code></p>",
    ):
        answer = parse(http(body))
        assert answer and (answer.status, answer.replica) == (200, "ec95177459bb")
    answer = parse(http(b"hello"))
    assert answer and answer.replica is None


def test_answers_come_in_pieces() -> None:
    for whole in (
        http(b"Hostname: abc\n", b"connection: Close\r\n"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"5;x\r\nHostn\r\n9\r\name: abc\n\r\n0\r\nT: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"Hostname: abc\n", b"Connection: close\r\n"),
    ):
        for cut in range(len(whole)):
            assert parse(whole[:cut]) is None, whole[:cut]
        answer = parse(whole)
        assert answer and (answer.status, answer.replica, answer.closing) == (200, "abc", True)


def test_answers_without_a_length_end_with_the_connection() -> None:
    data = b"HTTP/1.0 200 OK\r\n\r\nHostname: abc\n"
    assert parse(data) is None
    answer = parse(data, ended=True)
    assert answer and answer.replica == "abc"
    assert parse(b"", ended=True) is None


def test_nonsense_is_no_answer() -> None:
    for data in (b"SSH-2.0-x\r\n", b"\x00", b"HTTP/1.1 abc\r\n\r\n"):
        answer = parse(data)
        assert answer and answer.status is None


# -- the test of equal shares ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("statistic", "dof", "p"),
    [  # tables, and R's pchisq(..., lower.tail = FALSE)
        (3.841459, 1, 0.05),
        (5.991465, 2, 0.05),
        (7.814728, 3, 0.05),
        (9.487729, 4, 0.05),
        (6.634897, 1, 0.01),
        (13.276704, 4, 0.01),
        (0.297109, 4, 0.99),
        (23.209251, 10, 0.01),
        (124.342113, 100, 0.05),
        (0, 4, 1),
        (5000, 4, 0),
    ],
)
def test_chi_square_tail(statistic: float, dof: int, p: float) -> None:
    assert chi_square_p(statistic, dof) == pytest.approx(p, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("hits", "verdict", "words"),
    [
        ([40, 40, 40, 40, 40], "regular", "round-robin"),
        ([45, 38, 41, 33, 43], "fair", "Rien n’indique une répartition inégale"),
        ([80, 30, 30, 30, 30], "uneven", "moins de 0,1\u00a0%"),
        ([200, 0, 0, 0, 0], "uneven", "Répartition inégale"),
        ([4, 4, 4, 4, 4], "too-few", "il en faut au moins 25"),
        ([7], "single", "Un seul replica"),
        ([0, 0], "unknown", "Aucune réponse"),
        ([], "unknown", "Aucune réponse"),
    ],
)
def test_verdicts(hits: list[int], verdict: str, words: str) -> None:
    judged = judge(hits, failures=0, connections=None)
    assert judged.verdict == verdict
    assert words in str(judged)
    assert math.isnan(judged.p_value) == (verdict in {"single", "unknown"})
    assert " ;" not in judged.sentence and " %" not in judged.sentence


def test_failures_and_kept_connections_are_said() -> None:
    judged = judge([50, 150], failures=3, connections=4)
    assert "4\u00a0connexions en tout" in judged.sentence
    assert "3\u00a0requêtes en échec ne comptent" in judged.sentence
    assert "1\u00a0requête en échec ne compte ici" in str(judge([50], failures=1, connections=None))


# -- joins ----------------------------------------------------------------------------------


def sample_of(rows: list[tuple[str, str | None, str | None]], **options: object) -> Sample:
    """Make a sample of (node, replica, error) joined to a recorded state."""
    state = recorded("three_nodes_whoami_5")
    _, replicas = targets("three_nodes_whoami_5")
    run = Run([], len(rows), 4, False, 5, 60)
    run._selector.close()
    run._end = 2.0
    run.rows = [
        RequestRecord(0.1 * i, node, replica, 0.005, None if error else 200, error)
        for i, (node, replica, error) in enumerate(rows)
    ]
    empty = Sample(
        frame=pd.DataFrame(),
        port=9999,
        path="/api",
        nodes=("node1", "node2"),
        concurrency=4,
        keep_alive=False,
        requested=len(rows),
        elapsed_s=0.0,
        replicas=replicas,
        connections=0,
    )
    return replace(sample_so_far(empty, run, state), **options)  # type: ignore[arg-type]


def test_answers_are_joined_to_tasks() -> None:
    sample = sample_of(
        [("node1", "ec95177459bb", None)] * 3
        + [("node2", "c4de32da5af8", None), ("node2", None, "connexion refusée")]
        + [("node1", "feedfeedfeed", None)]
    )
    columns = "time_s node replica slot task replica_node latency_ms status error".split()
    assert list(sample.frame.columns) == columns
    first = sample.frame.iloc[0]
    assert (first.slot, first.task, first.replica_node) == (1, "whoami.1", "node1")
    assert first.latency_ms == pytest.approx(5)
    assert sample.failures == 1 and sample.rate == pytest.approx(2.5)
    counts = sample.counts()
    assert counts["hits"].to_dict() == {
        "ec95177459bb": 3,
        "c4de32da5af8": 1,
        "d7f9dfd103af": 0,
        "54ca751d733b": 0,
        "0fd1a61d06ff": 0,
        "feedfeedfeed": 1,
    }
    assert counts["expected"].tolist() == [0.2] * 5 + [0]
    assert counts["share"].sum() == pytest.approx(1)
    assert counts["share"].iloc[0] == pytest.approx(0.6)
    assert pd.isna(counts["slot"].iloc[-1]) and counts["task"].iloc[-1] is None
    assert sample.errors().values.tolist() == [["node2", "connexion refusée", 1]]


def test_a_sample_without_answers() -> None:
    sample = sample_of([("node1", None, "connexion refusée")] * 2)
    assert sample.counts()["hits"].tolist() == [0] * 5
    assert sample.uniformity().verdict == "unknown"
    assert "2\u00a0échecs" in repr(sample)
    assert "<li>node1 : connexion refusée (2)</li>" in sample._repr_html_()
    assert len(sample_of([]).counts()) == 5
    assert sample_of([]).failures == 0 and sample_of([])._repr_html_()
    assert sample_of([], replicas=()).counts().empty


def test_what_is_shown_is_escaped() -> None:
    html = sample_of([("node1", "<script>", None)])._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_partial_samples_say_so() -> None:
    sample = sample_of([("node1", "ec95177459bb", None)], requested=1200)
    assert not sample.complete
    assert "sur 1\u202f200 demandées" in repr(sample)


# -- the loop, over real sockets ------------------------------------------------------------


def test_a_connection_a_request(whoami: int) -> None:
    before = descriptors()
    sample = to(whoami, requests=300)
    assert descriptors() == before
    assert len(sample.frame) == 300 and sample.complete
    assert sample.failures == 0 and sample.connections == 300
    assert set(sample.frame["replica"]) == {socket.gethostname()[:255]}
    assert sample.frame["node"].value_counts().to_dict() == dict.fromkeys(sample.nodes, 100)
    assert (sample.frame["status"] == 200).all()
    assert sample.frame["time_s"].is_monotonic_increasing
    assert sample.counts()["hits"].iloc[-1] == 300


def test_kept_connections(whoami: int) -> None:
    sample = to(whoami, requests=300, keep_alive=True, concurrency=4, nodes="node2", path="/")
    assert sample.failures == 0 and sample.connections == 4
    assert sample.nodes == ("node2",) and len(sample.frame) == 300
    assert "4\u00a0connexions gardées" in repr(sample)


def test_statuses_are_failures(slow: int) -> None:
    sample = to(slow, requests=10, path="/?status=501")
    assert sample.failures == 10
    assert set(sample.frame["error"]) == {"réponse HTTP 501"}
    assert (sample.frame["status"] == 501).all()


def test_batches(slow: int) -> None:
    seen: list[Sample] = []
    sample = to(slow, requests=30, concurrency=4, path="/?wait=0.1", on_batch=seen.append)
    done = [len(s.frame) for s in seen]
    assert len(seen) >= 3 and done == sorted(done) and done[-1] == 30
    assert seen[-1] is sample and not seen[0].complete
    assert all(s.elapsed_s > 0 for s in seen)


def test_time_in_batches_is_not_counted(slow: int) -> None:
    start = time.monotonic()
    sample = to(
        slow, requests=2, concurrency=1, path="/?wait=0.3", on_batch=lambda _: time.sleep(0.3)
    )
    assert time.monotonic() - start > 1.1
    assert sample.elapsed_s < time.monotonic() - start - 0.5  # not the 0.6 s of sleeping


def test_an_error_in_a_batch_leaves_nothing_open(slow: int) -> None:
    before = descriptors()
    with pytest.raises(ZeroDivisionError):
        to(slow, requests=100, path="/?wait=0.1", on_batch=lambda _: 1 // 0)
    assert descriptors() == before


def test_interrupt(slow: int) -> None:
    before, threads = descriptors(), threading.active_count()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        to(slow, requests=100, path="/?wait=10", timeout=20)
    assert time.monotonic() - start < 10
    timer.join()
    assert descriptors() == before and threading.active_count() == threads


def test_in_a_running_event_loop(whoami: int) -> None:
    import asyncio

    async def cell() -> Sample:
        return to(whoami, requests=20)

    assert len(asyncio.run(cell()).frame) == 20


def test_refused() -> None:
    sample = to(free_port(), requests=20)
    assert set(sample.frame["error"]) == {"connexion refusée"}
    assert sample.failures == 20 and sample.uniformity().verdict == "unknown"


def test_silent_servers_cost_the_timeout(serve) -> None:
    release = threading.Event()

    def silent(connection: socket.socket) -> None:
        release.wait(5)

    port = serve(silent)
    start = time.monotonic()
    sample = to(port, requests=8, concurrency=4, timeout=0.3, nodes=["node1"])
    assert 0.6 <= time.monotonic() - start < 10
    assert set(sample.frame["error"]) == {"pas de réponse en 0,3 s"}
    start = time.monotonic()
    sample = to(port, requests=100, concurrency=2, timeout=0.3, limit=0.5)
    assert time.monotonic() - start < 7.5
    assert 2 <= len(sample.frame) <= 6 and not sample.complete
    release.set()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "connexion fermée sans réponse"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nHostn", "réponse coupée"),
        (b"SSH-2.0-OpenSSH\r\n", "réponse illisible"),
    ],
)
def test_bad_servers(serve, said: bytes, error: str) -> None:
    def speak(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(said)

    sample = to(serve(speak), requests=5)
    assert set(sample.frame["error"]) == {error}


def test_a_server_that_closes_kept_connections(serve) -> None:
    def once(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(http(b"Hostname: abc\n", b"Connection: close\r\n"))

    sample = to(serve(once), requests=20, keep_alive=True, concurrency=2)
    assert sample.failures == 0 and sample.connections == 20


def test_a_full_queue_does_not_cost_a_second(whoami: int) -> None:
    """What QEMU's port forwarding does: two connections wait, others are not answered."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1)

    def accept_slowly() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(http(b"Hostname: abc\n"))
            time.sleep(0.005)

    thread = threading.Thread(target=accept_slowly, daemon=True)
    thread.start()
    try:
        sample = to(listener.getsockname()[1], requests=60, concurrency=16)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
    assert sample.failures == 0
    assert sample.frame["latency_ms"].max() < 900


def test_source_ports_are_not_used_again_soon(serve) -> None:
    ports: list[int] = []

    def note(connection: socket.socket) -> None:
        ports.append(connection.getpeername()[1])
        connection.recv(4096)
        connection.sendall(http(b"Hostname: abc\n"))

    port = serve(note)
    for _ in range(3):
        to(port, requests=300, concurrency=4)
    assert len(set(ports)) == len(ports) == 900


# -- behind a proxy -------------------------------------------------------------------------


def test_a_domain_and_the_services_behind_it() -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        sample = to(port, requests=1, host="a.localhost", services="whoami", nodes="node1")
        thread.join(5)
    assert b"\r\nHost: a.localhost:%d\r\n" % port in asked[0]
    assert {t.service for t in sample.replicas} == {"whoami"}
    assert "pour a.localhost" in repr(sample)
    with pytest.raises(NoSuchService):
        to(1, requests=1, services=["whoami", "absent"])
    with pytest.raises(SettingError, match="domaine"):
        to(1, requests=1, host="a\r\nX: y")


def test_each_client_keeps_its_own_cookies(
    serve: Callable[[Callable[[socket.socket], None]], int],
) -> None:
    asked: list[bytes] = []

    def treat(connection: socket.socket) -> None:
        asked.append(connection.recv(4096))
        given = b"" if b"Cookie:" in asked[-1] else b"Set-Cookie: at=%d; Path=/\r\n" % len(asked)
        also = b"set-cookie: b=2\r\n" if given else b""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + given + also + b"\r\n")

    sample = to(serve(treat), requests=6, concurrency=1, nodes="node1", cookies=True)
    assert sample.failures == 0
    assert b"Cookie:" not in asked[0]
    assert all(b"\r\nCookie: at=1; b=2\r\n\r\n" in request for request in asked[1:])
    assert "cookies gardés" in repr(sample)
    asked.clear()
    to(serve(treat), requests=3, concurrency=1, nodes="node1")
    assert not any(b"Cookie:" in request for request in asked)


def test_the_mesh_is_not_named_where_a_proxy_chose() -> None:
    for hits in ([50, 150], [100, 100]):
        said = judge(hits, failures=0, connections=4, proxied=True).sentence
        assert "mesh" not in said
        assert "mesh" in judge(hits, failures=0, connections=4).sentence
