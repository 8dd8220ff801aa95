"""The exercises' real vote, on the real programs: counted, not counted, not accepted."""

from __future__ import annotations

import pytest
from ports import free_port
from servers import App, get

from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import SettingError
from labkit.exercises.course.nb02_voting import VOTING_EXERCISES
from labkit.exercises.measures.ballots import RESULT_PORT, VOTE_PORT, cast
from labkit.polling import until
from labkit.traffic.answers import parse

COUNTS = next(e.probe for e in VOTING_EXERCISES if e.name == "reparer-vote")


def fleet(vote: int, result: int) -> Fleet:
    """Return one node, whose published ports are those of the programs."""
    ports = {("node1", VOTE_PORT): vote, ("node1", RESULT_PORT): result}
    return Fleet("host", (Endpoint("node1", "unix:///nobody", "127.0.0.1"),), remapped=ports)


def test_a_vote_that_counts(app: App) -> None:
    here = fleet(app.vote_port, app.result_port)
    for choice in ("a", "b", "a"):
        ballot = cast(choice, fleet=here)
        assert ballot.accepted and ballot.counted, ballot
        assert ballot.before and ballot.after
        grown = (ballot.after.a - ballot.before.a, ballot.after.b - ballot.before.b)
        assert grown == ((1, 0) if choice == "a" else (0, 1))
    assert COUNTS and all(row.ok for row in COUNTS.judge(ballot))
    assert "compté" in repr(ballot) and "3 votes" in repr(ballot.after)
    with pytest.raises(SettingError, match="Chats"):
        cast("c", fleet=here)


def test_a_vote_that_waits_is_not_counted_and_loses_nothing(app: App) -> None:
    here = fleet(app.vote_port, app.result_port)
    for worker in app.workers:
        worker.end()
    ballot = cast("a", fleet=here, limit=2)
    assert ballot.accepted and not ballot.counted
    assert "pas compté" in repr(ballot)
    assert COUNTS and [row.ok for row in COUNTS.judge(ballot)] == [True, False]
    worker = app.workers[0]
    began = worker.said("Connected")
    worker.start()
    assert until(lambda: worker.said("Connected") > began, bool, 30)
    later = cast("a", fleet=here)  # the one that waited is counted first, and is not taken for it
    assert later.counted and later.after and later.after.a == 2


def test_pages_that_do_not_answer(app: App) -> None:
    ballot = cast("a", fleet=fleet(app.vote_port, free_port()), limit=1)
    assert ballot.accepted and not ballot.counted
    assert "la page des résultats ne répond pas" in repr(ballot)
    ballot = cast("a", fleet=fleet(free_port(), app.result_port), limit=1)
    assert not ballot.accepted and not ballot.counted
    assert COUNTS and not any(row.ok for row in COUNTS.judge(ballot))
    app.redis.end()
    ballot = cast("a", fleet=fleet(app.vote_port, app.result_port), limit=1)
    assert "503" in ballot.problem and not ballot.counted


def test_the_page_of_votes_names_its_container(app: App) -> None:
    """As traffic reads it; here the host's name stands for a container's."""
    page = get(app.vote_port)[1]
    name = page.split("container ID <code>")[1].split("<")[0]
    as_container = page.replace(name, "ec95177459bb").encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(as_container)
    answer = parse(head + as_container)
    assert answer and answer.replica == "ec95177459bb"
