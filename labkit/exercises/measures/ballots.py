"""A real vote in the voting app, and whether the page of results counted it."""

import http.client
import json
import secrets
import time
from dataclasses import dataclass
from html import escape

from labkit.engine import Fleet, connect
from labkit.errors import SettingError
from labkit.exercises.measures.access import fetch, problem_of
from labkit.polling import until
from labkit.text.tables import named_html

VOTE_PORT, RESULT_PORT = 5000, 5001
CHOICES = {"a": "Chats", "b": "Chiens"}  # as docker-stack.yml leaves them

_INTERVAL = 0.3  # s between two looks at the scores
_REFRESH = 1.3  # s: the page of results counts once a second
_SETTLE = 6.0  # s that older votes may still take to be counted


@dataclass(frozen=True, slots=True)
class Scores:
    """The page of results at one moment. Source: ``GET /scores`` of ``result``."""

    # a, b: votes counted for each choice
    a: int
    b: int
    message: str  # the page's own words, such as ``3 votes`` or that it waits for the database

    @property
    def live(self) -> bool:
        """The page has a database to count in; else it shows what it counted last."""
        return "attente" not in self.message

    def __repr__(self) -> str:
        counted = f"{CHOICES['a']} : {self.a}, {CHOICES['b']} : {self.b}"
        return f"{counted} (« {self.message} »)"


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote by a voter who never voted before, and what became of it."""

    choice: str  # ``a`` or ``b``
    node: str  # name of the node whose ports were asked
    problem: str  # why the vote was not accepted, in French; empty when it was
    # before, after: scores before the vote, at rest, and at the end of the wait; None when the page
    # of results did not answer
    before: Scores | None
    after: Scores | None
    limit_s: float  # seconds that the vote had to be counted

    @property
    def accepted(self) -> bool:
        """The page of votes said that it has the vote."""
        return not self.problem

    @property
    def counted(self) -> bool:
        """The vote was accepted, and the scores then grew by it."""
        return self.accepted and _grew(self.choice, self.before, self.after)

    @property
    def counting(self) -> str:
        """The fate of the vote in the results, in French."""
        if self.counted:
            return "compté"
        if self.after is None:
            return "la page des résultats ne répond pas"
        return f"pas compté au bout de {self.limit_s:.0f} s (« {self.after.message} »)"

    def _rows(self) -> tuple[tuple[str, str], ...]:
        return (
            ("Vote", f"{CHOICES[self.choice]}, envoyé à {self.node}"),
            ("Page de vote", "accepté" if self.accepted else self.problem),
            ("Page des résultats", self.counting),
        )

    def __repr__(self) -> str:
        return "\n".join(f"{name} : {text}" for name, text in self._rows())

    def _repr_html_(self) -> str:
        return named_html((name, escape(text)) for name, text in self._rows())


def cast(
    choice: str = "a", node: str | None = None, *, fleet: Fleet | None = None, limit: float = 10.0
) -> Ballot:
    """Vote at a node's port, as a voter who never voted, and wait until the vote is counted.

    Without ``node``, the first one is asked. The vote is to be counted within ``limit`` seconds.
    Raises ``SettingError`` when there is no such choice.
    """
    if choice not in CHOICES:
        remedy = "Votez " + " ou ".join(f"« {k} » ({v})" for k, v in CHOICES.items()) + "."
        raise SettingError(f"On ne peut pas voter « {choice} ».", remedy=remedy)
    fleet = connect() if fleet is None else fleet
    node = fleet.endpoints[0].name if node is None else node
    page = fleet.published(node, RESULT_PORT)
    before = _settled(page)
    problem = _vote(fleet.published(node, VOTE_PORT), choice)
    after = until(
        lambda: scores_at(page),
        lambda scores: problem or _grew(choice, before, scores),
        limit,
        _INTERVAL,
    )
    return Ballot(choice, node, problem, before, after, limit)


def voter(choix: str = "a", noeud: str | None = None) -> Ballot:
    """Vote as a browser does, and say whether the vote was counted.

    ``a`` is for cats, ``b`` for dogs; ``node1`` is asked unless another is named. Raises
    ``SettingError`` or ``NoSuchNode`` or ``EngineNotRunning`` as :func:`cast`.
    """
    return cast(choix, noeud, limit=6.0)


def resultats(noeud: str | None = None, *, patience: float = 0.0) -> Scores | None:
    """Return what the page of results says once it is at rest; None without an answer.

    ``patience`` waits that many seconds for a page that does not answer, or for its database.
    """
    fleet = connect()
    page = fleet.published(noeud or fleet.endpoints[0].name, RESULT_PORT)
    return until(lambda: _settled(page), lambda s: s and s.live, patience, 0)


def _grew(choice: str, before: Scores | None, after: Scores | None) -> bool:
    return None not in (before, after) and getattr(after, choice) > getattr(before, choice)


def _settled(page: tuple[str, int]) -> Scores | None:
    """Return the scores once no older vote is being counted any more, or after a while."""
    last, since = scores_at(page), time.monotonic()

    def at_rest(now: Scores | None) -> bool:
        nonlocal last, since
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() >= since + _REFRESH

    return until(lambda: scores_at(page), at_rest, _SETTLE, _INTERVAL)


def scores_at(page: tuple[str, int]) -> Scores | None:
    """Return the scores at the (host, port) of a page of results; None without an answer."""
    try:
        status, body = fetch(*page, path="/scores")
        said = json.loads(body) if status == 200 else None
        return said and Scores(int(said["votes_a"]), int(said["votes_b"]), str(said["message"]))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None


def _vote(page: tuple[str, int], choice: str) -> str:
    """Vote once; return the problem, empty when the vote was accepted."""
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": f"voter_id={secrets.token_hex(8)}",
    }
    try:
        status, _ = fetch(*page, "POST", body=f"vote={choice}", headers=headers)
    except (OSError, http.client.HTTPException) as error:
        return problem_of(error)
    return "" if status == 200 else f"refusé (réponse HTTP {status})"
