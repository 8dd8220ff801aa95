"""The voting app as a stack on the real cluster, and voters who vote until they are heard."""

from __future__ import annotations

import http.client
import itertools
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from actions import deploy, remove_stack
from docker.errors import APIError

from labkit.engine.clients import talk
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.exercises.measures.access import fetch
from labkit.exercises.measures.ballots import RESULT_PORT, VOTE_PORT, Scores, scores_at
from labkit.state import capture

FILE = Path(__file__).parents[1] / "notebooks" / "example-voting-app" / "docker-stack.yml"
STACK = "vote"
FORM = "application/x-www-form-urlencoded"


def until(what: str, true: Callable[[], bool], seconds: float) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, f"waited {seconds} s for: {what}"
        time.sleep(0.3)


@contextmanager
def deployed(fleet: Fleet) -> Iterator[Fleet]:
    """Deploy the stack on empty volumes, and leave nothing of it behind."""
    remove_volumes(fleet)
    deploy(STACK, FILE, fleet)
    until("the first count", lambda: "Aucun vote" in message(fleet), 90)
    try:
        yield fleet
    finally:
        remove_stack(STACK, fleet)
        remove_volumes(fleet)


def remove_volumes(fleet: Fleet) -> None:
    """Remove what a stack leaves on its nodes."""
    label = {"label": f"com.docker.stack.namespace={STACK}"}

    def removed(endpoint: Endpoint) -> bool:
        with talk(endpoint, 60) as api:
            try:
                for volume in api.volumes(label)["Volumes"] or ():
                    api.remove_volume(volume["Name"], force=True)
            except APIError as error:
                assert "in use" in str(error.explanation), error
                return False
        return True

    for endpoint in fleet:
        until(f"the volumes of {endpoint.name}", partial(removed, endpoint), 60)


def scores(fleet: Fleet) -> Scores | None:
    """Return what the page of results says at the first node."""
    return scores_at(fleet.published(fleet.endpoints[0].name, RESULT_PORT))


def message(fleet: Fleet) -> str:
    found = scores(fleet)
    return found.message if found else ""


def kill(fleet: Fleet, service: str) -> None:
    """Kill the container of a task, as a crash would."""
    task = random.choice(capture(fleet).require().running(f"{STACK}_{service}"))
    assert task.node
    with talk(fleet[task.node], 60) as api:
        api.kill(task.container_id, signal="KILL")


class Voters:
    """Voters at all nodes' ports, each of whom votes once, again until the vote is accepted.

    Voting twice the same with the same number changes nothing, so as many votes must be counted
    as voters were told that theirs is accepted: not one less, not one more.

    Parameters
    ----------
    threads
        Voters at the same time.
    pause_s
        Seconds that each rests after a vote: counting is slower than accepting, and what waits
        in the queue has to be waited for.

    Attributes
    ----------
    accepted
        Votes accepted for each choice.
    refused
        Answers other than that, and answers that did not come.
    """

    def __init__(self, fleet: Fleet, threads: int = 4, pause_s: float = 0.0) -> None:
        self.fleet = fleet
        self.pause_s = pause_s
        self.accepted = {"a": 0, "b": 0}
        self.refused = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    @property
    def count(self) -> int:
        return sum(self.accepted.values())

    def _run(self, number: int) -> None:
        places = [self.fleet.published(e.name, VOTE_PORT) for e in self.fleet]
        turn = itertools.count(number)
        while not self._stop.is_set():
            choice, voter = random.choice("ab"), secrets.token_hex(8)
            headers = {"Content-Type": FORM, "Cookie": f"voter_id={voter}"}
            while True:  # to the end: a voter who gave up might be counted or not
                place = places[next(turn) % len(places)]
                try:
                    status, _ = fetch(*place, "POST", body=f"vote={choice}", headers=headers)
                except (OSError, http.client.HTTPException):
                    status = 0
                with self._lock:
                    if status == 200:
                        self.accepted[choice] += 1
                        break
                    self.refused += 1
                assert status in (0, 503), status
                time.sleep(0.3)
            self._stop.wait(self.pause_s)

    def more(self, votes: int, seconds: float = 180) -> None:
        """Wait until that many more votes are accepted."""
        wanted = self.count + votes
        until(f"{votes} votes more", lambda: self.count >= wanted, seconds)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let each voter be heard, then stop."""
        self._stop.set()
        for thread in self._threads:
            thread.join(180)
            assert not thread.is_alive(), "a voter is never heard"


@contextmanager
def voting(fleet: Fleet) -> Iterator[Voters]:
    """Vote during the block; then see that what was accepted is counted, exactly."""
    before = scores(fleet)
    assert before
    voters = Voters(fleet, pause_s=0.5)
    voters.start()
    try:
        yield voters
    finally:
        voters.end()
    a, b = before.a + voters.accepted["a"], before.b + voters.accepted["b"]
    until(f"{a} and {b} votes", lambda: told(fleet) == (a, b), 180)
    time.sleep(3)
    assert told(fleet) == (a, b)


def told(fleet: Fleet) -> tuple[int, int] | None:
    found = scores(fleet)
    return found and (found.a, found.b)
