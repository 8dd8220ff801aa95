"""A vote once accepted is counted, whatever is killed meanwhile; the last vote counts."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import App, Process, get, post, program, until

KILL, TERM = signal.SIGKILL, signal.SIGTERM


class Voters:
    """Voters that vote once, or twice and differently, and wait for each answer.

    A vote that is lost, or counted after a later one of the same voter, is seen in the table.

    Attributes
    ----------
    accepted
        For each voter, the votes of which it was told that they are accepted, in order.
    unsure
        For each voter, votes that were refused or not answered since the last accepted one:
        they may be counted or not.
    """

    def __init__(self, port: int, threads: int = 4):
        self.port, self.stop = port, threading.Event()
        self.accepted: dict[str, list[str]] = {}
        self.unsure: dict[str, set[str]] = {}
        self.refused = 0
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]

    def run(self, number: int) -> None:
        for voter in itertools.count():
            for vote in random.choice(["a", "b", "ab", "ba"]):
                if self.stop.is_set():
                    return
                self.vote(f"{number:x}{voter:015x}", vote)

    def vote(self, voter: str, vote: str) -> None:
        try:
            status = post(self.port, vote, voter)[0]
        except (OSError, http.client.HTTPException):  # no answer, or half of one
            status = 0
        if status == 200:
            self.accepted.setdefault(voter, []).append(vote)
            self.unsure.pop(voter, None)
        else:
            assert status in (0, 503), status
            self.refused += 1
            self.unsure.setdefault(voter, set()).add(vote)
            time.sleep(0.05)

    @property
    def count(self) -> int:
        return sum(map(len, list(self.accepted.values())))

    def more(self, votes: int) -> None:
        """Wait until that many more votes are accepted."""
        wanted = self.count + votes
        until(f"{votes} votes more", lambda: self.count >= wanted, 60)


@contextmanager
def voting(app: App) -> Iterator[Voters]:
    """Vote during the block; then check that the table holds what was accepted."""
    voters = Voters(app.vote_port)
    for thread in voters.threads:
        thread.start()
    try:
        yield voters
    finally:
        voters.stop.set()
        for thread in voters.threads:
            thread.join()
    until("an empty queue", lambda: app.redis.waiting() == 0, 120)
    counted = app.db.counted()
    for voter, votes in voters.accepted.items():
        allowed = {votes[-1]} | voters.unsure.get(voter, set())
        assert counted.get(voter) in allowed, f"{voter}: {votes}, counted {counted.get(voter)}"
    assert set(counted) <= set(voters.accepted) | set(voters.unsure)
    assert any(len(set(votes)) == 2 for votes in voters.accepted.values())
    until("the result", lambda: shown(app) == sorted(counted.values()), 10)


def shown(app: App) -> list[str]:
    scores = json.loads(get(app.result_port, "/scores")[1])
    return ["a"] * scores["votes_a"] + ["b"] * scores["votes_b"]


def test_votes_are_counted_and_the_last_one_wins(app: App) -> None:
    with voting(app) as voters:
        voters.more(400)
    assert voters.refused == 0
    for worker in app.workers:  # both took their share
        assert worker.said("Processing vote for '") > 10


def begin(worker: Process) -> None:
    """Start a worker, and wait until it works."""
    times = worker.said("Connected to redis and db")
    worker.start()
    until("the worker", lambda: worker.said("Connected to redis and db") > times)


def fall_behind(app: App, voters: Voters) -> None:
    """Let votes pile up, so that the workers are busy when something happens to them."""
    for worker in app.workers:
        worker.end(KILL)
    voters.more(500)
    for worker in app.workers:
        begin(worker)


def test_workers_killed_in_turn(app: App) -> None:
    with voting(app) as voters:
        fall_behind(app, voters)
        for turn in range(16):
            time.sleep(random.uniform(0.01, 0.06))
            worker = app.workers[turn % 2]
            worker.end(KILL)
            begin(worker)
    assert voters.refused == 0


def test_a_worker_that_stalls_undoes_nothing(app: App) -> None:
    """It wakes up when the other one has done its vote, and later ones of the same voter."""
    holder = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    )
    with voting(app) as voters:
        fall_behind(app, voters)
        for turn in range(16):
            worker = app.workers[turn % 2].process
            assert worker is not None
            worker.send_signal(signal.SIGSTOP)
            time.sleep(0.02)
            app.db.ask(holder)  # as if its connection were cut
            voters.more(20)
            worker.send_signal(signal.SIGCONT)
            voters.more(10)
    assert voters.refused == 0


def test_no_worker_for_a_while(app: App) -> None:
    with voting(app) as voters:
        for worker in app.workers:
            worker.end(TERM)
        voters.more(100)
        assert app.redis.waiting() >= 100
        app.workers[0].start()
    assert voters.refused == 0


@pytest.mark.parametrize("name", ["redis", "db", "result", "vote"])
def test_a_service_restarted_under_load(app: App, name: str) -> None:
    service: Process = getattr(app, name)
    with voting(app) as voters:
        for how in (KILL, service.stop, KILL):
            voters.more(50)
            service.end(how)
            time.sleep(0.5)
            service.start()
            time.sleep(0.5)
        voters.more(50)
    if name in ("db", "result"):
        assert voters.refused == 0


def test_both_languages_at_once(app: App) -> None:
    app.workers[1].end(KILL)
    other = "lua" if app.language == "python" else "python"
    app.workers[1] = app.worker(other, 2)
    app.workers[1].start()
    until("both take votes", lambda: all(w.said("Connected to redis") for w in app.workers))
    with voting(app) as voters:
        voters.more(200)
    for worker in app.workers:
        assert worker.said("Processing vote for '") > 10


def test_the_bug_of_before_and_its_repair(app: App) -> None:
    """The images of before send no password; the course tells this story step by step."""
    name = "worker" if app.language == "python" else "worker-lua"
    repaired = app.workers
    for process in (*app.workers, app.result):
        process.end(KILL)
        process.log.unlink()
    until("nobody makes the table any more", lambda: app.db.sessions() == 0)  # PostgreSQL goes on
    app.db.ask("DROP TABLE IF EXISTS votes")
    app.workers = [app.worker(app.language, 3, app.before(name))]
    fixed, app.result = app.result, app.python("result", app.before("result"))
    for process in (*app.workers, app.result):
        process.start()

    assert [post(app.vote_port, vote)[0] for vote in "aab"] == [200] * 3  # voting works
    why = "Waiting for db: "
    until("they wait", lambda: min(app.workers[0].said(why), app.result.said(why)) >= 2)
    assert app.workers[0].said("no password supplied") >= 2
    assert app.redis.waiting() == 3 and app.db.counted() == {}
    scores = json.loads(get(app.result_port, "/scores")[1])
    assert scores["percent_a"] == scores["percent_b"] == "50,0 %"
    for process in (*app.workers, app.result):  # no restart policy ever fires
        assert process.process is not None and process.process.poll() is None

    app.result.end()
    app.result = fixed
    app.result.start()  # only result is repaired: nobody has made the table
    until("it says so", lambda: app.result.said('relation "votes" does not exist') > 0)

    app.workers[0].end()
    app.workers = repaired
    for worker in repaired:
        worker.start()
    until("no vote was lost", lambda: sorted(app.db.counted().values()) == ["a", "a", "b"])
    until("it is shown", lambda: shown(app) == ["a", "a", "b"])


def test_everything_killed_at_once(app: App) -> None:
    with voting(app) as voters:
        voters.more(100)
        for process in app.processes:
            process.end(KILL)
        app.start()
        voters.more(50)


def test_redis_away_is_said_to_the_voter(app: App) -> None:
    app.redis.end(KILL)
    status, page, headers = post(app.vote_port, "a")
    assert status == 503
    assert "n’a pas été enregistré" in page
    assert headers["Connection"] == "close"
    assert get(app.vote_port, "/health")[0] == 200  # it is Redis that is ill
    until("the worker says so", lambda: app.workers[0].said("Waiting for redis") > 0)
    app.redis.start()
    assert post(app.vote_port, "a")[0] == 200


def test_db_away_is_said(app: App) -> None:
    app.db.end(KILL)
    until("result says so", lambda: app.result.said("Waiting for db") > 0)
    assert "En attente de la base de données" in get(app.result_port)[1]
    assert get(app.result_port, "/health")[0] == 200
    assert post(app.vote_port, "a")[0] == 200  # voting goes on
    until("the worker says so", lambda: app.workers[0].said("Waiting for db") > 0)
    app.db.start()
    until("the vote is counted", lambda: len(app.db.counted()) == 1)


def test_what_is_no_vote_holds_nothing_up(app: App) -> None:
    entries = [
        *("hello", "[]", '"a"', "{}", '{"voter_id": 1, "vote": "a"}', "null", "1e999", "\0"),
        *('{"voter_id": "a\'b", "vote": "a"}', '{"voter_id": "c", "vote": "z"}', "[" * 5000),
        json.dumps({"voter_id": "f" * 65, "vote": "a"}),
        json.dumps({"voter_id": "\0", "vote": "a"}),
        json.dumps({"voter_id": "é", "vote": "a"}),
        json.dumps({"voter_id": "", "vote": "a"}),
        json.dumps({"voter_id": "d", "vote": ["a"]}),
        json.dumps({"voter_id": "beef", "vote": "b"}),  # as upstream's vote writes it
    ]
    with app.redis.client() as client:
        client.rpush("votes", *entries, b"\xff\xfe", "")
    until("an empty queue", lambda: app.redis.waiting() == 0)
    assert app.db.counted() == {"beef": "b"}
    assert sum(w.said("Not a vote") for w in app.workers) == len(entries) + 1


def test_a_voter_keeps_a_number(app: App) -> None:
    status, page, headers = post(app.vote_port, "a")
    assert status == 200
    assert "Votre vote : Chats" in page
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert sorted(attributes) == ["HttpOnly", "SameSite=Lax"]  # no Path: the page's own
    voter = cookie.removeprefix("voter_id=")
    assert len(voter) == 16
    again = post(app.vote_port, "b", voter)[2]
    assert again["Set-Cookie"].startswith(f"voter_id={voter};")
    until("both counted", lambda: app.redis.waiting() == 0)
    until("the last wins", lambda: app.db.counted() == {voter: "b"})


def test_each_program_ends_at_once(app: App) -> None:
    for process in (app.vote, app.result, *app.workers):
        assert process.end() < 1, process.log.name


def test_tini_lets_lua_end_as_first_process(app: App) -> None:
    """As in its image; the programs in Python do without (``tests/unit``)."""
    if app.language != "lua":
        return
    unshare = ["unshare", "--fork", "--pid", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("unshare --pid is not permitted here")
    worker = app.worker("lua", 4)
    worker.command = [*unshare, program("tini", "tini"), "-s", "--", *worker.command]
    worker.start()
    until("it works", lambda: worker.said("Connected to redis and db") == 1)
    assert worker.process is not None
    pid = worker.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    start = time.monotonic()
    os.kill(int(children[0]), TERM)
    worker.process.wait(10)
    assert time.monotonic() - start < 1
